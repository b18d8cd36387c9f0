//! The mixer of Mamba-2: one decay per head, so that the scan is made of matrix products.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use hsv::{BalancedGramians, Mat, Selection};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    gramian::{HeadBasis, drift_of_scores, finite},
    parts::{Conv1d, Projection, RmsNorm},
    selective::{initial_step, published_width},
};
use crate::{
    backend::Backend,
    compression::{
        Carry, CompressionError, Drift, KeptRows, Method, Reduced, Reduction, Seen, choose, sorted,
    },
    layer::{
        Compressible, Frame, OutOfRange, SequenceLayer, Settings, Surroundings, at_least_one,
        require,
    },
    parameter::{parameter, values},
    selective_scan::softplus,
    ssd::{SsdTensors, ssd},
    streaming::LayerStream,
    tensors::{NamedTensors, WeightsError},
};

/// Settings of a [`DualMixer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of keys, as in `[model.mamba2]`"
)]
pub struct DualSettings {
    /// Channels inside a block as a multiple of the width, at least 1.
    pub expand: usize,
    /// Steps that the convolution before the recurrence looks at, the present one included; at least 1.
    pub conv_kernel: usize,
    /// Channels that share a decay, at least 1; divides `expand` times the width.
    pub head_dim: usize,
}

impl Default for DualSettings {
    fn default() -> Self {
        Self {
            expand: 2,
            conv_kernel: 4,
            head_dim: 64,
        }
    }
}

impl Settings for DualSettings {
    const SIZES: &'static [&'static str] = &["expand", "conv_kernel", "head_dim"];

    fn check(&self, hidden: usize, _state: usize) -> Result<(), OutOfRange> {
        at_least_one("expand", self.expand)?;
        at_least_one("conv_kernel", self.conv_kernel)?;
        at_least_one("head_dim", self.head_dim)?;
        let channels = self.expand.saturating_mul(hidden);
        require(
            channels.is_multiple_of(self.head_dim),
            "head_dim",
            self.head_dim,
            "the channels of a block are divided into heads: it must divide model.expand * model.hidden_dim",
        )
    }

    fn parameters(&self, hidden: f64, state: f64) -> f64 {
        let (channels, taps) = (self.expand as f64 * hidden, self.conv_kernel as f64);
        // The step size of every head besides.
        let heads = channels / self.head_dim as f64;
        channels * (3.0 * hidden + taps) + (2.0 * state + heads) * hidden + 2.0 * state * taps
    }
}

/// What is the same for mixers that differ by their states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Published")]
pub struct DualShape {
    /// Width of the model.
    pub hidden: usize,
    /// Channels of all heads together.
    pub channels: usize,
    /// Heads that share them.
    pub heads: usize,
    /// Taps of the convolution.
    pub taps: usize,
}

/// Sizes of a [`DualMixer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    shape: DualShape,
    /// States that the convolution gives.
    state: usize,
    /// States of every head, if the heads have maps of their own to them.
    order: Option<usize>,
}

impl Sizes {
    /// States that every head has.
    fn state_dim(&self) -> usize {
        self.order.unwrap_or(self.state)
    }

    fn convolved(&self) -> usize {
        self.shape.channels + 2 * self.state
    }

    fn projected(&self) -> usize {
        self.shape.channels + self.convolved() + self.shape.heads
    }
}

/// z, x, B, C, Δ = W_in r; x, B, C ← SiLU(conv ·); out = W_out norm(scan(x, Δ, A, B, C, D) ∘ SiLU(z)).
///
/// Field names are the published tensor names; B and C form one group, shared by all heads.
///
/// The state of a head has one decay, so any change of its basis leaves the form of the layer alone: a head may have
/// maps of its own, B ← Wᵀ B and C ← Tᵀ C, from the states that the convolution gives to fewer
/// ([`balanced`](Self::balanced)). They stand behind the convolution and its activation, with which no map of the
/// projections would commute.
///
/// # Source
/// `DG24`, section 7.
#[derive(Module, Debug)]
pub struct DualMixer<B: BurnBackend> {
    /// To z, x, B, C and the steps, `[2 channels + 2 state + heads, hidden]`.
    pub in_proj: Projection<B>,
    /// Over x, B and C, `[channels + 2 state, 1, taps]`.
    pub conv1d: Conv1d<B>,
    /// Wᵀ of every head, `[heads · order, state]`, if the heads have bases of their own.
    pub key_map: Option<Projection<B>>,
    /// Tᵀ of every head, likewise.
    pub query_map: Option<Projection<B>>,
    /// Added to the steps before softplus, `[heads]`.
    pub dt_bias: Param<Tensor<B, 1>>,
    /// log(-A), `[heads]`.
    pub A_log: Param<Tensor<B, 1>>,
    /// D, `[heads]`.
    pub D: Param<Tensor<B, 1>>,
    /// Of the gated output, over all channels.
    pub norm: RmsNorm<B>,
    /// `[hidden, channels]`.
    pub out_proj: Projection<B>,
}

/// Range of -A at initialization.
const RATES: [f64; 2] = [1.0, 16.0];

impl<B: BurnBackend> DualMixer<B> {
    /// As in the authors' code: -A uniform in [1, 16], D = 1, steps log-uniform in [0.001, 0.1]; `out_scale` is 1/√layers.
    fn init_sizes(sizes: Sizes, out_scale: f64, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let DualShape {
            hidden,
            channels,
            heads,
            taps,
        } = sizes.shape;
        let in_proj = Projection::init(hidden, sizes.projected(), 1.0, rng, device);
        let conv1d = Conv1d::init(sizes.convolved(), taps, rng, device);
        let steps = (0..heads).map(|_| initial_step(rng)).collect();
        let [low, high] = RATES;
        let rates = (0..heads).map(|_| (low + rng.random::<f64>() * (high - low)).ln() as f32);
        let rates = rates.collect();
        Self {
            in_proj,
            conv1d,
            key_map: None,
            query_map: None,
            dt_bias: parameter(steps, [heads], device),
            A_log: parameter(rates, [heads], device),
            D: parameter(vec![1.0; heads], [heads], device),
            norm: RmsNorm::init(channels, device),
            out_proj: Projection::init(channels, hidden, out_scale, rng, device),
        }
    }

    /// Number of states of every channel.
    pub fn state_dim(&self) -> usize {
        match &self.key_map {
            Some(map) => map.weight.dims()[0] / self.heads(),
            None => self.convolved_states(),
        }
    }

    /// States that the convolution gives.
    fn convolved_states(&self) -> usize {
        let [convolved] = self.conv1d.bias.dims();
        (convolved - self.out_proj.weight.dims()[1]) / 2
    }

    fn heads(&self) -> usize {
        self.A_log.dims()[0]
    }

    /// The mixer with a basis of its own for the states of every head: T `[state, order]` and Wᵀ `[order, state]`, the
    /// order being the same for all. What they leave of the state is all that the layer keeps.
    ///
    /// # Panics
    /// When there are not as many pairs as heads, or not of these shapes.
    pub fn balanced(&self, projections: &[(Mat<f64>, Mat<f64>)]) -> Self {
        let (heads, state, all) = (self.heads(), self.state_dim(), self.convolved_states());
        assert_eq!(projections.len(), heads, "a pair for every head");
        let order = projections[0].0.ncols();
        let device = self.D.val().device();
        // After the map that a head has already, if it has one.
        let composed = |before: &Option<Projection<B>>, of: &dyn Fn(usize, usize, usize) -> f64| {
            let before = before.as_ref().map(|map| values(&map.weight.val()));
            let entry = |head: usize, row: usize, column: usize| match &before {
                None => of(head, row, column),
                Some(before) => {
                    let term =
                        |n: usize| of(head, row, n) * before[(head * state + n) * all + column];
                    (0..state).map(term).sum()
                }
            };
            let entries = (0..heads * order * all).map(|at| {
                let (row, column) = (at / all, at % all);
                entry(row / order, row % order, column) as f32
            });
            Projection {
                weight: parameter(entries.collect(), [heads * order, all], &device),
            }
        };
        Self {
            key_map: Some(composed(&self.key_map, &|head, row, n| {
                projections[head].1[(row, n)]
            })),
            query_map: Some(composed(&self.query_map, &|head, row, n| {
                projections[head].0[(n, row)]
            })),
            ..self.clone()
        }
    }

    /// How the mixer looks with the states at `kept` only, in this order.
    pub fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        let (channels, state, heads) = (
            self.out_proj.weight.dims()[1],
            self.state_dim(),
            self.heads(),
        );
        if self.key_map.is_some() {
            let rows: Vec<usize> = (0..heads)
                .flat_map(|head| kept.iter().map(move |n| head * state + n))
                .collect();
            let maps = ["key_map.weight", "query_map.weight"];
            return maps
                .map(|name| KeptRows::rows(name, heads * state, rows.clone()))
                .to_vec();
        }
        let of = |first: usize| kept.iter().map(move |n| first + n);
        let convolved: Vec<usize> = (0..channels)
            .chain(of(channels))
            .chain(of(channels + state))
            .collect();
        let steps = channels + 2 * state..channels + 2 * state + heads;
        let projected = convolved
            .iter()
            .copied()
            .chain(steps)
            .map(|row| channels + row);
        let projected = (0..channels).chain(projected).collect();
        let (all, filters) = (self.in_proj.weight.dims()[0], channels + 2 * state);
        vec![
            KeptRows::rows("in_proj.weight", all, projected),
            KeptRows::rows("conv1d.weight", filters, convolved.clone()),
            KeptRows::rows("conv1d.bias", filters, convolved),
        ]
    }

    /// The mixer with the states at `kept` only, in this order.
    pub fn selected(&self, kept: &[usize]) -> Self {
        let mut smaller = self.clone();
        for part in self.selection(kept) {
            match (part.name, &self.key_map, &self.query_map) {
                ("in_proj.weight", ..) => smaller.in_proj.weight = part.of(&self.in_proj.weight),
                ("conv1d.weight", ..) => smaller.conv1d.weight = part.of(&self.conv1d.weight),
                ("conv1d.bias", ..) => smaller.conv1d.bias = part.of(&self.conv1d.bias),
                ("key_map.weight", Some(map), _) => {
                    let weight = part.of(&map.weight);
                    smaller.key_map = Some(Projection { weight });
                }
                ("query_map.weight", _, Some(map)) => {
                    let weight = part.of(&map.weight);
                    smaller.query_map = Some(Projection { weight });
                }
                (name, ..) => unreachable!("{name} is no tensor of this mixer"),
            }
        }
        smaller
    }
}

impl<B: Backend> DualMixer<B> {
    /// What the map of `input`, `[batch, length, hidden]`, is given.
    pub(super) fn map(&self, input: Tensor<B, 3>) -> SsdTensors<B> {
        let [batch, length, _] = input.dims();
        let [_, channels] = self.out_proj.weight.dims();
        let (heads, state) = (self.heads(), self.convolved_states());
        let convolved = |first: usize, count: usize| {
            let projected = self.in_proj.rows(channels + first, count, input.clone());
            self.conv1d.channels(first, count, projected)
        };
        let mapped = |map: &Option<Projection<B>>, vector: Tensor<B, 3>| match map {
            Some(map) => map.forward(vector),
            None => vector,
        };
        let step = self
            .in_proj
            .rows(2 * channels + 2 * state, heads, input.clone());
        SsdTensors {
            input: convolved(0, channels).reshape([batch, length, heads, channels / heads]),
            step: softplus(step + self.dt_bias.val().unsqueeze()),
            decay: self.A_log.val().exp().neg(),
            input_vector: mapped(&self.key_map, convolved(channels, state)),
            output_vector: mapped(&self.query_map, convolved(channels + state, state)),
            feedthrough: self.D.val(),
            groups: if self.key_map.is_some() { heads } else { 1 },
        }
    }

    /// `[batch, length, hidden]` to the same.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        let y = ssd(self.map(input.clone()));
        let [batch, length, heads, width] = y.dims();
        let channels = heads * width;
        let y = y.reshape([batch, length, channels]);
        let z = self.in_proj.rows(0, channels, input);
        self.out_proj.forward(self.norm.gated(y, z))
    }
}

impl<B: Backend> SequenceLayer<B> for DualMixer<B> {
    const NAME: &'static str = "mixer";
    const FRAME: Frame = Frame::Residual;
    const RECURRENT: &'static [&'static str] = &["A_log", "D", "dt_bias"];
    type Settings = DualSettings;
    type Shape = DualShape;

    fn shape_of(settings: &DualSettings, hidden: usize) -> DualShape {
        let channels = settings.expand * hidden;
        DualShape {
            hidden,
            channels,
            heads: channels / settings.head_dim,
            taps: settings.conv_kernel,
        }
    }

    fn init(
        around: Surroundings,
        state: usize,
        settings: &DualSettings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let sizes = Sizes {
            shape: <Self as SequenceLayer<B>>::shape_of(settings, around.hidden),
            state,
            order: None,
        };
        Self::init_sizes(sizes, around.share(), rng, device)
    }

    /// What is in a frame of Mamba's and nothing else is a Mamba-2.
    fn is_described_by(_tensors: &NamedTensors, _prefix: &str) -> bool {
        true
    }

    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        hidden: usize,
    ) -> Result<(DualShape, usize), WeightsError> {
        let sizes = sizes_at(tensors, prefix, hidden)?;
        Ok((sizes.shape, sizes.state_dim()))
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        shape: &DualShape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let sizes = Sizes {
            shape: *shape,
            ..sizes_at(tensors, prefix, hidden)?
        };
        let DualShape {
            channels,
            heads,
            taps,
            ..
        } = *shape;
        let path = |name: &str| format!("{prefix}.{name}");
        let projected = [sizes.projected(), hidden];
        let in_proj = Projection::load(tensors, &path("in_proj"), projected, device)?;
        let convolved = [sizes.convolved(), taps];
        let conv1d = Conv1d::load(tensors, &path("conv1d"), convolved, device)?;
        let norm = RmsNorm::load(tensors, &path("norm"), channels, device)?;
        let mut map = |name: &str| {
            let shape = sizes.order.map(|order| [heads * order, sizes.state]);
            shape
                .map(|shape| Projection::load(tensors, &path(name), shape, device))
                .transpose()
        };
        let (key_map, query_map) = (map("key_map")?, map("query_map")?);
        let out_proj = Projection::load(tensors, &path("out_proj"), [hidden, channels], device)?;
        let mut take = tensors.prefixed(prefix);
        let mut per_head = |name| -> Result<_, WeightsError> {
            Ok(parameter(take(name, &[heads])?, [heads], device))
        };
        Ok(Self {
            dt_bias: per_head("dt_bias")?,
            A_log: per_head("A_log")?,
            D: per_head("D")?,
            in_proj,
            conv1d,
            key_map,
            query_map,
            norm,
            out_proj,
        })
    }

    fn shape(&self) -> DualShape {
        let [hidden, channels] = self.out_proj.weight.dims();
        DualShape {
            hidden,
            channels,
            heads: self.heads(),
            taps: self.conv1d.weight.dims()[2],
        }
    }

    fn state_dim(&self) -> usize {
        self.state_dim()
    }

    fn parameters_per_state(&self) -> usize {
        match &self.key_map {
            // A row of both maps of every head.
            Some(map) => 2 * self.heads() * map.weight.dims()[1],
            // A row each of the projections to B and C, and their filters with bias.
            None => {
                let [_, hidden] = self.in_proj.weight.dims();
                2 * (hidden + self.conv1d.weight.dims()[2] + 1)
            }
        }
    }

    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward(input)
    }

    fn stream(&self) -> Box<dyn LayerStream> {
        self.stream()
    }
}

/// Sizes by the tensors of the mixer at `prefix` in a model of this width.
fn sizes_at(tensors: &NamedTensors, prefix: &str, hidden: usize) -> Result<Sizes, WeightsError> {
    let path = |name: &str| format!("{prefix}.{name}");
    let [heads] = tensors.sizes(&path("A_log"), &["heads"])?;
    let shared = |name: String, axis, size| match size % heads {
        0 => Ok(size / heads),
        _ => Err(WeightsError::Uneven {
            name,
            axis,
            size,
            heads,
        }),
    };
    let [_, channels] = tensors.sizes(&path("out_proj.weight"), &["hidden", "channels"])?;
    shared(path("out_proj.weight"), "channels", channels)?;
    let filters = path("conv1d.weight");
    let [convolved, _, taps] =
        tensors.sizes(&filters, &["channels and twice the states", "1", "taps"])?;
    let state = match convolved.checked_sub(channels) {
        Some(vectors) if vectors > 0 && vectors % 2 == 0 => vectors / 2,
        _ => {
            return Err(WeightsError::Filters {
                name: filters,
                filters: convolved,
                channels,
            });
        }
    };
    let map = |name: &str| {
        let name = path(name);
        if !tensors.has(&name) {
            return Ok(None);
        }
        let [rows, _] = tensors.sizes(&name, &["heads times order", "state"])?;
        shared(name, "rows", rows).map(Some)
    };
    let order = map("key_map.weight")?.or(map("query_map.weight")?);
    let shape = DualShape {
        hidden,
        channels,
        heads,
        taps,
    };
    Ok(Sizes {
        shape,
        state,
        order,
    })
}

/// What a reduction of a [`DualMixer`] starts from.
#[derive(Debug)]
pub struct DualBasis {
    /// A score of every state index.
    scores: Vec<f64>,
    /// The balanced states of every head, where the heads are to be balanced.
    heads: Option<Vec<BalancedGramians>>,
}

impl DualBasis {
    /// One value per state of balanced heads, largest first: the sums of the Hankel singular values of all heads.
    fn sums(heads: &[BalancedGramians]) -> Vec<f64> {
        let states = heads[0].singular_values().len();
        let sum = |state: usize| heads.iter().map(|head| head.singular_values()[state]).sum();
        (0..states).map(sum).collect()
    }
}

/// Places of the balanced states of a head that stay: of those above rounding as a selection wants, and of the others as
/// many as are missing.
fn places(head: &BalancedGramians, selection: Selection, order: usize) -> Vec<usize> {
    let rank = head.rank();
    let chosen = selection.states(rank, order.min(rank));
    chosen.into_iter().chain(rank..order).collect()
}

impl<B: Backend> Compressible<B> for DualMixer<B> {
    const RANKED_ON_DATA: bool = true;
    const METHOD: &'static [&'static str] = &["gramian", "reduction"];
    type Basis = DualBasis;

    fn rank(&self, seen: Option<&Seen<B>>, method: Method) -> Result<DualBasis, CompressionError> {
        let Seen { input, lengths } = seen.expect("a selective layer is ranked on data");
        let scores = finite(self.state_scores(input.clone(), lengths, method.estimate))?;
        let balanced = method.reduction == Reduction::Balanced;
        let heads = balanced.then(|| self.head_gramians(input.clone(), lengths));
        let heads = heads.map(|heads| {
            let heads = heads.into_iter();
            heads
                .map(|head| head.in_basis(HeadBasis::Balanced))
                .collect()
        });
        Ok(DualBasis {
            scores,
            heads: heads.transpose()?,
        })
    }

    fn spectrum(basis: &DualBasis) -> Vec<f64> {
        match &basis.heads {
            Some(heads) => DualBasis::sums(heads),
            None => sorted(&basis.scores),
        }
    }

    fn drift(
        basis: &DualBasis,
        before: &Self,
        seen_before: Option<&Seen<B>>,
        method: Method,
    ) -> Option<Drift> {
        let seen = seen_before?;
        let before = before.state_scores(seen.input.clone(), &seen.lengths, method.estimate);
        Some(drift_of_scores(&before, &basis.scores))
    }

    fn reduce(
        &self,
        basis: &DualBasis,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Self>, CompressionError> {
        let Some(heads) = &basis.heads else {
            let (kept, discarded) = choose(&basis.scores, method.selection, order);
            return Ok(Reduced {
                layer: self.selected(&kept),
                carry: Carry::Keep(self.selection(&kept)),
                bound: None,
                discarded,
            });
        };
        let places = heads.iter().map(|h| places(h, method.selection, order));
        let places: Vec<Vec<usize>> = places.collect();
        let states = self.state_dim();
        let heads_and_places = || heads.iter().zip(&places);
        let projections: Vec<_> = heads_and_places()
            .map(|(head, places)| {
                let (right, left) = head.projections(states);
                (
                    Mat::from_fn(states, order, |i, j| right[(i, places[j])]),
                    Mat::from_fn(order, states, |i, j| left[(places[i], j)]),
                )
            })
            .collect();
        let gone = |state: usize| -> f64 {
            let losing = heads_and_places().filter(|(_, places)| !places.contains(&state));
            losing.map(|(head, _)| head.singular_values()[state]).sum()
        };
        let gone: f64 = (0..states).map(gone).sum();
        let all: f64 = DualBasis::sums(heads).iter().sum();
        Ok(Reduced {
            layer: self.balanced(&projections),
            // The maps of the heads are new, or compositions of what the moments were of.
            carry: Carry::Forget(vec!["key_map.weight", "query_map.weight"]),
            bound: None,
            discarded: if gone > 0.0 { gone / all } else { 0.0 },
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
    num_heads: usize,
    head_dim: usize,
    n_groups: usize,
}

impl From<DualShape> for Published {
    fn from(shape: DualShape) -> Self {
        let (expand, intermediate_size) = published_width(shape.channels, shape.hidden);
        Self {
            model_type: "mamba2",
            expand,
            intermediate_size,
            conv_kernel: shape.taps,
            num_heads: shape.heads,
            head_dim: shape.channels / shape.heads,
            n_groups: 1,
        }
    }
}
