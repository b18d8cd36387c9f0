//! Independent random streams from the one seed of a run.

/// What a stream is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Training and validation split.
    Split = 2,
    /// Order of the examples.
    Order = 3,
    /// Dropout masks.
    Dropout = 4,
    /// States that a cut keeps at random.
    Selection = 5,
}

/// Seed of one stream, by the finalizer of SplitMix64.
pub(crate) fn derive(seed: u64, purpose: Purpose) -> u64 {
    let mut z = seed.wrapping_add((purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
