//! Hankel singular values over many decades, against values from 150 digits: what each mode keeps of the small ones.
//!
//! `tests/oracles/relative_accuracy.py` says where the values come from. `cargo test -p hsv --test suite relative_accuracy --
//! --nocapture` prints how many digits each mode has.
#![allow(
    clippy::print_stdout,
    reason = "errors that were seen, beside those that are allowed"
)]

use std::path::Path;

use crate::support::oracle::Values;
use hsv::{Accuracy, DiscreteDiagonalSystem, HankelDecomposition, LinearSystem, c64};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    lambda: Values,
    #[serde(rename = "B")]
    input: Values,
    #[serde(rename = "C")]
    output: Values,
    hsv: Vec<f64>,
}

impl Case {
    fn system(&self) -> DiscreteDiagonalSystem {
        let lambda = self.lambda.matrix();
        let lambda = (0..lambda.ncols()).map(|i| lambda[(0, i)]).collect();
        DiscreteDiagonalSystem::new(lambda, self.input.matrix(), self.output.matrix()).unwrap()
    }

    fn decades(&self) -> f64 {
        (self.hsv[0] / self.hsv[self.hsv.len() - 1]).log10()
    }

    /// Relative error of each value.
    fn errors(&self, values: &[f64]) -> Vec<f64> {
        let pairs = values.iter().zip(&self.hsv);
        pairs
            .map(|(value, exact)| (value - exact).abs() / exact)
            .collect()
    }
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/relative_accuracy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// Square roots of the eigenvalues of P Q, the product formed: the wrong way.
fn from_product_of_gramians(system: &DiscreteDiagonalSystem) -> Vec<f64> {
    let product = system.controllability_gramian() * system.observability_gramian();
    let mut values: Vec<f64> = product
        .eigenvalues()
        .unwrap()
        .iter()
        .map(|z| z.norm().sqrt())
        .collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// Decimal digits of the worst and of the median value.
fn digits(errors: &[f64]) -> (f64, f64) {
    let mut digits: Vec<f64> = errors
        .iter()
        .map(|error| -error.max(1e-17).log10().min(0.0))
        .collect();
    digits.sort_by(f64::total_cmp);
    (digits[0], digits[digits.len() / 2])
}

/// Largest share of the estimated errors that the errors are.
fn largest_ratio(errors: &[f64], hankel: &HankelDecomposition<DiscreteDiagonalSystem>) -> f64 {
    let ratios = errors.iter().zip(hankel.relative_errors());
    ratios
        .take(hankel.numerical_rank())
        .map(|(error, estimate)| error / estimate)
        .fold(0.0, f64::max)
}

#[test]
fn every_value_above_the_numerical_rank_is_as_accurate_as_estimated() {
    println!(
        "{:48} {:>7}  {:^21} {:^21} {:^9}",
        "digits: worst, median", "decades", "relative", "absolute", "eig(PQ)"
    );
    for case in cases() {
        let system = case.system();
        let relative = system.hankel_with(Accuracy::Relative).unwrap();
        let absolute = system.hankel_with(Accuracy::Absolute).unwrap();
        let (errors, absolute_errors) = (
            case.errors(relative.singular_values()),
            case.errors(absolute.singular_values()),
        );
        let plain_errors = case.errors(&from_product_of_gramians(&system));
        let (worst, median) = digits(&errors);
        let (absolute_worst, absolute_median) = digits(&absolute_errors);
        let (plain_worst, plain_median) = digits(&plain_errors);
        let ratio = largest_ratio(&errors, &relative);
        println!(
            "{:48} {:7.1}  {worst:4.1} {median:4.1} rank {:2} of {:2}  {absolute_worst:4.1} {absolute_median:4.1} rank \
             {:2}  {plain_worst:4.1} {plain_median:4.1}   error / estimate {ratio:.1e}, estimate at rank {:.0e}",
            case.name,
            case.decades(),
            relative.numerical_rank(),
            case.hsv.len(),
            absolute.numerical_rank(),
            relative.relative_errors()[relative.numerical_rank() - 1],
        );
        // Every spectrum here is above what a factor's rows leave undetermined, ε² of the largest.
        assert_eq!(relative.numerical_rank(), case.hsv.len(), "{}", case.name);
        for (k, (error, estimate)) in errors.iter().zip(relative.relative_errors()).enumerate() {
            assert!(
                error <= estimate,
                "{} {k}: {error:e} > {estimate:e}",
                case.name
            );
        }
        let pairs = absolute_errors.iter().zip(absolute.relative_errors());
        for (k, (error, estimate)) in pairs.enumerate() {
            // As in `twin.rs`: a decomposition of that size and a few roundings besides, of the largest value. A value
            // whose columns were dropped is zero.
            let limit = 2.0
                * (estimate.min(1.0 / f64::EPSILON)
                    + 8.0 * f64::EPSILON * case.hsv[0] / case.hsv[k]);
            assert!(*error <= limit, "{} {k}: {error:e} > {limit:e}", case.name);
        }
    }
}

#[test]
fn one_input_and_one_output_keep_every_digit_over_thirty_decades() {
    let graded = cases().into_iter().filter(|case| {
        let one = case.input.matrix().ncols() == 1 && case.output.matrix().nrows() == 1;
        one && case.decades() > 15.0
    });
    let mut seen = 0;
    for case in graded {
        let system = case.system();
        let relative = system.hankel_with(Accuracy::Relative).unwrap();
        // Entries of both factors are products of `state` rounded numbers, and sums of `state` such terms follow;
        // what is left beside the diagonals has a condition below this.
        let limit = 16.0 * case.hsv.len() as f64 * f64::EPSILON;
        for error in case.errors(relative.singular_values()) {
            assert!(error <= limit, "{}: {error:e} > {limit:e}", case.name);
        }
        // The other ways have three digits or none of some of the values: the small columns of the factors are dropped, or
        // the product of the Gramians has rounded them away.
        let last = case.hsv.len() - 1;
        let plain_errors = case.errors(&from_product_of_gramians(&system));
        assert!(plain_errors[last] > 1.0, "{}", case.name);
        if case.decades() > 20.0 {
            let absolute = system.hankel().unwrap();
            assert!(absolute.numerical_rank() < last);
            let errors = case.errors(absolute.singular_values());
            assert!(errors.iter().any(|&error| error > 1e-3));
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn truncations_reach_the_end_of_a_graded_spectrum() {
    for name in [
        "real poles, smooth decay, N=26, H=1",
        "disk to 0.7, N=30, H=2",
        "four clusters of four at 1e-6, H=1",
    ] {
        let case = case(name);
        let system = case.system();
        let hankel = system.hankel_with(Accuracy::Relative).unwrap();
        let states = case.hsv.len();
        for order in [states / 2, states - 4, states - 1] {
            let balanced = hankel.balanced_truncation(order).unwrap();
            let orthonormal = hankel.balancing_free_truncation(order).unwrap();
            // The tail of the exact values: a bound made of noise would be larger.
            let tail: f64 = case.hsv[order..].iter().sum();
            let bound = balanced.h_infinity_bound();
            assert!((bound - 2.0 * tail).abs() <= 1e-9 * bound, "{name} {order}");
            let mut worst = 0.0f64;
            for omega in crate::support::sweep(system.lambda(), 32) {
                let full = system.transfer(omega);
                for truncation in [&balanced, &orthonormal] {
                    let reduced = truncation.system().transfer(omega);
                    worst = worst.max(crate::support::max_gain(&(&full - reduced)));
                }
            }
            println!("{name}, order {order}: error {worst:.1e}, bound {bound:.1e}");
            // Beside the bound, rounding of a transfer function whose poles are 0.01 or more from the circle.
            let rounding = 100.0 * states as f64 * f64::EPSILON * case.hsv[0];
            assert!(
                worst <= bound + rounding,
                "{name} {order}: {worst:e} > {bound:e} + {rounding:e}"
            );
        }
    }
}

#[test]
fn real_parts_keep_the_digits_of_their_pairs() {
    for name in [
        "disk to 0.7, N=24, H=1",
        "real poles, smooth decay, N=20, H=1",
        "ring N=24, 2 in, 2 out",
    ] {
        let complex = case(name).system();
        // 2 Re(y) has the modes of the system and those of its conjugate.
        let pairs: Vec<c64> = complex
            .lambda()
            .iter()
            .flat_map(|&lambda| [lambda, lambda.conj()])
            .collect();
        let either = |z: c64, i: usize| if i.is_multiple_of(2) { z } else { z.conj() };
        let ports = complex.inputs();
        let paired = crate::support::system(
            &pairs,
            ports,
            ports,
            |i, j| either(complex.input_matrix()[(i / 2, j)], i),
            |i, j| either(complex.output_matrix()[(j, i / 2)], i),
        );
        let expected = paired.hankel_with(Accuracy::Relative).unwrap();
        let real = complex.real_part().hankel_with(Accuracy::Relative).unwrap();
        // Of the real factors only rows are known to be good, which counts fewer values.
        let rank = real.numerical_rank();
        println!(
            "{name}: rank {rank} and {} of {}",
            expected.numerical_rank(),
            pairs.len()
        );
        assert!(rank <= expected.numerical_rank(), "{name}: {rank}");
        assert!(rank >= complex.real_part().hankel().unwrap().numerical_rank());
        for k in 0..rank {
            let (value, twice) = (
                2.0 * real.singular_values()[k],
                expected.singular_values()[k],
            );
            let limit = real.relative_errors()[k] + expected.relative_errors()[k];
            assert!(
                (value - twice).abs() <= limit * twice,
                "{name} {k}: {value:e} is not {twice:e} to {limit:e}"
            );
        }
    }
}

#[test]
fn columns_of_rounding_alone_are_no_rank() {
    // Twelve copies of one mode have the rank of the input, and reflections leave rounding behind it.
    let layer = crate::support::random_system(1, 12, 3, 0.9, 0.99);
    let system = crate::support::system(
        &[c64::new(0.9, 0.1); 12],
        3,
        3,
        |i, j| layer.input_matrix()[(i, j)],
        |i, j| layer.output_matrix()[(j, i)],
    );
    let hankel = system.hankel_with(Accuracy::Relative).unwrap();
    assert_eq!(hankel.numerical_rank(), 3, "{:?}", hankel.singular_values());
}

#[test]
fn a_dense_system_promises_no_more_than_before() {
    let dense = case("disk to 0.7, N=24, H=1").system().to_dense();
    let (relative, absolute) = (
        dense.hankel_with(Accuracy::Relative).unwrap(),
        dense.hankel().unwrap(),
    );
    assert_eq!(relative.numerical_rank(), absolute.numerical_rank());
    let limit = 2.0 * (24.0 + 8.0) * f64::EPSILON * absolute.singular_values()[0];
    let values = relative
        .singular_values()
        .iter()
        .zip(absolute.singular_values());
    for (a, b) in values {
        assert!((a - b).abs() <= limit, "{a:e} {b:e}");
    }
}

#[test]
fn a_system_without_transfer_has_zeros_to_any_accuracy() {
    let system = crate::support::system(
        &[c64::new(0.5, 0.0); 2],
        1,
        1,
        |_, _| c64::ZERO,
        |_, _| c64::ONE,
    );
    let hankel = system.hankel_with(Accuracy::Relative).unwrap();
    assert_eq!(hankel.singular_values(), [0.0, 0.0]);
    assert_eq!(hankel.numerical_rank(), 0);
}
