//! Discrete and continuous time: where a system is stable, and what its Gramians divide by.

use std::fmt::Debug;

use faer::{Mat, c64};

use crate::arithmetic::unit_disk::{one_minus_modulus_squared, one_minus_product};
use crate::gramian::dense_factor::{continuous_gramian_factor, discrete_gramian_factor};
use crate::linalg::schur::Schur;
use crate::norm::sweep::FrequencySeeds;

/// Steps: `x_{k+1} = A x_k + B u_k`, stable inside the unit circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discrete;

/// Seconds: `x' = A x + B u`, stable in the open left half-plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuous;

/// [`Discrete`] or [`Continuous`]: a system carries it in its type, because the equations differ and both compile.
///
/// Sealed: what a third kind of time would have to provide is not part of this crate's promise.
pub trait TimeDomain: sealed::Domain + Copy + Debug + PartialEq + Send + Sync + 'static {
    /// The stable region, in words: `"|lambda| < 1"` or `"Re lambda < 0"`.
    const STABLE_REGION: &'static str;

    /// The point at which a transfer function is its frequency response: `e^{iω}`, with ω the angle per step, or
    /// `iω`, with ω in radians per unit of time.
    fn boundary_point(omega: f64) -> c64;
}

pub(crate) mod sealed {
    use faer::{Mat, c64};

    use crate::linalg::schur::Schur;
    use crate::norm::sweep::FrequencySeeds;

    /// The geometry of a stable region: the disk and the half-plane are each other's images under a Möbius map, so
    /// that one elimination factors the Gramians of both.
    pub trait Domain {
        /// Denominator of a Gramian: `1 - λ μ̄`, or `-(λ + μ̄)`, to a few units in the last place of its modulus.
        fn separation(lambda: c64, mu: c64) -> c64;

        /// `separation(λ, λ)` with the exact sign: positive just where λ is stable.
        fn margin(lambda: c64) -> f64;

        /// `z - λ` for a boundary point `z`, never zero for a stable λ.
        fn distance(z: c64, lambda: c64) -> c64;

        /// Distance of a stable λ to the boundary.
        fn boundary_distance(lambda: c64) -> f64;

        /// Factor of the controllability Gramian of a stable dense system, `[state, state]`.
        fn dense_factor(schur: &Schur, input: &Mat<c64>) -> Mat<c64>;

        /// Where to look for the peak of a frequency response.
        fn frequency_seeds(poles: &[c64]) -> FrequencySeeds;

        /// What a feed-through of this Frobenius norm adds to the H2 norm.
        fn energy_of_feedthrough(norm: f64) -> f64;

        /// Eigenvalues for which every quantity here has a representable reciprocal.
        fn is_representable(lambda: c64) -> bool;
    }
}

impl TimeDomain for Discrete {
    const STABLE_REGION: &'static str = "|lambda| < 1";

    fn boundary_point(omega: f64) -> c64 {
        c64::new(omega.cos(), omega.sin())
    }
}

impl sealed::Domain for Discrete {
    #[inline(always)]
    fn separation(lambda: c64, mu: c64) -> c64 {
        one_minus_product(lambda, mu)
    }

    fn margin(lambda: c64) -> f64 {
        one_minus_modulus_squared(lambda)
    }

    fn distance(z: c64, lambda: c64) -> c64 {
        let distance = z - lambda;
        if distance == c64::ZERO {
            // A rounded z can hit an eigenvalue inside the circle; the point that was meant is 1 - |λ| away.
            z * Self::boundary_distance(lambda)
        } else {
            distance
        }
    }

    fn boundary_distance(lambda: c64) -> f64 {
        one_minus_modulus_squared(lambda) / (1.0 + lambda.norm())
    }

    fn dense_factor(schur: &Schur, input: &Mat<c64>) -> Mat<c64> {
        discrete_gramian_factor(schur, input)
    }

    fn frequency_seeds(poles: &[c64]) -> FrequencySeeds {
        FrequencySeeds::discrete(poles)
    }

    fn energy_of_feedthrough(norm: f64) -> f64 {
        norm
    }

    fn is_representable(_: c64) -> bool {
        true
    }
}

impl TimeDomain for Continuous {
    const STABLE_REGION: &'static str = "Re lambda < 0";

    fn boundary_point(omega: f64) -> c64 {
        c64::new(0.0, omega)
    }
}

impl sealed::Domain for Continuous {
    #[inline(always)]
    fn separation(lambda: c64, mu: c64) -> c64 {
        c64::new(-(lambda.re + mu.re), mu.im - lambda.im)
    }

    fn margin(lambda: c64) -> f64 {
        -2.0 * lambda.re
    }

    fn distance(z: c64, lambda: c64) -> c64 {
        z - lambda
    }

    fn boundary_distance(lambda: c64) -> f64 {
        -lambda.re
    }

    fn dense_factor(schur: &Schur, input: &Mat<c64>) -> Mat<c64> {
        continuous_gramian_factor(schur, input)
    }

    fn frequency_seeds(poles: &[c64]) -> FrequencySeeds {
        FrequencySeeds::continuous(poles)
    }

    fn energy_of_feedthrough(_: f64) -> f64 {
        f64::INFINITY
    }

    fn is_representable(lambda: c64) -> bool {
        // Squares of these and their reciprocals are normal numbers.
        const RANGE: f64 = 1e140;
        (1.0 / RANGE..RANGE).contains(&lambda.re.abs()) && lambda.im.abs() < RANGE
    }
}
