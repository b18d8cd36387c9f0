//! What a check is told: spectra, sizes, and how long a step takes.

use crate::{KeepReason, ScheduleError};

/// Everything a check knows about the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'a> {
    /// One entry per layer, at every check the same layers in the same order.
    pub layers: &'a [LayerSpectrum<'a>],
    /// How many parameters go with a state. Only a target in parameters looks at it.
    pub parameters: ParameterCount<'a>,
    /// Milliseconds per training step at the current size, if measured. Only a target in step time looks at it, and
    /// what is not finite and positive counts as not measured. An input and not a clock: equal inputs give equal
    /// decisions.
    pub step_ms: Option<f64>,
}

/// What a check knows about one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpectrum<'a> {
    /// Current number of states.
    pub state_dim: usize,
    /// Hankel singular values, largest first, one per state. Their unit does not matter: only shares are compared.
    pub hsv: &'a [f64],
    /// How far the layer moved since its previous snapshot; `None` where there is none with the same states, as at
    /// the first check and after a cut. Only [`Auto`](crate::Auto) looks at it.
    pub drift: Option<Drift>,
}

impl LayerSpectrum<'_> {
    /// Why these values rank no states, if they do not. `layer` is what an error calls it.
    ///
    /// # Errors
    /// [`ScheduleError::SpectrumLength`], [`ScheduleError::SpectrumNotSorted`].
    pub(crate) fn unusable(&self, layer: usize) -> Result<Option<KeepReason>, ScheduleError> {
        let Self { state_dim, hsv, .. } = *self;
        if hsv.len() != state_dim {
            return Err(ScheduleError::SpectrumLength {
                layer,
                state_dim,
                values: hsv.len(),
            });
        }
        if !hsv.iter().all(|sigma| sigma.is_finite()) {
            return Ok(Some(KeepReason::SpectrumNotFinite));
        }
        if let Some(index) = first_out_of_order(hsv) {
            return Err(ScheduleError::SpectrumNotSorted {
                layer,
                index,
                value: hsv[index],
            });
        }
        let sum: f64 = hsv.iter().sum();
        Ok(match hsv.first() {
            None => Some(KeepReason::NothingToCut),
            Some(0.0) => Some(KeepReason::SpectrumIsZero), // the largest, so all of them are
            Some(_) if !sum.is_finite() => Some(KeepReason::SpectrumNotFinite),
            Some(_) => None,
        })
    }
}

/// Index of the first value that is negative, or larger than the one before it.
fn first_out_of_order(hsv: &[f64]) -> Option<usize> {
    let mut ceiling = f64::INFINITY;
    hsv.iter().position(|&sigma| {
        let fits = (0.0..=ceiling).contains(&sigma);
        ceiling = sigma;
        !fits
    })
}

/// How far a layer moved since its previous snapshot with the same states.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Rank correlation of the modal scores then and now, mode by mode ([`hsv::spearman`]), in `[-1, 1]`; `None`
    /// where it is undefined.
    pub rank_correlation: Option<f64>,
    /// Hankel norm of the difference of the two systems, in the unit of the spectrum. By Weyl's inequality no
    /// Hankel singular value moved further than this.
    pub hankel_distance: f64,
}

/// The parameters of a model as a function of its states: `fixed + Σ per_state[i] · state_dim[i]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParameterCount<'a> {
    /// Parameters that no cut touches.
    pub fixed: u64,
    /// Parameters of one state, for each layer.
    pub per_state: &'a [u64],
}

impl ParameterCount<'_> {
    /// All parameters of a model whose layers have so many states.
    pub(crate) fn total(&self, state_dims: impl Iterator<Item = usize>) -> u128 {
        let of_layer = |(&per_state, states): (&u64, usize)| u128::from(per_state) * states as u128;
        u128::from(self.fixed)
            + self
                .per_state
                .iter()
                .zip(state_dims)
                .map(of_layer)
                .sum::<u128>()
    }
}
