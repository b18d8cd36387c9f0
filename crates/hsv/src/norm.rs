//! Norms of a system, and so of the error between two: take them of [`minus`](crate::DiagonalSystem::minus).

pub(crate) mod sweep;

use faer::Mat;
use subnormals::Subnormals;
use thiserror::Error;

use crate::arithmetic::power_of_two::scale;
use crate::hankel::accuracy::Accuracy;
use crate::hankel::{HankelError, check_stable};
use crate::linalg::largest_singular_value::largest_singular_value;
use crate::linalg::scalar::Scalar;
use crate::norm::sweep::{PeakGain, peak_gain};
use crate::system::LinearSystem;
use crate::system::domain::sealed::Domain;

/// Why a system has no norm.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum NormError {
    /// It has no poles or Gramians in `f64`, or is not stable.
    #[error(transparent)]
    System(#[from] HankelError),
    /// A frequency response is beyond the range of `f64`.
    #[error("a frequency response exceeds the range of f64; scale the inputs or outputs first")]
    OutOfRange,
}

/// H∞ norm `‖G‖∞ = sup_ω σ_max(G)`, the largest gain at any frequency, and a frequency where it is reached.
///
/// By a sweep over frequencies placed around the poles, refined around the largest samples: a lower bound of the norm,
/// below it by about 1e-12 of it for a peak that is alone between two samples. Complex systems answer differently at ω
/// and -ω, so both are swept.
///
/// # Cost
/// Some ten evaluations of the response per pole, each with a singular value decomposition `[output, input]`.
///
/// # Errors
/// [`NormError`]; a system that is not stable has none.
///
/// ```
/// use hsv::{ContinuousDiagonalSystem, Mat, c64, h_infinity_norm, h2_norm};
///
/// let one = Mat::from_fn(1, 1, |_, _| c64::new(1.0, 0.0));
/// let resonance = ContinuousDiagonalSystem::new(vec![c64::new(-0.5, 3.0)], one.clone(), one)?;
/// let peak = h_infinity_norm(&resonance)?;
/// assert!((peak.gain - 2.0).abs() < 1e-12 && (peak.omega - 3.0).abs() < 1e-6);
/// assert!((h2_norm(&resonance)? - 1.0).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn h_infinity_norm<S: LinearSystem>(system: &S) -> Result<PeakGain, NormError> {
    let _mode = Subnormals::kept();
    let poles = system.poles()?;
    check_stable::<S::Domain>(&poles)?;
    let response = system.response();
    let gain = |omega: f64| {
        if omega.is_finite() {
            largest_gain(&response(omega))
        } else {
            // In continuous time only the feed-through is left.
            system.feedthrough().map_or(0.0, largest_gain)
        }
    };
    peak_gain(gain, &S::Domain::frequency_seeds(&poles)).ok_or(NormError::OutOfRange)
}

/// Hankel norm `‖G‖_H`, the largest Hankel singular value: what the output of the future can owe to the input of the past.
///
/// Of the difference of two snapshots of a layer it bounds how far any Hankel singular value can have moved: the
/// `delta` of [`weyl_intervals`](crate::weyl_intervals).
///
/// From the factors of both Gramians, without the rest of the spectrum: to about 1e-12 of itself, where strong modes do
/// not cancel each other.
///
/// # Errors
/// [`NormError`].
///
/// ```
/// use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64, hankel_norm, weyl_intervals};
///
/// let snapshot = |gains: [f64; 3]| {
///     let lambda = [0.9, 0.5, -0.3].map(|re| c64::new(re, 0.0)).to_vec();
///     let input = Mat::from_fn(3, 1, |_, _| c64::new(1.0, 0.0));
///     DiscreteDiagonalSystem::new(lambda, input, Mat::from_fn(1, 3, |_, j| c64::new(gains[j], 0.0)))
/// };
/// let (before, after) = (snapshot([1.0, 0.3, 0.01])?, snapshot([1.0, 0.3, 0.011])?);
/// let change = hankel_norm(&before.minus(&after)?)?;
/// // The two leading directions lead after this step as well.
/// let after = weyl_intervals(before.hankel()?.singular_values(), change).ok_or("no spectrum")?;
/// assert!(after[1].start() > after[2].end());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn hankel_norm<S: LinearSystem>(system: &S) -> Result<f64, NormError> {
    let _mode = Subnormals::kept();
    let units = system.units();
    let (controllability, observability) = system.gramian_factors(&units, Accuracy::Absolute)?;
    let product = observability.adjoint() * controllability;
    let norm = largest_singular_value(&product).map(|norm| scale(norm, units.gain_exponent));
    norm.filter(|norm| norm.is_finite())
        .ok_or(NormError::OutOfRange)
}

/// Largest singular value; NaN if there is none.
fn largest_gain<T: Scalar>(response: &Mat<T>) -> f64 {
    let values = response.singular_values();
    values.map_or(f64::NAN, |values| values[0])
}

/// H2 norm: the root mean square of the output under white noise of unit variance in every input, equally the energy of
/// the impulse response, `‖G‖₂² = tr(C P Cᴴ) + tr(D Dᴴ)` in discrete time.
///
/// In continuous time it is infinite with a feed-through. From a factor of P, so a small norm of a system with a large
/// Gramian keeps its digits.
///
/// # Errors
/// [`NormError`].
///
/// # Source
/// Antoulas (2005), section 5.5: `A05` in `docs/references.bib`.
pub fn h2_norm<S: LinearSystem>(system: &S) -> Result<f64, NormError> {
    let _mode = Subnormals::kept();
    let units = system.units();
    let (controllability_factor, _) = system.gramian_factors(&units, Accuracy::Absolute)?;
    let dynamic = (&units.output * controllability_factor).norm_l2();
    let dynamic = scale(dynamic, units.gain_exponent);
    let norm = match system.feedthrough().map(Mat::norm_l2) {
        Some(direct) if direct > 0.0 => S::Domain::energy_of_feedthrough(direct).hypot(dynamic),
        _ => dynamic,
    };
    if norm.is_nan() {
        Err(NormError::OutOfRange)
    } else {
        Ok(norm)
    }
}
