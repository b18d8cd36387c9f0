//! Between continuous and discrete time, pole by pole.

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::arithmetic::unit_disk::one_minus_modulus_squared;
use crate::linalg::matrix_functions::{LogarithmError, scalar_logarithm};
use crate::system::LinearSystem;
use crate::system::diagonal::{ContinuousDiagonalSystem, DiscreteDiagonalSystem};
use crate::system::discretization::{Discretization, DiscretizationError, check_step};
use crate::system::feedthrough::plus;

impl ContinuousDiagonalSystem {
    /// The discrete-time system with a step of `step_size`, in the unit of time of the eigenvalues.
    ///
    /// # Errors
    /// [`DiscretizationError::StepSize`]; [`DiscretizationError::System`] if a pole rounds onto the unit circle.
    pub fn discretize(
        &self,
        method: Discretization,
        step_size: f64,
    ) -> Result<DiscreteDiagonalSystem, DiscretizationError> {
        let _mode = Subnormals::kept();
        check_step(step_size)?;
        let (b, c) = (self.input_matrix(), self.output_matrix());
        match method {
            Discretization::ZeroOrderHold => {
                let steps: Vec<c64> = self
                    .lambda()
                    .iter()
                    .map(|lambda| lambda * step_size)
                    .collect();
                let lambda = steps.iter().map(|step| step.exp()).collect();
                let input = rows_times(b, |i| exp_minus_one(steps[i]) / self.lambda()[i]);
                Ok(DiscreteDiagonalSystem::new(lambda, input, c.clone())?
                    .with_any_feedthrough(self.feedthrough())?)
            }
            Discretization::Bilinear => {
                let half = |i: usize| self.lambda()[i] * (step_size / 2.0);
                let lambda = (0..self.state_dim()).map(|i| bent(half(i))).collect();
                let weight = |i: usize| step_size.sqrt() / (1.0 - half(i));
                let input = rows_times(b, weight);
                let direct = c * rows_times(b, |i| step_size / 2.0 / (1.0 - half(i)));
                let system = DiscreteDiagonalSystem::new(lambda, input, columns_times(c, weight))?;
                Ok(system.with_feedthrough(plus(self.feedthrough(), direct))?)
            }
        }
    }
}

impl DiscreteDiagonalSystem {
    /// The continuous-time system of which this is the discretization with a step of `step_size`.
    ///
    /// After a zero-order hold poles are `ln λ / Δ` with the principal logarithm: oscillations faster than half a turn
    /// per step cannot be told from slower ones.
    ///
    /// # Errors
    /// [`DiscretizationError::NoLogarithm`] for a pole at zero after a zero-order hold.
    pub fn to_continuous(
        &self,
        method: Discretization,
        step_size: f64,
    ) -> Result<ContinuousDiagonalSystem, DiscretizationError> {
        let _mode = Subnormals::kept();
        check_step(step_size)?;
        let (b, c) = (self.input_matrix(), self.output_matrix());
        match method {
            Discretization::ZeroOrderHold => {
                if let Some(&eigenvalue) = self.lambda().iter().find(|lambda| **lambda == c64::ZERO)
                {
                    return Err(LogarithmError::NoPrincipalValue { eigenvalue }.into());
                }
                let steps: Vec<c64> = self
                    .lambda()
                    .iter()
                    .map(|&lambda| scalar_logarithm(lambda))
                    .collect();
                let lambda: Vec<c64> = steps.iter().map(|step| step / step_size).collect();
                let input = rows_times(b, |i| lambda[i] / exp_minus_one(steps[i]));
                let system = ContinuousDiagonalSystem::new(lambda.clone(), input, c.clone())?;
                Ok(system.with_any_feedthrough(self.feedthrough())?)
            }
            Discretization::Bilinear => {
                let lambda = self
                    .lambda()
                    .iter()
                    .map(|&z| unbent(z) * (2.0 / step_size))
                    .collect();
                let weight = |i: usize| 2.0 / step_size.sqrt() / (1.0 + self.lambda()[i]);
                let direct = c * rows_times(b, |i| -1.0 / (1.0 + self.lambda()[i]));
                let system = ContinuousDiagonalSystem::new(
                    lambda,
                    rows_times(b, weight),
                    columns_times(c, weight),
                )?;
                Ok(system.with_feedthrough(plus(self.feedthrough(), direct))?)
            }
        }
    }
}

fn rows_times(matrix: &Mat<c64>, weight: impl Fn(usize) -> c64) -> Mat<c64> {
    let weights: Vec<c64> = (0..matrix.nrows()).map(weight).collect();
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        weights[i] * matrix[(i, j)]
    })
}

fn columns_times(matrix: &Mat<c64>, weight: impl Fn(usize) -> c64) -> Mat<c64> {
    let weights: Vec<c64> = (0..matrix.ncols()).map(weight).collect();
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        matrix[(i, j)] * weights[j]
    })
}

/// `e^z - 1`, with all its digits where z is small.
fn exp_minus_one(z: c64) -> c64 {
    let half_sine = (z.im / 2.0).sin();
    c64::new(
        z.re.exp_m1() * z.im.cos() - 2.0 * half_sine * half_sine,
        z.re.exp() * z.im.sin(),
    )
}

/// `(z - 1) / (z + 1)`, with a real part that keeps the digits of `1 - |z|²`.
fn unbent(z: c64) -> c64 {
    let scale = (z + 1.0).norm_sqr();
    c64::new(-one_minus_modulus_squared(z), 2.0 * z.im) / scale
}

/// `(1 + h) / (1 - h)` for a stable h.
fn bent(h: c64) -> c64 {
    (1.0 + h) / (1.0 - h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::diagonal::DiagonalSystem;
    use crate::system::domain::TimeDomain;

    fn layer() -> ContinuousDiagonalSystem {
        let lambda = vec![
            c64::new(-0.5, 3.0),
            c64::new(-1e-3, -1.0),
            c64::new(-4.0, 0.0),
        ];
        let input = Mat::from_fn(3, 2, |i, j| c64::new(1.0 + i as f64, j as f64 - 0.5));
        let output = Mat::from_fn(1, 3, |_, j| c64::new(0.3 * j as f64 - 0.2, 1.0));
        let direct = Mat::from_fn(1, 2, |_, j| c64::new(j as f64, 2.0));
        ContinuousDiagonalSystem::new(lambda, input, output)
            .unwrap()
            .with_feedthrough(direct)
            .unwrap()
    }

    fn close(
        a: &DiagonalSystem<impl TimeDomain>,
        b: &DiagonalSystem<impl TimeDomain>,
        tolerance: f64,
    ) {
        let pairs = a.lambda().iter().zip(b.lambda());
        for (x, y) in pairs {
            assert!((x - y).norm() <= tolerance * x.norm(), "{x} {y}");
        }
        for (x, y) in [
            (a.input_matrix(), b.input_matrix()),
            (a.output_matrix(), b.output_matrix()),
            (a.feedthrough().unwrap(), b.feedthrough().unwrap()),
        ] {
            assert!(
                (x - y).norm_max() <= tolerance * x.norm_max(),
                "{x:?} {y:?}"
            );
        }
    }

    #[test]
    fn both_maps_come_back() {
        for method in [Discretization::ZeroOrderHold, Discretization::Bilinear] {
            for step in [1e-3, 0.1, 0.9] {
                let system = layer();
                let back = system
                    .discretize(method, step)
                    .unwrap()
                    .to_continuous(method, step)
                    .unwrap();
                // A pole at -1e-3 moves a step of 1e-3 by 1e-6: that many digits go and come back.
                close(&system, &back, 16.0 * f64::EPSILON / (1e-3 * step));
            }
        }
    }

    #[test]
    fn a_hold_over_two_steps_is_two_holds() {
        let (one, two) = (
            layer()
                .discretize(Discretization::ZeroOrderHold, 0.25)
                .unwrap(),
            layer()
                .discretize(Discretization::ZeroOrderHold, 0.5)
                .unwrap(),
        );
        for i in 0..3 {
            let lambda = one.lambda()[i];
            assert!((lambda * lambda - two.lambda()[i]).norm() <= 4.0 * f64::EPSILON);
            let b = (lambda + 1.0) * one.input_matrix()[(i, 0)];
            assert!((b - two.input_matrix()[(i, 0)]).norm() <= 16.0 * f64::EPSILON * b.norm());
        }
    }

    #[test]
    fn the_bilinear_map_keeps_gramians_and_bends_frequencies() {
        let (system, step) = (layer(), 0.3);
        let discrete = system.discretize(Discretization::Bilinear, step).unwrap();
        for (before, after) in [
            (
                system.controllability_gramian(),
                discrete.controllability_gramian(),
            ),
            (
                system.observability_gramian(),
                discrete.observability_gramian(),
            ),
        ] {
            // The slowest pole lies 3e-4 inside the circle and is rounded to ε.
            assert!((&before - &after).norm_max() <= 1e4 * f64::EPSILON * before.norm_max());
        }
        for omega in [-2.0f64, -0.5, 0.1, 1.0, 3.0] {
            let bent = 2.0 / step * (omega / 2.0).tan();
            let error = (discrete.transfer(omega) - system.transfer(bent)).norm_max();
            assert!(
                error <= 1e-11 * system.transfer(bent).norm_max(),
                "{omega}: {error:e}"
            );
        }
    }

    #[test]
    fn steps_that_make_no_sense_are_refused() {
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = layer()
                .discretize(Discretization::Bilinear, step)
                .unwrap_err();
            assert!(
                matches!(error, DiscretizationError::StepSize { .. }),
                "{error}"
            );
        }
        let one = Mat::from_fn(1, 1, |_, _| c64::ONE);
        let delay = DiscreteDiagonalSystem::new(vec![c64::ZERO], one.clone(), one).unwrap();
        let error = delay
            .to_continuous(Discretization::ZeroOrderHold, 1.0)
            .unwrap_err();
        assert!(
            matches!(error, DiscretizationError::NoLogarithm(_)),
            "{error}"
        );
        assert!(delay.to_continuous(Discretization::Bilinear, 1.0).is_ok());
    }
}
