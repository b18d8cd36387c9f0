//! Real and complex systems through one set of functions.

use std::fmt::Debug;

use faer::traits::ComplexField;
use faer::{Mat, c64};

use crate::arithmetic::power_of_two::scale;
use crate::gramian::real_factor::real_factor;
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
        real_factor(&complex)
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
