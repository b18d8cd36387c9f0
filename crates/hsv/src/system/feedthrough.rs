//! Feed-through matrices, of which a missing one is zero.

use faer::Mat;

use crate::linalg::scalar::Scalar;
use crate::system::validity::{SystemError, check_axis, check_finite};

/// `D - other`, where nothing is zero.
pub(crate) fn difference<T: Scalar>(
    feedthrough: Option<&Mat<T>>,
    other: Option<&Mat<T>>,
) -> Option<Mat<T>> {
    match (feedthrough, other) {
        (Some(one), Some(other)) => Some(one - other),
        (Some(one), None) => Some(one.clone()),
        (None, Some(other)) => Some(-other),
        (None, None) => None,
    }
}

/// `given + change`, where nothing is zero.
pub(crate) fn plus<T: Scalar>(given: Option<&Mat<T>>, change: Mat<T>) -> Mat<T> {
    match given {
        Some(given) => given + change,
        None => change,
    }
}

/// A feed-through matrix for a system of that many outputs and inputs.
pub(crate) fn check_feedthrough<T: Scalar>(
    feedthrough: &Mat<T>,
    outputs: usize,
    inputs: usize,
) -> Result<(), SystemError> {
    check_axis(
        "feed-through",
        "rows",
        feedthrough.nrows(),
        outputs,
        "output",
    )?;
    check_axis(
        "feed-through",
        "columns",
        feedthrough.ncols(),
        inputs,
        "input",
    )?;
    check_finite("feed-through matrix", feedthrough)
}
