//! The decomposition behind a spectrum: all values, and the vectors that a reduction asks for.

use faer::{Mat, c64};

use crate::linalg::matrix::from_complex;
use crate::linalg::scalar::Scalar;
use crate::linalg::svd::Svd;

/// `U S Vᴴ`, largest value first; without columns for a matrix of zeros or of nothing.
#[derive(Debug, Clone)]
pub struct ThinSvd<T> {
    pub(crate) left_vectors: Mat<T>,
    pub(crate) values: Vec<f64>,
    pub(crate) right_vectors: Mat<T>,
}

/// A singular value decomposition, with its vectors at hand or on demand.
#[derive(Debug, Clone)]
pub enum SingularVectors<T> {
    /// Every vector, in columns.
    All(ThinSvd<T>),
    /// The way to them.
    OnDemand(Box<Svd>),
}

impl<T: Scalar> ThinSvd<T> {
    /// For a matrix of zeros, or of nothing.
    pub(crate) fn without_rank(rows: usize, columns: usize) -> Self {
        Self {
            left_vectors: Mat::zeros(rows, 0),
            values: Vec::new(),
            right_vectors: Mat::zeros(columns, 0),
        }
    }

    /// `None` if the iteration does not converge.
    pub(crate) fn of(matrix: &Mat<T>) -> Option<Self> {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows == 0 || columns == 0 {
            return Some(Self::without_rank(rows, columns));
        }
        let svd = matrix.thin_svd().ok()?;
        let diagonal = svd.S().column_vector();
        let values: Vec<f64> = diagonal.iter().map(|sigma| sigma.complex().re).collect();
        let sorted = values.windows(2).all(|pair| pair[0] >= pair[1]);
        let positive = values.iter().all(|&sigma| sigma >= 0.0); // false for NaN
        (sorted && positive).then(|| Self {
            left_vectors: svd.U().to_owned(),
            values,
            right_vectors: svd.V().to_owned(),
        })
    }
}

impl SingularVectors<c64> {
    /// `None` if the iteration does not converge.
    pub(crate) fn on_demand(matrix: &Mat<c64>) -> Option<Self> {
        let svd = Svd::of(matrix.as_ref()).ok()?;
        Some(Self::OnDemand(Box::new(svd)))
    }
}

impl<T: Scalar> SingularVectors<T> {
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Self::All(svd) => &svd.values,
            Self::OnDemand(svd) => &svd.values,
        }
    }

    /// Columns of U and of V, `[row, kept]` and `[column, kept]`.
    pub(crate) fn vectors(&self, kept: &[usize]) -> (Mat<T>, Mat<T>) {
        let columns =
            |all: &Mat<T>| Mat::from_fn(all.nrows(), kept.len(), |i, j| all[(i, kept[j])]);
        match self {
            Self::All(svd) => (columns(&svd.left_vectors), columns(&svd.right_vectors)),
            Self::OnDemand(svd) => {
                let (left, right) = svd.vectors(kept);
                (from_complex(&left), from_complex(&right))
            }
        }
    }
}
