//! Poles of a reduced system: eigenvalues of its state matrix, which rounding must not have made unstable.

use faer::{Mat, c64};

use crate::linalg::matrix::first_not_finite;
use crate::linalg::scalar::Scalar;
use crate::reduction::TruncationError;
use crate::system::domain::TimeDomain;

/// Eigenvalues of a state matrix, all of them stable, and eigenvectors of length one.
pub(crate) fn stable_eigen<T: Scalar, D: TimeDomain>(
    state_matrix: &Mat<T>,
) -> Result<(Vec<c64>, Mat<c64>), TruncationError> {
    let (poles, vectors) = eigen(state_matrix)?;
    // Eigenvalues are known to ε of the largest at best. One that is closer to the boundary may be on it, and how high
    // its resonance is nobody knows.
    let largest = poles.iter().map(|pole| pole.norm()).fold(0.0, f64::max);
    let rounding = f64::EPSILON / 2.0 * largest;
    let uncertain =
        |pole: &c64| !(D::margin(*pole) > 0.0 && D::boundary_distance(*pole) > rounding);
    match poles.iter().position(uncertain) {
        None => Ok((poles, vectors)),
        Some(index) => Err(TruncationError::Unstable {
            index,
            eigenvalue: poles[index],
            margin: D::margin(poles[index]),
            region: D::STABLE_REGION,
        }),
    }
}

/// Eigenvalues, and eigenvectors of length one.
pub(crate) fn eigen<T: Scalar>(matrix: &Mat<T>) -> Result<(Vec<c64>, Mat<c64>), TruncationError> {
    let order = matrix.nrows();
    let no_convergence = TruncationError::NoConvergence { order };
    let eigen = matrix.eigen().map_err(|_| no_convergence)?;
    let vectors = eigen.U();
    let lengths: Vec<f64> = (0..order).map(|j| vectors.col(j).norm_l2()).collect();
    let unit = Mat::from_fn(order, order, |i, j| vectors[(i, j)] / lengths[j]);
    if first_not_finite(&unit).is_some() {
        return Err(no_convergence);
    }
    let values = eigen.S().column_vector().iter().copied().collect();
    Ok((values, unit))
}
