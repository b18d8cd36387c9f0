//! The linear recurrent unit.

mod gradient;
mod linear;

pub use gradient::LruGradient;

use std::f64::consts::TAU;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    diagonal_ssm::{DiagonalSsmTensors, diagonal_ssm},
    layer::{Frame, OutOfRange, SequenceLayer, Settings, Surroundings, require},
    parameter::{normal, parameter},
    streaming::LayerStream,
    tensors::{NamedTensors, WeightsError},
};

/// Ring of the eigenvalues at initialization.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of keys, as in `[model.lru]`"
)]
pub struct LruInit {
    /// Smallest modulus, in `[0, 1)`.
    pub r_min: f64,
    /// Largest modulus, in `(r_min, 1)`.
    pub r_max: f64,
    /// Largest phase in radians, in `(0, 2π]`.
    pub max_phase: f64,
}

/// x_k = Λ x_{k-1} + Γ B u_k, y_k = Re(C x_k) + D ∘ u_k with Λ = exp(-exp(ν) + i exp(θ)), Γ = exp(γ).
///
/// Field names are the published tensor names.
///
/// # Source
/// `LRU23`, section 3.
#[derive(Module, Debug)]
pub struct Lru<B: BurnBackend> {
    /// ν = log(-log|λ|), `[state]`.
    pub nu_log: Param<Tensor<B, 1>>,
    /// θ = log(arg λ), `[state]`.
    pub theta_log: Param<Tensor<B, 1>>,
    /// Re B, `[state, hidden]`.
    pub B_re: Param<Tensor<B, 2>>,
    /// Im B, `[state, hidden]`.
    pub B_im: Param<Tensor<B, 2>>,
    /// Re C, `[hidden, state]`.
    pub C_re: Param<Tensor<B, 2>>,
    /// Im C, `[hidden, state]`.
    pub C_im: Param<Tensor<B, 2>>,
    /// D, `[hidden]`.
    pub D: Param<Tensor<B, 1>>,
    /// γ = log of the input normalization, `[state]`.
    pub gamma_log: Param<Tensor<B, 1>>,
}

impl<B: BurnBackend> Lru<B> {
    /// Eigenvalues uniform on the ring, B ~ N(0, 1/(2 hidden)) and C ~ N(0, 1/state) per part, D ~ N(0, 1),
    /// Γ = √(1 - |λ|²).
    pub fn init(
        state: usize,
        hidden: usize,
        init: LruInit,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let (low, high) = (init.r_min.powi(2), init.r_max.powi(2));
        let (mut nu, mut theta, mut gamma) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..state {
            let squared_modulus = low + rng.random::<f64>() * (high - low);
            // 1 - U lies in (0, 1]: the logarithm of the phase stays finite.
            let phase = init.max_phase * (1.0 - rng.random::<f64>());
            nu.push((-0.5 * squared_modulus.max(f64::MIN_POSITIVE).ln()).ln() as f32);
            theta.push(phase.ln() as f32);
            gamma.push((0.5 * (1.0 - squared_modulus).ln()) as f32);
        }
        let b_deviation = (0.5 / hidden as f64).sqrt();
        let c_deviation = (1.0 / state as f64).sqrt();
        let mut b = || {
            parameter(
                normal(rng, state * hidden, b_deviation),
                [state, hidden],
                device,
            )
        };
        let (b_re, b_im) = (b(), b());
        let mut c = || {
            parameter(
                normal(rng, hidden * state, c_deviation),
                [hidden, state],
                device,
            )
        };
        let (c_re, c_im) = (c(), c());
        Self {
            nu_log: parameter(nu, [state], device),
            theta_log: parameter(theta, [state], device),
            B_re: b_re,
            B_im: b_im,
            C_re: c_re,
            C_im: c_im,
            D: parameter(normal(rng, hidden, 1.0), [hidden], device),
            gamma_log: parameter(gamma, [state], device),
        }
    }

    /// Λ as real and imaginary part, and Γ B likewise: the system that the kernel runs.
    pub(crate) fn system_tensors(&self) -> DiagonalSsmTensors<B> {
        let modulus = self.nu_log.val().exp().neg().exp();
        let phase = self.theta_log.val().exp();
        let gamma = self.gamma_log.val().exp().unsqueeze_dim(1);
        DiagonalSsmTensors {
            lambda: [modulus.clone() * phase.clone().cos(), modulus * phase.sin()],
            input_matrix: [self.B_re.val() * gamma.clone(), self.B_im.val() * gamma],
            output_matrix: [self.C_re.val(), self.C_im.val()],
            feedthrough: self.D.val(),
        }
    }
}

impl<B: Backend> Lru<B> {
    /// `[batch, length, hidden]` to the same shape, from a zero state.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        diagonal_ssm(input, self.system_tensors())
    }
}

impl Default for LruInit {
    /// As published.
    fn default() -> Self {
        Self {
            r_min: 0.9,
            r_max: 0.999,
            max_phase: PUBLISHED_MAX_PHASE,
        }
    }
}

#[allow(
    clippy::approx_constant,
    reason = "the published value is 6.28, not two pi"
)]
const PUBLISHED_MAX_PHASE: f64 = 6.28;

impl Settings for LruInit {
    fn check(&self, _hidden: usize, _state: usize) -> Result<(), OutOfRange> {
        let (r_min, r_max) = (self.r_min, self.r_max);
        require(
            (0.0..1.0).contains(&r_max),
            "r_max",
            r_max,
            "an eigenvalue on or outside the unit circle is unstable: it must be above r_min and below 1",
        )?;
        require(
            r_min >= 0.0 && r_min < r_max,
            "r_min",
            r_min,
            "it must be at least 0 and below r_max",
        )?;
        require(
            // The layer holds logarithms of shares of it.
            (1e-30..=TAU).contains(&self.max_phase),
            "max_phase",
            self.max_phase,
            "it is an angle in radians, above 0 (at least 1e-30) and at most 2 pi",
        )
    }

    fn parameters(&self, hidden: f64, state: f64) -> f64 {
        // B and C are complex; the gated unit has two maps.
        4.0 * state * hidden + 2.0 * hidden * hidden
    }
}

/// What is the same for all Linear Recurrent Units of a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LruShape {}

impl<B: Backend> SequenceLayer<B> for Lru<B> {
    const NAME: &'static str = "lru";
    const FRAME: Frame = Frame::Gated;
    const RECURRENT: &'static [&'static str] =
        &["nu_log", "theta_log", "gamma_log", "B_re", "B_im"];
    type Settings = LruInit;
    type Shape = LruShape;

    fn shape_of(_settings: &LruInit, _hidden: usize) -> LruShape {
        LruShape {}
    }

    fn init(
        around: Surroundings,
        state: usize,
        settings: &LruInit,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        Self::init(state, around.hidden, *settings, rng, device)
    }

    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        _hidden: usize,
    ) -> Result<(LruShape, usize), WeightsError> {
        let [state] = tensors.sizes(&format!("{prefix}.nu_log"), &["state"])?;
        Ok((LruShape {}, state))
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        _shape: &LruShape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let (_, n) = <Self as SequenceLayer<B>>::sizes(tensors, prefix, hidden)?;
        let mut take = tensors.prefixed(prefix);
        let h = hidden;
        Ok(Self {
            nu_log: parameter(take("nu_log", &[n])?, [n], device),
            theta_log: parameter(take("theta_log", &[n])?, [n], device),
            B_re: parameter(take("B_re", &[n, h])?, [n, h], device),
            B_im: parameter(take("B_im", &[n, h])?, [n, h], device),
            C_re: parameter(take("C_re", &[h, n])?, [h, n], device),
            C_im: parameter(take("C_im", &[h, n])?, [h, n], device),
            D: parameter(take("D", &[h])?, [h], device),
            gamma_log: parameter(take("gamma_log", &[n])?, [n], device),
        })
    }

    fn shape(&self) -> LruShape {
        LruShape {}
    }

    fn state_dim(&self) -> usize {
        self.nu_log.dims()[0]
    }

    fn parameters_per_state(&self) -> usize {
        // ν, θ and γ, and a row of B and a column of C, both complex.
        3 + 4 * self.D.dims()[0]
    }

    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward(input)
    }

    fn stream(&self) -> Box<dyn LayerStream> {
        Box::new(self.stream())
    }
}
