//! What fuzzing found, as plain code; the inputs themselves are in `fuzz/corpus`.

use hsv::{
    ContinuousSystem, DiscreteDiagonalSystem, DiscreteSystem, HankelError, LinearSystem, Mat,
    TruncationError, c64, h_infinity_bound, h_infinity_norm,
};

fn real(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> Mat<c64> {
    Mat::from_fn(rows, columns, |i, j| c64::new(entry(i, j), 0.0))
}

fn one_mode(lambda: c64, input: f64, output: f64) -> DiscreteDiagonalSystem {
    let entry = |value| real(1, 1, |_, _| value);
    DiscreteDiagonalSystem::new(vec![lambda], entry(input), entry(output)).unwrap()
}

#[test]
fn a_frequency_that_hits_a_pole_of_a_stable_dense_system_has_a_finite_gain() {
    let omegas = (1..100).map(|k| 0.03 * f64::from(k));
    let mut hits = 0;
    for omega in omegas {
        // The rounded point of the circle is a pole: about every other one lies inside.
        let pole = c64::new(omega.cos(), omega.sin());
        let ones = real(1, 1, |_, _| 1.0);
        let Ok(diagonal) = DiscreteDiagonalSystem::new(vec![pole], ones.clone(), ones) else {
            continue;
        };
        hits += 1;
        let dense = diagonal.to_dense();
        let gain = h_infinity_norm(&dense).unwrap().gain;
        // Rounding of z may halve the distance of the pole, and halve it again.
        let bound = 2.0 * dense.hankel().unwrap().singular_values()[0];
        assert!(gain > 0.0 && gain <= 16.0 * bound, "{gain:e} {bound:e}");
    }
    assert!(hits > 10);
}

#[test]
fn a_response_beyond_the_range_of_f64_is_infinite_and_not_nan() {
    let state = real(3, 3, |i, j| if j == i + 1 { 1e300 } else { 0.0 });
    let (input, output) = (
        real(3, 1, |i, _| if i == 2 { 1.0 } else { 0.0 }),
        real(1, 3, |_, _| 1.0),
    );
    // z⁻¹ + 1e300 z⁻² + 1e600 z⁻³
    let system = DiscreteSystem::new(state, input, output).unwrap();
    for omega in [0.0, 1.0, -2.0] {
        let response = system.transfer(omega)[(0, 0)];
        assert!(!response.is_nan() && !response.is_finite(), "{response}");
    }
}

#[test]
fn parts_of_a_split_are_finite_or_refused() {
    // Eigenvectors (1, 0) and (1, 2e-20): one direction in f64.
    let nearly_defective = real(2, 2, |i, j| match (i, j) {
        (0, 0) => -1e-20,
        (1, 1) => 1e-20,
        (0, _) => 1.0,
        _ => 0.0,
    });
    // Orthogonal eigenvectors, along one of which two of the largest inputs add up.
    let rotated = real(2, 2, |i, j| if i == j { 0.0 } else { 1.0 });
    for (state, size) in [(nearly_defective, 1e300), (rotated, f64::MAX)] {
        let (input, output) = (real(2, 1, |_, _| size), real(1, 2, |_, _| 1.0));
        let system = ContinuousSystem::new(state, input, output).unwrap();
        let refused = system.split_stable().unwrap_err();
        assert!(
            matches!(
                refused,
                HankelError::Inseparable {
                    stable: 1,
                    states: 2
                }
            ),
            "{refused}"
        );
    }
}

#[test]
fn a_real_part_that_exceeds_the_range_of_f64_is_refused() {
    let real_part = one_mode(c64::new(0.5, 0.1), 0.9 * f64::MAX, 1e-300).real_part();
    let hankel = real_part.hankel().unwrap();
    let refused = [
        hankel.balanced_truncation(2).unwrap_err(),
        hankel.singular_perturbation(2).unwrap_err(),
    ];
    for error in refused {
        assert!(
            matches!(error, TruncationError::OutOfRange { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_imaginary_feed_through_leaves_no_trace_in_the_real_part() {
    let plain = one_mode(c64::new(0.5, 0.1), 1.0, 1.0);
    let imaginary = Mat::from_fn(1, 1, |_, _| c64::new(0.0, 1e9));
    let driven = plain.clone().with_feedthrough(imaginary).unwrap();
    for omega in [0.0, 0.3, -2.0] {
        let (expected, found) = (
            plain.real_part().transfer(omega),
            driven.real_part().transfer(omega),
        );
        assert_eq!(found, expected);
    }
}

#[test]
fn a_bound_beyond_the_range_of_f64_is_infinite_and_not_nan() {
    let hsv = [f64::MAX, f64::MAX, 1.0];
    assert_eq!(h_infinity_bound(&hsv, 0), f64::INFINITY);
    assert_eq!(h_infinity_bound(&hsv, 2), 2.0);
}

#[test]
fn a_real_part_of_a_complex_response_beyond_the_range_of_f64_is_a_number() {
    // 2 + 2e308 i at ω = 0.
    let input = Mat::from_fn(1, 1, |_, _| c64::new(1.0, 1e308));
    let output = real(1, 1, |_, _| 1.0);
    let mode = DiscreteDiagonalSystem::new(vec![c64::new(0.5, 0.0)], input, output).unwrap();
    assert!(!mode.transfer(0.0)[(0, 0)].is_finite());
    let response = mode.real_part().transfer(0.0)[(0, 0)];
    assert!(
        (0.0..=4.0).contains(&response.re) && response.im == 0.0,
        "{response}"
    );
}
