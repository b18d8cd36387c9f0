//! A matrix laid out for products with one vector.

use burn::tensor::{Tensor, backend::Backend};

use super::values;

/// Rows that are computed side by side: one AVX2 register of `f32`.
const LANES: usize = 8;

/// Columns whose products are summed apart, so that an addition need not wait for the one before.
const APART: usize = 4;

/// A matrix in groups of [`LANES`] rows, each stored column by column; the last group is filled up with zeros.
#[derive(Debug)]
pub(crate) struct LaneMatrix {
    /// `[group, column][lane]`.
    lanes: Vec<[f32; LANES]>,
    rows: usize,
    columns: usize,
}

impl LaneMatrix {
    /// The matrix that a tensor `[rows, columns]` holds.
    pub(crate) fn of<B: Backend>(tensor: Tensor<B, 2>) -> Self {
        let [rows, columns] = tensor.dims();
        let values = values(tensor);
        Self::from_fn([rows, columns], |row, column| {
            values[row * columns + column]
        })
    }

    /// The matrix `[rows, columns]` with these entries.
    pub(crate) fn from_fn(
        [rows, columns]: [usize; 2],
        entry: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let lanes = (0..rows.div_ceil(LANES) * columns)
            .map(|index| {
                let (first_row, column) = (index / columns * LANES, index % columns);
                std::array::from_fn(|lane| match first_row + lane {
                    row if row < rows => entry(row, column),
                    _ => 0.0,
                })
            })
            .collect();
        Self {
            lanes,
            rows,
            columns,
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// `output` ← the row `row`.
    #[inline(always)]
    pub(crate) fn copy_row(&self, row: usize, output: &mut [f32]) {
        let group = &self.lanes[row / LANES * self.columns..][..self.columns];
        for (output, column) in output.iter_mut().zip(group) {
            *output = column[row % LANES];
        }
    }

    /// `output` ← matrix · `vector`.
    #[inline(always)]
    pub(crate) fn apply(&self, vector: &[f32], output: &mut [f32]) {
        assert_eq!(
            vector.len(),
            self.columns,
            "the vector has one entry per column"
        );
        let groups = self.lanes.chunks_exact(self.columns);
        for (group, output) in groups.zip(output.chunks_mut(LANES)) {
            output.copy_from_slice(&product(group, vector)[..output.len()]);
        }
    }
}

/// One group of rows times the vector.
#[inline(always)]
fn product(group: &[[f32; LANES]], vector: &[f32]) -> [f32; LANES] {
    let mut sums = [[0.0; LANES]; APART];
    let (columns, rest) = group.as_chunks::<APART>();
    let (entries, rest_entries) = vector.as_chunks::<APART>();
    for (columns, entries) in columns.iter().zip(entries) {
        for ((sum, column), entry) in sums.iter_mut().zip(columns).zip(entries) {
            for (sum, weight) in sum.iter_mut().zip(column) {
                *sum += weight * entry;
            }
        }
    }
    for ((sum, column), entry) in sums.iter_mut().zip(rest).zip(rest_entries) {
        for (sum, weight) in sum.iter_mut().zip(column) {
            *sum += weight * entry;
        }
    }
    std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_rows_are_what_the_entries_say_whatever_the_sizes() {
        for [rows, columns] in [[1, 1], [3, 2], [8, 4], [9, 7], [17, 13]] {
            // Small integers, whose products and sums are exact.
            let entry = |row: usize, column: usize| (row * 3 + column * 5) as f32 - 20.0;
            let vector: Vec<f32> = (0..columns).map(|column| column as f32 - 2.0).collect();
            let mut output = vec![f32::NAN; rows];
            let matrix = LaneMatrix::from_fn([rows, columns], entry);
            matrix.apply(&vector, &mut output);
            for (row, output) in output.iter().enumerate() {
                let want: f32 = (0..columns).map(|c| entry(row, c) * vector[c]).sum();
                assert_eq!(*output, want, "{rows} x {columns}, row {row}");
                let mut copied = vec![f32::NAN; columns];
                matrix.copy_row(row, &mut copied);
                let want: Vec<f32> = (0..columns).map(|c| entry(row, c)).collect();
                assert_eq!(copied, want, "{rows} x {columns}, row {row}");
            }
        }
    }
}
