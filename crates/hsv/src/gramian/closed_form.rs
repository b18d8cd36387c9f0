//! Gramians in closed form, for looking at.
//!
//! Hankel singular values are *not* computed from them but from factors that never were a Gramian:
//! `diagonal_factor.rs` and `dense_factor.rs`.

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::arithmetic::power_of_two::{reciprocal_of_any, scale_complex, vector_exponent};
use crate::hankel::HankelError;
use crate::hankel::accuracy::Accuracy;
use crate::linalg::matrix::scale_matrix;
use crate::linalg::scalar::Scalar;
use crate::system::dense::DenseSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::TimeDomain;
use crate::system::sealed::Reducible;

impl<D: TimeDomain> DiagonalSystem<D> {
    /// Controllability Gramian P, `[state, state]`: the solution of `P = Λ P Λᴴ + B Bᴴ`,
    /// `P_ij = (B Bᴴ)_ij / (1 - λ_i λ̄_j)`; in continuous time of `Λ P + P Λᴴ + B Bᴴ = 0`,
    /// `P_ij = (B Bᴴ)_ij / -(λ_i + λ̄_j)`.
    ///
    /// Hermitian and positive semi-definite, often numerically singular. Entries beyond the range of `f64` come
    /// back infinite, never NaN.
    ///
    /// # Source
    /// Antoulas (2005), section 4.3: `A05` in `docs/references.bib`.
    pub fn controllability_gramian(&self) -> Mat<c64> {
        closed_form::<D>(self.lambda(), self.input_matrix())
    }

    /// Observability Gramian Q, `[state, state]`: the solution of `Q = Λᴴ Q Λ + Cᴴ C`,
    /// or in continuous time of `Λᴴ Q + Q Λ + Cᴴ C = 0`.
    ///
    /// The controllability Gramian of the dual system `(λ̄, Cᴴ, Bᴴ)`; what is said there holds here.
    pub fn observability_gramian(&self) -> Mat<c64> {
        let lambda: Vec<c64> = self.lambda().iter().map(c64::conj).collect();
        closed_form::<D>(&lambda, &self.output_matrix().adjoint().to_owned())
    }
}

impl<T: Scalar, D: TimeDomain> DenseSystem<T, D> {
    /// Controllability Gramian P, `[state, state]`: the solution of `P = A P Aᴴ + B Bᴴ`, or in continuous time of
    /// `A P + P Aᴴ + B Bᴴ = 0`; from its factor, so positive semi-definite as well as rounding allows.
    ///
    /// For equations with another right-hand side, and for residuals, see [`solve_stein`](crate::solve_stein) and
    /// [`solve_lyapunov`](crate::solve_lyapunov).
    ///
    /// # Errors
    /// [`HankelError::Unstable`] and [`HankelError::NoSchurForm`].
    pub fn controllability_gramian(&self) -> Result<Mat<T>, HankelError> {
        let _mode = Subnormals::kept();
        let units = self.units();
        let (factor, _) = self.gramian_factors(&units, Accuracy::Absolute)?;
        Ok(squared(&factor, units.state_exponents[0]))
    }

    /// Observability Gramian Q, `[state, state]`: the solution of `Q = Aᴴ Q A + Cᴴ C`, or in continuous time of
    /// `Aᴴ Q + Q A + Cᴴ C = 0`. What is said of [`controllability_gramian`](Self::controllability_gramian) holds here.
    ///
    /// # Errors
    /// [`HankelError::Unstable`] and [`HankelError::NoSchurForm`].
    pub fn observability_gramian(&self) -> Result<Mat<T>, HankelError> {
        let _mode = Subnormals::kept();
        let units = self.units();
        let (_, factor) = self.gramian_factors(&units, Accuracy::Absolute)?;
        Ok(squared(
            &factor,
            units.gain_exponent - units.state_exponents[0],
        ))
    }
}

/// `L Lᴴ` of a factor in units of `2^k`.
fn squared<T: Scalar>(factor: &Mat<T>, k: i32) -> Mat<T> {
    scale_matrix(&(factor * factor.adjoint()), 2 * k)
}

fn closed_form<D: TimeDomain>(lambda: &[c64], input: &Mat<c64>) -> Mat<c64> {
    let _mode = Subnormals::kept();
    let states = lambda.len();
    // The rows' units are put aside: an inner product of two rows of 1e160 would overflow into inf - inf.
    let units: Vec<i32> = (0..states)
        .map(|i| vector_exponent((0..input.ncols()).map(|j| input[(i, j)])).unwrap_or(0))
        .collect();
    let rows = Mat::from_fn(states, input.ncols(), |i, j| {
        scale_complex(input[(i, j)], -units[i])
    });
    let products = &rows * rows.adjoint();
    Mat::from_fn(states, states, |i, j| {
        // Only one triangle is computed, so that the result is Hermitian to the last bit.
        let (row, column) = (i.max(j), i.min(j));
        let entry =
            products[(row, column)] * reciprocal_of_any(D::separation(lambda[row], lambda[column]));
        let entry = scale_complex(entry, units[row] + units[column]);
        match i.cmp(&j) {
            std::cmp::Ordering::Greater => entry,
            std::cmp::Ordering::Equal => c64::new(entry.re, 0.0),
            std::cmp::Ordering::Less => entry.conj(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiscreteDiagonalSystem;

    #[test]
    fn a_single_mode_has_the_geometric_series_as_gramian() {
        let (input, output) = (c64::new(3.0, 4.0), c64::new(0.0, 2.0));
        let system = DiscreteDiagonalSystem::new(
            vec![c64::new(0.0, 0.5)],
            Mat::from_fn(1, 1, |_, _| input),
            Mat::from_fn(1, 1, |_, _| output),
        )
        .unwrap();
        for (gramian, exact) in [
            (system.controllability_gramian(), 25.0 / 0.75),
            (system.observability_gramian(), 4.0 / 0.75),
        ] {
            // A product, a reciprocal and another product.
            assert!((gramian[(0, 0)].re - exact).abs() <= 2.0 * f64::EPSILON * exact);
            assert_eq!(gramian[(0, 0)].im, 0.0);
        }
    }

    #[test]
    fn entries_out_of_range_are_infinite_and_never_nan() {
        let input = Mat::from_fn(2, 2, |_, j| {
            c64::new(1e200, if j == 0 { 1e200 } else { -1e200 })
        });
        let lambda = vec![c64::new(0.5, 0.0), c64::new(0.0, 0.5)];
        let system = DiscreteDiagonalSystem::new(lambda, input.clone(), input).unwrap();
        let gramian = system.controllability_gramian();
        for i in 0..2 {
            for j in 0..2 {
                assert!(!gramian[(i, j)].re.is_nan() && !gramian[(i, j)].im.is_nan());
            }
            assert_eq!(gramian[(i, i)].re, f64::INFINITY);
        }
    }
}
