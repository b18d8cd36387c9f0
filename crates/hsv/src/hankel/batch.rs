//! All layers of a model at once.

use rayon::prelude::*;

use crate::hankel::{HankelDecomposition, HankelError};
use crate::system::LinearSystem;

/// [`LinearSystem::hankel`] of every system, on all threads of the current rayon pool; answers in the order of the
/// systems, one refusal without effect on the others.
///
/// ```
/// use hsv::{DiscreteDiagonalSystem, Mat, c64, hankel_all};
///
/// let layer = |pole: f64| {
///     let one = Mat::from_fn(1, 1, |_, _| c64::new(1.0, 0.0));
///     DiscreteDiagonalSystem::new(vec![c64::new(pole, 0.0)], one.clone(), one)
/// };
/// let layers = [layer(0.0)?, layer(0.5)?];
/// let largest: Vec<f64> = hankel_all(&layers)
///     .into_iter()
///     .map(|hankel| Ok(hankel?.singular_values()[0]))
///     .collect::<Result<_, hsv::HankelError>>()?;
/// assert!((largest[0] - 1.0).abs() < 1e-15 && (largest[1] - 4.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn hankel_all<S: LinearSystem>(
    systems: &[S],
) -> Vec<Result<HankelDecomposition<S>, HankelError>> {
    systems.par_iter().map(LinearSystem::hankel).collect()
}
