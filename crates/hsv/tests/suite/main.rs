//! The tests of the crate from outside, in one program: each would compile all of its generic mathematics again.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod dense;
mod driver;
mod flushed_subnormals;
mod fuzz_corpus;
mod hard_cases;
mod invariants;
mod lyapunov;
mod mode_scale;
mod oracles;
mod published;
mod real_part;
mod regressions;
mod relative_accuracy;
mod support;
mod twin;
