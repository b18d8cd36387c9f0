//! The unit as a linear system, and back.

use std::f64::consts::TAU;

use burn::tensor::{Tensor, backend::Backend as BurnBackend};
use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64};

use super::{Lru, LruGradient};
use crate::{
    compression::{GradientMap, KeptRows, ReductionError},
    parameter::{parameter, values},
    system::{LinearLayer, StateMaps},
};

/// The parameters whose shape depends on the state.
const STATE_PARAMETERS: usize = 7;

impl<B: BurnBackend> LinearLayer for Lru<B> {
    fn to_system(&self) -> Result<DiscreteDiagonalSystem, ReductionError> {
        let [nu, theta, gamma] =
            [&self.nu_log, &self.theta_log, &self.gamma_log].map(|p| values(p));
        let lambda: Vec<c64> = nu
            .iter()
            .zip(&theta)
            .map(|(nu, theta)| {
                let (modulus, phase) = ((-nu.exp()).exp(), theta.exp());
                c64::new(modulus * phase.cos(), modulus * phase.sin())
            })
            .collect();
        let input_matrix = complex(&self.B_re, &self.B_im, |i, _| gamma[i].exp());
        let output_matrix = complex(&self.C_re, &self.C_im, |_, _| 1.0);
        Ok(DiscreteDiagonalSystem::new(
            lambda,
            input_matrix,
            output_matrix,
        )?)
    }

    fn reduced(&self, system: &DiscreteDiagonalSystem) -> Result<Self, ReductionError> {
        let (order, hidden) = (system.state_dim(), system.inputs());
        let device = self.D.device();
        let (mut nu, mut theta, mut gamma) = (Vec::new(), Vec::new(), Vec::new());
        for (index, lambda) in system.lambda().iter().enumerate() {
            let modulus = lambda.norm();
            // -log|λ| through log1p: near the unit circle |λ| itself has few digits of 1 - |λ|.
            let decay = -(modulus - 1.0).ln_1p();
            // The phase in (0, 2π]: a positive real eigenvalue gets 2π, whose logarithm is finite.
            let phase = lambda.im.atan2(lambda.re);
            let phase = if phase > 0.0 { phase } else { phase + TAU };
            let parameters = [
                decay.ln() as f32,
                phase.ln() as f32,
                (0.5 * (-(-2.0 * decay).exp_m1()).ln()) as f32,
            ];
            if parameters.iter().any(|p| !p.is_finite()) {
                return Err(ReductionError::NotRepresentable { index, modulus });
            }
            nu.push(parameters[0]);
            theta.push(parameters[1]);
            gamma.push(parameters[2]);
        }
        let normalization: Vec<f64> = gamma.iter().map(|g: &f32| f64::from(*g).exp()).collect();
        let part = |matrix: &Mat<c64>, f: &dyn Fn(usize, c64) -> f64| {
            let values: Vec<f32> = (0..matrix.nrows())
                .flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)))
                .map(|(i, j)| f(i, matrix[(i, j)]) as f32)
                .collect();
            match values.iter().all(|value| value.is_finite()) {
                true => Ok(values),
                false => Err(ReductionError::OutOfRange),
            }
        };
        let (b, c) = (system.input_matrix(), system.output_matrix());
        let b_re = part(b, &|i, z| z.re / normalization[i])?;
        let b_im = part(b, &|i, z| z.im / normalization[i])?;
        let (c_re, c_im) = (part(c, &|_, z| z.re)?, part(c, &|_, z| z.im)?);
        let feedthrough = match system.feedthrough() {
            None => self.D.clone(),
            Some(direct) => {
                let sum = values(&self.D).into_iter().enumerate();
                let sum: Vec<f32> = sum.map(|(i, d)| (d + direct[(i, i)].re) as f32).collect();
                if !sum.iter().all(|d| d.is_finite()) {
                    return Err(ReductionError::OutOfRange);
                }
                parameter(sum, [hidden], &device)
            }
        };
        let (n, h) = (order, hidden);
        Ok(Self {
            nu_log: parameter(nu, [n], &device),
            theta_log: parameter(theta, [n], &device),
            B_re: parameter(b_re, [n, h], &device),
            B_im: parameter(b_im, [n, h], &device),
            C_re: parameter(c_re, [h, n], &device),
            C_im: parameter(c_im, [h, n], &device),
            D: feedthrough,
            gamma_log: parameter(gamma, [n], &device),
        })
    }

    fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        let [hidden, state] = self.C_re.dims();
        let rows = ["nu_log", "theta_log", "gamma_log", "B_re", "B_im"]
            .map(|name| KeptRows::rows(name, state, kept.to_vec()));
        let columns =
            ["C_re", "C_im"].map(|name| KeptRows::columns(name, [hidden, state], kept.to_vec()));
        rows.into_iter().chain(columns).collect()
    }

    fn selected(&self, kept: &[usize]) -> Self {
        let [nu, theta, gamma, b_re, b_im, c_re, c_im]: [KeptRows; STATE_PARAMETERS] = self
            .selection(kept)
            .try_into()
            .expect("the seven tensors whose shape depends on the state");
        Self {
            nu_log: nu.of(&self.nu_log),
            theta_log: theta.of(&self.theta_log),
            gamma_log: gamma.of(&self.gamma_log),
            B_re: b_re.of(&self.B_re),
            B_im: b_im.of(&self.B_im),
            C_re: c_re.of(&self.C_re),
            C_im: c_im.of(&self.C_im),
            D: self.D.clone(),
        }
    }

    fn gradient_map(&self, smaller: &Self, maps: StateMaps) -> GradientMap {
        let (layer, smaller) = (self.clone(), smaller.clone());
        Box::new(move |kind, values| {
            let old = LruGradient::of_values(values);
            let new = old.after_reduction(kind, &layer, &smaller, &maps);
            new.into_values()
        })
    }
}

/// Complex matrix from its parts, each entry times `scale(row, column)`.
fn complex<B: BurnBackend>(
    re: &Tensor<B, 2>,
    im: &Tensor<B, 2>,
    scale: impl Fn(usize, usize) -> f64,
) -> Mat<c64> {
    let [rows, cols] = re.dims();
    let (re, im) = (values(re), values(im));
    Mat::from_fn(rows, cols, |i, j| {
        let (k, s) = (i * cols + j, scale(i, j));
        c64::new(re[k] * s, im[k] * s)
    })
}
