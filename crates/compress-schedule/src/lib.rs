//! When to cut a model that is being trained, and how far.
//!
//! A state space layer starts large. After a short warm-up the ranking of its state directions by their Hankel
//! singular values settles, and the directions at the bottom can go. This crate makes the two decisions of that
//! story and nothing else:
//!
//! 1. *When?* A [`Window`] says where in the run checks happen; it resolves to a sorted list of steps once the
//!    length of the run is known.
//! 2. *How far?* At a check, a [`Policy`] turns the spectrum of one layer into an order, and a gate keeps cuts that
//!    would drop too little from happening at all.
//!
//! [`Schedule`] ties both together: a small state machine that the trainer owns, asks before each step, and saves
//! with every checkpoint. It speaks in step numbers, `&[f64]` spectra and orders; it has never seen a tensor, a
//! matrix, a clock or a random number, so the same inputs always give the same decisions.
//!
//! ```
//! use compress_schedule::{
//!     Decision, Gate, LayerSpectrum, Policy, Schedule, Spacing, StepPoint, Window,
//! };
//!
//! // Four checks in the first tenth of 20 000 steps, each discarding at most 5 % of the sum of the spectrum.
//! let window = Window {
//!     start: StepPoint::Step(0),
//!     end: StepPoint::Fraction(0.1),
//!     spacing: Spacing::Checks(4),
//! };
//! let policy = Policy::Tolerance { tau: 0.05 };
//! let mut schedule = Schedule::new(policy, Gate::default(), &window, 20_000)?;
//! assert_eq!(schedule.remaining_checks(), [500, 1000, 1500, 2000]);
//!
//! // The training loop asks at every step; at a check it hands over one spectrum per layer.
//! assert!(!schedule.is_due(499)?);
//! assert!(schedule.is_due(500)?);
//! let spectrum = [8.0, 1.0, 0.2, 0.1];
//! let decisions = schedule.decide(500, &[LayerSpectrum { state_dim: 4, hsv: &spectrum }])?;
//! assert!(matches!(decisions[0], Decision::Cut { from: 4, to: 2, .. }));
//! assert_eq!(schedule.next_check(), Some(1000));
//! # Ok::<(), compress_schedule::ScheduleError>(())
//! ```
//!
//! # Glossary
//!
//! | word | meaning | elsewhere |
//! |---|---|---|
//! | step | number of optimizer steps already taken; a check at step `s` comes after `s` updates | iteration |
//! | `state_dim` | current number of states of a layer | n, N |
//! | order | number of states a cut keeps | r, rank |
//! | `hsv` | Hankel singular values of a layer, largest first | σ₁ ≥ … ≥ σₙ |
//! | `tau` | share of Σσᵢ (not of Σσᵢ²) that one cut may *discard* | τ |
//! | `min_drop` | smallest share of a layer's states worth a cut | "reduction fraction" |
//!
//! # How to add a policy
//!
//! A policy is a pure function from one spectrum to an order. Three places change, all in this crate:
//!
//! 1. `policy.rs`: a variant of [`Policy`] whose fields carry their unit and range, an arm in [`Policy::validate`]
//!    that rejects what lies outside of it, and an arm in [`Policy::order`].
//! 2. `tests/laws.rs`: one line in the list of policies. The laws (nothing before the window, no order raised, a
//!    poisoned spectrum cuts nothing, equal inputs give equal decisions) then hold for it too, or fail.
//! 3. `CHANGELOG.md`. A key in the configuration is one more line in the trainer's `config` module.
//!
//! The gate, the clamping to the current size and the check for finite values are the schedule's; a policy need not
//! repeat them. A policy that searches must be able to find nothing: "keep every state" is `hsv.len()`.

mod decision;
mod error;
mod gate;
mod observation;
mod plan;
mod policy;
mod schedule;
mod settled;
mod share;
mod step_time;
mod trial;
mod window;

pub use decision::{CutReason, Decision, KeepReason, Unsettled};
pub use error::{Contradiction, ScheduleError};
pub use gate::Gate;
pub use observation::{Drift, LayerSpectrum, Observation, ParameterCount};
pub use policy::{Budget, Policy, Scope};
pub use schedule::Schedule;
pub use trial::{Stopped, Verdict};
pub use window::{Spacing, StepPoint, Window};
