//! Units taken out of a system before its Gramians are factored.

use faer::Mat;

use crate::arithmetic::power_of_two::{exponent, vector_exponent};
use crate::linalg::matrix::matrix_exponent;
use crate::linalg::scalar::Scalar;

/// Input and output of a system with the magnitude of every state shared evenly between them.
///
/// Scaling the states, `b_i s` and `c_i / s`, changes no Hankel singular value, but it does change which rows of a
/// Gramian look negligible. Here the scale of each state and the gain of the whole system are taken out as powers of
/// two: exactly, and so that the strongest mode is of order one. After that a small row *is* a weak mode, and
/// systems in units of 1e-150 or 1e150 stay far from both ends of `f64`.
///
/// A mode that no input reaches or no output shows has no share in the transfer function; both its row and its
/// column are zero here, so that it leaves no trace in the factors.
#[derive(Debug, Clone, PartialEq)]
pub struct Units<T> {
    /// `B'`, `[state, input]`, with `b_i = 2^(state_exponents[i]) b'_i`.
    pub(crate) input: Mat<T>,
    /// `C'`, `[output, state]`, with `c_i = 2^(gain_exponent - state_exponents[i]) c'_i`.
    pub(crate) output: Mat<T>,
    /// Per state: `x_i = 2^(state_exponents[i]) x'_i`.
    pub(crate) state_exponents: Vec<i32>,
    /// Of the whole system, `G = 2^gain_exponent G'`, and so of every Hankel singular value. Even, so that balanced
    /// coordinates can give half of it to the input and half to the output.
    pub(crate) gain_exponent: i32,
}

impl<T: Scalar> Units<T> {
    /// A unit for each state of a diagonal system.
    pub(crate) fn per_mode(input: &Mat<T>, output: &Mat<T>) -> Self {
        // By columns, which are contiguous.
        let mut row_largest = vec![0.0f64; input.nrows()];
        for column in input.col_iter() {
            for (largest, z) in row_largest.iter_mut().zip(column.iter()) {
                *largest = largest.max(z.complex().re.abs()).max(z.complex().im.abs());
            }
        }
        let modes: Vec<Option<(i32, i32)>> = (0..input.nrows())
            .map(|i| {
                let row = exponent(row_largest[i])?;
                let column = vector_exponent(output.col(i).iter().map(|z| z.complex()))?;
                Some((row, column))
            })
            .collect();
        Self::new(input, output, &modes)
    }

    /// One unit for all states of a dense system.
    pub(crate) fn common(input: &Mat<T>, output: &Mat<T>) -> Self {
        let rows = matrix_exponent(input);
        let columns = matrix_exponent(output);
        Self::new(input, output, &vec![rows.zip(columns); input.nrows()])
    }

    fn new(input: &Mat<T>, output: &Mat<T>, modes: &[Option<(i32, i32)>]) -> Self {
        let gains = modes.iter().flatten().map(|(row, column)| row + column);
        let strongest = gains.max().unwrap_or(0);
        let gain_exponent = strongest + strongest.rem_euclid(2);

        // What is left of a mode's magnitude, once the gain is out, goes half to each side.
        let exponents: Vec<Option<(i32, i32)>> = modes
            .iter()
            .map(|mode| {
                mode.map(|(row, column)| {
                    let rest = row + column - gain_exponent;
                    let input_rest = rest.div_euclid(2) + rest.rem_euclid(2);
                    (row - input_rest, column - (rest - input_rest))
                })
            })
            .collect();
        let scaled = |z: T, exponent: Option<i32>| exponent.map_or(z.times(0.0), |k| z.scaled(-k));
        Self {
            input: Mat::from_fn(input.nrows(), input.ncols(), |i, j| {
                scaled(input[(i, j)], exponents[i].map(|(row, _)| row))
            }),
            output: Mat::from_fn(output.nrows(), output.ncols(), |j, i| {
                scaled(output[(j, i)], exponents[i].map(|(_, column)| column))
            }),
            state_exponents: exponents
                .iter()
                .map(|mode| mode.map_or(0, |(row, _)| row))
                .collect(),
            gain_exponent,
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::c64;

    use super::*;
    use crate::arithmetic::power_of_two::scale_complex;

    fn units(rows: &[f64], columns: &[f64]) -> Units<c64> {
        let input = Mat::from_fn(rows.len(), 1, |i, _| c64::new(rows[i], 0.0));
        let output = Mat::from_fn(1, rows.len(), |_, i| c64::new(columns[i], 0.0));
        Units::per_mode(&input, &output)
    }

    #[test]
    fn the_scaled_parts_give_the_system_back() {
        let (rows, columns) = ([3e-150, 1e150, 0.7, 5e-300], [2e-150, 1e100, 1e3, 1e290]);
        let scaling = units(&rows, &columns);
        for i in 0..rows.len() {
            let k = scaling.state_exponents[i];
            assert_eq!(scale_complex(scaling.input[(i, 0)], k).re, rows[i]);
            assert_eq!(
                scale_complex(scaling.output[(0, i)], scaling.gain_exponent - k).re,
                columns[i]
            );
        }
    }

    #[test]
    fn the_strongest_mode_is_of_order_one_and_shared_evenly() {
        let scaling = units(&[1e-200, 1e-250], &[1e-50, 1e-20]);
        assert!((0.25..4.0).contains(&scaling.input[(0, 0)].re));
        assert!((0.25..4.0).contains(&scaling.output[(0, 0)].re));
        let share = scaling.input[(1, 0)].re / scaling.output[(0, 1)].re;
        assert!((0.25..=4.0).contains(&share), "{share}");
        assert_eq!(scaling.gain_exponent % 2, 0);
    }

    #[test]
    fn a_mode_without_input_or_output_is_gone() {
        let scaling = units(&[0.0, 1e300, 1.0], &[1e300, 0.0, 1.0]);
        for i in 0..2 {
            assert_eq!(scaling.input[(i, 0)], c64::ZERO);
            assert_eq!(scaling.output[(0, i)], c64::ZERO);
        }
        assert_eq!(scaling.gain_exponent, 0);
    }
}
