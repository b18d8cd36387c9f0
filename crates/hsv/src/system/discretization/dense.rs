//! Between continuous and discrete time, for systems with a full state matrix.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::linalg::matrix::{complex, first_not_finite, from_complex};
use crate::linalg::matrix_functions::{exponential, logarithm};
use crate::linalg::scalar::Scalar;
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;
use crate::system::discretization::{Discretization, DiscretizationError, check_step};
use crate::system::domain::{Continuous, Discrete, TimeDomain};
use crate::system::feedthrough::plus;

impl<T: Scalar> DenseSystem<T, Continuous> {
    /// The discrete-time system with a step of `step_size`, in the unit of time of the state matrix.
    ///
    /// # Errors
    /// [`DiscretizationError::StepSize`]; [`DiscretizationError::Singular`] if the bilinear map meets an unstable pole
    /// at `2 / Δ`; [`DiscretizationError::System`] if the result is not finite.
    pub fn discretize(
        &self,
        method: Discretization,
        step_size: f64,
    ) -> Result<DenseSystem<T, Discrete>, DiscretizationError> {
        let _mode = Subnormals::kept();
        check_step(step_size)?;
        match method {
            Discretization::ZeroOrderHold => {
                let held = held(self, c64::ZERO);
                let step =
                    Mat::from_fn(held.nrows(), held.ncols(), |i, j| held[(i, j)] * step_size);
                let matrix =
                    exponential(&step).ok_or(DiscretizationError::Overflow { step_size })?;
                with_parts_of(&matrix, 1.0, self)
            }
            Discretization::Bilinear => {
                let half = step_size / 2.0;
                let (numerator, denominator) =
                    (shifted(self, half, 1.0), shifted(self, -half, 1.0));
                moebius(
                    self,
                    &numerator,
                    &denominator,
                    [1.0, step_size.sqrt(), half],
                )
            }
        }
    }
}

impl<T: Scalar> DenseSystem<T, Discrete> {
    /// The continuous-time system of which this is the discretization with a step of `step_size`.
    ///
    /// # Errors
    /// [`DiscretizationError::NoLogarithm`] for an eigenvalue at zero or on the negative real axis after a zero-order
    /// hold; [`DiscretizationError::Singular`] for one at -1 after a bilinear map.
    pub fn to_continuous(
        &self,
        method: Discretization,
        step_size: f64,
    ) -> Result<DenseSystem<T, Continuous>, DiscretizationError> {
        let _mode = Subnormals::kept();
        check_step(step_size)?;
        match method {
            Discretization::ZeroOrderHold => {
                let matrix = logarithm(&held(self, c64::ONE))?;
                with_parts_of(&matrix, 1.0 / step_size, self)
            }
            Discretization::Bilinear => {
                let (numerator, denominator) = (shifted(self, 1.0, -1.0), shifted(self, 1.0, 1.0));
                let gains = [2.0 / step_size, 2.0 / step_size.sqrt(), -1.0];
                moebius(self, &numerator, &denominator, gains)
            }
        }
    }
}

/// `[A B; 0 e I]`: a state and an input that is held.
fn held<T: Scalar, D: TimeDomain>(system: &DenseSystem<T, D>, e: c64) -> Mat<c64> {
    let (a, b) = (
        complex(system.state_matrix()),
        complex(system.input_matrix()),
    );
    let states = a.nrows();
    Mat::from_fn(states + b.ncols(), states + b.ncols(), |i, j| {
        match (i < states, j < states) {
            (true, true) => a[(i, j)],
            (true, false) => b[(i, j - states)],
            (false, _) => {
                if i == j {
                    e
                } else {
                    c64::ZERO
                }
            }
        }
    })
}

/// A system with the first block row of `[A B; ..]` times `factor`, and the rest of `old`.
fn with_parts_of<T: Scalar, D: TimeDomain, E: TimeDomain>(
    held: &Mat<c64>,
    factor: f64,
    old: &DenseSystem<T, D>,
) -> Result<DenseSystem<T, E>, DiscretizationError> {
    let states = old.state_dim();
    let state = Mat::from_fn(states, states, |i, j| held[(i, j)] * factor);
    let input = Mat::from_fn(states, old.inputs(), |i, j| held[(i, j + states)] * factor);
    let output = old.output_matrix().clone();
    let system = DenseSystem::new(from_complex(&state), from_complex(&input), output)?;
    Ok(system.with_any_feedthrough(old.feedthrough())?)
}

/// `a A + e I`
fn shifted<T: Scalar, D: TimeDomain>(system: &DenseSystem<T, D>, a: f64, e: f64) -> Mat<T> {
    let matrix = system.state_matrix();
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        let entry = matrix[(i, j)].times(a);
        if i == j { entry + T::real(e) } else { entry }
    })
}

/// `(a M⁻¹ N, g M⁻¹ B, g C M⁻¹, D + d C M⁻¹ B)` for numerator N, denominator M and gains `[a, g, d]`.
fn moebius<T: Scalar, D: TimeDomain, E: TimeDomain>(
    system: &DenseSystem<T, D>,
    numerator: &Mat<T>,
    denominator: &Mat<T>,
    [a, g, d]: [f64; 3],
) -> Result<DenseSystem<T, E>, DiscretizationError> {
    let solver = denominator.partial_piv_lu();
    let (state, driven) = (solver.solve(numerator), solver.solve(system.input_matrix()));
    let transposed = denominator.transpose().to_owned().partial_piv_lu();
    let seen = transposed
        .solve(system.output_matrix().transpose())
        .transpose()
        .to_owned();
    let direct = system.output_matrix() * &driven;
    for part in [&state, &driven, &seen] {
        if first_not_finite(part).is_some() {
            return Err(DiscretizationError::Singular);
        }
    }
    let times = |matrix: &Mat<T>, factor: f64| {
        Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
            matrix[(i, j)].times(factor)
        })
    };
    let converted = DenseSystem::new(times(&state, a), times(&driven, g), times(&seen, g))?;
    Ok(converted.with_feedthrough(plus(system.feedthrough(), times(&direct, d)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_matrix, with_eigenvalues};
    use crate::{ContinuousDiagonalSystem, ContinuousSystem};

    const METHODS: [Discretization; 2] = [Discretization::ZeroOrderHold, Discretization::Bilinear];

    fn system() -> ContinuousSystem {
        let lambda = [
            c64::new(-0.5, 2.0),
            c64::new(-1.0, -1.0),
            c64::new(-2.0, 0.0),
            c64::new(-0.1, 0.3),
        ];
        ContinuousSystem::new(
            with_eigenvalues(1, &lambda, 0.5),
            random_matrix(2, 4, 2),
            random_matrix(3, 3, 4),
        )
        .unwrap()
    }

    #[test]
    fn both_maps_come_back() {
        for method in METHODS {
            let back = system()
                .discretize(method, 0.3)
                .unwrap()
                .to_continuous(method, 0.3)
                .unwrap();
            for omega in [0.0, 0.5, -2.0, 9.0] {
                let (expected, found) = (system().transfer(omega), back.transfer(omega));
                // Conditions of the conversion and of the resolvent, both below a hundred here.
                assert!(
                    (&expected - &found).norm_max() <= 1e-11 * expected.norm_max(),
                    "{method:?} {omega}"
                );
            }
        }
    }

    #[test]
    fn a_diagonal_system_converts_the_same_way_written_out() {
        let lambda = vec![c64::new(-0.5, 2.0), c64::new(-0.1, -1.0)];
        let diagonal =
            ContinuousDiagonalSystem::new(lambda, random_matrix(4, 2, 2), random_matrix(5, 1, 2))
                .unwrap();
        for method in METHODS {
            let (direct, dense) = (
                diagonal.discretize(method, 0.2).unwrap(),
                diagonal.to_dense(),
            );
            let dense = dense.discretize(method, 0.2).unwrap();
            for omega in [0.0, 0.4, -1.0, 3.0] {
                let (expected, found) = (direct.transfer(omega), dense.transfer(omega));
                assert!(
                    (&expected - &found).norm_max() <= 1e-12 * expected.norm_max(),
                    "{method:?} {omega}"
                );
            }
        }
    }

    #[test]
    fn a_real_system_stays_real_and_a_negative_pole_has_no_hold() {
        let real = |values: &[[f64; 2]; 2]| Mat::from_fn(2, 2, |i, j| values[i][j]);
        let oscillator = DenseSystem::<f64, Continuous>::new(
            real(&[[0.0, 1.0], [-4.0, -0.4]]),
            Mat::from_fn(2, 1, |i, _| i as f64),
            Mat::from_fn(1, 2, |_, j| 1.0 - j as f64),
        )
        .unwrap();
        for method in METHODS {
            let back = oscillator
                .discretize(method, 0.1)
                .unwrap()
                .to_continuous(method, 0.1)
                .unwrap();
            assert!(
                (back.state_matrix() - oscillator.state_matrix()).norm_max() <= 1e-13 * 4.0 / 0.1
            );
        }
        let negative = DenseSystem::<f64, Discrete>::new(
            real(&[[-0.5, 0.0], [0.0, 0.5]]),
            Mat::from_fn(2, 1, |_, _| 1.0),
            Mat::from_fn(1, 2, |_, _| 1.0),
        )
        .unwrap();
        let error = negative
            .to_continuous(Discretization::ZeroOrderHold, 1.0)
            .unwrap_err();
        assert!(
            matches!(error, DiscretizationError::NoLogarithm(_)),
            "{error}"
        );
        assert!(
            negative
                .to_continuous(Discretization::Bilinear, 1.0)
                .is_ok()
        );
    }
}
