//! Balanced residualization: cut states are set to their steady state instead of to zero.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::hankel::HankelDecomposition;
use crate::linalg::matrix::{first_not_finite, scale_matrix};
use crate::linalg::scalar::Scalar;
use crate::reduction::TruncationError;
use crate::reduction::balanced::Coordinates;
use crate::reduction::poles::stable_eigen;
use crate::reduction::truncation::{Projected, written_out};
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;
use crate::system::domain::TimeDomain;

/// A system whose weak balanced states have been replaced by their steady state.
///
/// There are no projections: the reduced state is no linear function of the full one alone. The error is zero at
/// frequency zero, where truncation makes it zero at infinite frequency in continuous time and nowhere in particular in
/// discrete time. A feed-through appears even where there was none.
#[derive(Debug, Clone)]
pub struct SingularPerturbation<S: LinearSystem> {
    /// The reduced system.
    pub system: DenseSystem<S::Scalar, S::Domain>,
    /// Its poles, all of them stable, `[order]`.
    pub poles: Vec<c64>,
    /// `‖G - G_r‖∞ <= 2 Σσ` over the distinct Hankel singular values that were cut, as for truncation.
    pub h_infinity_bound: f64,
    /// Share of Σσ (not of Σσ²) that was cut, in `[0, 1)`.
    pub discarded_share: f64,
}

impl<S: LinearSystem> HankelDecomposition<S> {
    /// Singular perturbation of the balanced system: matches the gain at frequency zero exactly.
    ///
    /// With balanced states in two groups, the weak one at rest: `A_r = A_11 + A_12 (I - A_22)⁻¹ A_21` in discrete time,
    /// `A_11 - A_12 A_22⁻¹ A_21` in continuous time, and so on for B, C and D.
    ///
    /// # Errors
    /// Those of [`balanced_truncation`](Self::balanced_truncation).
    ///
    /// # Source
    /// Liu & Anderson (1989): `LA89` in `docs/references.bib`.
    pub fn singular_perturbation(
        &self,
        order: usize,
    ) -> Result<SingularPerturbation<S>, TruncationError> {
        let _mode = Subnormals::kept();
        self.check_order(order)?;
        let states = self.system().state_dim();
        if order == states {
            let no_convergence = |_| TruncationError::NoConvergence { order };
            return Ok(SingularPerturbation {
                system: written_out(self.system())?,
                poles: self.system().poles().map_err(no_convergence)?,
                h_infinity_bound: 0.0,
                discarded_share: 0.0,
            });
        }
        // States beyond the numerical rank are rounding and have no steady state to speak of.
        let balanced: Vec<usize> = (0..self.numerical_rank()).collect();
        let full = self.projected(&balanced, Coordinates::Balanced)?;
        let parts = Residualized::of::<S>(&full, order)?;
        let (poles, _) = stable_eigen::<S::Scalar, S::Domain>(&parts.state)?;

        let half_gain = full.gain_exponent / 2;
        let direct = scale_matrix(&parts.direct, full.gain_exponent);
        let direct = match full.full.feedthrough() {
            Some(given) => given + direct,
            None => direct,
        };
        let (input, output) = (
            scale_matrix(&parts.input, half_gain),
            scale_matrix(&parts.output, half_gain),
        );
        for (what, part) in [
            ("input matrix", &input),
            ("output matrix", &output),
            ("feed-through matrix", &direct),
        ] {
            if first_not_finite(part).is_some() {
                return Err(TruncationError::OutOfRange { what });
            }
        }
        let kept: Vec<usize> = (0..order).collect();
        let (h_infinity_bound, discarded_share) = self.cost_of_keeping(&kept);
        Ok(SingularPerturbation {
            system: DenseSystem::from_checked(parts.state, input, output, Some(direct)),
            poles,
            h_infinity_bound,
            discarded_share,
        })
    }
}

/// The first states of a system, with the others at rest.
struct Residualized<T> {
    state: Mat<T>,
    input: Mat<T>,
    output: Mat<T>,
    direct: Mat<T>,
}

impl<T: Scalar> Residualized<T> {
    fn of<S: LinearSystem<Scalar = T>>(
        full: &Projected<S>,
        order: usize,
    ) -> Result<Self, TruncationError> {
        let (a, b, c) = (&full.state_matrix, &full.input, &full.output);
        let rest = a.nrows() - order;
        // Everything that is not z_1 at rest: (e I - A_22) z_2 = A_21 z_1 + B_2 u, with e = 1 where a step repeats the
        // state and e = 0 where a derivative vanishes.
        let at_rest = S::Domain::boundary_point(0.0).re;
        let stiffness = Mat::from_fn(rest, rest, |i, j| {
            let entry = a[(order + i, order + j)].times(-1.0);
            if i == j {
                entry + T::real(at_rest)
            } else {
                entry
            }
        });
        let solver = stiffness.partial_piv_lu();
        let from_state = solver.solve(a.submatrix(order, 0, rest, order));
        let from_input = solver.solve(b.submatrix(order, 0, rest, b.ncols()));
        let (coupling, seen) = (
            a.submatrix(0, order, order, rest),
            c.submatrix(0, order, c.nrows(), rest),
        );
        let parts = Self {
            state: a.submatrix(0, 0, order, order) + coupling * &from_state,
            input: b.submatrix(0, 0, order, b.ncols()) + coupling * &from_input,
            output: c.submatrix(0, 0, c.nrows(), order) + seen * &from_state,
            direct: seen * &from_input,
        };
        for part in [&parts.state, &parts.input, &parts.output, &parts.direct] {
            if first_not_finite(part).is_some() {
                return Err(TruncationError::NoSteadyState { order });
            }
        }
        Ok(parts)
    }
}
