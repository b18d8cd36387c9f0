//! HiPPO-N: the normal part of the HiPPO-LegS matrix, by its eigenvalues and eigenvectors.

use faer::Side;
use hsv::{Mat, c64};

/// A HiPPO-N matrix of even size by one of every conjugate pair of its eigenvalues.
pub(crate) struct NormalHippo {
    /// Half of the eigenvalues, those with a negative imaginary part, largest modulus first. All real parts are -1/2.
    pub lambda: Vec<c64>,
    /// Their eigenvectors of length one, `[size, size / 2]`.
    pub vectors: Mat<c64>,
}

/// S = A + q qᵀ with A = -(tril(p pᵀ) - diag(0, 1, ...)), pₙ = √(1 + 2n), qₙ = √(n + 1/2).
///
/// S is -1/2 on the diagonal and skew beside it, so -i (S + 1/2) is Hermitian.
///
/// # Source
/// `GGGR22` (S4D), section 4.1, and `SWL23`, appendix B.1.
pub(crate) fn normal_hippo(size: usize) -> NormalHippo {
    let root = |n: usize| (n as f64 + 0.5).sqrt();
    // Of S below the diagonal -pᵢ pⱼ + qᵢ qⱼ = -qᵢ qⱼ, since p = √2 q; above it qᵢ qⱼ.
    let hermitian = Mat::from_fn(size, size, |i, j| {
        let skew = match i.cmp(&j) {
            std::cmp::Ordering::Less => root(i) * root(j),
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => -root(i) * root(j),
        };
        c64::new(0.0, -skew)
    });
    let eigen = hermitian
        .self_adjoint_eigen(Side::Lower)
        .expect("a finite Hermitian matrix has eigenvectors");
    let half = size / 2;
    // In increasing order: the negative half first.
    let lambda = (0..half).map(|n| c64::new(-0.5, eigen.S()[n].re));
    NormalHippo {
        lambda: lambda.collect(),
        vectors: Mat::from_fn(size, half, |i, n| eigen.U()[(i, n)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_and_vectors_are_those_of_the_definition() {
        for size in [2, 8, 64] {
            let p = |n: usize| (1.0 + 2.0 * n as f64).sqrt();
            let q = |n: usize| (n as f64 + 0.5).sqrt();
            let s = Mat::from_fn(size, size, |i, j| {
                let diagonal = if i == j { i as f64 } else { 0.0 };
                let lower = if i >= j { p(i) * p(j) } else { 0.0 };
                c64::new(-(lower - diagonal) + q(i) * q(j), 0.0)
            });
            let NormalHippo { lambda, vectors } = normal_hippo(size);
            let residual =
                &s * &vectors - Mat::from_fn(size, size / 2, |i, n| vectors[(i, n)] * lambda[n]);
            // Rounding of products with a matrix of this norm.
            let allowed = 1e-14 * size as f64 * s.norm_l2();
            assert!(
                residual.norm_l2() < allowed,
                "{size}: {:e}",
                residual.norm_l2()
            );
            let gram = vectors.adjoint() * &vectors - Mat::<c64>::identity(size / 2, size / 2);
            assert!(gram.norm_l2() < 1e-12 * size as f64);
            assert!(lambda.iter().all(|lambda| lambda.im < 0.0));
        }
    }
}
