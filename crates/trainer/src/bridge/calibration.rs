//! What a cut does to a layer's output on real inputs, against what it may do.

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{ElementConversion, Tensor};
use serde::{Deserialize, Serialize};
use ssm_core::{Backend, Model, OutputBound, Seen, Sequences};

use super::CutError;
use crate::batch::Batch;

/// What layers are ranked and tried on.
#[derive(Debug, Clone)]
pub struct Calibration<B: BurnBackend> {
    /// Sequences of some examples.
    pub input: Sequences<B>,
    /// Steps of each that are no padding.
    pub lengths: Vec<usize>,
}

/// Examples that a layer with a bound is tried on: it holds for any input, so few tell as much as many.
const FEW: usize = 4;

impl<B: BurnBackend> Calibration<B> {
    /// The sequences of a batch.
    pub(crate) fn of(batch: Batch<B>) -> Self {
        Self {
            input: batch.input,
            lengths: batch.lengths,
        }
    }

    /// The first few of the examples.
    pub(super) fn few(self) -> Self {
        let count = self.lengths.len().min(FEW);
        let input = match self.input {
            Sequences::Features(x) => Sequences::Features(x.narrow(0, 0, count)),
            Sequences::Tokens(x) => Sequences::Tokens(x.narrow(0, 0, count)),
        };
        let lengths = self.lengths[..count].to_vec();
        Self { input, lengths }
    }
}

impl<B: Backend> Calibration<B> {
    /// What goes into every layer of a model.
    pub(crate) fn seen(&self, model: &Model<B>) -> Vec<Seen<B>> {
        let inputs = model.layer_inputs(self.input.clone()).into_iter();
        let lengths = &self.lengths;
        inputs
            .map(|input| Seen {
                input,
                lengths: lengths.clone(),
            })
            .collect()
    }
}

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
    /// Of the outputs of a layer before and after a cut for the same input, all `[batch, length, hidden]`.
    pub(super) fn of<B: BurnBackend>(
        input: Tensor<B, 3>,
        before: Tensor<B, 3>,
        after: Tensor<B, 3>,
        bound: Option<OutputBound>,
    ) -> Self {
        let (output, error) = (rms(before.clone()), rms(after - before));
        Self {
            error,
            relative: (output > 0.0).then_some(error / output),
            // An eigenvalue that is off by ε turns the mode by ε per step, for 1 / decay steps.
            allowed: bound.map(|OutputBound { gain, decay }| {
                gain * rms(input) + EIGENVALUE_ROUNDING / decay * output
            }),
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

/// Root mean square of all elements.
fn rms<B: BurnBackend>(tensor: Tensor<B, 3>) -> f64 {
    let count = tensor.shape().num_elements() as f64;
    let sum: f64 = tensor.square().sum().into_scalar().elem();
    (sum / count).sqrt()
}

/// Relative rounding of an eigenvalue's phase, which a layer holds as a logarithm in `f32`: up to 2π, half a unit in the
/// last place of a logarithm below two, and again that of the modulus.
const EIGENVALUE_ROUNDING: f64 = 2.0 * std::f64::consts::TAU * f32::EPSILON as f64;

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn the_error_is_measured_against_the_output_before() {
        let constant = |value| Tensor::<Flex, 3>::full([2, 3, 4], value, &Default::default());
        let of = |before, after| OutputError::of(constant(1.0), before, after, None);
        let error = of(constant(-2.0), constant(-1.5));
        assert_eq!((error.error, error.relative), (0.5, Some(0.25)));
        let from_nothing = of(constant(0.0), constant(1.0));
        assert_eq!((from_nothing.error, from_nothing.relative), (1.0, None));
    }
}
