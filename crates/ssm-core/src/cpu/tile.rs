//! Matrix products whose operands are already in the first cache: register tiles, nothing packed.
//!
//! A product of a handful of columns spends its time in the packing of a general routine. Here the left operand is read
//! in place, one element at a time into all lanes; the rows of the right operand and of the destination are whole
//! vectors.

use pulp::Simd;

use super::{Destination, MatrixRef, Real};

/// `dst (+)= lhs * rhs`; `dst` is row-major `[lhs.rows, rhs.cols]`.
///
/// # Panics
/// When a row of `rhs` is not contiguous, or not a whole number of vectors.
#[inline(always)]
pub(crate) fn tiled_product<S: Simd, T: Real>(
    simd: S,
    dst: &mut [T],
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    let (rows, cols, lanes) = (lhs.rows, rhs.cols, T::lanes::<S>());
    assert_eq!(lhs.cols, rhs.rows, "inner dimensions agree");
    assert!(
        rhs.col_stride == 1 && cols.is_multiple_of(lanes),
        "rows of whole vectors"
    );
    assert!(
        dst.len() >= rows * cols,
        "the destination holds the product"
    );
    let wide = S::REGISTER_COUNT >= 32;
    let mut col = 0;
    while col < cols {
        let vectors = (cols - col) / lanes;
        let columns = Columns {
            simd,
            mode,
            lhs,
            rhs,
            dst: &mut *dst,
            col,
        };
        // Accumulators, one row of the right operand and one broadcast element must fit the registers.
        col += lanes
            * match (vectors, wide) {
                (4.., true) => columns.all_rows::<6, 4>(),
                (2.., true) => columns.all_rows::<12, 2>(),
                (2.., false) => columns.all_rows::<6, 2>(),
                _ => columns.all_rows::<12, 1>(),
            };
    }
}

/// A few columns of a product, from `col` on.
struct Columns<'a, S, T> {
    simd: S,
    mode: Destination,
    lhs: MatrixRef<'a, T>,
    rhs: MatrixRef<'a, T>,
    dst: &'a mut [T],
    col: usize,
}

impl<S: Simd, T: Real> Columns<'_, S, T> {
    /// `V` vectors of columns, in tiles of `R` rows and smaller ones for the rest. Returns `V`.
    #[inline(always)]
    fn all_rows<const R: usize, const V: usize>(mut self) -> usize {
        let rows = self.lhs.rows;
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                // Two tiles of four rows keep the arithmetic busy, one of two rows would wait for itself.
                8 => self.tile::<4, V>(row),
                left if left >= R => self.tile::<R, V>(row),
                6.. => self.tile::<6, V>(row),
                4.. => self.tile::<4, V>(row),
                2.. => self.tile::<2, V>(row),
                _ => self.tile::<1, V>(row),
            };
        }
        V
    }

    /// `R` rows of `V` vectors from `row` on. Returns `R`.
    #[inline(always)]
    fn tile<const R: usize, const V: usize>(&mut self, row: usize) -> usize {
        let (simd, lanes) = (self.simd, T::lanes::<S>());
        let (lhs, rhs, cols) = (self.lhs, self.rhs, self.rhs.cols);
        let mut sums = [[T::splat(simd, T::ZERO); V]; R];
        // SAFETY: `tiled_product` asserted that `lhs` and `rhs` agree, that their slices hold them (`MatrixRef::new`)
        // and that `dst` holds the product; rows `row..row + R` and columns `col..col + V * lanes` lie inside it.
        unsafe {
            let a = lhs.data.as_ptr().add(row * lhs.row_stride);
            let b = rhs.data.as_ptr().add(self.col);
            for k in 0..lhs.cols {
                let b = b.add(k * rhs.row_stride).cast::<T::Lanes<S>>();
                let mut right = [T::splat(simd, T::ZERO); V];
                for v in 0..V {
                    right[v] = b.add(v).read_unaligned();
                }
                for r in 0..R {
                    let left = *a.add(r * lhs.row_stride + k * lhs.col_stride);
                    let left = T::splat(simd, left);
                    for v in 0..V {
                        sums[r][v] = T::mul_add(simd, left, right[v], sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                let dst = self.dst.as_mut_ptr().add((row + r) * cols + self.col);
                for v in 0..V {
                    let dst = dst.add(v * lanes).cast::<T::Lanes<S>>();
                    let sum = match self.mode {
                        Destination::Overwrite => sums[r][v],
                        Destination::Accumulate => {
                            T::add_lanes(simd, sums[r][v], dst.read_unaligned())
                        }
                    };
                    dst.write_unaligned(sum);
                }
            }
        }
        R
    }
}
