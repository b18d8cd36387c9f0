//! The stable part of a system and the rest.

use std::cmp::Ordering;

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::hankel::HankelError;
use crate::linalg::matrix::first_not_finite;
use crate::linalg::scalar::Scalar;
use crate::linalg::triangular::sylvester_triangular;
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::TimeDomain;
use crate::system::validity::{SystemError, check_dimensions, check_finite};

/// A dense system as a sum `G = G_stable + G_unstable`, for those who reduce the first and keep the second.
///
/// Feed-through goes with the stable part, or with the unstable one if that is all there is.
#[derive(Debug, Clone)]
pub struct StableSplit<T: Scalar, D> {
    /// The part whose poles are stable.
    pub stable: Option<DenseSystem<T, D>>,
    /// The part whose poles are not, those on the boundary included.
    pub unstable: Option<DenseSystem<T, D>>,
}

/// The modes of a diagonal system, sorted by whether they are stable.
#[derive(Debug, Clone)]
pub struct ModeSplit<D> {
    /// The stable modes.
    pub stable: Option<DiagonalSystem<D>>,
    /// Their positions.
    pub stable_modes: Vec<usize>,
    /// The others, those on the boundary included.
    pub unstable: Option<DenseSystem<c64, D>>,
    /// Their positions.
    pub unstable_modes: Vec<usize>,
}

/// Sorts the modes of a diagonal system that may be unstable. Shapes as in [`DiagonalSystem::new`].
///
/// # Errors
/// [`SystemError`] for dimensions that disagree and numbers that are not finite.
///
/// ```
/// use hsv::{Discrete, Mat, c64, split_modes};
///
/// let ones = |rows, columns| Mat::from_fn(rows, columns, |_, _| c64::new(1.0, 0.0));
/// let lambda = [c64::new(0.5, 0.0), c64::new(0.0, 1.5), c64::new(-0.9, 0.0)];
/// let split = split_modes::<Discrete>(&lambda, &ones(3, 1), &ones(1, 3))?;
/// assert_eq!((split.stable_modes, split.unstable_modes), (vec![0, 2], vec![1]));
/// assert_eq!(split.stable.unwrap().lambda(), [lambda[0], lambda[2]]);
/// # Ok::<(), hsv::SystemError>(())
/// ```
pub fn split_modes<D: TimeDomain>(
    lambda: &[c64],
    input_matrix: &Mat<c64>,
    output_matrix: &Mat<c64>,
) -> Result<ModeSplit<D>, SystemError> {
    check_dimensions(lambda.len(), input_matrix, output_matrix)?;
    check_finite("lambda", &Mat::from_fn(lambda.len(), 1, |i, _| lambda[i]))?;
    let (stable_modes, unstable_modes): (Vec<usize>, Vec<usize>) =
        (0..lambda.len()).partition(|&i| D::margin(lambda[i]) > 0.0);
    let input = |modes: &[usize]| {
        Mat::from_fn(modes.len(), input_matrix.ncols(), |i, j| {
            input_matrix[(modes[i], j)]
        })
    };
    let output = |modes: &[usize]| {
        Mat::from_fn(output_matrix.nrows(), modes.len(), |i, j| {
            output_matrix[(i, modes[j])]
        })
    };
    let poles = |modes: &[usize]| modes.iter().map(|&i| lambda[i]).collect::<Vec<c64>>();
    let stable = if stable_modes.is_empty() {
        None
    } else {
        let parts = (
            poles(&stable_modes),
            input(&stable_modes),
            output(&stable_modes),
        );
        Some(DiagonalSystem::new(parts.0, parts.1, parts.2)?)
    };
    let unstable = if unstable_modes.is_empty() {
        None
    } else {
        let poles = poles(&unstable_modes);
        let state = Mat::from_fn(poles.len(), poles.len(), |i, j| {
            if i == j { poles[i] } else { c64::ZERO }
        });
        Some(DenseSystem::new(
            state,
            input(&unstable_modes),
            output(&unstable_modes),
        )?)
    };
    Ok(ModeSplit {
        stable,
        stable_modes,
        unstable,
        unstable_modes,
    })
}

impl<T: Scalar, D: TimeDomain> DenseSystem<T, D> {
    /// Splits the system by the stability of its poles.
    ///
    /// By block diagonalization of an ordered Schur form, with an orthonormal basis for each of the two invariant
    /// subspaces. Poles of the two parts that nearly meet make the bases nearly dependent and the parts large.
    ///
    /// # Errors
    /// [`HankelError::NoSchurForm`]; [`HankelError::Inseparable`] if the two subspaces cannot be told apart in `f64`, or
    /// an entry of a part is beyond its range.
    ///
    /// # Source
    /// Antoulas (2005), section 7.3: `A05` in `docs/references.bib`; Bavely, Stewart (1979) for the block form.
    pub fn split_stable(&self) -> Result<StableSplit<T, D>, HankelError> {
        let _mode = Subnormals::kept();
        let mut schur = self.schur()?;
        let (states, stable) = (
            self.state_dim(),
            schur.reorder(|pole| D::margin(pole) > 0.0),
        );
        match stable.cmp(&states) {
            Ordering::Equal => {
                return Ok(StableSplit {
                    stable: Some(self.clone()),
                    unstable: None,
                });
            }
            Ordering::Less if stable == 0 => {
                return Ok(StableSplit {
                    stable: None,
                    unstable: Some(self.clone()),
                });
            }
            _ => {}
        }
        let inseparable = HankelError::Inseparable { stable, states };
        let (u, t) = (&schur.unitary, &schur.triangular);
        let rest = states - stable;
        let (t11, t22) = (
            t.submatrix(0, 0, stable, stable).to_owned(),
            t.submatrix(stable, stable, rest, rest).to_owned(),
        );
        // [I X; 0 I] makes T block diagonal: T11 X - X T22 = -T12.
        let coupling = Mat::from_fn(stable, rest, |i, j| -t[(i, stable + j)]);
        let x = sylvester_triangular(&t11, &t22, &coupling).ok_or(inseparable)?;
        let stable_basis = T::basis(u.submatrix(0, 0, states, stable).to_owned());
        let unstable_basis =
            T::basis(u.submatrix(0, 0, states, stable) * &x + u.submatrix(0, stable, states, rest));

        let basis = Mat::from_fn(states, states, |i, j| {
            if j < stable {
                stable_basis[(i, j)]
            } else {
                unstable_basis[(i, j - stable)]
            }
        });
        let inverse: Mat<T> = basis
            .partial_piv_lu()
            .solve(Mat::<T>::identity(states, states));
        // The columns of each basis are orthonormal, so this is one over the sine of the angle between the subspaces.
        let distinct =
            first_not_finite(&inverse).is_none() && inverse.norm_max() < 1.0 / f64::EPSILON;
        if !distinct {
            return Err(inseparable);
        }
        let part = |first: usize, count: usize, feedthrough: Option<&Mat<T>>| {
            let (right, left) = (
                basis.submatrix(0, first, states, count),
                inverse.submatrix(first, 0, count, states),
            );
            let part = DenseSystem::new(
                left * self.state_matrix() * right,
                left * self.input_matrix(),
                self.output_matrix() * right,
            );
            part.and_then(|part| part.with_any_feedthrough(feedthrough))
                .map_err(|_| inseparable) // an entry beyond the range of f64
        };
        Ok(StableSplit {
            stable: Some(part(0, stable, self.feedthrough())?),
            unstable: Some(part(stable, rest, None)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_matrix, with_eigenvalues};
    use crate::{Continuous, ContinuousSystem};

    fn check<T: Scalar>(system: &DenseSystem<T, Continuous>, stable_states: usize) {
        let split = system.split_stable().unwrap();
        let (stable, unstable) = (split.stable.unwrap(), split.unstable.unwrap());
        assert_eq!(stable.state_dim(), stable_states);
        assert!(stable.poles().unwrap().iter().all(|pole| pole.re < 0.0));
        assert!(unstable.poles().unwrap().iter().all(|pole| pole.re >= 0.0));
        for omega in [0.0, 0.7, -3.0, 20.0] {
            let (sum, whole) = (
                stable.transfer(omega) + unstable.transfer(omega),
                system.transfer(omega),
            );
            // The parts and the bases are within a factor of a hundred of the whole here.
            assert!(
                (&sum - &whole).norm_max() <= 1e-11 * whole.norm_max(),
                "{omega}"
            );
        }
        assert!(stable.hankel().is_ok());
        assert!(matches!(system.hankel(), Err(HankelError::Unstable { .. })));
    }

    #[test]
    fn the_parts_add_up_and_only_one_is_stable() {
        let lambda = [
            c64::new(0.5, 1.0),
            c64::new(-1.0, 2.0),
            c64::new(-0.2, 0.0),
            c64::new(2.0, -1.0),
            c64::new(-3.0, 0.5),
        ];
        let state = with_eigenvalues(1, &lambda, 0.7);
        let system =
            ContinuousSystem::new(state, random_matrix(2, 5, 2), random_matrix(3, 2, 5)).unwrap();
        check(&system.with_feedthrough(random_matrix(4, 2, 2)).unwrap(), 3);
    }

    #[test]
    fn a_real_system_has_real_parts() {
        // Blocks with poles -1 ± 2i, 0.5 ± i and -0.3, mixed by an orthogonal-free shear.
        let blocks = [
            [-1.0, 2.0, 0.3, 0.1, 0.2],
            [-2.0, -1.0, 0.4, -0.5, 0.1],
            [0.0, 0.0, 0.5, 1.0, 0.7],
            [0.0, 0.0, -1.0, 0.5, -0.2],
            [0.0, 0.0, 0.0, 0.0, -0.3],
        ];
        let shear = Mat::from_fn(5, 5, |i, j| {
            if i == j {
                1.0
            } else {
                0.2 * ((i * 3 + j) % 4) as f64 - 0.3
            }
        });
        let inverse: Mat<f64> = shear.partial_piv_lu().solve(Mat::<f64>::identity(5, 5));
        let state = &shear * Mat::from_fn(5, 5, |i, j| blocks[i][j]) * inverse;
        let system = DenseSystem::<f64, Continuous>::new(
            state,
            Mat::from_fn(5, 1, |i, _| 1.0 + i as f64),
            Mat::from_fn(1, 5, |_, j| 1.0 - 0.3 * j as f64),
        )
        .unwrap();
        check(&system, 3);
    }

    #[test]
    fn a_system_of_one_kind_is_left_alone() {
        let one = Mat::from_fn(1, 1, |_, _| c64::ONE);
        let pole = |re: f64| Mat::from_fn(1, 1, |_, _| c64::new(re, 0.0));
        let stable = ContinuousSystem::new(pole(-1.0), one.clone(), one.clone()).unwrap();
        let split = stable.split_stable().unwrap();
        assert_eq!((split.stable, split.unstable), (Some(stable), None));
        let unstable = ContinuousSystem::new(pole(0.0), one.clone(), one).unwrap();
        let split = unstable.split_stable().unwrap();
        assert_eq!((split.stable, split.unstable), (None, Some(unstable)));
    }
}
