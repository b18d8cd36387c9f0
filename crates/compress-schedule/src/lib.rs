//! When to cut a model that is being trained, and how far.
//!
//! A state space layer starts large. After a short warm-up the ranking of its state directions by their Hankel
//! singular values settles, and the directions at the bottom can go. This crate makes the two decisions of that
//! story and nothing else:
//!
//! 1. *When?* A [`Window`] says where in the run checks happen; it resolves to a sorted list of steps once the
//!    length of the run is known.
//! 2. *How far?* At a check, a [`Policy`] turns spectra into orders, for every layer alone or for all of them together
//!    ([`Scope`]), and a [`Gate`] keeps cuts from happening that would drop too little or come too soon.
//!
//! [`Schedule`] ties both together: a small state machine that the trainer owns, asks before each step, and saves
//! with every checkpoint. It speaks in step numbers, `&[f64]` spectra and orders; it has never seen a tensor, a
//! matrix, a clock or a random number, so the same inputs always give the same decisions.
//!
//! ```
//! use compress_schedule::{
//!     Decision, Gate, LayerSpectrum, Observation, ParameterCount, Schedule, Scope, Spacing, StepPoint, Tolerance, Window,
//! };
//!
//! // Four checks in the first tenth of 20 000 steps, each discarding at most 5 % of the sum of the spectrum.
//! let window = Window {
//!     start: StepPoint::Step(0),
//!     end: StepPoint::Fraction(0.1),
//!     spacing: Spacing::Checks(4),
//! };
//! let policy = Tolerance { tau: 0.05 };
//! let mut schedule = Schedule::new(policy, Scope::Layer, Gate::default(), &window, 20_000)?;
//! assert_eq!(schedule.remaining_checks(), [500, 1000, 1500, 2000]);
//!
//! // The training loop asks at every step; at a check it hands over one spectrum per layer.
//! assert!(!schedule.is_due(499)?);
//! assert!(schedule.is_due(500)?);
//! let spectrum = [8.0, 1.0, 0.2, 0.1];
//! let observation = Observation {
//!     layers: &[LayerSpectrum { state_dim: 4, hsv: &spectrum, drift: None }],
//!     parameters: ParameterCount::default(),
//!     step_ms: None,
//! };
//! let decisions = schedule.decide(500, &observation)?;
//! assert!(matches!(decisions[0], Decision::Cut { from: 4, to: 2, .. }));
//! assert_eq!(decisions[0].to_string(), "order 4 -> 2  discarded 3.23 %  (tolerance 0.05)");
//! assert_eq!(schedule.next_check(), Some(1000));
//! # Ok::<(), compress_schedule::ScheduleError>(())
//! ```
//!
//! # The policies
//!
//! | policy | goes to | looks at, beside the spectra |
//! |---|---|---|
//! | [`NoCuts`] | never cuts | |
//! | [`Tolerance`] | the smallest order that discards at most a share of Σσᵢ | |
//! | [`Fraction`] | a fixed share of the states less, at every check | |
//! | [`Target`] | a number of states, of parameters or of milliseconds, in equal ratios | parameter counts, step times |
//! | [`Pragmatic`] | a fraction less, until a cut costs too much accuracy | accuracy before and after each cut |
//! | [`Auto`] | the order of a tolerance, once the ranking has settled | drift since the last snapshot |
//!
//! With [`Scope::Global`] the same numbers hold for all layers together: a share of the sum of all spectra, each
//! normalized by its own sum, or a number of states that go to the layers that need them most.
//!
//! # A cut on trial
//!
//! ```
//! # use compress_schedule::{
//! #     Gate, LayerSpectrum, Observation, ParameterCount, Pragmatic, Schedule, Scope, Spacing, StepPoint, Window,
//! # };
//! # let window = Window {
//! #     start: StepPoint::Step(0),
//! #     end: StepPoint::Step(2000),
//! #     spacing: Spacing::Checks(4),
//! # };
//! # let spectrum = [8.0, 1.0, 0.2, 0.1];
//! # let observation = Observation {
//! #     layers: &[LayerSpectrum { state_dim: 4, hsv: &spectrum, drift: None }],
//! #     parameters: ParameterCount::default(),
//! #     step_ms: None,
//! # };
//! let policy = Pragmatic { fraction: 0.25, max_drop: 0.01 };
//! let mut schedule = Schedule::new(policy, Scope::Layer, Gate::default(), &window, 20_000)?;
//! let decisions = schedule.decide(500, &observation)?;
//! // The trainer keeps a copy of model and optimizer, evaluates, cuts, and evaluates again.
//! assert!(schedule.needs_verdict());
//! let verdict = schedule.judge(0.97, 0.92)?;
//! // It goes back to its copy, but not to an earlier schedule, which would try the cut again.
//! assert!(verdict.reverted);
//! assert_eq!(schedule.next_check(), None);
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
//! | `fraction` | share of the current states that one check drops | |
//! | `min_drop` | smallest share of a layer's states worth a cut | "reduction fraction" |
//! | `order_multiple` | what the orders of cuts are rounded up to, a power of two | |
//! | `max_drop` | largest fall in validation accuracy that a cut may cause | |
//! | drift | how far a layer moved since its previous snapshot; its Hankel norm is `hankel_distance` | δ, ‖dH‖ |
//!
//! # How to add a policy
//!
//! A policy is a pure function from one [`Observation`] to an order for every layer. It is a module in `src/policy`,
//! of which `tolerance.rs` is a short example, with
//!
//! 1. a struct of its parameters, each with its unit and range;
//! 2. a `Key` for each that no other policy has: its name in a configuration and its range;
//! 3. the struct `Cut`, what a cut is made for, and the enum `Keep`, why none is, where the policy has reasons of its own;
//!    their fields are those of the files, their `Display` is the words of a table. `nothing!` stands for one that is empty;
//! 4. `Configured`, the keys that it reads, and `Rule`: the check of the ranges, and one proposal for each layer that takes
//!    part. What it must remember from check to check is a field of [`Schedule`], written with it and validated when read.
//!
//! and a line in `policy.rs`, beside that of the module: its word, its variant and its struct. From there a configuration
//! takes the word and its keys, a file what it says, and a schedule the rule. A line in the list of `tests/laws.rs`, which
//! asks for one, holds it to the laws of all policies (nothing before the window, no order raised, a poisoned spectrum cuts
//! nothing, equal inputs give equal decisions, a schedule read back goes on alike).
//!
//! The gate, the cooldown, rounding, the clamping to the current size and the checks of the spectra are the schedule's; a
//! policy need not repeat them. A policy that searches must be able to find nothing: "keep every state" is `hsv.len()`.

mod check;
mod decision;
mod error;
mod gate;
mod observation;
pub mod policy;
mod schedule;
mod scope;
mod share;
mod step_time;
mod trial;
mod window;

pub use decision::{Decision, KeepReason};
pub use error::{Contradiction, ScheduleError};
pub use gate::Gate;
pub use observation::{Drift, LayerSpectrum, Observation, ParameterCount};
pub use policy::auto::Unsettled;
pub use policy::target::Budget;
pub use policy::{
    Auto, CutReason, Fraction, Key, NoCuts, Policy, PolicyKeep, PolicyKind, Pragmatic, Target,
    Tolerance,
};
pub use schedule::Schedule;
pub use scope::Scope;
pub use trial::{Stopped, Verdict};
pub use window::{Spacing, StepPoint, Window};
