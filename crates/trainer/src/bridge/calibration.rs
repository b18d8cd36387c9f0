//! What a cut does to a layer's output on real inputs, against what it may do.

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{ElementConversion, Tensor};
use serde::{Deserialize, Serialize};
use ssm_core::{Backend, Lru, Sequences};

use super::CutError;

/// Root mean squares over a calibration batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// Of the difference of the outputs of the layer before and after the cut.
    pub error: f64,
    /// The same as a share of the output before the cut. `None` where that output is zero, and in records of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// The most it may be: the bound times the input, and the rounding of the smaller layer's parameters. `None` where
    /// there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<f64>,
}

impl OutputError {
    /// Of two outputs of a layer, `[batch, length, hidden]`.
    pub(super) fn between<B: BurnBackend>(before: Tensor<B, 3>, after: Tensor<B, 3>) -> Self {
        let (output, error) = (rms(before.clone()), rms(after - before));
        Self {
            error,
            relative: (output > 0.0).then_some(error / output),
            allowed: None,
        }
    }

    /// Refuses an output that is not where it has to be, or not a number.
    pub(super) fn check(&self) -> Result<(), CutError> {
        let error = self.error;
        match self.allowed {
            Some(allowed) if error <= allowed => Ok(()),
            None if error.is_finite() => Ok(()),
            Some(allowed) => Err(CutError::BeyondBound { error, allowed }),
            None => Err(CutError::OutputNotFinite),
        }
    }
}

/// Examples that a linear layer is tried on: its bound holds for any input, so few tell as much as many.
const FEW: usize = 4;

/// The first few of some examples.
pub(super) fn first_examples<B: BurnBackend>(examples: Sequences<B>) -> Sequences<B> {
    match examples {
        Sequences::Features(x) => {
            let count = x.dims()[0].min(FEW);
            Sequences::Features(x.narrow(0, 0, count))
        }
        Sequences::Tokens(x) => {
            let count = x.dims()[0].min(FEW);
            Sequences::Tokens(x.narrow(0, 0, count))
        }
    }
}

/// Root mean square of all elements.
fn rms<B: BurnBackend>(tensor: Tensor<B, 3>) -> f64 {
    let count = tensor.shape().num_elements() as f64;
    let sum: f64 = tensor.square().sum().into_scalar().elem();
    (sum / count).sqrt()
}

/// Relative rounding of an eigenvalue's phase, which a layer holds as a logarithm in `f32`: up to 2π, half a unit in the
/// last place of a logarithm below two, and again that of the modulus.
const EIGENVALUE_ROUNDING: f64 = 2.0 * std::f64::consts::TAU * f32::EPSILON as f64;

/// Runs both layers on `input`, `[batch, length, hidden]`. `bound` bounds the gain of the error at every frequency, and
/// so the ratio of the norms of error and input; `decay` is the least distance of an eigenvalue from the unit circle.
pub(super) fn output_error<B: Backend>(
    input: Tensor<B, 3>,
    before: &Lru<B>,
    after: &Lru<B>,
    bound: f64,
    decay: f64,
) -> OutputError {
    let [full, smaller] = [before, after].map(|layer| layer.forward(input.clone()));
    // An eigenvalue that is off by ε turns the mode by ε per step, for 1 / decay steps.
    let rounding = EIGENVALUE_ROUNDING / decay;
    OutputError {
        allowed: Some(bound * rms(input) + rounding * rms(full.clone())),
        ..OutputError::between(full, smaller)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn the_error_is_measured_against_the_output_before() {
        let constant = |value| Tensor::<Flex, 3>::full([2, 3, 4], value, &Default::default());
        let error = OutputError::between(constant(-2.0), constant(-1.5));
        assert_eq!((error.error, error.relative), (0.5, Some(0.25)));
        let from_nothing = OutputError::between(constant(0.0), constant(1.0));
        assert_eq!((from_nothing.error, from_nothing.relative), (1.0, None));
    }
}
