//! Which numbers make a system, and which do not.

use faer::{Mat, c64};
use thiserror::Error;

use crate::linalg::matrix::first_not_finite;
use crate::linalg::scalar::Scalar;
use crate::system::domain::TimeDomain;

/// Why numbers do not make a system.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SystemError {
    /// A dimension is zero.
    #[error("the system has no {what}; state, input and output dimension must each be at least 1")]
    Empty {
        /// `"states"`, `"inputs"` or `"outputs"`.
        what: &'static str,
    },
    /// A matrix does not fit the others.
    #[error("the {what} matrix has {found} {axis}, expected {expected}; pass one per {of}")]
    Dimension {
        /// `"state"`, `"input"`, `"output"` or `"feed-through"`.
        what: &'static str,
        /// `"rows"` or `"columns"`.
        axis: &'static str,
        /// Size of that axis.
        found: usize,
        /// What it should be.
        expected: usize,
        /// `"state"`, `"input"` or `"output"`.
        of: &'static str,
    },
    /// An eigenvalue or a matrix entry is NaN or infinite.
    #[error(
        "{what} is not finite at row {row}, column {column}; find the layer that diverged before reducing it"
    )]
    NotFinite {
        /// `"lambda"` (a column), `"state matrix"`, `"input matrix"`, `"output matrix"` or `"feed-through matrix"`.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// An eigenvalue is not in the stable region, so that the system has no Gramians.
    #[error(
        "eigenvalue {index} is {eigenvalue}, with a margin of {margin:e}; \
         a system is stable only with every {region}: split off the unstable part first"
    )]
    Unstable {
        /// Position of the first such eigenvalue.
        index: usize,
        /// The eigenvalue.
        eigenvalue: c64,
        /// `1 - |λ|²` or `-2 Re λ` with its exact sign: zero or negative.
        margin: f64,
        /// The stable region, in words.
        region: &'static str,
    },
    /// An eigenvalue in continuous time is too fast or too slow for the unit of time.
    #[error(
        "eigenvalue {index} is {eigenvalue}: its parts must lie within 1e-140 and 1e140; choose another unit of time"
    )]
    OutOfRange {
        /// Position of the first such eigenvalue.
        index: usize,
        /// The eigenvalue.
        eigenvalue: c64,
    },
}

/// Sizes of input and output matrix against the number of states.
pub(crate) fn check_dimensions<T: Scalar>(
    states: usize,
    input_matrix: &Mat<T>,
    output_matrix: &Mat<T>,
) -> Result<(), SystemError> {
    if states == 0 {
        return Err(SystemError::Empty { what: "states" });
    }
    check_axis("input", "rows", input_matrix.nrows(), states, "state")?;
    check_axis("output", "columns", output_matrix.ncols(), states, "state")?;
    if input_matrix.ncols() == 0 {
        return Err(SystemError::Empty { what: "inputs" });
    }
    if output_matrix.nrows() == 0 {
        return Err(SystemError::Empty { what: "outputs" });
    }
    Ok(())
}

/// Size of one axis of a matrix.
pub(crate) fn check_axis(
    what: &'static str,
    axis: &'static str,
    found: usize,
    expected: usize,
    of: &'static str,
) -> Result<(), SystemError> {
    if found == expected {
        return Ok(());
    }
    Err(SystemError::Dimension {
        what,
        axis,
        found,
        expected,
        of,
    })
}

pub(crate) fn check_finite<T: Scalar>(
    what: &'static str,
    matrix: &Mat<T>,
) -> Result<(), SystemError> {
    match first_not_finite(matrix) {
        Some((row, column)) => Err(SystemError::NotFinite { what, row, column }),
        None => Ok(()),
    }
}

/// First eigenvalue that is not stable, with its margin.
pub(crate) fn first_unstable<D: TimeDomain>(lambda: &[c64]) -> Option<(usize, f64)> {
    let margins = lambda.iter().map(|&lambda| D::margin(lambda));
    margins
        .enumerate()
        .find(|&(_, margin)| margin <= 0.0 || margin.is_nan())
}
