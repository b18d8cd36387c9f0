//! How accurate computed Hankel singular values are.

use faer::Mat;

use crate::linalg::scalar::Scalar;

/// What the error of an entry of a Gramian factor L is small against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorRounding {
    /// The length of its column: what was eliminated before it has left no trace.
    Columns,
    /// The length of its row, or of the rows of a mode, with the states in that many equal parts.
    Rows { parts: usize },
    /// L as a whole.
    Whole,
}

impl FactorRounding {
    /// Of an elimination on generators.
    pub(crate) fn of_elimination(generator_columns: usize) -> Self {
        if generator_columns == 1 {
            Self::Columns // products alone
        } else {
            Self::Rows { parts: 1 }
        }
    }
}

/// A Gramian factor, `[state, rank]`, with what it comes to along the singular vectors of the product of both.
pub(crate) struct Directions<'a, T> {
    pub(crate) factor: &'a Mat<T>,
    pub(crate) vectors: &'a Mat<T>,
    pub(crate) rounding: FactorRounding,
}

/// Estimated relative error of each singular value, for values that are accurate relative to the largest.
///
/// `state · ε · σ_1` is the error of a singular value decomposition of that size, and `ε · Σ_i √(P_ii Q_ii)` the
/// rounding of the product of the factors, which is more when strong modes cancel each other.
pub(crate) fn absolute_errors<T: Scalar>(
    values: &[f64],
    controllability_factor: &Mat<T>,
    observability_factor: &Mat<T>,
) -> Vec<f64> {
    let Some(largest) = values.first() else {
        return Vec::new();
    };
    let rows = row_lengths(controllability_factor)
        .into_iter()
        .zip(row_lengths(observability_factor));
    let terms: f64 = rows.map(|(p, q)| p * q).sum();
    let states = controllability_factor.nrows() as f64;
    let noise = f64::EPSILON * terms.max(states * largest);
    values.iter().map(|sigma| noise / sigma).collect()
}

/// Estimated relative error of each singular value, for a decomposition that keeps the grading of its matrix.
///
/// To first order an error E of `L_Qᴴ L_P` moves σ by `Re uᴴ E v`. The product rounds its entry (i, j) by ε times the
/// lengths of column i of `L_Q` and column j of `L_P`, and so do factors that are good column by column: together
/// `state · ε · (Σ_i |u_i| ‖l_Qi‖) (Σ_j |v_j| ‖l_Pj‖)`. It is a small multiple of `state · ε · σ` unless strong modes
/// cancel each other in the value at hand, in which case nothing else can be had: units in the last place of B and C
/// move σ by as much. A factor that is good row by row only adds `state · ε · Σ_s |(L_Q u)_s| ‖row s of L_P‖`, or the same
/// with P and Q exchanged: about `ε √(σ_1 / σ)`.
///
/// `None` if an error is as large as the factors: then nothing better than [`absolute_errors`] holds.
pub(crate) fn relative_errors<T: Scalar>(
    values: &[f64],
    controllability: &Directions<'_, T>,
    observability: &Directions<'_, T>,
) -> Option<Vec<f64>> {
    let states = controllability.factor.nrows() as f64;
    let (from_p, from_q) = (controllability.weights(), observability.weights());
    let (p_rows, q_rows) = (
        controllability.row_errors(observability)?,
        observability.row_errors(controllability)?,
    );
    let error = |k: usize| {
        let terms = from_p[k] * from_q[k] + p_rows[k] + q_rows[k];
        states * f64::EPSILON * terms / values[k]
    };
    Some((0..values.len()).map(error).collect())
}

impl<T: Scalar> Directions<'_, T> {
    /// `Σ_j |v_j| ‖l_j‖` for each singular vector.
    fn weights(&self) -> Vec<f64> {
        let lengths: Vec<f64> = (0..self.factor.ncols())
            .map(|j| self.factor.col(j).norm_l2())
            .collect();
        let weight = |k| {
            let entries = self.vectors.col(k).iter().zip(&lengths);
            entries.map(|(z, length)| z.modulus() * length).sum()
        };
        (0..self.vectors.ncols()).map(weight).collect()
    }

    /// `Σ_s |(L u)_s| · ‖row s‖` for each singular vector u on the other side, with rows of this factor; zero if they
    /// have no errors of their own.
    fn row_errors(&self, other: &Self) -> Option<Vec<f64>> {
        let parts = match self.rounding {
            FactorRounding::Columns => return Some(vec![0.0; self.vectors.ncols()]),
            FactorRounding::Rows { parts } => parts,
            FactorRounding::Whole => return None,
        };
        let rows = row_lengths(self.factor);
        let modes = rows.len() / parts;
        let length = |s: usize| {
            let of_mode = (s % modes..rows.len()).step_by(modes);
            of_mode.map(|i| rows[i]).fold(0.0, f64::hypot)
        };
        let lengths: Vec<f64> = (0..rows.len()).map(length).collect();
        let images = other.factor * other.vectors;
        let error = |k| {
            let entries = images.col(k).iter().zip(&lengths);
            entries.map(|(z, length)| z.modulus() * length).sum()
        };
        Some((0..images.ncols()).map(error).collect())
    }
}

fn row_lengths<T: Scalar>(factor: &Mat<T>) -> Vec<f64> {
    (0..factor.nrows())
        .map(|i| factor.row(i).norm_l2())
        .collect()
}
