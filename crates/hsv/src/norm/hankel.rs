//! The largest Hankel singular value, without the others.

use subnormals::Subnormals;

use crate::arithmetic::power_of_two::scale;
use crate::hankel::accuracy::Accuracy;
use crate::linalg::largest_singular_value::largest_singular_value;
use crate::norm::NormError;
use crate::system::LinearSystem;

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
