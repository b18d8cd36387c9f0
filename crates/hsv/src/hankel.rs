//! Hankel singular values, by the square-root method.

pub(crate) mod accuracy;
pub(crate) mod batch;
pub(crate) mod rounding;

use faer::{Mat, c64};
use subnormals::Subnormals;
use thiserror::Error;

use crate::arithmetic::power_of_two::{exponent, scale};
use crate::hankel::accuracy::Accuracy;
use crate::hankel::rounding::{Directions, absolute_errors, relative_errors};
use crate::linalg::scalar::sealed::Entry;
use crate::linalg::singular_vectors::{SingularVectors, ThinSvd};
use crate::system::LinearSystem;
use crate::system::domain::TimeDomain;
use crate::system::units::Units;
use crate::system::validity::first_unstable;

/// Hankel singular values of a system, with the factors and singular vectors that a reduction is made from.
///
/// Take it once and reduce to as many orders as you like.
#[derive(Debug, Clone)]
pub struct HankelDecomposition<S: LinearSystem> {
    pub(crate) system: S,
    /// Its input and output in units of their own.
    pub(crate) units: Units<S::Scalar>,
    /// Factors of the Gramians in these units, `[state, rank of each]`.
    pub(crate) controllability_factor: Mat<S::Scalar>,
    pub(crate) observability_factor: Mat<S::Scalar>,
    /// Of `L_Qᴴ L_P`; its values are those of the system in these units.
    pub(crate) svd: SingularVectors<S::Scalar>,
    singular_values: Vec<f64>,
    relative_errors: Vec<f64>,
    numerical_rank: usize,
}

/// Why a system has no Hankel singular values in `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum HankelError {
    /// A pole of a dense system is not in the stable region.
    #[error(
        "the state matrix has the eigenvalue {eigenvalue}, with a margin of {margin:e}; Gramians need every {region}: \
         split off the unstable part first"
    )]
    Unstable {
        /// The first such eigenvalue.
        eigenvalue: c64,
        /// `1 - |λ|²` or `-2 Re λ`: zero or negative.
        margin: f64,
        /// The stable region, in words.
        region: &'static str,
    },
    /// The eigenvalues of a dense state matrix did not converge.
    #[error(
        "the eigenvalues of the {states} x {states} state matrix did not converge; keep the system as it is"
    )]
    NoSchurForm {
        /// Number of states.
        states: usize,
    },
    /// The stable and the unstable poles of a dense system belong to subspaces that are one in `f64`.
    #[error(
        "the {stable} stable poles of {states} cannot be separated from the others: some nearly meet on the boundary; \
         keep the system as it is"
    )]
    Inseparable {
        /// Number of stable poles.
        stable: usize,
        /// Number of states.
        states: usize,
    },
    /// The spectrum, or twice its sum, is not representable.
    #[error(
        "the largest Hankel singular value is about 2^{exponent}, out of the range of f64; \
         scale the input or output matrix by 2^{} first", -exponent
    )]
    OutOfRange {
        /// Its binary exponent.
        exponent: i32,
    },
    /// The singular value decomposition did not converge.
    #[error(
        "the singular value decomposition of a {rows} x {columns} product of Gramian factors did not converge; \
         keep the system as it is"
    )]
    NoConvergence {
        /// Rank of the observability factor.
        rows: usize,
        /// Rank of the controllability factor.
        columns: usize,
    },
}

/// Refuses poles of a dense system that are not stable.
pub(crate) fn check_stable<D: TimeDomain>(poles: &[c64]) -> Result<(), HankelError> {
    match first_unstable::<D>(poles) {
        Some((index, margin)) => Err(HankelError::Unstable {
            eigenvalue: poles[index],
            margin,
            region: D::STABLE_REGION,
        }),
        None => Ok(()),
    }
}

impl<S: LinearSystem> HankelDecomposition<S> {
    pub(crate) fn of(system: &S, accuracy: Accuracy) -> Result<Self, HankelError> {
        let _mode = Subnormals::kept();
        let units = system.units();
        let (controllability_factor, observability_factor) =
            system.gramian_factors(&units, accuracy)?;

        // SVD of the product of factors, not eigenvalues of P Q: that would square the condition number.
        let product = observability_factor.adjoint() * &controllability_factor;
        let (rows, columns) = (product.nrows(), product.ncols());
        let no_convergence = HankelError::NoConvergence { rows, columns };
        let absolute = |values: &[f64]| {
            absolute_errors(values, &controllability_factor, &observability_factor)
        };
        let (svd, mut relative_errors) = match accuracy {
            Accuracy::Absolute => {
                let svd = S::Scalar::decompose(&product).ok_or(no_convergence)?;
                let errors = absolute(svd.values());
                (svd, errors)
            }
            Accuracy::Relative => {
                let svd = ThinSvd::graded(&product)?;
                let (of_p, of_q) = system.factor_rounding();
                let controllability = Directions {
                    factor: &controllability_factor,
                    vectors: &svd.right_vectors,
                    rounding: of_p,
                };
                let observability = Directions {
                    factor: &observability_factor,
                    vectors: &svd.left_vectors,
                    rounding: of_q,
                };
                let errors = relative_errors(&svd.values, &controllability, &observability)
                    .unwrap_or_else(|| absolute(&svd.values));
                (SingularVectors::All(svd), errors)
            }
        };

        let singular_values = unscaled(svd.values(), units.gain_exponent, system.state_dim())?;
        relative_errors.resize(system.state_dim(), f64::INFINITY);
        let numerical_rank = relative_errors
            .iter()
            .take_while(|&&error| error < 1.0)
            .count();
        Ok(Self {
            system: system.clone(),
            units,
            controllability_factor,
            observability_factor,
            svd,
            singular_values,
            relative_errors,
            numerical_rank,
        })
    }

    /// The system that was decomposed.
    pub fn system(&self) -> &S {
        &self.system
    }

    /// Hankel singular values, one per state, largest first, none negative.
    ///
    /// Exactly zero where a Gramian has no rank: for every state that no input reaches or no output shows.
    pub fn singular_values(&self) -> &[f64] {
        &self.singular_values
    }

    /// Estimated relative error of each singular value, largest value first; infinite for a value of zero.
    ///
    /// To first order, with `state · ε` for every sum: in all systems tested more than the error, up to a hundred
    /// times. After [`Accuracy::Absolute`] it is the larger of
    /// `state · ε · σ_1`, the error of a singular value decomposition of that size, and `ε · Σ_i √(P_ii Q_ii)`, the
    /// rounding of the product of the factors, which counts when strong modes cancel each other, over σ. After
    /// [`Accuracy::Relative`] see [`LinearSystem::hankel_with`].
    pub fn relative_errors(&self) -> &[f64] {
        &self.relative_errors
    }

    /// Number of singular values that stand above rounding: those before the first whose
    /// [relative error](Self::relative_errors) may reach one. From there on a value and its direction are noise.
    pub fn numerical_rank(&self) -> usize {
        self.numerical_rank
    }
}

/// Puts the gain back and fills up with zeros to one value per state.
fn unscaled(
    scaled_values: &[f64],
    gain_exponent: i32,
    states: usize,
) -> Result<Vec<f64>, HankelError> {
    let mut values: Vec<f64> = scaled_values
        .iter()
        .map(|&sigma| scale(sigma, gain_exponent))
        .collect();
    values.resize(states, 0.0);
    let Some(largest) = scaled_values.first().and_then(|&sigma| exponent(sigma)) else {
        return Ok(values); // no transfer at all
    };
    // Error bounds are twice a sum of these, and must be numbers as well.
    let bound = 2.0 * values.iter().sum::<f64>();
    if bound.is_finite() && values[0] >= f64::MIN_POSITIVE {
        Ok(values)
    } else {
        Err(HankelError::OutOfRange {
            exponent: largest + gain_exponent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiscreteDiagonalSystem, LinearSystem};

    fn one_mode(input: f64, output: f64, lambda: f64) -> DiscreteDiagonalSystem {
        let entry = |value| Mat::from_fn(1, 1, |_, _| c64::new(value, 0.0));
        DiscreteDiagonalSystem::new(vec![c64::new(lambda, 0.0)], entry(input), entry(output))
            .unwrap()
    }

    #[test]
    fn a_single_mode_has_its_gain_as_singular_value() {
        let hankel = one_mode(3.0, -5.0, 0.5).hankel().unwrap();
        // |b c| / (1 - λ²)
        assert!((hankel.singular_values()[0] - 20.0).abs() <= 20.0 * 2.0 * f64::EPSILON);
        assert_eq!(hankel.numerical_rank(), 1);
    }

    #[test]
    fn values_out_of_range_are_an_error() {
        let overflow = one_mode(1e200, 1e200, 0.5).hankel().unwrap_err();
        assert!(
            matches!(overflow, HankelError::OutOfRange { exponent } if exponent > 1023),
            "{overflow}"
        );
        let underflow = one_mode(1e-200, 1e-200, 0.5).hankel().unwrap_err();
        assert!(
            matches!(underflow, HankelError::OutOfRange { exponent } if exponent < -1022),
            "{underflow}"
        );
        // The value fits, twice the value does not.
        assert!(one_mode(1e154, 1.5e154, 0.0).hankel().is_err());
        assert!(one_mode(1e-200, 1e200, 0.5).hankel().is_ok());
    }

    #[test]
    fn a_system_without_transfer_has_zeros() {
        for system in [
            one_mode(0.0, 1.0, 0.5),
            one_mode(1.0, 0.0, 0.5),
            one_mode(0.0, 0.0, 0.0),
        ] {
            let hankel = system.hankel().unwrap();
            assert_eq!(hankel.singular_values(), [0.0]);
            assert_eq!(hankel.numerical_rank(), 0);
        }
    }
}
