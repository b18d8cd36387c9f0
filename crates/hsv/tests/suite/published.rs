//! Systems whose Hankel singular values are in print.

use hsv::{ContinuousSystem, Discretization, LinearSystem, Mat, h_infinity_norm};

fn matrix<const R: usize, const C: usize>(rows: [[f64; C]; R]) -> Mat<f64> {
    Mat::from_fn(R, C, |i, j| rows[i][j])
}

/// Printed with that many digits after the point, times a power of ten.
fn agrees(found: &[f64], printed: &[f64], last_digit: &[f64]) {
    assert_eq!(found.len(), printed.len());
    for ((found, printed), digit) in found.iter().zip(printed).zip(last_digit) {
        assert!(
            (found - printed).abs() <= 0.51 * digit,
            "{found:e} is not {printed:e}"
        );
    }
}

/// Moore (1981), section VI: `(s + 4) / ((s + 1) (s + 3) (s + 5) (s + 10))`.
#[test]
fn moores_example() {
    let system = ContinuousSystem::<f64>::new(
        matrix([
            [0.0, 0.0, 0.0, -150.0],
            [1.0, 0.0, 0.0, -245.0],
            [0.0, 1.0, 0.0, -113.0],
            [0.0, 0.0, 1.0, -19.0],
        ]),
        matrix([[4.0], [1.0], [0.0], [0.0]]),
        matrix([[0.0, 0.0, 0.0, 1.0]]),
    )
    .unwrap();
    let printed = [0.1594e-1, 0.2724e-2, 0.1272e-3, 0.8006e-5];
    agrees(
        system.hankel().unwrap().singular_values(),
        &printed,
        &[1e-5, 1e-6, 1e-7, 1e-9],
    );
}

/// The example of SLICOT's AB09AD: a power system of two areas.
#[test]
fn slicots_example() {
    let system = ContinuousSystem::<f64>::new(
        matrix([
            [-0.04165, 0.0, 4.92, -4.92, 0.0, 0.0, 0.0],
            [-5.21, -12.5, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 3.33, -3.33, 0.0, 0.0, 0.0, 0.0],
            [0.545, 0.0, 0.0, 0.0, -0.545, 0.0, 0.0],
            [0.0, 0.0, 0.0, 4.92, -0.04165, 0.0, 4.92],
            [0.0, 0.0, 0.0, 0.0, -5.21, -12.5, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 3.33, -3.33],
        ]),
        matrix([
            [0.0, 0.0],
            [12.5, 0.0],
            [0.0, 0.0],
            [0.0, 0.0],
            [0.0, 0.0],
            [0.0, 12.5],
            [0.0, 0.0],
        ]),
        matrix([
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        ]),
    )
    .unwrap();
    let printed = [2.5139, 2.0846, 1.9178, 0.7666, 0.5473, 0.0253, 0.0246];
    let hankel = system.hankel().unwrap();
    agrees(hankel.singular_values(), &printed, &[1e-4; 7]);
    // The bilinear map changes none of them.
    let discrete = system.discretize(Discretization::Bilinear, 0.1).unwrap();
    agrees(
        discrete.hankel().unwrap().singular_values(),
        &printed,
        &[1e-4; 7],
    );

    // Five states are within 0.1 of all seven, as the two smallest values say.
    let truncation = hankel.balanced_truncation(5).unwrap();
    let error = h_infinity_norm(&system.minus(truncation.system()).unwrap()).unwrap();
    assert!(
        error.gain <= truncation.h_infinity_bound() && error.gain >= hankel.singular_values()[5]
    );
    assert!((truncation.h_infinity_bound() - 0.0997).abs() <= 1e-4);
}
