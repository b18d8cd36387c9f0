//! Hankel singular values and balanced truncation, for systems whose Gramians are numerically singular.
//!
//! A state space layer is a linear system. Its *Hankel singular values* say how much each direction of its state
//! matters to the map from input to output: how easily the input reaches it, times how plainly the output shows it.
//! *Balanced truncation* cuts the directions that matter least and bounds the error by twice the sum of their values.
//!
//! The Gramians of a layer with many states and few inputs are singular to sixteen digits. Formed and factored they
//! give a spectrum that is right to 1e-9 of its largest value and noise below. Here they are never formed: their
//! factors come straight from the eigenvalues and the input or output matrix, and the spectrum is right to a few
//! 1e-15, in any units, with poles as near to the unit circle as `f64` has numbers.
//!
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
//! let reduced = truncation.diagonalize()?.system;
//! for omega in [0.0, 0.3, 1.0, 3.0] {
//!     let error = (system.transfer(omega) - reduced.transfer(omega)).norm_max();
//!     assert!(error <= truncation.h_infinity_bound());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Glossary
//!
//! | symbol | meaning | here | shape |
//! |---|---|---|---|
//! | Λ, λ | diagonal state matrix, its eigenvalues (poles) | [`lambda`](DiscreteDiagonalSystem::lambda) | `[state]` |
//! | B | input matrix | [`input_matrix`](DiscreteDiagonalSystem::input_matrix) | `[state, input]` |
//! | C | output matrix | [`output_matrix`](DiscreteDiagonalSystem::output_matrix) | `[output, state]` |
//! | G(e^{iω}) | transfer function, `C (e^{iω} I - Λ)⁻¹ B` | [`transfer`](DiscreteDiagonalSystem::transfer) | `[output, input]` |
//! | P | controllability Gramian (`A05`: reachability) | [`controllability_gramian`](DiscreteDiagonalSystem::controllability_gramian) | `[state, state]` |
//! | Q | observability Gramian | [`observability_gramian`](DiscreteDiagonalSystem::observability_gramian) | `[state, state]` |
//! | L_P, L_Q | their factors, `P = L_P L_Pᴴ` | inside [`HankelDecomposition`] | `[state, rank]` |
//! | σ | Hankel singular values, `√eig(P Q)`, largest first (`M81`: second-order modes) | [`singular_values`](HankelDecomposition::singular_values) | `[state]` |
//! | r | states kept | `order` | |
//! | τ | share of Σσ (not of Σσ²) that may be discarded | `tau` in [`order_for_tolerance`] | |
//! | T, Wᴴ | projections, `x ≈ T z`, `z = Wᴴ x`, `Wᴴ T = I` | [`right_projection`](Truncation::right_projection), [`left_projection`](Truncation::left_projection) | `[state, order]`, `[order, state]` |
//! | A_r, B_r, C_r | truncated system, `Wᴴ Λ T`, `Wᴴ B`, `C T` | [`Truncation`] | `[order, order]`, .. |
//! | V | eigenvectors of A_r | inside [`DiagonalForm`]: `right = T V`, `left = V⁻¹ Wᴴ` | `[order, order]` |
//! | ‖G‖∞ | largest gain at any frequency | bounded by [`h_infinity_bound`](Truncation::h_infinity_bound) | |
//! | ε | `f64::EPSILON`, 2.2e-16 | | |
//!
//! Matrices are [`Mat`]`<`[`c64`]`>` of faer, exported again here; vectors are slices. A layer's own normalization of
//! its input belongs to B. This crate knows neither layers nor training steps, and speaks `f64` throughout.
//!
//! # Sources
//! Keys of `docs/references.bib`. `M81`: Moore (1981), balancing. `G84`: Glover (1984), the error bound in continuous
//! time. `A05`: Antoulas, *Approximation of Large-Scale Dynamical Systems* (2005), the square-root method and the
//! bound in discrete time. `GKO95`: Gohberg, Kailath, Olshevsky (1995), elimination on Cauchy-like matrices.
//!
//! `DGE99`, `DV08`: Demmel et al. (1999), Drmač and Veselić (2008), small singular values to as many digits as large
//! ones, for [`Accuracy::Relative`].
//!
//! A departure from the usual route: the factors are not Cholesky factors of computed Gramians but of their
//! generators, after every mode's magnitude has been shared evenly between input and output.

mod accuracy;
mod balance;
mod batch;
mod budget;
mod dense;
mod dense_factor;
mod diagonal;
mod diagonalize;
mod discretize;
mod discretize_dense;
mod domain;
mod error_bound;
mod gramian;
mod gramian_factor;
mod hankel;
mod hessenberg;
mod jacobi;
mod lyapunov;
mod matrix_functions;
mod modal;
mod norms;
mod order;
mod perturbation;
mod power_of_two;
mod real_part;
mod real_truncation;
mod scalar;
mod schur;
mod selection;
mod singular_perturbation;
mod smith;
mod split;
mod sweep;
mod system;
#[cfg(test)]
mod testing;
mod triangular;
mod unit_disk;
mod units;

pub use accuracy::Accuracy;
pub use balance::{Truncation, TruncationError};
pub use batch::hankel_all;
pub use budget::{Allocation, BudgetError, GlobalBudget, Normalization};
pub use dense::{ContinuousSystem, DenseSystem, DiscreteSystem};
pub use diagonal::{ContinuousDiagonalSystem, DiagonalSystem, DiscreteDiagonalSystem};
pub use diagonalize::{DiagonalForm, EIGENVECTOR_CONDITION_LIMIT};
pub use discretize::{Discretization, DiscretizationError};
pub use domain::{Continuous, Discrete, TimeDomain};
pub use error_bound::{accumulated_bound, h_infinity_bound, h_infinity_bound_of_distinct};
/// A dense matrix, and a complex number as a pair of `f64`: what every signature here is written in.
pub use faer::{Mat, c64};
pub use hankel::{HankelDecomposition, HankelError};
pub use lyapunov::{LyapunovError, LyapunovSolution, solve_lyapunov, solve_stein};
pub use modal::{ModalNorm, ModalTruncation};
pub use norms::{NormError, h_infinity_norm, h2_norm};
pub use order::{
    OrderCriterion, order_for_bound, order_for_energy, order_for_fraction, order_for_tolerance,
};
pub use perturbation::{RankingVerdict, ranking_verdict, rotation_bound, spearman, weyl_intervals};
pub use real_part::RealPartSystem;
pub use real_truncation::RealDiagonalForm;
pub use scalar::Scalar;
pub use selection::Selection;
pub use singular_perturbation::SingularPerturbation;
pub use smith::{solve_lyapunov_by_doubling, solve_stein_by_doubling};
pub use split::{ModeSplit, StableSplit, split_modes};
pub use sweep::PeakGain;
pub use system::{LinearSystem, SystemError};
