//! Real and complex systems through one set of functions.

use std::fmt::Debug;

use faer::traits::ComplexField;
use faer::{Mat, c64};

use crate::arithmetic::power_of_two::{scale, vector_exponent};
use crate::linalg::singular_vectors::{SingularVectors, ThinSvd};

/// Entries of a system's matrices: `f64` for a system that is real in time, [`c64`] otherwise.
///
/// Sealed, and used by [`DenseSystem`](crate::DenseSystem) and what is made from it.
pub trait Scalar:
    sealed::Entry + ComplexField<Real = f64> + Copy + Debug + PartialEq + Send + Sync
{
}

impl Scalar for f64 {}
impl Scalar for c64 {}

pub(crate) mod sealed {
    use faer::{Mat, c64};

    use crate::linalg::singular_vectors::SingularVectors;

    /// What the crate needs of an entry beyond arithmetic.
    pub trait Entry: Sized {
        fn real(value: f64) -> Self;
        fn complex(self) -> c64;
        /// The real part for a real entry: for numbers that are real but for rounding.
        fn of_complex(z: c64) -> Self;
        fn times(self, factor: f64) -> Self;
        fn modulus(self) -> f64;
        fn finite(self) -> bool;
        /// `self · 2^k`, exactly unless the result is subnormal.
        fn scaled(self, k: i32) -> Self;
        /// A factor of the same Gramian with entries of this type, given that the Gramian has such entries.
        fn factor(complex: Mat<c64>) -> Mat<Self>;
        /// An orthonormal basis with entries of this type of the space spanned by independent columns, given that it has
        /// one.
        fn basis(complex: Mat<c64>) -> Mat<Self>;
        /// Singular values and vectors, or nothing if they do not converge.
        fn decompose(matrix: &Mat<Self>) -> Option<SingularVectors<Self>>;
    }
}

impl sealed::Entry for c64 {
    fn real(value: f64) -> Self {
        Self::new(value, 0.0)
    }

    fn complex(self) -> c64 {
        self
    }

    fn of_complex(z: c64) -> Self {
        z
    }

    fn times(self, factor: f64) -> Self {
        self * factor
    }

    fn modulus(self) -> f64 {
        self.norm()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }

    fn scaled(self, k: i32) -> Self {
        Self::new(scale(self.re, k), scale(self.im, k))
    }

    fn factor(complex: Mat<c64>) -> Mat<Self> {
        complex
    }

    fn basis(complex: Mat<c64>) -> Mat<Self> {
        complex.qr().compute_thin_Q()
    }

    fn decompose(matrix: &Mat<Self>) -> Option<SingularVectors<Self>> {
        SingularVectors::on_demand(matrix)
    }
}

impl sealed::Entry for f64 {
    fn real(value: f64) -> Self {
        value
    }

    fn complex(self) -> c64 {
        c64::new(self, 0.0)
    }

    fn of_complex(z: c64) -> Self {
        z.re
    }

    fn times(self, factor: f64) -> Self {
        self * factor
    }

    fn modulus(self) -> f64 {
        self.abs()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }

    fn scaled(self, k: i32) -> Self {
        scale(self, k)
    }

    fn factor(complex: Mat<c64>) -> Mat<Self> {
        // Re(L Lᴴ) = Re L Re Lᵀ + Im L Im Lᵀ. A triangular factor of that has half the columns, and orthogonal
        // columns operations keep every row to a few ε of its own length.
        if complex.ncols() == 0 {
            return Mat::zeros(complex.nrows(), 0);
        }
        parts_transposed(&complex)
            .qr()
            .thin_R()
            .transpose()
            .to_owned()
    }

    fn basis(complex: Mat<c64>) -> Mat<Self> {
        // Real and imaginary parts span the space twice over; pivoting picks independent ones.
        let (rows, columns) = (complex.nrows(), complex.ncols());
        let parts = Mat::from_fn(rows, 2 * columns, |i, j| {
            let entry = complex[(i, j % columns)];
            if j < columns { entry.re } else { entry.im }
        });
        let q = parts.col_piv_qr().compute_thin_Q();
        q.subcols(0, columns).to_owned()
    }

    fn decompose(matrix: &Mat<Self>) -> Option<SingularVectors<Self>> {
        ThinSvd::of(matrix).map(SingularVectors::All)
    }
}

/// [`factor`](sealed::Entry::factor) for a real Gramian, from columns in the order of their lengths.
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
