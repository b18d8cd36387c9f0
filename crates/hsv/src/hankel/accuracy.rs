//! How accurate Hankel singular values are asked to be.

/// What small Hankel singular values are accurate relative to: see
/// [`LinearSystem::hankel_with`](crate::LinearSystem::hankel_with).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accuracy {
    /// The largest value: all that an error bound or a share of Σσ can notice.
    #[default]
    Absolute,
    /// Each value itself, as far as the system determines it: for spectra over many decades.
    Relative,
}

/// Columns shorter than this share of the longest are too short for any accuracy: products of two of them, squared,
/// are near the end of the range of `f64`.
const NEGLIGIBLE: f64 = 1e-70;

impl Accuracy {
    /// Length, relative to the longest, of the shortest column of a Gramian factor that has an effect.
    pub(crate) fn shortest_column(self, states: usize) -> f64 {
        match self {
            // With all shorter columns dropped a product of two factors moves by ε/16 of its largest terms: less than
            // its own rounding.
            Self::Absolute => f64::EPSILON / (16.0 * states as f64),
            Self::Relative => NEGLIGIBLE,
        }
    }
}
