//! Lyapunov and Stein equations: two routes and one large linear solve agree.

use crate::support::{Random, frobenius};
use faer::linalg::solvers::Solve;
use hsv::{
    LyapunovSolution, Mat, c64, solve_lyapunov, solve_lyapunov_by_doubling, solve_stein,
    solve_stein_by_doubling,
};
use proptest::prelude::*;

/// An equation written out: `K vec X = vec Q`, with K `[state², state²]`.
struct Kronecker(Mat<c64>);

impl Kronecker {
    /// `K = I - Ā ⊗ A`.
    fn stein(a: &Mat<c64>) -> Self {
        let n = a.nrows();
        Self(Mat::from_fn(n * n, n * n, |row, column| {
            let entry = a[(row / n, column / n)].conj() * a[(row % n, column % n)];
            if row == column {
                c64::ONE - entry
            } else {
                -entry
            }
        }))
    }

    /// `K = -(I ⊗ A + Ā ⊗ I)`.
    fn lyapunov(a: &Mat<c64>) -> Self {
        let n = a.nrows();
        Self(Mat::from_fn(n * n, n * n, |row, column| {
            let mut entry = c64::ZERO;
            if row / n == column / n {
                entry -= a[(row % n, column % n)];
            }
            if row % n == column % n {
                entry -= a[(row / n, column / n)].conj();
            }
            entry
        }))
    }

    fn solve(&self, q: &Mat<c64>) -> Mat<c64> {
        let n = q.nrows();
        let right = Mat::from_fn(n * n, 1, |row, _| q[(row % n, row / n)]);
        let solution = self.0.partial_piv_lu().solve(&right);
        Mat::from_fn(n, n, |i, j| solution[(i + j * n, 0)])
    }

    /// Smallest singular value: a residual of size r is an error of size r / separation at most.
    fn separation(&self) -> f64 {
        *self.0.singular_values().unwrap().last().unwrap()
    }
}

/// `U (diag(λ) + coupling · N) Uᴴ`: dense and, with a coupling, not normal.
fn dense(random: &mut Random, lambda: &[c64], coupling: f64) -> Mat<c64> {
    let n = lambda.len();
    let unitary = Mat::from_fn(n, n, |_, _| random.complex()).qr().compute_Q();
    let triangular = Mat::from_fn(n, n, |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Less => random.complex() * coupling,
        std::cmp::Ordering::Equal => lambda[i],
        std::cmp::Ordering::Greater => c64::ZERO,
    });
    &unitary * triangular * unitary.adjoint()
}

fn gram(random: &mut Random, states: usize, inputs: usize) -> Mat<c64> {
    let input = Mat::from_fn(states, inputs, |_, _| random.complex());
    &input * input.adjoint()
}

/// Largest Frobenius norm that a power of two of `a` takes: by how much squaring magnifies rounding.
fn power_bound(a: &Mat<c64>) -> f64 {
    let (mut power, mut bound) = (a.clone(), 1.0f64);
    for _ in 0..40 {
        bound = bound.max(frobenius(&power));
        power = &power * &power;
    }
    bound
}

/// Both routes against the twin, and their residuals against `rounding`.
fn assert_agree(
    kronecker: &Kronecker,
    q: &Mat<c64>,
    terms: impl Fn(&Mat<c64>) -> f64,
    routes: [(&LyapunovSolution, f64); 2],
) -> Result<(), TestCaseError> {
    let exact = kronecker.solve(q);
    let states = q.nrows() as f64;
    let terms = terms(&exact);
    let separation = kronecker.separation();
    // The twin's own elimination, of state² unknowns.
    let twin = 4.0 * states * states * f64::EPSILON;
    for (route, rounding) in routes {
        prop_assert_eq!(&route.solution, &route.solution.adjoint().to_owned());
        prop_assert!(
            route.residual <= rounding,
            "residual {:e} > {:e}",
            route.residual,
            rounding
        );
        let error = frobenius(&(&route.solution - &exact));
        let tolerance = (rounding + twin) * terms / separation;
        prop_assert!(error <= tolerance, "error {:e} > {:e}", error, tolerance);
    }
    Ok(())
}

proptest! {
    #[test]
    fn stein_solutions_agree(
        seed in any::<u64>(), states in 1..7usize, inputs in 1..4usize, margin in -6.0..-0.1f64, coupling in 0.0..2.0f64,
    ) {
        let mut random = Random::new(seed);
        let radius = 1.0 - 10f64.powf(margin);
        let lambda: Vec<c64> = (0..states)
            .map(|k| c64::from_polar(if k == 0 { radius } else { random.between(0.0, radius) }, random.between(0.0, 6.0)))
            .collect();
        let a = dense(&mut random, &lambda, coupling);
        let q = gram(&mut random, states, inputs);
        let terms = |x: &Mat<c64>| frobenius(x) * (1.0 + frobenius(&a).powi(2)) + frobenius(&q);
        // Rounding errors of one product per state; doubling adds those of the powers, see `power_bound`.
        let rounding = 8.0 * states as f64 * f64::EPSILON;
        let (schur, doubling) = (solve_stein(&a, &q).unwrap(), solve_stein_by_doubling(&a, &q).unwrap());
        let doubling_rounding = rounding * power_bound(&a).powi(2);
        assert_agree(&Kronecker::stein(&a), &q, terms, [(&schur, rounding), (&doubling, doubling_rounding)])?;
    }

    #[test]
    fn lyapunov_solutions_agree(
        seed in any::<u64>(), states in 1..7usize, inputs in 1..4usize, margin in -6.0..0.0f64, coupling in 0.0..2.0f64,
    ) {
        let mut random = Random::new(seed);
        let slowest = 10f64.powf(margin);
        let lambda: Vec<c64> = (0..states)
            .map(|k| c64::new(if k == 0 { -slowest } else { random.between(-1.0, -slowest) }, random.between(-2.0, 2.0)))
            .collect();
        let a = dense(&mut random, &lambda, coupling);
        let q = gram(&mut random, states, inputs);
        let terms = |x: &Mat<c64>| 2.0 * frobenius(&a) * frobenius(x) + frobenius(&q);
        let rounding = 8.0 * states as f64 * f64::EPSILON;
        let (schur, doubling) = (solve_lyapunov(&a, &q).unwrap(), solve_lyapunov_by_doubling(&a, &q).unwrap());

        // The transform the doubling works on: its powers, and the condition of the matrix it divides by.
        let identity = Mat::<c64>::identity(states, states);
        let inverse: Mat<c64> = a.partial_piv_lu().solve(&identity);
        let shift = (frobenius(&a) / frobenius(&inverse)).sqrt();
        let minus = Mat::from_fn(states, states, |i, j| identity[(i, j)] * shift - a[(i, j)]);
        let plus = Mat::from_fn(states, states, |i, j| identity[(i, j)] * shift + a[(i, j)]);
        let divide: Mat<c64> = minus.partial_piv_lu().solve(&identity);
        let condition = frobenius(&minus) * frobenius(&divide);
        let doubling_rounding = rounding * condition * power_bound(&(&divide * plus)).powi(2);
        assert_agree(&Kronecker::lyapunov(&a), &q, terms, [(&schur, rounding), (&doubling, doubling_rounding)])?;
    }
}
