//! From a truncated real system back to the parameters of a complex layer.

use std::f64::consts::SQRT_2;

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::linalg::matrix::complex;
use crate::reduction::TruncationError;
use crate::reduction::diagonal_form::{DiagonalForm, as_truncation_error, diagonal_form};
use crate::reduction::truncation::{Form, Projected, Truncation};
use crate::system::LinearSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::{Discrete, TimeDomain};
use crate::system::real_part::RealPartSystem;

/// A complex diagonal system whose output has the truncated real system's as its real part, and the maps between its
/// states `z` and the full system's `x`.
///
/// A conjugate pair of poles is one mode, with twice the pair's output column, and a lone real pole is a mode with real
/// λ, b and c. So a real system of `order` states makes between `order / 2` and `order` modes.
///
/// The maps are linear over the real numbers only, `x ≈ R z + R̃ z̄` and `z = L x + L̃ x̄`: a truncation that ranks states
/// by the real part of the output mixes a mode with the conjugates of others. For a lone real mode, whose state stays
/// real, R alone is filled.
///
/// The scale of the modes is that of [`DiagonalForm`]: eigenvectors of the real balanced state matrix have length one, and
/// the factor of two by which a mode stands for its conjugate goes half to each side. A layer whose modes do not mix with
/// their conjugates gets the same scale from either realization.
#[derive(Debug, Clone)]
pub struct RealDiagonalForm<D = Discrete> {
    /// The reduced layer: modes, in complex form.
    pub system: DiagonalSystem<D>,
    /// R, `[state, mode]`.
    pub right: Mat<c64>,
    /// R̃, `[state, mode]`.
    pub right_conjugate: Mat<c64>,
    /// L, `[mode, state]`.
    pub left: Mat<c64>,
    /// L̃, `[mode, state]`.
    pub left_conjugate: Mat<c64>,
    /// 2-norm condition number of the eigenvectors of the truncated real state matrix.
    pub eigenvector_condition: f64,
}

impl<D: TimeDomain> Truncation<RealPartSystem<D>> {
    /// The layer of the truncated real system.
    ///
    /// # Errors
    /// As for [`Truncation::diagonalize`] of a complex system.
    pub fn diagonalize(&self) -> Result<RealDiagonalForm<D>, TruncationError> {
        let _mode = Subnormals::kept();
        let projected = match &self.form {
            Form::Projected(projected) => projected,
            Form::Identity(full) => return Ok(unchanged(full.complex())),
        };
        let full = projected.full.complex();
        let pairs = projected.full.paired_lambda();
        let form = diagonal_form(&paired(projected), &pairs, &self.eigenvectors)?;
        // Of each pair the mode above the real axis stands for both.
        let modes: Vec<usize> = (0..self.order())
            .filter(|&mode| self.poles()[mode].im >= 0.0)
            .collect();
        let is_real = |mode: usize| self.poles()[mode].im == 0.0;
        modes_only(&form, full.state_dim(), &modes, is_real)
    }
}

fn unchanged<D: TimeDomain>(system: &DiagonalSystem<D>) -> RealDiagonalForm<D> {
    let states = system.state_dim();
    RealDiagonalForm {
        system: system.clone(),
        right: Mat::identity(states, states),
        right_conjugate: Mat::zeros(states, states),
        left: Mat::identity(states, states),
        left_conjugate: Mat::zeros(states, states),
        eigenvector_condition: 1.0,
    }
}

/// The projections in coordinates `(x, x̄)`, in which the full state matrix is diagonal.
fn paired<D: TimeDomain>(real: &Projected<RealPartSystem<D>>) -> Projected<DiagonalSystem<D>> {
    let states = real.full.complex().state_dim();
    let entry = |re: f64, im: f64, first: bool| c64::new(re, if first { im } else { -im }) / SQRT_2;
    let (right, left) = (&real.right, &real.left);
    Projected {
        full: real.full.complex().clone(),
        right: Mat::from_fn(2 * states, right.ncols(), |i, j| {
            entry(
                right[(i % states, j)],
                right[(i % states + states, j)],
                i < states,
            )
        }),
        left: Mat::from_fn(left.nrows(), 2 * states, |i, j| {
            entry(
                left[(i, j % states)],
                -left[(i, j % states + states)],
                j < states,
            )
        }),
        state_matrix: complex(&real.state_matrix),
        input: complex(&real.input),
        output: complex(&real.output),
        state_exponents: real.state_exponents.clone(),
        gain_exponent: real.gain_exponent,
    }
}

/// The modes at the given positions, with the rest taken to be their conjugates.
fn modes_only<D: TimeDomain>(
    form: &DiagonalForm<D>,
    states: usize,
    modes: &[usize],
    is_real: impl Fn(usize) -> bool,
) -> Result<RealDiagonalForm<D>, TruncationError> {
    let system = &form.system;
    // Half of the output of a pair is that of its conjugate.
    let share = |mode: usize| if is_real(mode) { 1.0 } else { SQRT_2 };
    // All of a lone real mode is real but for rounding.
    let kept = |z: c64, mode: usize| {
        if is_real(mode) {
            c64::new(z.re, 0.0)
        } else {
            z
        }
    };
    let lambda = modes
        .iter()
        .map(|&mode| kept(system.lambda()[mode], mode))
        .collect();
    let input = Mat::from_fn(modes.len(), system.inputs(), |i, j| {
        kept(system.input_matrix()[(modes[i], j)], modes[i]) * share(modes[i])
    });
    let output = Mat::from_fn(system.outputs(), modes.len(), |i, j| {
        kept(system.output_matrix()[(i, modes[j])], modes[j]) * share(modes[j])
    });
    let reduced = DiagonalSystem::new(lambda, input, output)
        .and_then(|reduced| reduced.with_any_feedthrough(system.feedthrough()));
    // z = L x + L̃ x̄ and x = R z + R̃ z̄, where the column of z̄ is the conjugate of the one below it.
    Ok(RealDiagonalForm {
        system: reduced.map_err(as_truncation_error)?,
        right: Mat::from_fn(states, modes.len(), |i, j| {
            form.right[(i, modes[j])] / share(modes[j])
        }),
        right_conjugate: Mat::from_fn(states, modes.len(), |i, j| {
            if is_real(modes[j]) {
                c64::ZERO
            } else {
                form.right[(i + states, modes[j])].conj() / share(modes[j])
            }
        }),
        left: Mat::from_fn(modes.len(), states, |i, j| {
            form.left[(modes[i], j)] * share(modes[i])
        }),
        left_conjugate: Mat::from_fn(modes.len(), states, |i, j| {
            form.left[(modes[i], j + states)] * share(modes[i])
        }),
        eigenvector_condition: form.eigenvector_condition,
    })
}
