//! Hankel singular values and model reduction of linear systems, accurate where Gramians are numerically singular.
//!
//! A state space layer is a linear system. Its *Hankel singular values* say how much each direction of its state
//! matters to the map from input to output: how easily the input reaches it, times how plainly the output shows it.
//! *Balanced truncation* cuts the directions that matter least and bounds the error by twice the sum of their values.
//!
//! The Gramians of a layer with many states and few inputs are singular to sixteen digits. Formed and factored they
//! give a spectrum that is right to 1e-9 of its largest value and noise below. Here they are never formed: their
//! factors come straight from the eigenvalues and the input or output matrix, and the spectrum is right to a few 1e-15,
//! in any units, with poles as near to the boundary as `f64` has numbers. Dense systems take their factors from the
//! Schur form and are as accurate as that determines them.
//!
//! # From a layer to a smaller layer
//! ```
//! use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64, order_for_tolerance};
//!
//! // Four modes, one input, one output; the last two are weak.
//! let lambda = vec![c64::new(0.9, 0.3), c64::new(0.9, -0.3), c64::new(0.2, 0.0), c64::new(-0.5, 0.0)];
//! let gains = [1.0, 1.0, 0.05, 0.01];
//! let input_matrix = Mat::from_fn(4, 1, |_, _| c64::new(1.0, 0.0));
//! let output_matrix = Mat::from_fn(1, 4, |_, i| c64::new(gains[i], 0.0));
//! let system = DiscreteDiagonalSystem::new(lambda, input_matrix, output_matrix)?;
//!
//! let hankel = system.hankel()?;
//! let order = order_for_tolerance(hankel.singular_values(), 0.02); // discard at most 2 % of their sum
//! assert_eq!(order, 2);
//!
//! let truncation = hankel.balanced_truncation(order)?;
//! let reduced = truncation.diagonalize()?.system; // the form a layer holds
//! for omega in [0.0, 0.3, 1.0, 3.0] {
//!     let error = (system.transfer(omega) - reduced.transfer(omega)).norm_max();
//!     assert!(error <= truncation.h_infinity_bound());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A published example
//! Moore's paper on balancing (`M81`) reduces `(s + 4) / ((s + 1)(s + 3)(s + 5)(s + 10))`, a dense real system in
//! continuous time, and prints its Hankel singular values.
//! ```
//! use hsv::{ContinuousSystem, LinearSystem, Mat, h_infinity_norm};
//!
//! let state_matrix = [
//!     [0.0, 0.0, 0.0, -150.0],
//!     [1.0, 0.0, 0.0, -245.0],
//!     [0.0, 1.0, 0.0, -113.0],
//!     [0.0, 0.0, 1.0, -19.0],
//! ];
//! let system = ContinuousSystem::<f64>::new(
//!     Mat::from_fn(4, 4, |i, j| state_matrix[i][j]),
//!     Mat::from_fn(4, 1, |i, _| [4.0, 1.0, 0.0, 0.0][i]),
//!     Mat::from_fn(1, 4, |_, j| [0.0, 0.0, 0.0, 1.0][j]),
//! )?;
//! let hankel = system.hankel()?;
//! for (sigma, printed) in hankel.singular_values().iter().zip([0.1594e-1, 0.2724e-2, 0.1272e-3, 0.8006e-5]) {
//!     assert!((sigma - printed).abs() < 1e-3 * printed);
//! }
//!
//! // Two states are enough for three digits of the largest gain, which is at rest: 4 / 150.
//! let truncation = hankel.balanced_truncation(2)?;
//! let error = h_infinity_norm(&system.minus(truncation.system())?)?;
//! assert!(error.gain <= truncation.h_infinity_bound() && truncation.h_infinity_bound() < 0.02 * 4.0 / 150.0);
//! // And with the weak states at rest instead of cut, the gain at rest is exact.
//! let at_rest = hankel.singular_perturbation(2)?.system.transfer(0.0)[(0, 0)].re;
//! assert!((at_rest - 4.0 / 150.0).abs() < 1e-15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What there is
//!
//! | question | answer |
//! |---|---|
//! | which systems? | [`DiagonalSystem`] and [`DenseSystem`] (real or complex), each [`Discrete`] or [`Continuous`]; [`RealPartSystem`], a complex layer of whose output only the real part is read |
//! | how much does each state matter? | [`LinearSystem::hankel`], [`hankel_all`] for many layers, [`hankel_with`](LinearSystem::hankel_with) where values of 1e-20 of the largest are wanted to many digits; [`modal_scores`](DiagonalSystem::modal_scores) mode by mode |
//! | how many states to keep? | [`order_for_tolerance`] and its kin, [`OrderCriterion`]; [`GlobalBudget`] over many layers |
//! | the smaller system | [`balanced_truncation`](HankelDecomposition::balanced_truncation), [`balancing_free_truncation`](HankelDecomposition::balancing_free_truncation), [`singular_perturbation`](HankelDecomposition::singular_perturbation), [`modal_truncation`](DiagonalSystem::modal_truncation); [`Selection`] for ablations |
//! | in the form of a layer | [`Truncation::diagonalize`], [`DenseSystem::diagonalize`] |
//! | how wrong is it? | [`Truncation::h_infinity_bound`]; [`h_infinity_norm`], [`h2_norm`] and [`hankel_norm`] of [`minus`](DiagonalSystem::minus) |
//! | will the ranking last? | [`weyl_intervals`], [`spearman`] |
//! | the other kind of time | `discretize` and `to_continuous` with a [`Discretization`] |
//! | an unstable part | [`split_modes`], [`DenseSystem::split_stable`] |
//! | the equations themselves | [`solve_stein`], [`solve_lyapunov`], and both by doubling |
//!
//! # Glossary
//!
//! | symbol | meaning | here | shape |
//! |---|---|---|---|
//! | A, Λ, λ | state matrix, its diagonal form, its eigenvalues (poles) | [`state_matrix`](DenseSystem::state_matrix), [`lambda`](DiagonalSystem::lambda) | `[state, state]`, `[state]` |
//! | B | input matrix | [`input_matrix`](DiagonalSystem::input_matrix) | `[state, input]` |
//! | C | output matrix | [`output_matrix`](DiagonalSystem::output_matrix) | `[output, state]` |
//! | D | feed-through | [`feedthrough`](LinearSystem::feedthrough) | `[output, input]` |
//! | G(e^{iω}), G(iω) | frequency response, `C (z I - A)⁻¹ B + D` | [`transfer`](LinearSystem::transfer) | `[output, input]` |
//! | P | controllability Gramian (`A05`: reachability) | [`controllability_gramian`](DiagonalSystem::controllability_gramian) | `[state, state]` |
//! | Q | observability Gramian | [`observability_gramian`](DiagonalSystem::observability_gramian) | `[state, state]` |
//! | L_P, L_Q | their factors, `P = L_P L_Pᴴ` | inside [`HankelDecomposition`] | `[state, rank]` |
//! | σ | Hankel singular values, `√eig(P Q)`, largest first (`M81`: second-order modes) | [`singular_values`](HankelDecomposition::singular_values) | `[state]` |
//! | r | states kept | `order` | |
//! | τ | share of Σσ (not of Σσ²) that may be discarded | `tau` in [`order_for_tolerance`] | |
//! | T, Wᴴ | projections, `x ≈ T z`, `z = Wᴴ x`, `Wᴴ T = I` | [`right_projection`](Truncation::right_projection), [`left_projection`](Truncation::left_projection) | `[state, order]`, `[order, state]` |
//! | A_r, B_r, C_r | truncated system, `Wᴴ A T`, `Wᴴ B`, `C T` | [`Truncation::system`] | `[order, order]`, .. |
//! | V | eigenvectors of A_r | inside [`DiagonalForm`]: `right = T V`, `left = V⁻¹ Wᴴ` | `[order, order]` |
//! | ‖G‖∞ | largest gain at any frequency | [`h_infinity_norm`] | |
//! | ‖G‖₂ | root mean square output under white noise | [`h2_norm`] | |
//! | ‖G‖_H | largest Hankel singular value | [`hankel_norm`] | |
//! | Δ | step size, in the unit of time of the eigenvalues | `step_size` | |
//! | ε | `f64::EPSILON`, 2.2e-16 | | |
//!
//! Matrices are [`Mat`] of faer, exported again here; vectors are slices. A layer's own normalization of its input
//! belongs to B. This crate knows neither layers nor training steps, and speaks `f64` throughout. Where it uses more
//! than one thread it uses those that faer is set to (`faer::set_global_parallelism`). Its results do not depend on
//! whether the calling thread flushes subnormal numbers, as threads that process signals often do.
//!
//! # Sources
//! Keys of `docs/references.bib`. `M81`: Moore (1981), balancing. `E84`, `G84`: Enns (1984) and Glover (1984), the error
//! bound. `A05`: Antoulas, *Approximation of Large-Scale Dynamical Systems* (2005), the square-root method and the bound
//! in discrete time. `GKO95`: Gohberg, Kailath, Olshevsky (1995), elimination on Cauchy-like matrices. `H82`: Hammarling
//! (1982), factors of dense Gramians. `V91`: Varga (1991), the balancing-free form. `LA89`: Liu, Anderson (1989),
//! singular perturbation. `HJ91`: Horn, Johnson (1991), perturbed singular values.
//!
//! `DGE99`, `DV08`: Demmel et al. (1999), Drmač and Veselić (2008), small singular values to as many digits as large
//! ones, for [`Accuracy::Relative`].
//!
//! A departure from the usual route: the factors are not Cholesky factors of computed Gramians but of their
//! generators, after every mode's magnitude has been shared evenly between input and output.

mod arithmetic;
mod gramian;
mod hankel;
mod linalg;
mod norm;
mod reduction;
mod spectrum;
mod system;
#[cfg(test)]
mod testing;

/// A dense matrix, and a complex number as a pair of `f64`: what every signature here is written in.
pub use faer::{Mat, c64};
pub use gramian::lyapunov::{LyapunovError, LyapunovSolution, solve_lyapunov, solve_stein};
pub use gramian::smith::{solve_lyapunov_by_doubling, solve_stein_by_doubling};
pub use hankel::accuracy::Accuracy;
pub use hankel::batch::hankel_all;
pub use hankel::{HankelDecomposition, HankelError};
pub use linalg::scalar::Scalar;
pub use norm::NormError;
pub use norm::h_infinity::h_infinity_norm;
pub use norm::h2::h2_norm;
pub use norm::hankel::hankel_norm;
pub use norm::sweep::PeakGain;
pub use reduction::TruncationError;
pub use reduction::commuting::{BalanceError, BalancedGramians, balance_gramians};
pub use reduction::diagonal_form::{DiagonalForm, EIGENVECTOR_CONDITION_LIMIT};
pub use reduction::modal::{ModalNorm, ModalTruncation};
pub use reduction::real_diagonal_form::RealDiagonalForm;
pub use reduction::selection::Selection;
pub use reduction::singular_perturbation::SingularPerturbation;
pub use reduction::truncation::Truncation;
pub use spectrum::budget::{Allocation, BudgetError, GlobalBudget, Normalization};
pub use spectrum::error_bound::{h_infinity_bound, h_infinity_bound_of_distinct};
pub use spectrum::order::{
    OrderCriterion, order_for_bound, order_for_energy, order_for_fraction, order_for_tolerance,
};
pub use spectrum::perturbation::weyl_intervals;
pub use spectrum::rank_correlation::spearman;
pub use system::LinearSystem;
pub use system::dense::{ContinuousSystem, DenseSystem, DiscreteSystem};
pub use system::diagonal::{ContinuousDiagonalSystem, DiagonalSystem, DiscreteDiagonalSystem};
pub use system::discretization::{Discretization, DiscretizationError};
pub use system::domain::{Continuous, Discrete, TimeDomain};
pub use system::real_part::RealPartSystem;
pub use system::split::{ModeSplit, StableSplit, split_modes};
pub use system::validity::SystemError;
