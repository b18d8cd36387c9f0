//! What the benches share: timing, and what the machine could do at best.

pub(crate) mod machine;
pub(crate) mod timing;
