//! What holds for every system.

use crate::support::{Random, distance_to_identity, max_gain, random_system, sweep};
use faer::linalg::solvers::Solve;
use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64};
use proptest::prelude::*;

/// Layers of any small shape: from well inside the circle to 1e-3 next to it, with more or fewer inputs than states.
fn layer() -> impl Strategy<Value = DiscreteDiagonalSystem> {
    (any::<u64>(), 1..14usize, 1..6usize, 0.0..0.99f64)
        .prop_map(|(seed, states, inputs, inner)| random_system(seed, states, inputs, inner, 0.999))
}

/// How far rounding of B and C alone, ε per row, moves Hankel singular values: ε times the gain of every mode by
/// itself, `√(P_ii Q_ii)`; and `factor` roundings of that kind.
fn rounding(system: &DiscreteDiagonalSystem, factor: f64) -> f64 {
    let gains = (0..system.state_dim()).map(|i| {
        let gain = system.input_matrix().row(i).norm_l2() * system.output_matrix().col(i).norm_l2();
        gain / (1.0 - system.lambda()[i].norm_sqr())
    });
    factor * f64::EPSILON * gains.sum::<f64>()
}

fn worst_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn singular_values(system: &DiscreteDiagonalSystem) -> Vec<f64> {
    system.hankel().unwrap().singular_values().to_vec()
}

/// Parts of the system changed entry by entry.
fn changed(
    system: &DiscreteDiagonalSystem,
    order: &[usize],
    input: impl Fn(usize, c64) -> c64,
    output: impl Fn(usize, c64) -> c64,
) -> DiscreteDiagonalSystem {
    let lambda: Vec<c64> = order.iter().map(|&i| system.lambda()[i]).collect();
    crate::support::system(
        &lambda,
        system.inputs(),
        system.outputs(),
        |i, j| input(order[i], system.input_matrix()[(order[i], j)]),
        |i, j| output(order[i], system.output_matrix()[(j, order[i])]),
    )
}

/// The Gramian of a dense state matrix, by one large linear solve: `(I - Ā ⊗ A) vec P = vec B Bᴴ`.
fn kronecker_gramian(state_matrix: &Mat<c64>, input: &Mat<c64>) -> Mat<c64> {
    let n = state_matrix.nrows();
    let matrix = Mat::from_fn(n * n, n * n, |row, column| {
        let entry =
            state_matrix[(row / n, column / n)].conj() * state_matrix[(row % n, column % n)];
        if row == column {
            c64::ONE - entry
        } else {
            -entry
        }
    });
    let square = input * input.adjoint();
    let right = Mat::from_fn(n * n, 1, |row, _| square[(row % n, row / n)]);
    let solution = matrix.partial_piv_lu().solve(&right);
    Mat::from_fn(n, n, |i, j| solution[(i + j * n, 0)])
}

proptest! {
    #[test]
    fn singular_values_are_sorted_and_not_negative(system in layer()) {
        let values = singular_values(&system);
        prop_assert_eq!(values.len(), system.state_dim());
        prop_assert!(values.iter().all(|&sigma| sigma >= 0.0 && sigma.is_finite()));
        prop_assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn singular_values_ignore_a_change_of_basis(system in layer(), seed in any::<u64>(), range in 0.0..200.0f64) {
        let mut random = Random::new(seed);
        let scales: Vec<c64> = (0..system.state_dim())
            .map(|_| c64::from_polar(random.between(-range, range).exp2(), random.between(0.0, 6.0)))
            .collect();
        let identity: Vec<usize> = (0..system.state_dim()).collect();
        let moved = changed(&system, &identity, |i, z| z * scales[i], |i, z| z / scales[i]);
        let difference = worst_difference(&singular_values(&system), &singular_values(&moved));
        let tolerance = rounding(&system, 16.0 + system.state_dim() as f64);
        prop_assert!(difference <= tolerance, "{:e} > {:e}", difference, tolerance);
    }

    #[test]
    fn singular_values_ignore_the_order_of_states(system in layer(), seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut order: Vec<usize> = (0..system.state_dim()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.between(0.0, i as f64 + 1.0) as usize);
        }
        let moved = changed(&system, &order, |_, z| z, |_, z| z);
        let difference = worst_difference(&singular_values(&system), &singular_values(&moved));
        prop_assert!(difference <= rounding(&system, 16.0 + system.state_dim() as f64));
    }

    #[test]
    fn singular_values_scale_with_the_input(system in layer(), log in -300.0..300.0f64, angle in 0.0..6.0f64) {
        let alpha = c64::from_polar(log.exp2(), angle);
        let identity: Vec<usize> = (0..system.state_dim()).collect();
        let scaled = singular_values(&changed(&system, &identity, |_, z| z * alpha, |_, z| z));
        let back: Vec<f64> = scaled.iter().map(|sigma| sigma / alpha.norm()).collect();
        let difference = worst_difference(&singular_values(&system), &back);
        prop_assert!(difference <= rounding(&system, 16.0 + system.state_dim() as f64));
    }

    #[test]
    fn a_power_of_two_changes_exponents_only(system in layer(), power in -450..450i32) {
        let alpha = 2f64.powi(power);
        let identity: Vec<usize> = (0..system.state_dim()).collect();
        let scaled = singular_values(&changed(&system, &identity, |_, z| z * alpha, |_, z| z * alpha));
        // An even power leaves the very same mantissas to work on.
        let expected: Vec<f64> = singular_values(&system).iter().map(|sigma| sigma * alpha * alpha).collect();
        prop_assert_eq!(scaled, expected);
    }

    #[test]
    fn gramians_solve_their_equations(system in layer()) {
        let (n, lambda) = (system.state_dim(), system.lambda());
        let p = system.controllability_gramian();
        let q = system.observability_gramian();
        let (b, c) = (system.input_matrix(), system.output_matrix());
        let (bb, cc) = (b * b.adjoint(), c.adjoint() * c);
        for i in 0..n {
            for j in 0..n {
                prop_assert_eq!(p[(i, j)], p[(j, i)].conj());
                prop_assert_eq!(q[(i, j)], q[(j, i)].conj());
                // Plain evaluation of the residual rounds entries of the size of the Gramian.
                let limit = |g: &Mat<c64>| 32.0 * f64::EPSILON * (g[(i, i)].re * g[(j, j)].re).sqrt();
                let of_p = p[(i, j)] - lambda[i] * p[(i, j)] * lambda[j].conj() - bb[(i, j)];
                let of_q = q[(i, j)] - lambda[i].conj() * q[(i, j)] * lambda[j] - cc[(i, j)];
                prop_assert!(of_p.norm() <= limit(&p) && of_q.norm() <= limit(&q));
            }
        }
    }

    #[test]
    fn singular_values_are_the_roots_of_the_eigenvalues_of_the_gramians(
        seed in any::<u64>(), states in 1..6usize, inputs in 1..4usize,
    ) {
        let system = random_system(seed, states, inputs, 0.0, 0.95);
        // In another basis, so that the state matrix is dense: A = X Λ X⁻¹.
        let mut random = Random::new(seed);
        let basis = Mat::from_fn(states, states, |i, j| {
            random.complex() * 0.3 + if i == j { c64::ONE } else { c64::ZERO }
        });
        let solver = basis.partial_piv_lu();
        let inverse: Mat<c64> = solver.solve(Mat::<c64>::identity(states, states));
        prop_assume!(basis.norm_l2() * inverse.norm_l2() < 100.0);
        let moved = Mat::from_fn(states, states, |i, j| basis[(i, j)] * system.lambda()[j]);
        let (a, b, c) = (moved * &inverse, &basis * system.input_matrix(), system.output_matrix() * &inverse);
        let p = kronecker_gramian(&a, &b);
        let q = kronecker_gramian(&a.adjoint().to_owned(), &c.adjoint().to_owned());
        let mut squares: Vec<f64> = (&p * &q).eigenvalues().unwrap().iter().map(|z| z.re).collect();
        squares.sort_by(|x, y| y.total_cmp(x));
        // Forming P Q leaves squares good to ε ‖P‖ ‖Q‖ times the conditions of the basis and of the solve.
        let tolerance = 1e4 * f64::EPSILON * p.norm_l2() * q.norm_l2() * 100.0;
        for (sigma, square) in singular_values(&system).iter().zip(&squares) {
            prop_assert!((sigma * sigma - square).abs() <= tolerance, "{} {} {:e}", sigma, square, tolerance);
        }
    }

    #[test]
    fn a_truncation_is_stable_and_within_its_bound(system in layer(), share in 0.0..1.0f64) {
        let hankel = system.hankel().unwrap();
        let rank = hankel.numerical_rank();
        prop_assume!(rank > 0);
        let order = 1 + (share * rank as f64) as usize;
        let order = order.min(rank);
        let truncation = hankel.balanced_truncation(order).unwrap();
        prop_assert_eq!(truncation.order(), order);
        prop_assert!(truncation.poles().iter().all(|pole| pole.norm() < 1.0));

        // Projections in units of a weak last state are long; their product rounds by that much.
        let (left, right) = (truncation.left_projection(), truncation.right_projection());
        let lengths = left.norm_l2() * right.norm_l2();
        prop_assert!(distance_to_identity(left, right) <= 16.0 * f64::EPSILON * lengths);

        // The kept space is known to ε Σ√(P_ii Q_ii), peaks are at most 1 / (1 - |λ|) = 1000 times less certain.
        let slack = rounding(&system, 1e4);
        for omega in sweep(system.lambda(), 32) {
            let full = system.transfer(omega);
            let gain = max_gain(&(&full - truncation.system().transfer(omega)));
            prop_assert!(gain <= truncation.h_infinity_bound() + slack, "{:e} at {}", gain, omega);
        }
    }

    #[test]
    fn the_diagonal_form_is_the_dense_one(system in layer(), share in 0.0..1.0f64) {
        let hankel = system.hankel().unwrap();
        let strong = hankel.singular_values().iter().filter(|&&s| s > 1e-6 * hankel.singular_values()[0]).count();
        let order = (1 + (share * strong as f64) as usize).min(strong);
        let truncation = hankel.balanced_truncation(order).unwrap();
        let diagonal = truncation.diagonalize().unwrap();
        prop_assert_eq!(diagonal.system.state_dim(), order);

        let lengths = diagonal.left.norm_l2() * diagonal.right.norm_l2();
        let limit = 16.0 * f64::EPSILON * lengths * diagonal.eigenvector_condition;
        prop_assert!(distance_to_identity(&diagonal.left, &diagonal.right) <= limit);
        let input = &diagonal.left * system.input_matrix() - diagonal.system.input_matrix();
        prop_assert!(input.norm_max() <= limit * system.input_matrix().norm_l2());
        let output = system.output_matrix() * &diagonal.right - diagonal.system.output_matrix();
        prop_assert!(output.norm_max() <= limit * system.output_matrix().norm_l2());

        if order < system.state_dim() {
            // In balanced coordinates, x = T z and z = Wᴴ x, the modes are eigenvectors of length one.
            let vectors = truncation.left_projection() * &diagonal.right;
            for vector in vectors.col_iter() {
                prop_assert!((vector.norm_l2() - 1.0).abs() <= limit);
            }
        }
        let slack = rounding(&system, 1e4) * diagonal.eigenvector_condition;
        for omega in sweep(truncation.poles(), 16) {
            let difference = diagonal.system.transfer(omega) - truncation.system().transfer(omega);
            prop_assert!(difference.norm_max() <= slack, "{:e} > {:e}", difference.norm_max(), slack);
        }
    }
}
