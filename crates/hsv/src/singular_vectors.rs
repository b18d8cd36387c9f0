//! The decomposition behind a spectrum: all values, and the vectors that a reduction asks for.

use faer::{Mat, c64};

use crate::scalar::{Scalar, from_complex};
use crate::svd::Svd;

/// `U S Vᴴ`, largest value first; without values for a matrix without rows or columns.
#[derive(Debug, Clone)]
pub enum SingularVectors<T> {
    /// Every vector, in columns.
    All {
        /// S.
        values: Vec<f64>,
        /// U.
        left: Mat<T>,
        /// V.
        right: Mat<T>,
    },
    /// The way to them.
    OnDemand(Box<Svd>),
}

impl SingularVectors<c64> {
    /// `None` if the iteration does not converge.
    pub(crate) fn on_demand(matrix: &Mat<c64>) -> Option<Self> {
        Svd::of(matrix.as_ref())
            .ok()
            .map(Box::new)
            .map(Self::OnDemand)
    }
}

impl<T: Scalar> SingularVectors<T> {
    /// `None` if the iteration does not converge.
    pub(crate) fn all(matrix: &Mat<T>) -> Option<Self> {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows == 0 || columns == 0 {
            return Some(Self::All {
                values: Vec::new(),
                left: Mat::zeros(rows, 0),
                right: Mat::zeros(columns, 0),
            });
        }
        let svd = matrix.thin_svd().ok()?;
        let diagonal = svd.S().column_vector();
        let values: Vec<f64> = diagonal.iter().map(|sigma| sigma.complex().re).collect();
        let sorted = values.windows(2).all(|pair| pair[0] >= pair[1]);
        let positive = values.iter().all(|&sigma| sigma >= 0.0); // false for NaN
        (sorted && positive).then(|| Self::All {
            left: svd.U().to_owned(),
            values,
            right: svd.V().to_owned(),
        })
    }

    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Self::All { values, .. } => values,
            Self::OnDemand(svd) => &svd.values,
        }
    }

    /// Columns of U and of V, `[row, kept]` and `[column, kept]`.
    pub(crate) fn vectors(&self, kept: &[usize]) -> (Mat<T>, Mat<T>) {
        match self {
            Self::All { left, right, .. } => {
                let columns =
                    |all: &Mat<T>| Mat::from_fn(all.nrows(), kept.len(), |i, j| all[(i, kept[j])]);
                (columns(left), columns(right))
            }
            Self::OnDemand(svd) => {
                let (left, right) = svd.vectors(kept);
                (from_complex(&left), from_complex(&right))
            }
        }
    }
}
