//! The mixer of Mamba: a selective scan between two projections.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    gramian::{drift_of_scores, finite},
    parts::{Conv1d, Projection},
};
use crate::{
    backend::Backend,
    compression::{
        Carry, CompressionError, Drift, KeptRows, Method, Reduced, Seen, choose, sorted,
    },
    layer::{Compressible, Frame, OutOfRange, SequenceLayer, Settings, Surroundings, at_least_one},
    linear::Linear,
    parameter::{parameter, uniform},
    selective_scan::{SelectiveScanTensors, selective_scan},
    streaming::LayerStream,
    tensors::{NamedTensors, WeightsError},
};

/// Settings of a [`SelectiveMixer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of keys, as in `[model.mamba]`"
)]
pub struct SelectiveSettings {
    /// Channels inside a block as a multiple of the width, at least 1.
    pub expand: usize,
    /// Steps that the convolution before the recurrence looks at, the present one included; at least 1.
    pub conv_kernel: usize,
    /// Rank of the map from a step's channels to its step sizes, at least 1; a sixteenth of the width, rounded up, without
    /// this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dt_rank: Option<usize>,
}

impl Default for SelectiveSettings {
    fn default() -> Self {
        Self {
            expand: 2,
            conv_kernel: 4,
            dt_rank: None,
        }
    }
}

/// Channels of the model for which the step's projection has one dimension, unless told otherwise.
const CHANNELS_PER_RANK: usize = 16;

impl Settings for SelectiveSettings {
    const SIZES: &'static [&'static str] = &["expand", "conv_kernel", "dt_rank"];

    fn check(&self, _hidden: usize, _state: usize) -> Result<(), OutOfRange> {
        at_least_one("expand", self.expand)?;
        at_least_one("conv_kernel", self.conv_kernel)?;
        at_least_one("dt_rank", self.dt_rank.unwrap_or(1))
    }

    fn parameters(&self, hidden: f64, state: f64) -> f64 {
        let channels = self.expand as f64 * hidden;
        let rank = self.dt_rank.map_or(hidden / 16.0, |rank| rank as f64);
        // Both projections and the filters; A, and the maps to B, C and the step sizes.
        channels * (3.0 * hidden + self.conv_kernel as f64 + 3.0 * state + 2.0 * rank)
    }
}

/// What is the same for mixers that differ by their states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Published")]
pub struct SelectiveShape {
    /// Width of the model.
    pub hidden: usize,
    /// Channels of the scan.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// Rank of the step's projection.
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
    fn init_shape(
        shape: SelectiveShape,
        state: usize,
        out_scale: f64,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let SelectiveShape {
            hidden,
            channels,
            taps,
            step_rank,
        } = shape;
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
            KeptRows::columns("A_log", self.A_log.dims(), kept.to_vec()),
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

impl<B: Backend> SequenceLayer<B> for SelectiveMixer<B> {
    const NAME: &'static str = "mixer";
    const FRAME: Frame = Frame::Residual;
    const RECURRENT: &'static [&'static str] = &["A_log", "D", "dt_proj.bias"];
    type Settings = SelectiveSettings;
    type Shape = SelectiveShape;

    fn shape_of(settings: &SelectiveSettings, hidden: usize) -> SelectiveShape {
        SelectiveShape {
            hidden,
            channels: settings.expand * hidden,
            taps: settings.conv_kernel,
            step_rank: settings
                .dt_rank
                .unwrap_or(hidden.div_ceil(CHANNELS_PER_RANK)),
        }
    }

    fn init(
        around: Surroundings,
        state: usize,
        settings: &SelectiveSettings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let shape = <Self as SequenceLayer<B>>::shape_of(settings, around.hidden);
        Self::init_shape(shape, state, around.share(), rng, device)
    }

    /// By either of two tensors: with one of them missing it is still no Mamba-2.
    fn is_described_by(tensors: &NamedTensors, prefix: &str) -> bool {
        let mut names = ["x_proj", "dt_proj"].iter();
        names.any(|name| tensors.has(&format!("{prefix}.{name}.weight")))
    }

    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        hidden: usize,
    ) -> Result<(SelectiveShape, usize), WeightsError> {
        let path = |name: &str| format!("{prefix}.{name}");
        let [channels, state] = tensors.sizes(&path("A_log"), &["channels", "state"])?;
        let [_, _, taps] = tensors.sizes(&path("conv1d.weight"), &["channels", "1", "taps"])?;
        let [_, step_rank] = tensors.sizes(&path("dt_proj.weight"), &["channels", "rank"])?;
        let shape = SelectiveShape {
            hidden,
            channels,
            taps,
            step_rank,
        };
        Ok((shape, state))
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        shape: &SelectiveShape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let (_, state) = <Self as SequenceLayer<B>>::sizes(tensors, prefix, hidden)?;
        let SelectiveShape {
            channels,
            taps,
            step_rank,
            ..
        } = *shape;
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

    fn shape(&self) -> SelectiveShape {
        let [hidden, channels] = self.out_proj.weight.dims();
        SelectiveShape {
            hidden,
            channels,
            taps: self.conv1d.weight.dims()[2],
            step_rank: self.step_rank(),
        }
    }

    fn state_dim(&self) -> usize {
        self.state_dim()
    }

    fn parameters_per_state(&self) -> usize {
        // A column of A, and a row each of the projections to B and C.
        3 * self.D.dims()[0]
    }

    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward(input)
    }

    fn stream(&self) -> Box<dyn LayerStream> {
        self.stream()
    }
}

impl<B: Backend> Compressible<B> for SelectiveMixer<B> {
    const RANKED_ON_DATA: bool = true;
    const METHOD: &'static [&'static str] = &["gramian"];
    /// A score of every state index.
    type Basis = Vec<f64>;

    fn rank(&self, seen: Option<&Seen<B>>, method: Method) -> Result<Vec<f64>, CompressionError> {
        let seen = seen.expect("a selective layer is ranked on data");
        let scores = self.state_scores(seen.input.clone(), &seen.lengths, method.estimate);
        finite(scores)
    }

    fn spectrum(basis: &Vec<f64>) -> Vec<f64> {
        sorted(basis)
    }

    fn drift(
        basis: &Vec<f64>,
        before: &Self,
        seen_before: Option<&Seen<B>>,
        method: Method,
    ) -> Option<Drift> {
        let seen = seen_before?;
        let before = before.state_scores(seen.input.clone(), &seen.lengths, method.estimate);
        Some(drift_of_scores(&before, basis))
    }

    fn reduce(
        &self,
        basis: &Vec<f64>,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Self>, CompressionError> {
        let (kept, discarded) = choose(basis, method.selection, order);
        Ok(Reduced {
            layer: self.selected(&kept),
            carry: Carry::Keep(self.selection(&kept)),
            bound: None,
            discarded,
        })
    }

    fn selected(&self, kept: &[usize]) -> Self {
        self.selected(kept)
    }
}

/// Under the names of the configurations of `transformers`.
#[derive(Serialize)]
struct Published {
    model_type: &'static str,
    expand: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    intermediate_size: Option<usize>,
    conv_kernel: usize,
    time_step_rank: usize,
}

impl From<SelectiveShape> for Published {
    fn from(shape: SelectiveShape) -> Self {
        let (expand, intermediate_size) = published_width(shape.channels, shape.hidden);
        Self {
            model_type: "mamba",
            expand,
            intermediate_size,
            conv_kernel: shape.taps,
            time_step_rank: shape.step_rank,
        }
    }
}

/// `expand` and, where the channels are no multiple of the width, `intermediate_size` of a published configuration.
pub(super) fn published_width(channels: usize, hidden: usize) -> (usize, Option<usize>) {
    let uneven = !channels.is_multiple_of(hidden);
    (channels / hidden, uneven.then_some(channels))
}
