//! The layer as a linear system, and back.

use burn::tensor::{Tensor, backend::Backend as BurnBackend};
use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64};

use super::{LARGEST_REAL_PART, S5, step::DiscreteMode};
use crate::{
    compression::{GradientMap, KeptRows, ReductionError},
    parameter::{parameter, values},
    system::{LinearLayer, StateMaps},
};

/// The parameters whose shape depends on the state.
const STATE_PARAMETERS: usize = 5;

/// A complex matrix from a tensor `[rows, columns, 2]`, each entry times `scale(row)`.
fn complex<B: BurnBackend>(tensor: &Tensor<B, 3>, scale: impl Fn(usize) -> c64) -> Mat<c64> {
    let [rows, columns, _] = tensor.dims();
    let values = values(tensor);
    Mat::from_fn(rows, columns, |i, j| {
        let at = 2 * (i * columns + j);
        c64::new(values[at], values[at + 1]) * scale(i)
    })
}

impl<B: BurnBackend> S5<B> {
    /// λ and Δ of every state.
    pub(super) fn continuous(&self) -> Vec<(c64, f64)> {
        let [re, im] = [&self.Lambda_re, &self.Lambda_im].map(|part| values(part));
        let steps = values(&self.log_step);
        let parts = re.into_iter().zip(im).zip(steps);
        parts
            .map(|((re, im), step)| (c64::new(re.min(LARGEST_REAL_PART), im), step.exp()))
            .collect()
    }

    /// All modes in discrete time.
    pub(super) fn modes(&self) -> Vec<DiscreteMode> {
        let method = self.discretization();
        let modes = self.continuous().into_iter();
        modes
            .map(|(lambda, step)| method.mode(lambda, step))
            .collect()
    }
}

impl<B: BurnBackend> LinearLayer for S5<B> {
    fn to_system(&self) -> Result<DiscreteDiagonalSystem, ReductionError> {
        let modes = self.modes();
        let lambda = modes.iter().map(|mode| mode.value).collect();
        let input = complex(&self.B, |i| modes[i].gain);
        let output = complex(&self.C, |_| c64::new(2.0, 0.0));
        Ok(DiscreteDiagonalSystem::new(lambda, input, output)?)
    }

    fn reduced(&self, system: &DiscreteDiagonalSystem) -> Result<Self, ReductionError> {
        let (order, hidden) = (system.state_dim(), system.inputs());
        let (method, device) = (self.discretization(), self.D.device());
        // New modes come from many: they get the step in the middle of those there were.
        let steps = self.continuous();
        let logarithms: f64 = steps.iter().map(|(_, step)| step.ln()).sum();
        let middle = (logarithms / steps.len() as f64).exp();
        let (mut re, mut im, mut log_steps, mut gains) = (vec![], vec![], vec![], vec![]);
        for (index, value) in system.lambda().iter().enumerate() {
            let scaled = method.scaled(*value);
            // Real parts twice what the forward pass clips at, so that rounding and the next steps stay clear of it.
            let step = middle.min(scaled.re / (2.0 * LARGEST_REAL_PART));
            let lambda = scaled / step;
            let rounded = [lambda.re, lambda.im, step.ln()].map(|x| x as f32);
            if rounded.iter().any(|x| !x.is_finite()) {
                let modulus = value.norm();
                return Err(ReductionError::NotRepresentable { index, modulus });
            }
            re.push(rounded[0]);
            im.push(rounded[1]);
            log_steps.push(rounded[2]);
            gains.push(method.mode(lambda, step).gain);
        }
        let finite = |entries: Vec<f32>| match entries.iter().all(|entry| entry.is_finite()) {
            true => Ok(entries),
            false => Err(ReductionError::OutOfRange),
        };
        let parts = |matrix: &Mat<c64>, scale: &dyn Fn(usize) -> c64| -> Vec<f32> {
            let at = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)));
            at.flat_map(|(i, j)| {
                let entry = matrix[(i, j)] * scale(i);
                [entry.re as f32, entry.im as f32]
            })
            .collect()
        };
        let b = finite(parts(system.input_matrix(), &|i| gains[i].inv()))?;
        let c = finite(parts(system.output_matrix(), &|_| c64::new(0.5, 0.0)))?;
        let feedthrough = match system.feedthrough() {
            None => self.D.clone(),
            Some(direct) => {
                let sum = values(&self.D).into_iter().enumerate();
                let sum = sum.map(|(i, d)| (d + direct[(i, i)].re) as f32);
                parameter(finite(sum.collect())?, [hidden], &device)
            }
        };
        let (n, h) = (order, hidden);
        Ok(Self {
            Lambda_re: parameter(re, [n], &device),
            Lambda_im: parameter(im, [n], &device),
            B: parameter(b, [n, h, 2], &device),
            C: parameter(c, [h, n, 2], &device),
            D: feedthrough,
            log_step: parameter(log_steps, [n, 1], &device),
            bilinear: self.bilinear.clone(),
        })
    }

    fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        let [hidden, state, _] = self.C.dims();
        let rows = ["Lambda_re", "Lambda_im", "log_step", "B"]
            .map(|name| KeptRows::rows(name, state, kept.to_vec()));
        let columns = KeptRows::columns("C", [hidden, state], kept.to_vec());
        rows.into_iter().chain([columns]).collect()
    }

    fn selected(&self, kept: &[usize]) -> Self {
        let [re, im, step, b, c]: [KeptRows; STATE_PARAMETERS] = self
            .selection(kept)
            .try_into()
            .expect("the five tensors whose shape depends on the state");
        Self {
            Lambda_re: re.of(&self.Lambda_re),
            Lambda_im: im.of(&self.Lambda_im),
            log_step: step.of(&self.log_step),
            B: b.of(&self.B),
            C: c.of(&self.C),
            D: self.D.clone(),
            bilinear: self.bilinear.clone(),
        }
    }

    fn gradient_map(&self, smaller: &Self, maps: StateMaps) -> GradientMap {
        super::gradient::map(self, smaller, maps)
    }
}
