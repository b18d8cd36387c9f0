//! Matrix products whose operands are already in the first cache: register tiles, nothing packed.
//!
//! A product of a handful of columns spends its time in the packing of a general routine. Here the left operand is read
//! in place, one element at a time into all lanes, and the right operand row by row.

#![allow(
    clippy::needless_range_loop,
    reason = "registers of a tile are named by row and vector, here as in its addresses"
)]

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use std::any::Any;

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Simd, WithSimd};

use super::{Destination, MatrixRef, Real};

/// `dst (+)= lhs * rhs`; `dst` is row-major `[lhs.rows, rhs.cols]`.
///
/// A `LHS_STRIDE` other than 0 is the distance between rows of `lhs`, known to the compiler: it turns the addresses of a
/// tile's rows into constants.
///
/// # Panics
/// When a row of `rhs` is not contiguous.
#[inline(always)]
pub(crate) fn tiled_product<const LHS_STRIDE: usize, S: Simd, T: Real>(
    simd: S,
    dst: &mut [T],
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    assert!(
        dst.len() >= lhs.rows * rhs.cols,
        "the destination holds the product"
    );
    let addend = match mode {
        Destination::Overwrite => Addend::Nothing,
        Destination::Accumulate => Addend::Destination,
    };
    // SAFETY: the assertion; `dst` is initialized and borrowed exclusively.
    unsafe { tiles::<LHS_STRIDE, S, T>(simd, dst.as_mut_ptr(), addend, lhs, rhs) }
}

/// `lhs * rhs` in the same way, plus `bias` in every row if there is one, into memory that nothing was written to yet: what
/// is in it now.
///
/// # Panics
/// When a row of `rhs` is not contiguous.
#[inline(always)]
pub(crate) fn tiled_product_into<'a, S: Simd, T: Real>(
    simd: S,
    dst: &'a mut [MaybeUninit<T>],
    bias: Option<&[T]>,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) -> &'a mut [T] {
    assert_eq!(
        dst.len(),
        lhs.rows * rhs.cols,
        "the product is what the destination holds"
    );
    let addend = bias.map_or(Addend::Nothing, |bias| {
        assert_eq!(bias.len(), rhs.cols, "one bias per column");
        Addend::Row(bias)
    });
    // SAFETY: the assertions; tiles overwrite every element of `dst`, which they do not read before.
    unsafe {
        tiles::<0, S, T>(simd, dst.as_mut_ptr().cast(), addend, lhs, rhs);
        dst.assume_init_mut()
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
enum Addend<'a, T> {
    Nothing,
    /// What the destination holds.
    Destination,
    /// The same in every row.
    Row(&'a [T]),
}

/// # Safety
/// `dst` may be written, and for [`Addend::Destination`] read, for `lhs.rows * rhs.cols` elements; an [`Addend::Row`] has
/// `rhs.cols` of them.
#[inline(always)]
unsafe fn tiles<const LHS_STRIDE: usize, S: Simd, T: Real>(
    simd: S,
    dst: *mut T,
    addend: Addend<'_, T>,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    assert_eq!(lhs.cols, rhs.rows, "inner dimensions agree");
    assert_eq!(
        rhs.col_stride, 1,
        "rows of the right operand are contiguous"
    );
    assert!(
        LHS_STRIDE == 0 || LHS_STRIDE == lhs.row_stride,
        "the stride is what it is"
    );
    let columns = Columns::<LHS_STRIDE, T> {
        addend,
        lhs,
        rhs,
        dst,
        col: 0,
    };
    // A function of its own, in one copy for all callers: with all its tiles it is large.
    simd.vectorize(columns);
}

/// How vectors of the right operand and of the destination are read and written.
trait Access<S: Simd, T: Real>: Copy {
    /// # Safety
    /// The elements that the access touches may be read.
    unsafe fn load(self, simd: S, from: *const T) -> T::Lanes<S>;

    /// # Safety
    /// The elements that the access touches may be written.
    unsafe fn store(self, simd: S, to: *mut T, value: T::Lanes<S>);
}

/// All lanes.
#[derive(Clone, Copy)]
struct Whole;

impl<S: Simd, T: Real> Access<S, T> for Whole {
    #[inline(always)]
    unsafe fn load(self, _: S, from: *const T) -> T::Lanes<S> {
        // SAFETY: the caller's.
        unsafe { from.cast::<T::Lanes<S>>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, _: S, to: *mut T, value: T::Lanes<S>) {
        // SAFETY: the caller's.
        unsafe { to.cast::<T::Lanes<S>>().write_unaligned(value) }
    }
}

/// The lanes of a mask, for the columns behind the last whole vector.
#[derive(Clone, Copy)]
struct Masked<M>(M);

impl<S: Simd, T: Real> Access<S, T> for Masked<T::Mask<S>> {
    #[inline(always)]
    unsafe fn load(self, simd: S, from: *const T) -> T::Lanes<S> {
        // SAFETY: the caller's.
        unsafe { T::load_masked(simd, self.0, from) }
    }

    #[inline(always)]
    unsafe fn store(self, simd: S, to: *mut T, value: T::Lanes<S>) {
        // SAFETY: the caller's.
        unsafe { T::store_masked(simd, self.0, to, value) }
    }
}

/// The columns of a product from `col` on.
struct Columns<'a, const LHS_STRIDE: usize, T> {
    addend: Addend<'a, T>,
    lhs: MatrixRef<'a, T>,
    rhs: MatrixRef<'a, T>,
    /// Holds the product.
    dst: *mut T,
    col: usize,
}

impl<const LHS_STRIDE: usize, T: Real> WithSimd for Columns<'_, LHS_STRIDE, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (cols, lanes, wide) = (self.rhs.cols, T::lanes::<S>(), S::REGISTER_COUNT >= 32);
        while self.col + lanes <= cols {
            // Accumulators, one row of the right operand and one broadcast element must fit the registers.
            match ((cols - self.col) / lanes, wide) {
                (4.., true) => self.all_rows::<S, 6, 4>(simd, Whole),
                (2.., true) => self.all_rows::<S, 12, 2>(simd, Whole),
                (2.., false) => self.all_rows::<S, 6, 2>(simd, Whole),
                _ => self.all_rows::<S, 12, 1>(simd, Whole),
            }
        }
        if self.col == cols {
            return;
        }
        let last = LastColumns(self);
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = (&simd as &dyn Any).downcast_ref::<V4>()
            && 2 * (cols - last.0.col) <= lanes
        {
            // Where the arithmetic is 256 bits wide, as in Zen 4, half a vector takes half the time of a whole one.
            let v3: V3 = **v4;
            return Simd::vectorize(v3, last);
        }
        last.with_simd(simd);
    }
}

/// The columns of a product behind the last whole vector, one vector or less.
struct LastColumns<'a, const LHS_STRIDE: usize, T>(Columns<'a, LHS_STRIDE, T>);

impl<const LHS_STRIDE: usize, T: Real> WithSimd for LastColumns<'_, LHS_STRIDE, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.0.rhs.cols - self.0.col {
            left if left == T::lanes::<S>() => self.0.all_rows::<S, 12, 1>(simd, Whole),
            left => {
                let access = Masked(T::first(simd, left));
                self.0.all_rows::<S, 12, 1>(simd, access);
            }
        }
    }
}

impl<const LHS_STRIDE: usize, T: Real> Columns<'_, LHS_STRIDE, T> {
    /// The next `V` vectors of columns, in tiles of `R` rows and smaller ones for the rest.
    #[inline(always)]
    fn all_rows<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        access: impl Access<S, T>,
    ) {
        let rows = self.lhs.rows;
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                // Not six rows and two: a tile of two rows waits for itself.
                8 if V == 1 => self.tile::<S, 8, V>(simd, row, access),
                8 => self.tile::<S, 4, V>(simd, row, access),
                left if left >= R => self.tile::<S, R, V>(simd, row, access),
                6.. => self.tile::<S, 6, V>(simd, row, access),
                4.. => self.tile::<S, 4, V>(simd, row, access),
                2.. => self.tile::<S, 2, V>(simd, row, access),
                _ => self.tile::<S, 1, V>(simd, row, access),
            };
        }
        self.col += V * T::lanes::<S>();
    }

    /// `R` rows of `V` vectors from `row` on. Returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        access: impl Access<S, T>,
    ) -> usize {
        let (lhs, rhs, cols, lanes) = (self.lhs, self.rhs, self.rhs.cols, T::lanes::<S>());
        let lhs_stride = match LHS_STRIDE {
            0 => lhs.row_stride,
            known => known,
        };
        let mut sums = [[T::splat(simd, T::ZERO); V]; R];
        // SAFETY: `tiles` asserted that `lhs` and `rhs` agree, its caller that `dst` holds the product and a row added to
        // it as many columns; their slices hold them (`MatrixRef::new`). Rows `row..row + R` are inside, and so are the
        // columns that `access` touches: `V` whole vectors, or those left.
        unsafe {
            if let Addend::Row(addend) = self.addend {
                for v in 0..V {
                    let addend = access.load(simd, addend.as_ptr().add(self.col + v * lanes));
                    for r in 0..R {
                        sums[r][v] = addend;
                    }
                }
            }
            let a = lhs.data.as_ptr().add(row * lhs_stride);
            let b = rhs.data.as_ptr().add(self.col);
            for k in 0..lhs.cols {
                let b = b.add(k * rhs.row_stride);
                let mut right = [T::splat(simd, T::ZERO); V];
                for v in 0..V {
                    right[v] = access.load(simd, b.add(v * lanes));
                }
                for r in 0..R {
                    let left = *a.add(r * lhs_stride + k * lhs.col_stride);
                    let left = T::splat(simd, left);
                    for v in 0..V {
                        sums[r][v] = T::mul_add(simd, left, right[v], sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                let dst = self.dst.add((row + r) * cols + self.col);
                for v in 0..V {
                    let dst = dst.add(v * lanes);
                    let sum = match self.addend {
                        Addend::Nothing | Addend::Row(_) => sums[r][v],
                        Addend::Destination => {
                            T::add_lanes(simd, sums[r][v], access.load(simd, dst))
                        }
                    };
                    access.store(simd, dst, sum);
                }
            }
        }
        R
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;
    use crate::cpu::product;

    struct Tiled<'a, T> {
        dst: &'a mut [T],
        mode: Destination,
        lhs: MatrixRef<'a, T>,
        rhs: MatrixRef<'a, T>,
    }

    /// Into memory that nothing was written to yet.
    struct TiledInto<'a, T> {
        bias: Option<&'a [T]>,
        lhs: MatrixRef<'a, T>,
        rhs: MatrixRef<'a, T>,
    }

    impl<T: Real> pulp::WithSimd for TiledInto<'_, T> {
        type Output = Vec<T>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<T> {
            let mut dst = Box::new_uninit_slice(self.lhs.rows * self.rhs.cols);
            tiled_product_into(simd, &mut dst, self.bias, self.lhs, self.rhs).to_vec()
        }
    }

    impl<T: Real> pulp::WithSimd for Tiled<'_, T> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            match self.lhs.row_stride {
                16 => tiled_product::<16, S, T>(simd, self.dst, self.mode, self.lhs, self.rhs),
                _ => tiled_product::<0, S, T>(simd, self.dst, self.mode, self.lhs, self.rhs),
            }
        }
    }

    /// Small whole numbers: every order of summation gives the same sum.
    fn numbers<T: Real>(len: usize) -> Vec<T> {
        (0..len)
            .map(|i| T::from_f64((i * 7 % 11) as f64 - 5.0))
            .collect()
    }

    fn every_size_equals_the_blocked_product<T: Real>(_: PhantomData<T>) {
        for rows in (0..=26).chain([60]) {
            for inner in [0, 1, 3, 16] {
                for cols in (1..=33).chain([64, 75]) {
                    let (a, b) = (numbers::<T>(rows * inner), numbers::<T>(inner * cols));
                    let transposed = MatrixRef::new(&a, inner, rows).transpose();
                    let rhs = MatrixRef::new(&b, inner, cols);
                    for lhs in [MatrixRef::new(&a, rows, inner), transposed] {
                        for mode in [Destination::Overwrite, Destination::Accumulate] {
                            let mut got = numbers::<T>(rows * cols);
                            let mut want = got.clone();
                            let dst = &mut got[..];
                            pulp::Arch::new().dispatch(Tiled {
                                dst,
                                mode,
                                lhs,
                                rhs,
                            });
                            product(&mut want, mode, lhs, rhs);
                            assert!(got == want, "{rows} x {inner} x {cols}");
                        }
                        let bias = &numbers::<T>(cols)[..];
                        for (bias, start) in
                            [(None, vec![T::ZERO; cols]), (Some(bias), bias.to_vec())]
                        {
                            let mut want = start.repeat(rows);
                            product(&mut want, Destination::Accumulate, lhs, rhs);
                            let got = pulp::Arch::new().dispatch(TiledInto { bias, lhs, rhs });
                            assert!(got == want, "{rows} x {inner} x {cols}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_of_every_size_equal_the_blocked_product() {
        every_size_equals_the_blocked_product(PhantomData::<f32>);
        every_size_equals_the_blocked_product(PhantomData::<f64>);
    }
}
