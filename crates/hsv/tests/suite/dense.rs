//! Dense systems, real and complex, in both kinds of time: against diagonal ones, and by their guarantees.

use crate::support::{Random, max_gain, random_system};
use faer::linalg::solvers::Solve;
use hsv::{
    Continuous, DenseSystem, DiagonalSystem, Discrete, DiscreteDiagonalSystem, DiscreteSystem,
    Discretization, HankelError, LinearSystem, Mat, Scalar, Selection, SystemError, TimeDomain,
    Truncation, TruncationError, c64, h_infinity_norm, h2_norm,
};
use proptest::prelude::*;

fn layer() -> impl Strategy<Value = DiscreteDiagonalSystem> {
    (any::<u64>(), 1..9usize, 1..4usize, 0.0..0.95f64)
        .prop_map(|(seed, states, inputs, inner)| random_system(seed, states, inputs, inner, 0.99))
}

/// A well-conditioned basis, and its inverse.
fn basis(seed: u64, states: usize) -> (Mat<c64>, Mat<c64>) {
    let mut random = Random::new(seed);
    let shear = Mat::from_fn(states, states, |i, j| {
        random.complex() * (0.5 / states as f64) + if i == j { c64::ONE } else { c64::ZERO }
    });
    let inverse = shear
        .partial_piv_lu()
        .solve(Mat::<c64>::identity(states, states));
    (shear, inverse)
}

/// The system in another basis, so that nothing of its diagonal form is left.
fn mixed<D: TimeDomain>(system: &DiagonalSystem<D>, seed: u64) -> DenseSystem<c64, D> {
    let (right, left) = basis(seed, system.state_dim());
    let moved = Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
        right[(i, j)] * system.lambda()[j]
    });
    DenseSystem::new(
        moved * &left,
        &right * system.input_matrix(),
        system.output_matrix() * &left,
    )
    .unwrap()
}

/// Rounding of a dense computation, ε of Σ gains over the distance to the boundary, times the condition of the basis
/// (below 10) and the size.
fn rounding<D: TimeDomain>(system: &DiagonalSystem<D>) -> f64 {
    let gains: f64 = system.modal_scores(hsv::ModalNorm::HInfinity).iter().sum();
    // |λ| <= 0.99: an eigenvalue that moves by ε moves its gain by 100 ε of it.
    1e4 * system.state_dim() as f64 * f64::EPSILON * gains
}

/// Distance of a stable pole to the boundary.
fn boundary_gap<D: TimeDomain>(pole: c64) -> f64 {
    if D::STABLE_REGION == Discrete::STABLE_REGION {
        1.0 - pole.norm()
    } else {
        -pole.re
    }
}

/// Every reduction of every order keeps what it promises.
fn keeps_its_promises<T: Scalar, D: TimeDomain>(system: &DenseSystem<T, D>, slack: f64) {
    let hankel = system.hankel().unwrap();
    let strong = hankel
        .singular_values()
        .iter()
        .filter(|&&sigma| sigma > 1e3 * slack)
        .count();
    let omegas = [-2.5, -1.0, -0.2, 0.0, 0.1, 0.7, 3.0];
    for order in 1..=strong {
        let truncation = hankel.balanced_truncation(order).unwrap();
        assert_eq!(truncation.system().state_dim(), order);
        let free = hankel.balancing_free_truncation(order).unwrap();
        let residual = hankel.singular_perturbation(order).unwrap();
        let smallest = hankel.selected_truncation(Selection::Smallest, order);
        let random = hankel.selected_truncation(Selection::Random { seed: 5 }, order);
        // A cut between two values that nearly agree leaves a pole close to the boundary; rounded by ε of the full matrix it
        // moves its peak, which is at most 2 Σσ high, by ε over that distance.
        let sum: f64 = hankel.singular_values().iter().sum();
        let peak_of = |truncation: &Truncation<DenseSystem<T, D>>| {
            let gaps = truncation
                .poles()
                .iter()
                .map(|&pole| boundary_gap::<D>(pole));
            let size = system.state_matrix().norm_l2();
            100.0 * f64::EPSILON * sum * size / gaps.fold(1.0, f64::min)
        };
        let peak = peak_of(&truncation);
        for omega in omegas {
            let full = system.transfer(omega);
            let error = |reduced: &DenseSystem<T, D>| max_gain(&(&full - reduced.transfer(omega)));
            assert!(error(truncation.system()) <= truncation.h_infinity_bound() + slack + peak);
            assert!(error(&residual.system) <= residual.h_infinity_bound + slack);
            // The same system in other coordinates; a weak last state is known to ε σ_1 / σ_r.
            let apart =
                (truncation.system().transfer(omega) - free.system().transfer(omega)).norm_max();
            let tolerance =
                slack * hankel.singular_values()[0] / hankel.singular_values()[order - 1];
            assert!(
                apart <= tolerance + peak,
                "{apart:e} {tolerance:e} {peak:e}"
            );
            for other in [&smallest, &random].into_iter().flatten() {
                assert!(
                    error(other.system())
                        <= other.h_infinity_bound() + slack * 1e3 + peak_of(other)
                );
            }
        }
        let at_rest = (system.transfer(0.0) - residual.system.transfer(0.0)).norm_max();
        assert!(at_rest <= slack, "{at_rest:e} {slack:e}");
        let cut: f64 = hankel.singular_values()[order..].iter().sum();
        assert!(
            (residual.h_infinity_bound - 2.0 * cut).abs() <= 1e-12 * hankel.singular_values()[0]
        );
    }
}

proptest! {
    #[test]
    fn another_basis_has_the_same_singular_values(system in layer(), seed in any::<u64>()) {
        let (expected, dense) = (system.hankel().unwrap(), mixed(&system, seed).hankel().unwrap());
        for (a, b) in expected.singular_values().iter().zip(dense.singular_values()) {
            prop_assert!((a - b).abs() <= rounding(&system), "{a:e} {b:e}");
        }
    }

    #[test]
    fn gramians_solve_their_equations(system in layer(), seed in any::<u64>(), unit in -300..300i32) {
        let unit = 2f64.powi(unit);
        let plain = mixed(&system, seed);
        let b = Mat::from_fn(plain.state_dim(), plain.inputs(), |i, j| plain.input_matrix()[(i, j)] * unit);
        let (a, c) = (plain.state_matrix(), plain.output_matrix());
        let dense = DiscreteSystem::new(a.clone(), b.clone(), c.clone()).unwrap();
        let (p, q) = (dense.controllability_gramian().unwrap(), dense.observability_gramian().unwrap());
        let of_p = &p - a * &p * a.adjoint() - &b * b.adjoint();
        let of_q = &q - a.adjoint() * &q * a - c.adjoint() * c;
        // Each term rounds by the size of the Gramian times that of A, below 10, squared.
        let tolerance = 1e3 * system.state_dim() as f64 * f64::EPSILON;
        prop_assert!(of_p.norm_max() <= tolerance * p.norm_max(), "{:e}", of_p.norm_max() / p.norm_max());
        prop_assert!(of_q.norm_max() <= tolerance * q.norm_max(), "{:e}", of_q.norm_max() / q.norm_max());

        let continuous = dense.to_continuous(Discretization::Bilinear, 0.7).unwrap();
        let (a, b) = (continuous.state_matrix(), continuous.input_matrix());
        let p = continuous.controllability_gramian().unwrap();
        let residual = a * &p + &p * a.adjoint() + b * b.adjoint();
        prop_assert!(residual.norm_max() <= tolerance * p.norm_max() * a.norm_l2());
    }

    #[test]
    fn the_bilinear_map_keeps_singular_values(system in layer(), seed in any::<u64>(), step in 0.1..10.0f64) {
        let expected = system.hankel().unwrap();
        let continuous = system.to_continuous(Discretization::Bilinear, step).unwrap();
        let dense = mixed(&system, seed).to_continuous(Discretization::Bilinear, step).unwrap();
        for (i, sigma) in expected.singular_values().iter().enumerate() {
            let diagonal = continuous.hankel().unwrap().singular_values()[i];
            let dense = dense.hankel().unwrap().singular_values()[i];
            prop_assert!((diagonal - sigma).abs() <= rounding(&system), "{diagonal:e} {sigma:e}");
            prop_assert!((dense - sigma).abs() <= rounding(&system), "{dense:e} {sigma:e}");
        }
    }

    #[test]
    fn reductions_of_discrete_systems_keep_their_promises(system in layer(), seed in any::<u64>()) {
        keeps_its_promises(&mixed(&system, seed), rounding(&system));
        keeps_its_promises(&system.real_part().to_dense(), rounding(&system));
    }

    #[test]
    fn reductions_of_continuous_systems_keep_their_promises(system in layer(), seed in any::<u64>()) {
        let continuous = system.to_continuous(Discretization::Bilinear, 1.0).unwrap();
        keeps_its_promises(&mixed(&continuous, seed), rounding(&system));
        keeps_its_promises(&continuous.real_part().to_dense(), rounding(&system));
    }

    #[test]
    fn the_diagonal_form_is_the_dense_system(system in layer(), seed in any::<u64>()) {
        let dense = mixed(&system, seed);
        let form = dense.diagonalize().unwrap();
        for omega in [-2.0, 0.0, 0.3, 1.0] {
            let apart = (dense.transfer(omega) - form.system.transfer(omega)).norm_max();
            prop_assert!(apart <= rounding(&system) * form.eigenvector_condition);
        }
        // In the coordinates in which the system was stated.
        for vector in form.right.col_iter() {
            prop_assert!((vector.norm_l2() - 1.0).abs() <= 1e-14);
        }
        let output = dense.output_matrix() * &form.right;
        let apart = (output - form.system.output_matrix()).norm_max();
        prop_assert!(apart <= 1e-13 * form.system.output_matrix().norm_max());
    }

    #[test]
    fn norms_bound_each_other(system in layer(), order in 1..6usize) {
        let hankel = system.hankel().unwrap();
        let order = order.min(hankel.numerical_rank());
        let truncation = hankel.balanced_truncation(order).unwrap();
        let reduced = truncation.diagonalize().unwrap().system;
        let error = system.minus(&reduced).unwrap();
        let peak = h_infinity_norm(&error).unwrap();
        let slack = rounding(&system);
        // Hankel norm <= H∞ norm <= the bound, and the next singular value is below any error of that order.
        let hankel_norm = error.hankel().unwrap().singular_values()[0];
        prop_assert!(hankel_norm <= peak.gain + slack);
        prop_assert!(peak.gain <= truncation.h_infinity_bound() + slack);
        if order < system.state_dim() {
            prop_assert!(peak.gain >= hankel.singular_values()[order] - slack);
        }
        // Dense, the same.
        let dense = h_infinity_norm(&mixed(&system, 3).minus(truncation.system()).unwrap()).unwrap();
        prop_assert!((dense.gain - peak.gain).abs() <= 10.0 * slack, "{} {}", dense.gain, peak.gain);
    }

    #[test]
    fn the_h2_norm_is_the_energy_of_the_impulse_response(system in layer(), seed in any::<u64>()) {
        // |λ| <= 0.99: after 4000 steps e^{-40} of it is left.
        let mut energy = 0.0;
        for k in 0..4000 {
            let powers: Vec<c64> = system.lambda().iter().map(|lambda| lambda.powu(k)).collect();
            let state = Mat::from_fn(powers.len(), system.inputs(), |i, j| powers[i] * system.input_matrix()[(i, j)]);
            energy += (system.output_matrix() * state).squared_norm_l2();
        }
        let slack = rounding(&system);
        prop_assert!((h2_norm(&system).unwrap() - energy.sqrt()).abs() <= slack);
        prop_assert!((h2_norm(&mixed(&system, seed)).unwrap() - energy.sqrt()).abs() <= 10.0 * slack);
    }
}

#[test]
fn an_unstable_system_is_refused_and_can_be_split() {
    let one = Mat::from_fn(2, 1, |_, _| 1.0);
    let state = |a: f64| Mat::from_fn(2, 2, |i, j| if i == j { [a, 0.5][i] } else { 0.1 });
    let system =
        DenseSystem::<f64, Discrete>::new(state(1.2), one.clone(), one.transpose().to_owned())
            .unwrap();
    assert!(matches!(
        system.hankel(),
        Err(HankelError::Unstable {
            region: "|lambda| < 1",
            ..
        })
    ));
    assert!(h_infinity_norm(&system).is_err() && h2_norm(&system).is_err());
    assert!(matches!(
        system.diagonalize(),
        Err(TruncationError::Unstable { .. })
    ));
    let split = system.split_stable().unwrap();
    let (stable, unstable) = (split.stable.unwrap(), split.unstable.unwrap());
    assert_eq!(stable.hankel().unwrap().numerical_rank(), 1);
    assert_eq!(unstable.state_dim(), 1);
}

#[test]
fn a_jordan_block_has_singular_values_and_no_diagonal_form() {
    let jordan = Mat::from_fn(3, 3, |i, j| match j.wrapping_sub(i) {
        0 => -1.0,
        1 => 1.0,
        _ => 0.0,
    });
    let input = Mat::from_fn(3, 1, |i, _| if i == 2 { 1.0 } else { 0.0 });
    let output = Mat::from_fn(1, 3, |_, j| if j == 0 { 1.0 } else { 0.0 });
    let system = DenseSystem::<f64, Continuous>::new(jordan, input, output).unwrap();
    // G = 1 / (s + 1)³, with gain one at rest.
    assert!((system.transfer(0.0)[(0, 0)].norm() - 1.0).abs() <= 8.0 * f64::EPSILON);
    let hankel = system.hankel().unwrap();
    assert_eq!(hankel.numerical_rank(), 3);
    let alternating: f64 = hankel.singular_values().iter().sum();
    assert!(alternating >= 0.5, "a gain is at most twice the sum");
    assert!(matches!(
        system.diagonalize(),
        Err(TruncationError::IllConditioned { .. })
    ));
    assert!(
        hankel
            .balanced_truncation(2)
            .unwrap()
            .system()
            .diagonalize()
            .is_ok()
    );
}

#[test]
fn poison_is_named_wherever_it_is() {
    let (a, b) = (
        Mat::from_fn(2, 2, |_, _| 0.1),
        Mat::from_fn(2, 1, |_, _| 1.0),
    );
    let c = Mat::from_fn(1, 2, |_, _| 1.0);
    let poisoned = |matrix: &Mat<f64>| {
        let mut matrix = matrix.clone();
        let last = matrix.nrows() - 1;
        matrix[(last, 0)] = f64::NAN;
        matrix
    };
    type System = DenseSystem<f64, Discrete>;
    for (result, name) in [
        (
            System::new(poisoned(&a), b.clone(), c.clone()),
            "state matrix",
        ),
        (
            System::new(a.clone(), poisoned(&b), c.clone()),
            "input matrix",
        ),
        (
            System::new(a.clone(), b.clone(), poisoned(&c)),
            "output matrix",
        ),
        (
            System::new(a.clone(), b.clone(), c.clone())
                .unwrap()
                .with_feedthrough(Mat::from_fn(1, 1, |_, _| f64::INFINITY)),
            "feed-through matrix",
        ),
    ] {
        assert!(
            matches!(result, Err(SystemError::NotFinite { what, .. }) if what == name),
            "{name}"
        );
    }
    let wide = System::new(Mat::from_fn(2, 3, |_, _| 0.1), b, c);
    assert!(matches!(
        wide,
        Err(SystemError::Dimension { what: "state", .. })
    ));
}

#[test]
fn feed_through_passes_through_every_reduction() {
    let system = random_system(3, 6, 2, 0.5, 0.9);
    let direct = Mat::from_fn(2, 2, |i, j| c64::new(i as f64 + 1.0, j as f64));
    let with = system.clone().with_feedthrough(direct.clone()).unwrap();
    let (plain, hankel) = (system.hankel().unwrap(), with.hankel().unwrap());
    assert_eq!(plain.singular_values(), hankel.singular_values());
    let truncation = hankel.balanced_truncation(3).unwrap();
    assert_eq!(truncation.system().feedthrough(), Some(&direct));
    assert_eq!(
        truncation.diagonalize().unwrap().system.feedthrough(),
        Some(&direct)
    );
    let (a, b) = (
        hankel.singular_perturbation(3).unwrap(),
        plain.singular_perturbation(3).unwrap(),
    );
    let apart = a.system.feedthrough().unwrap() - b.system.feedthrough().unwrap() - &direct;
    assert!(apart.norm_max() <= 1e-14);
    let real = with
        .real_part()
        .hankel()
        .unwrap()
        .balanced_truncation(4)
        .unwrap();
    assert_eq!(real.system().feedthrough().unwrap()[(1, 1)], 2.0);
}
