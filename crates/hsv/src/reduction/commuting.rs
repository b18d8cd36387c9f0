//! Balancing from the Gramians alone, for a state that no change of basis disturbs.
//!
//! Where the state matrix is a number at every step, as in the heads of a Mamba-2 layer or of linear attention, it
//! commutes with every transformation. Any basis then gives a system of the same form, and truncation needs nothing but
//! the two Gramians, which may come from data.

use faer::{Mat, Side};
use subnormals::Subnormals;
use thiserror::Error;

use crate::linalg::matrix::first_not_finite;

/// Why Gramians do not give a basis.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// They are not square of the same size.
    #[error(
        "Gramians are square and of the same size, these are {controllability:?} and {observability:?}"
    )]
    Shape {
        /// Rows and columns of P.
        controllability: (usize, usize),
        /// Rows and columns of Q.
        observability: (usize, usize),
    },
    /// An entry is NaN or infinite.
    #[error("an entry of a Gramian is not finite")]
    NotFinite,
    /// A decomposition did not converge.
    #[error("a decomposition of a Gramian did not converge")]
    NoConvergence,
}

/// The basis in which both Gramians are the diagonal of Hankel singular values.
#[derive(Debug, Clone)]
pub struct BalancedGramians {
    singular_values: Vec<f64>,
    /// `[state, rank]`.
    right: Mat<f64>,
    /// `[rank, state]`.
    left: Mat<f64>,
}

/// Share of the largest eigenvalue of a Gramian, or singular value of a product, below which there is only rounding.
fn rounding(states: usize) -> f64 {
    states as f64 * f64::EPSILON
}

/// Balances a pair of symmetric, positive semidefinite Gramians by the square-root method.
///
/// Their square roots are taken from their eigenvalues, which a Gramian without full rank survives; what is below
/// rounding, or negative by it, is left out.
///
/// # Errors
/// [`BalanceError`].
///
/// ```
/// use hsv::{Mat, balance_gramians};
///
/// // What is driven most is seen least.
/// let p = Mat::from_fn(2, 2, |i, j| if i == j { [4.0, 1.0][i] } else { 0.0 });
/// let q = Mat::from_fn(2, 2, |i, j| if i == j { [0.25, 4.0][i] } else { 0.0 });
/// let balanced = balance_gramians(&p, &q)?;
/// assert!((balanced.singular_values()[0] - 2.0).abs() < 1e-15);
/// let (right, left) = balanced.projections(1);
/// assert!((left * right)[(0, 0)] - 1.0 < 1e-15);
/// # Ok::<(), hsv::BalanceError>(())
/// ```
///
/// # Source
/// Moore (1981), Antoulas (2005), section 7.3: `M81`, `A05` in `docs/references.bib`.
pub fn balance_gramians(
    controllability: &Mat<f64>,
    observability: &Mat<f64>,
) -> Result<BalancedGramians, BalanceError> {
    let _mode = Subnormals::kept();
    let states = controllability.nrows();
    let shape = |m: &Mat<f64>| (m.nrows(), m.ncols());
    if [controllability, observability]
        .iter()
        .any(|m| shape(m) != (states, states))
    {
        return Err(BalanceError::Shape {
            controllability: shape(controllability),
            observability: shape(observability),
        });
    }
    let factor_p = square_root(controllability)?;
    let factor_q = square_root(observability)?;
    let product = factor_q.transpose() * &factor_p;
    if product.nrows() == 0 || product.ncols() == 0 {
        return Ok(BalancedGramians {
            singular_values: vec![0.0; states],
            right: Mat::zeros(states, 0),
            left: Mat::zeros(0, states),
        });
    }
    let svd = product
        .thin_svd()
        .map_err(|_| BalanceError::NoConvergence)?;
    let sigma: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let rank = sigma
        .iter()
        .take_while(|s| **s > rounding(states) * sigma[0])
        .count();
    let scaled =
        |i: usize, j: usize, vectors: faer::MatRef<'_, f64>| vectors[(i, j)] / sigma[j].sqrt();
    let (u, v) = (svd.U(), svd.V());
    let right = &factor_p * Mat::from_fn(v.nrows(), rank, |i, j| scaled(i, j, v));
    let left = &factor_q * Mat::from_fn(u.nrows(), rank, |i, j| scaled(i, j, u));
    let mut singular_values = sigma;
    singular_values.resize(states, 0.0);
    Ok(BalancedGramians {
        singular_values,
        right,
        left: left.transpose().to_owned(),
    })
}

/// L with `L Lᵀ` the matrix, `[state, rank]`.
fn square_root(gramian: &Mat<f64>) -> Result<Mat<f64>, BalanceError> {
    if first_not_finite(gramian).is_some() {
        return Err(BalanceError::NotFinite);
    }
    let eigen = gramian
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| BalanceError::NoConvergence)?;
    let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let kept: Vec<usize> = (0..values.len())
        .filter(|&i| values[i] > rounding(values.len()) * largest)
        .collect();
    let vectors = eigen.U();
    Ok(Mat::from_fn(values.len(), kept.len(), |i, j| {
        vectors[(i, kept[j])] * values[kept[j]].sqrt()
    }))
}

impl BalancedGramians {
    /// Hankel singular values, one per state, largest first.
    pub fn singular_values(&self) -> &[f64] {
        &self.singular_values
    }

    /// Number of directions that stand above rounding.
    pub fn rank(&self) -> usize {
        self.right.ncols()
    }

    /// T `[state, order]` and Wᵀ `[order, state]` with `Wᵀ T = I`: full states are `x ≈ T z`, reduced ones `z = Wᵀ x`.
    /// An order above the [`rank`](Self::rank) is filled up with zeros.
    pub fn projections(&self, order: usize) -> (Mat<f64>, Mat<f64>) {
        let (states, rank) = (self.right.nrows(), self.rank());
        let right = |i: usize, j: usize| if j < rank { self.right[(i, j)] } else { 0.0 };
        let left = |i: usize, j: usize| if i < rank { self.left[(i, j)] } else { 0.0 };
        (
            Mat::from_fn(states, order, right),
            Mat::from_fn(order, states, left),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gramian(states: usize, rank: usize, seed: f64) -> Mat<f64> {
        let factor = Mat::from_fn(states, rank, |i, j| {
            (seed + 1.3 * i as f64 + 2.1 * (i * j) as f64).sin() * 0.7_f64.powi(j as i32)
        });
        &factor * factor.transpose()
    }

    fn distance(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (a - b).norm_max()
    }

    #[test]
    fn both_gramians_are_the_singular_values_in_the_new_basis() {
        let (p, q) = (gramian(6, 6, 0.1), gramian(6, 6, 0.9));
        let balanced = balance_gramians(&p, &q).unwrap();
        assert_eq!(balanced.rank(), 6);
        let (right, left) = balanced.projections(6);
        let sigma = balanced.singular_values();
        let diagonal = Mat::from_fn(6, 6, |i, j| if i == j { sigma[i] } else { 0.0 });
        // The condition of the Gramians, about 1e4, times rounding.
        assert!(distance(&(&left * &right), &Mat::identity(6, 6)) < 1e-10);
        assert!(distance(&(&left * &p * left.transpose()), &diagonal) < 1e-10);
        assert!(distance(&(right.transpose() * &q * &right), &diagonal) < 1e-10);
    }

    #[test]
    fn a_gramian_without_full_rank_gives_as_many_directions_as_there_are() {
        let balanced = balance_gramians(&gramian(6, 2, 0.1), &gramian(6, 4, 0.9)).unwrap();
        assert_eq!(balanced.rank(), 2);
        assert!(balanced.singular_values()[2..].iter().all(|s| *s < 1e-14));
        let (right, left) = balanced.projections(4);
        let product = left * right;
        let identity = Mat::from_fn(4, 4, |i, j| f64::from(u8::from(i == j && i < 2)));
        assert!(distance(&product, &identity) < 1e-10);
    }

    #[test]
    fn what_is_no_pair_of_gramians_is_refused() {
        let (small, large) = (gramian(2, 2, 0.1), gramian(3, 3, 0.1));
        assert!(matches!(
            balance_gramians(&small, &large),
            Err(BalanceError::Shape { .. })
        ));
        let mut broken = small.clone();
        broken[(1, 0)] = f64::NAN;
        assert_eq!(
            balance_gramians(&broken, &small).unwrap_err(),
            BalanceError::NotFinite
        );
        let zero = balance_gramians(&Mat::zeros(2, 2), &small).unwrap();
        assert_eq!(zero.singular_values(), [0.0, 0.0]);
        assert_eq!(zero.rank(), 0);
    }
}
