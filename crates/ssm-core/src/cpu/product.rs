//! Matrix products on slices.

use std::mem::MaybeUninit;

use pulp::Simd;

use super::{
    Real,
    tile::{tiled_product, tiled_product_into},
};

/// Widest layer whose products are tiled.
///
/// At 64 channels the operands of a tile still lie in the first cache and tiles reach 0.9 of the blocked rate, at 8 they
/// are several times faster; at 128 and above the blocked routine wins (docs/performance.md).
const TILED_HIDDEN: usize = 64;

/// Which routine multiplies the matrices of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Products {
    /// Register tiles on operands in the first cache.
    Tiled,
    /// A blocked product that packs its operands.
    Blocked,
}

impl Products {
    /// The faster one for a layer with this many channels.
    pub(crate) fn for_channels(hidden: usize) -> Self {
        match hidden {
            ..=TILED_HIDDEN => Self::Tiled,
            _ => Self::Blocked,
        }
    }

    /// The faster one for rows times a weight of this shape or its transpose: one that lies in the first cache needs no
    /// packing.
    pub(crate) fn for_weight([rows, cols]: [usize; 2]) -> Self {
        match rows * cols <= TILED_HIDDEN * TILED_HIDDEN {
            true => Self::Tiled,
            false => Self::Blocked,
        }
    }

    /// `dst (+)= lhs * rhs` on one thread; `dst` is row-major `[lhs.rows, rhs.cols]`, and so is `rhs`.
    #[inline(always)]
    pub(crate) fn multiply<S: Simd, T: Real>(
        self,
        simd: S,
        dst: &mut [T],
        mode: Destination,
        lhs: MatrixRef<'_, T>,
        rhs: MatrixRef<'_, T>,
    ) {
        match self {
            Self::Tiled => tiled_product::<0, S, T>(simd, dst, mode, lhs, rhs),
            Self::Blocked => product(dst, mode, lhs, rhs),
        }
    }

    /// `lhs * rhs`, plus `bias` in every row if there is one, into memory that nothing was written to yet: what is in it now.
    #[inline(always)]
    pub(crate) fn multiply_into<'a, S: Simd, T: Real>(
        self,
        simd: S,
        dst: &'a mut [MaybeUninit<T>],
        bias: Option<&[T]>,
        lhs: MatrixRef<'_, T>,
        rhs: MatrixRef<'_, T>,
    ) -> &'a mut [T] {
        match self {
            Self::Tiled => tiled_product_into(simd, dst, bias, lhs, rhs),
            Self::Blocked => match bias {
                None => product_into(dst, lhs, rhs),
                Some(bias) => {
                    let dst = repeat_into(dst, bias);
                    product(dst, Destination::Accumulate, lhs, rhs);
                    dst
                }
            },
        }
    }
}

/// A row-major matrix on a slice, read-only, possibly seen transposed.
#[derive(Clone, Copy)]
pub(crate) struct MatrixRef<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a, T> MatrixRef<'a, T> {
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= rows * cols, "the slice holds the matrix");
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// Columns of a wider row-major matrix, whose rows are `row_stride` apart.
    pub(crate) fn columns(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || data.len() >= (rows - 1) * row_stride + cols,
            "the slice holds the columns"
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// A row of a matrix that is not seen transposed.
    pub(crate) fn row(self, index: usize) -> &'a [T] {
        debug_assert_eq!(self.col_stride, 1, "rows are contiguous");
        &self.data[index * self.row_stride..][..self.cols]
    }

    /// Row by row, of a matrix that is not seen transposed.
    pub(crate) fn values(self) -> &'a [T] {
        debug_assert_eq!(self.col_stride, 1, "rows are contiguous");
        &self.data[..self.rows * self.cols]
    }

    pub(crate) fn transpose(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// What a product does with what its destination holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Overwrite,
    Accumulate,
}

/// `dst (+)= lhs * rhs` on one thread, by a blocked product that packs its operands; `dst` is row-major
/// `[lhs.rows, rhs.cols]`.
pub(crate) fn product<T: Real>(
    dst: &mut [T],
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    assert!(
        dst.len() >= lhs.rows * rhs.cols,
        "the destination holds the product"
    );
    // SAFETY: the assertion; `dst` is initialized and borrowed exclusively.
    unsafe { blocked_product(dst.as_mut_ptr(), mode, lhs, rhs) }
}

/// `lhs * rhs` by the same routine into memory that nothing was written to yet: what is in it now.
pub(crate) fn product_into<'a, T: Real>(
    dst: &'a mut [MaybeUninit<T>],
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) -> &'a mut [T] {
    assert_eq!(
        dst.len(),
        lhs.rows * rhs.cols,
        "the product is what the destination holds"
    );
    // SAFETY: the assertion; the product overwrites every element of `dst`, which it does not read before.
    unsafe {
        blocked_product(dst.as_mut_ptr().cast(), Destination::Overwrite, lhs, rhs);
        dst.assume_init_mut()
    }
}

/// `row` again and again: what is in `dst` now.
fn repeat_into<'a, T: Real>(dst: &'a mut [MaybeUninit<T>], row: &[T]) -> &'a mut [T] {
    assert!(dst.len().is_multiple_of(row.len()), "rows are whole");
    for to in dst.chunks_exact_mut(row.len()) {
        to.write_copy_of_slice(row);
    }
    // SAFETY: the rows are all there is.
    unsafe { dst.assume_init_mut() }
}

/// # Safety
/// `dst` may be written, and in [`Destination::Accumulate`] read, for `lhs.rows * rhs.cols` elements.
unsafe fn blocked_product<T: Real>(
    dst: *mut T,
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    let (m, n, k) = (lhs.rows, rhs.cols, lhs.cols);
    assert_eq!(k, rhs.rows, "inner dimensions agree");
    let _mode = T::subnormals();
    // SAFETY: `MatrixRef::new` keeps the operands inside their slices, the caller vouches for `dst`, and `T` is f32 or
    // f64, which gemm dispatches on.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            n as isize,
            mode == Destination::Accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_transposes_matches_the_sum() {
        let lhs: Vec<f64> = (0..6).map(f64::from).collect();
        let rhs: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.5 - 2.0).collect();
        // lhs^T [3, 2] * rhs^T [2, 6]
        let (a, b) = (MatrixRef::new(&lhs, 2, 3), MatrixRef::new(&rhs, 6, 2));
        let mut dst = vec![1.0; 18];
        product(
            &mut dst,
            Destination::Accumulate,
            a.transpose(),
            b.transpose(),
        );
        for i in 0..3 {
            for j in 0..6 {
                let want: f64 = 1.0 + (0..2).map(|k| lhs[k * 3 + i] * rhs[j * 2 + k]).sum::<f64>();
                assert!((dst[i * 6 + j] - want).abs() < 1e-12);
            }
        }
    }
}
