//! Transposes of row-major matrices.

use rayon::prelude::*;

use super::{COPIED_AT_ONCE, Real};

/// Rows of the result that are made at a time: as many columns of the source as a cache line of 64 bytes holds in `f32`, so
/// that each line is read once.
const STRIP: usize = 16;

/// The transpose of a row-major matrix of `cols` columns.
pub(crate) fn transposed<T: Real>(matrix: &[T], cols: usize) -> Vec<T> {
    let rows = matrix.len() / cols;
    let mut transposed = vec![T::ZERO; matrix.len()];
    transposed
        .par_chunks_mut(STRIP * rows)
        .with_min_len(COPIED_AT_ONCE.div_ceil(STRIP * rows))
        .enumerate()
        .for_each(|(strip, to)| {
            for (block, from) in matrix.chunks(STRIP * cols).enumerate() {
                for (j, to) in to.chunks_exact_mut(rows).enumerate() {
                    let column = from[strip * STRIP + j..].iter().step_by(cols);
                    for (to, from) in to[block * STRIP..].iter_mut().zip(column) {
                        *to = *from;
                    }
                }
            }
        });
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_whatever_the_size() {
        for (rows, cols) in [(1, 1), (3, 50), (16, 16), (33, 17), (70, 2)] {
            let matrix: Vec<f64> = (0..rows * cols).map(|k| k as f64).collect();
            let transposed = transposed(&matrix, cols);
            for i in 0..rows {
                for j in 0..cols {
                    assert_eq!(transposed[j * rows + i], matrix[i * cols + j]);
                }
            }
        }
    }
}
