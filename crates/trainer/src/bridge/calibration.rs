//! What a cut does to a layer's output on real inputs, against what it may do.

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{ElementConversion, Tensor};
use serde::{Deserialize, Serialize};
use ssm_core::{Backend, Lru};

/// Root mean squares over a calibration batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// Of the difference of the outputs of the layer before and after the cut.
    pub error: f64,
    /// The most it may be: the bound times the input, and the rounding of the smaller layer's parameters.
    pub allowed: f64,
}

impl OutputError {
    /// Whether the output stayed where it has to be; not so for NaN.
    pub fn is_allowed(&self) -> bool {
        self.error <= self.allowed
    }
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
    let [batch, length, channels] = input.dims();
    let count = (batch * length * channels) as f64;
    let rms = |tensor: Tensor<B, 3>| (norm_squared(tensor) / count).sqrt();
    let full = before.forward(input.clone());
    let difference = after.forward(input.clone()) - full.clone();
    // An eigenvalue that is off by ε turns the mode by ε per step, for 1 / decay steps.
    let rounding = EIGENVALUE_ROUNDING / decay;
    OutputError {
        error: rms(difference),
        allowed: bound * rms(input) + rounding * rms(full),
    }
}

fn norm_squared<B: BurnBackend>(tensor: Tensor<B, 3>) -> f64 {
    tensor.square().sum().into_scalar().elem()
}
