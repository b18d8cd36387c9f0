//! A matrix entry by entry: whether it is finite, its largest exponent, and the same numbers as another type.

use faer::{Mat, c64};

use crate::arithmetic::power_of_two::vector_exponent;
use crate::linalg::scalar::Scalar;

/// Position of the first entry, column by column, that is NaN or infinite.
pub(crate) fn first_not_finite<T: Scalar>(matrix: &Mat<T>) -> Option<(usize, usize)> {
    (0..matrix.ncols())
        .flat_map(|column| (0..matrix.nrows()).map(move |row| (row, column)))
        .find(|&position| !matrix[position].finite())
}

/// The same numbers as complex ones.
pub(crate) fn complex<T: Scalar>(matrix: &Mat<T>) -> Mat<c64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        matrix[(i, j)].complex()
    })
}

/// The same numbers without their imaginary parts where `T` is real.
pub(crate) fn from_complex<T: Scalar>(matrix: &Mat<c64>) -> Mat<T> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        T::of_complex(matrix[(i, j)])
    })
}

/// Exponent of the largest part of a matrix; `None` if all of it is zero.
pub(crate) fn matrix_exponent<T: Scalar>(matrix: &Mat<T>) -> Option<i32> {
    vector_exponent(
        matrix
            .col_iter()
            .flat_map(|column| column.iter().map(|z| z.complex())),
    )
}

/// Every entry times `2^k`.
pub(crate) fn scale_matrix<T: Scalar>(matrix: &Mat<T>, k: i32) -> Mat<T> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        matrix[(i, j)].scaled(k)
    })
}
