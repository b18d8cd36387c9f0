//! The linear recurrent unit.

mod gradient;
mod system;

pub use gradient::{GradientKind, LruGradient};

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    backend::Backend,
    diagonal_ssm::{DiagonalSsmTensors, diagonal_ssm},
    kept_rows::KeptRows,
    parameter::{normal, parameter},
    reduction::Reducible,
    tensors::{NamedTensors, WeightsError},
};

/// Ring of the eigenvalues at initialization.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Parameters of the recurrence, which train with their own learning rate and without weight decay.
    pub const RECURRENT_PARAMETERS: [&'static str; 5] =
        ["nu_log", "theta_log", "gamma_log", "B_re", "B_im"];

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

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        [state, hidden]: [usize; 2],
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let mut take = tensors.prefixed(prefix);
        let (n, h) = (state, hidden);
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

    /// How the layer looks with the modes at `kept` only, in this order.
    pub fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        let state = self.state_dim();
        let rows = ["nu_log", "theta_log", "gamma_log", "B_re", "B_im"]
            .map(|name| KeptRows::rows(name, state, kept.to_vec()));
        let columns = ["C_re", "C_im"].map(|name| KeptRows::columns(name, state, kept.to_vec()));
        rows.into_iter().chain(columns).collect()
    }

    /// The layer with the modes at `kept` only, in this order. What they do is what they did, bit for bit, which the way
    /// through a system in `f64` and back ([`Reducible`]) would not keep: there γ and the phase are made anew.
    pub fn selected(&self, kept: &[usize]) -> Self {
        let [nu, theta, gamma, b_re, b_im, c_re, c_im]: [KeptRows; 7] = self
            .selection(kept)
            .try_into()
            .expect("the seven tensors whose shape depends on the state");
        Self {
            nu_log: nu.of(&self.nu_log),
            theta_log: theta.of(&self.theta_log),
            gamma_log: gamma.of(&self.gamma_log),
            B_re: b_re.of(&self.B_re),
            B_im: b_im.of(&self.B_im),
            C_re: c_re.of(&self.C_re),
            C_im: c_im.of(&self.C_im),
            D: self.D.clone(),
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
