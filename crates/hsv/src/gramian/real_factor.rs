//! Real factors of a Gramian that is real, from a complex one.

use faer::{Mat, c64};

/// A real factor of `Re(L Lᴴ)`.
pub(crate) fn real_factor(complex: &Mat<c64>) -> Mat<f64> {
    // Re(L Lᴴ) = Re L Re Lᵀ + Im L Im Lᵀ. A triangular factor of that has half the columns, and orthogonal
    // columns operations keep every row to a few ε of its own length.
    if complex.ncols() == 0 {
        return Mat::zeros(complex.nrows(), 0);
    }
    parts_transposed(complex)
        .qr()
        .thin_R()
        .transpose()
        .to_owned()
}

/// [`real_factor`] from columns in the order of their lengths.
///
/// The columns of the result fall off like those of `complex`, but their errors half as fast, since each column comes
/// in two parts that cancel.
pub(crate) fn graded_real_factor(complex: &Mat<c64>) -> Mat<f64> {
    let (rows, columns) = (complex.nrows(), complex.ncols());
    if columns == 0 {
        return Mat::zeros(rows, 0);
    }
    // Rows in the order of their sizes, columns pivoted: no reflection mixes a long row into a short one.
    let decomposition = parts_transposed(complex).col_piv_qr();
    let triangle = decomposition.thin_R();
    let (_, position) = decomposition.P().arrays();
    Mat::from_fn(rows, triangle.nrows(), |i, j| triangle[(j, position[i])])
}

/// Real and imaginary part of every column as a row, one below the other.
fn parts_transposed(complex: &Mat<c64>) -> Mat<f64> {
    Mat::from_fn(2 * complex.ncols(), complex.nrows(), |j, i| {
        let entry = complex[(i, j / 2)];
        if j % 2 == 0 { entry.re } else { entry.im }
    })
}
