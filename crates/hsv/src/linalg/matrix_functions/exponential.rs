//! Exponential of a matrix.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};

use super::{combination, one_norm};
use crate::arithmetic::power_of_two::exponent;
use crate::linalg::matrix::{first_not_finite, scale_matrix};

/// Coefficients of the `[13/13]` Padé approximant of the exponential, constant first.
const PADE_13: [f64; 14] = [
    64764752532480000.0,
    32382376266240000.0,
    7771770303897600.0,
    1187353796428800.0,
    129060195264000.0,
    10559470521600.0,
    670442572800.0,
    33522128640.0,
    1323241920.0,
    40840800.0,
    960960.0,
    16380.0,
    182.0,
    1.0,
];

/// Up to this 1-norm the approximant is the exponential of a matrix within ε of the given one.
const PADE_13_RADIUS: f64 = 5.371920351148152;

/// Exponential of a square matrix, `[state, state]`; `None` if the matrix or the result is not finite.
///
/// # Precision
/// O(state³ log ‖A‖). A small multiple of state · ε times the condition of the exponential, which for a normal matrix
/// is its norm.
///
/// # Source
/// Higham (2005), *SIAM Journal on Matrix Analysis and Applications* 26: scaling and squaring. The approximant of
/// degree 13 is used for small norms too, where a lower degree would be cheaper and no better.
pub(crate) fn exponential(matrix: &Mat<c64>) -> Option<Mat<c64>> {
    let norm = one_norm(matrix);
    if !norm.is_finite() {
        return None;
    }
    // The power of two that is needed or twice that.
    let halvings = exponent(norm / PADE_13_RADIUS).map_or(0, |k| (k + 1).max(0));
    let a = scale_matrix(matrix, -halvings);
    let a2 = &a * &a;
    let a4 = &a2 * &a2;
    let a6 = &a4 * &a2;
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13] = PADE_13;
    let even = |high: [f64; 3], low: [f64; 4]| {
        let high = combination(&[(high[0], &a6), (high[1], &a4), (high[2], &a2)]);
        let mut sum = &a6 * high + combination(&[(low[0], &a6), (low[1], &a4), (low[2], &a2)]);
        (0..sum.nrows()).for_each(|i| sum[(i, i)] += low[3]);
        sum
    };
    let odd_part = &a * even([b13, b11, b9], [b7, b5, b3, b1]);
    let even_part = even([b12, b10, b8], [b6, b4, b2, b0]);
    // (V - U)⁻¹ (V + U) as I + 2 (V - U)⁻¹ U: a small step stays exact in its small part.
    let twice = combination(&[(2.0, &odd_part)]);
    let mut power: Mat<c64> = (&even_part - &odd_part).partial_piv_lu().solve(twice);
    (0..power.nrows()).for_each(|i| power[(i, i)] += 1.0);
    for _ in 0..halvings {
        power = &power * &power;
        if first_not_finite(&power).is_some() {
            return None;
        }
    }
    first_not_finite(&power).is_none().then_some(power)
}
