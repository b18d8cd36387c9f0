//! The size of the output under white noise.

use faer::Mat;
use subnormals::Subnormals;

use crate::arithmetic::power_of_two::scale;
use crate::hankel::accuracy::Accuracy;
use crate::norm::NormError;
use crate::system::LinearSystem;
use crate::system::domain::sealed::Domain;

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
