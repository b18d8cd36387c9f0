//! What a list of Hankel singular values says by itself: how many states to keep, at what error, and how far they can
//! move.

pub(crate) mod budget;
pub(crate) mod error_bound;
pub(crate) mod order;
pub(crate) mod perturbation;
pub(crate) mod rank_correlation;

/// Whether every value is a number that a sum can be taken of, and not all of them are zero.
pub(crate) fn is_spectrum(hsv: &[f64]) -> bool {
    let total: f64 = hsv.iter().sum();
    hsv.iter().all(|&sigma| sigma >= 0.0) && total > 0.0 && total.is_finite()
}
