//! The mixer of Mamba: a selective scan between two projections.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::parts::{Conv1d, Projection};
use crate::{
    backend::Backend,
    kept_rows::KeptRows,
    linear::Linear,
    parameter::{parameter, uniform},
    selective_scan::{SelectiveScanTensors, selective_scan},
    tensors::{NamedTensors, WeightsError},
};

/// Sizes of a [`SelectiveMixer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub hidden: usize,
    /// Channels of the scan.
    pub channels: usize,
    pub state: usize,
    pub taps: usize,
    pub step_rank: usize,
}

/// x, z = W_in r; x ← SiLU(conv x); Δ, B, C from x; out = W_out (scan(x, Δ, A, B, C, D) ∘ SiLU(z)).
///
/// Field names are the published tensor names. B_t and C_t are shared by all channels: a state index is kept or removed
/// for all of them at once ([`selected`](Self::selected)).
///
/// # Source
/// `GD23`, section 3.4 and appendix E.5 (initialization as in the authors' code).
#[derive(Module, Debug)]
pub struct SelectiveMixer<B: BurnBackend> {
    /// To x and z, `[2 channels, hidden]`.
    pub in_proj: Projection<B>,
    /// `[channels, 1, taps]`.
    pub conv1d: Conv1d<B>,
    /// To the step's low-rank form, B and C, `[rank + 2 state, channels]`.
    pub x_proj: Projection<B>,
    /// From there to the step of every channel, `[channels, rank]`.
    pub dt_proj: Linear<B>,
    /// log(-A), `[channels, state]`.
    pub A_log: Param<Tensor<B, 2>>,
    /// D, `[channels]`.
    pub D: Param<Tensor<B, 1>>,
    /// `[hidden, channels]`.
    pub out_proj: Projection<B>,
}

/// Steps at initialization.
pub(super) const STEP_RANGE: [f64; 2] = [1e-3, 0.1];
const SMALLEST_STEP: f64 = 1e-4;

/// A draw of softplus⁻¹(Δ), Δ log-uniform.
pub(super) fn initial_step(rng: &mut ChaCha8Rng) -> f32 {
    let [low, high] = STEP_RANGE.map(f64::ln);
    let step = (low + rng.random::<f64>() * (high - low))
        .exp()
        .max(SMALLEST_STEP);
    (step + (-(-step).exp_m1()).ln()) as f32
}

impl<B: BurnBackend> SelectiveMixer<B> {
    /// As in the authors' code: A = -(1, 2, …), D = 1, steps log-uniform in [0.001, 0.1]; `out_scale` is 1/√layers.
    pub(super) fn init(
        sizes: Sizes,
        out_scale: f64,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let Sizes {
            hidden,
            channels,
            state,
            taps,
            step_rank,
        } = sizes;
        let in_proj = Projection::init(hidden, 2 * channels, 1.0, rng, device);
        let conv1d = Conv1d::init(channels, taps, rng, device);
        let x_proj = Projection::init(channels, step_rank + 2 * state, 1.0, rng, device);
        let bound = 1.0 / (step_rank as f64).sqrt();
        let weight = uniform(rng, channels * step_rank, bound);
        let bias = (0..channels).map(|_| initial_step(rng)).collect();
        let rates = (0..channels * state).map(|i| ((i % state + 1) as f32).ln());
        Self {
            in_proj,
            conv1d,
            x_proj,
            dt_proj: Linear {
                weight: parameter(weight, [channels, step_rank], device),
                bias: parameter(bias, [channels], device),
            },
            A_log: parameter(rates.collect(), [channels, state], device),
            D: parameter(vec![1.0; channels], [channels], device),
            out_proj: Projection::init(channels, hidden, out_scale, rng, device),
        }
    }

    /// Sizes by the tensors of the mixer at `prefix` in a model of this width.
    pub(super) fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        hidden: usize,
    ) -> Result<Sizes, WeightsError> {
        let path = |name: &str| format!("{prefix}.{name}");
        let [channels, state] = tensors.sizes(&path("A_log"), &["channels", "state"])?;
        let [_, _, taps] = tensors.sizes(&path("conv1d.weight"), &["channels", "1", "taps"])?;
        let [_, step_rank] = tensors.sizes(&path("dt_proj.weight"), &["channels", "rank"])?;
        Ok(Sizes {
            hidden,
            channels,
            state,
            taps,
            step_rank,
        })
    }

    pub(super) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        sizes: Sizes,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let Sizes {
            hidden,
            channels,
            state,
            taps,
            step_rank,
        } = sizes;
        let path = |name: &str| format!("{prefix}.{name}");
        let outputs = step_rank + 2 * state;
        let in_proj = Projection::load(tensors, &path("in_proj"), [2 * channels, hidden], device)?;
        let conv1d = Conv1d::load(tensors, &path("conv1d"), [channels, taps], device)?;
        let x_proj = Projection::load(tensors, &path("x_proj"), [outputs, channels], device)?;
        let dt_proj = Linear::load(tensors, &path("dt_proj"), [channels, step_rank], device)?;
        let out_proj = Projection::load(tensors, &path("out_proj"), [hidden, channels], device)?;
        let mut take = tensors.prefixed(prefix);
        let rates = [channels, state];
        Ok(Self {
            in_proj,
            conv1d,
            x_proj,
            dt_proj,
            A_log: parameter(take("A_log", &rates)?, rates, device),
            D: parameter(take("D", &[channels])?, [channels], device),
            out_proj,
        })
    }

    /// Number of states of every channel.
    pub fn state_dim(&self) -> usize {
        self.A_log.dims()[1]
    }

    /// Rank of the step's projection.
    pub fn step_rank(&self) -> usize {
        self.dt_proj.weight.dims()[1]
    }

    /// How the mixer looks with the states at `kept` only, in this order.
    pub fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        let (rank, state) = (self.step_rank(), self.state_dim());
        let of = |first: usize| kept.iter().map(move |n| first + n);
        let rows = (0..rank).chain(of(rank)).chain(of(rank + state));
        vec![
            KeptRows::columns("A_log", state, kept.to_vec()),
            KeptRows::rows("x_proj.weight", rank + 2 * state, rows.collect()),
        ]
    }

    /// The mixer with the states at `kept` only, in this order.
    pub fn selected(&self, kept: &[usize]) -> Self {
        let [rates, projected]: [KeptRows; 2] = self
            .selection(kept)
            .try_into()
            .expect("the two tensors whose shape depends on the state");
        Self {
            A_log: rates.of(&self.A_log),
            x_proj: Projection {
                weight: projected.of(&self.x_proj.weight),
            },
            ..self.clone()
        }
    }
}

impl<B: Backend> SelectiveMixer<B> {
    /// What the scan of `input`, `[batch, length, hidden]`, is given.
    pub fn scan(&self, input: Tensor<B, 3>) -> SelectiveScanTensors<B> {
        let (rank, state) = (self.step_rank(), self.state_dim());
        let channels = self.D.dims()[0];
        let x = self.in_proj.rows(0, channels, input.clone());
        let x = self.conv1d.forward(x);
        let [batch, length, _] = x.dims();
        let low_rank = self.x_proj.rows(0, rank, x.clone());
        let step = self
            .dt_proj
            .forward(low_rank.reshape([batch * length, rank]));
        SelectiveScanTensors {
            step: step.reshape([batch, length, channels]),
            decay: self.A_log.val().exp().neg(),
            input_vector: self.x_proj.rows(rank, state, x.clone()),
            output_vector: self.x_proj.rows(rank + state, state, x.clone()),
            feedthrough: self.D.val(),
            gate: self.in_proj.rows(channels, channels, input),
            input: x,
        }
    }

    /// `[batch, length, hidden]` to the same.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        self.out_proj.forward(selective_scan(self.scan(input)))
    }
}
