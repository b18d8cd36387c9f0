//! The largest gain at any frequency.

use faer::Mat;
use subnormals::Subnormals;

use crate::hankel::check_stable;
use crate::linalg::scalar::Scalar;
use crate::norm::NormError;
use crate::norm::sweep::{PeakGain, peak_gain};
use crate::system::LinearSystem;
use crate::system::domain::sealed::Domain;

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

/// Largest singular value; NaN if there is none.
fn largest_gain<T: Scalar>(response: &Mat<T>) -> f64 {
    let values = response.singular_values();
    values.map_or(f64::NAN, |values| values[0])
}
