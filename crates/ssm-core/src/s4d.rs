//! S4D: a system with one input and one output for every channel, in continuous time, of which a layer keeps one state of
//! each conjugate pair.

mod reduction;

use std::f64::consts::PI;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use hsv::{DiscreteDiagonalSystem, Mat, c64};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    channel_ssm::{ChannelSsmTensors, channel_ssm},
    compression::{
        CompressionError, Drift, KeptRows, Method, Ranking, Reduced, ReductionError, Seen,
    },
    layer::{Compressible, Frame, OutOfRange, SequenceLayer, Settings, Surroundings},
    parameter::{normal, parameter, values},
    planes::{exponentials, part, product, quotient},
    s5::{check_steps, log_step},
    streaming::{ChannelStream, LayerStream},
    tensors::{NamedTensors, WeightsError},
};

/// How an [`S4d`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of keys, as in `[model.s4d]`"
)]
pub struct S4dSettings {
    /// Eigenvalues at initialization.
    pub init: S4dInit,
    /// Smallest step at initialization, above 0 and at most `dt_max`.
    pub dt_min: f64,
    /// Largest step at initialization.
    pub dt_max: f64,
}

/// Eigenvalues of every channel at initialization. All real parts are -1/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum S4dInit {
    /// Im λₙ = π n.
    Lin,
    /// Im λₙ = N/π (N/(2n + 1) - 1), N being twice the number of states.
    Inv,
}

impl Default for S4dSettings {
    fn default() -> Self {
        Self {
            init: S4dInit::Lin,
            dt_min: 1e-3,
            dt_max: 0.1,
        }
    }
}

impl Settings for S4dSettings {
    fn check(&self, _hidden: usize, _state: usize) -> Result<(), OutOfRange> {
        check_steps(self.dt_min, self.dt_max)
    }

    fn parameters(&self, hidden: f64, state: f64) -> f64 {
        // A and C are complex; the gated unit has two maps.
        4.0 * state * hidden + 2.0 * hidden * hidden
    }
}

/// x' = A x + u, y = 2 Re(C x) + D u in every channel by itself, held over a step that the channel has.
///
/// Field names are the published tensor names; the parts of C are on its last axis.
///
/// # Source
/// `GGGR22`.
#[derive(Module, Debug)]
pub struct S4d<B: BurnBackend> {
    /// log Δ, `[hidden]`.
    pub log_dt: Param<Tensor<B, 1>>,
    /// log(-Re A), `[hidden, state]`.
    pub log_A_real: Param<Tensor<B, 2>>,
    /// Im A, `[hidden, state]`.
    pub A_imag: Param<Tensor<B, 2>>,
    /// C, `[hidden, state, 2]`.
    pub C: Param<Tensor<B, 3>>,
    /// D, `[hidden]`.
    pub D: Param<Tensor<B, 1>>,
}

/// What is the same for all layers of a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct S4dShape {}

impl<B: BurnBackend> S4d<B> {
    /// Eigenvalues on a line or a curve, C ~ N(0, 1/2) per part, D ~ N(0, 1), steps log-uniform.
    pub fn init(
        state: usize,
        hidden: usize,
        settings: &S4dSettings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let frequency = |n: usize| {
            let (n, full) = (n as f64, 2.0 * state as f64);
            match settings.init {
                S4dInit::Lin => PI * n,
                S4dInit::Inv => full / PI * (full / (2.0 * n + 1.0) - 1.0),
            }
        };
        let (h, n) = (hidden, state);
        let (low, high) = (settings.dt_min, settings.dt_max);
        let steps = (0..h).map(|_| log_step(rng, low, high)).collect();
        let c = normal(rng, 2 * h * n, 0.5_f64.sqrt());
        let d = normal(rng, h, 1.0);
        let frequencies = (0..h * n).map(|at| frequency(at % n) as f32);
        Self {
            log_dt: parameter(steps, [h], device),
            log_A_real: parameter(vec![0.5_f32.ln(); h * n], [h, n], device),
            A_imag: parameter(frequencies.collect(), [h, n], device),
            C: parameter(c, [h, n, 2], device),
            D: parameter(d, [h], device),
        }
    }

    /// The discrete systems that the kernel runs: x ← Λ x + u, y = Re(C̄ x) + D u.
    pub(crate) fn system_tensors(&self) -> ChannelSsmTensors<B> {
        let step: Tensor<B, 2> = self.log_dt.val().exp().unsqueeze_dim(1);
        let a = [self.log_A_real.val().exp().neg(), self.A_imag.val()];
        let [lambda, above] = exponentials(a.clone().map(|part| part * step.clone()));
        // (Λ - 1) / A.
        let held = quotient(above, a);
        let c = [0, 1].map(|index| part(&self.C.val(), index));
        ChannelSsmTensors {
            lambda,
            output: product(c, held).map(|part| part * 2.0),
            feedthrough: self.D.val(),
        }
    }

    /// A and Δ of every channel, `[hidden][state]`.
    fn continuous(&self) -> Vec<(Vec<c64>, f64)> {
        let [re, im] = [&self.log_A_real, &self.A_imag].map(|part| values(part));
        let state = self.A_imag.dims()[1];
        let steps = values(&self.log_dt).into_iter();
        let channels = re.chunks_exact(state).zip(im.chunks_exact(state));
        let channels = channels.map(|(re, im)| {
            let parts = re.iter().zip(im);
            parts.map(|(re, im)| c64::new(-re.exp(), *im)).collect()
        });
        channels.zip(steps.map(f64::exp)).collect()
    }

    /// Every channel's map from input to (complex) output as a system in `f64`.
    ///
    /// # Errors
    /// [`ReductionError::System`] when the parameters are not finite or a system is not stable.
    pub fn to_systems(&self) -> Result<Vec<DiscreteDiagonalSystem>, ReductionError> {
        let state = self.A_imag.dims()[1];
        let parts = values(&self.C);
        let channels = self
            .continuous()
            .into_iter()
            .zip(parts.chunks_exact(2 * state));
        channels
            .map(|((a, step), c)| {
                let modes: Vec<_> = a.iter().map(|a| reduction::held(*a, step)).collect();
                let (c, _) = c.as_chunks::<2>();
                let output = |n: usize| c64::new(c[n][0], c[n][1]) * modes[n].gain * 2.0;
                Ok(DiscreteDiagonalSystem::new(
                    modes.iter().map(|mode| mode.value).collect(),
                    Mat::from_fn(state, 1, |_, _| c64::new(1.0, 0.0)),
                    Mat::from_fn(1, state, |_, n| output(n)),
                )?)
            })
            .collect()
    }
}

impl<B: Backend> SequenceLayer<B> for S4d<B> {
    const NAME: &'static str = "s4d";
    const FRAME: Frame = Frame::Gated;
    const RECURRENT: &'static [&'static str] = &["log_dt", "log_A_real", "A_imag"];
    type Settings = S4dSettings;
    type Shape = S4dShape;

    fn shape_of(_settings: &S4dSettings, _hidden: usize) -> S4dShape {
        S4dShape {}
    }

    fn init(
        around: Surroundings,
        state: usize,
        settings: &S4dSettings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        Self::init(state, around.hidden, settings, rng, device)
    }

    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        _hidden: usize,
    ) -> Result<(S4dShape, usize), WeightsError> {
        let name = format!("{prefix}.log_A_real");
        let [_, state] = tensors.sizes(&name, &["hidden", "state"])?;
        Ok((S4dShape {}, state))
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        _shape: &S4dShape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let (_, n) = <Self as SequenceLayer<B>>::sizes(tensors, prefix, hidden)?;
        let mut take = tensors.prefixed(prefix);
        let h = hidden;
        Ok(Self {
            log_dt: parameter(take("log_dt", &[h])?, [h], device),
            log_A_real: parameter(take("log_A_real", &[h, n])?, [h, n], device),
            A_imag: parameter(take("A_imag", &[h, n])?, [h, n], device),
            C: parameter(take("C", &[h, n, 2])?, [h, n, 2], device),
            D: parameter(take("D", &[h])?, [h], device),
        })
    }

    fn shape(&self) -> S4dShape {
        S4dShape {}
    }

    fn state_dim(&self) -> usize {
        self.A_imag.dims()[1]
    }

    fn parameters_per_state(&self) -> usize {
        // A and C of every channel.
        4 * self.D.dims()[0]
    }

    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        channel_ssm(input, self.system_tensors())
    }

    fn stream(&self) -> Box<dyn LayerStream> {
        Box::new(ChannelStream::new(self.system_tensors()))
    }
}

impl<B: Backend> Compressible<B> for S4d<B> {
    const RANKED_ON_DATA: bool = false;
    const METHOD: &'static [&'static str] = &["realization", "reduction"];
    /// The ranking of every channel's states.
    type Basis = Vec<Ranking>;

    fn rank(
        &self,
        _seen: Option<&Seen<B>>,
        method: Method,
    ) -> Result<Vec<Ranking>, CompressionError> {
        Ranking::all(self.to_systems()?, method.realization)
    }

    /// All channels have as many states: a value is the sum of those that come at its place in the channels.
    fn spectrum(basis: &Vec<Ranking>) -> Vec<f64> {
        let channels: Vec<Vec<f64>> = basis.iter().map(Ranking::values).collect();
        let states = channels.first().map_or(0, Vec::len);
        let sum = |state: usize| channels.iter().map(|values| values[state]).sum();
        (0..states).map(sum).collect()
    }

    fn drift(
        basis: &Vec<Ranking>,
        before: &Self,
        _seen: Option<&Seen<B>>,
        _: Method,
    ) -> Option<Drift> {
        let before = before.to_systems().ok()?;
        let drifts = basis
            .iter()
            .zip(&before)
            .map(|(now, before)| now.drift(before));
        reduction::drift_of_all(drifts.collect::<Option<Vec<_>>>()?)
    }

    fn reduce(
        &self,
        basis: &Vec<Ranking>,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Self>, CompressionError> {
        reduction::reduce(self, basis, order, method)
    }

    /// In every channel the states at the same positions.
    fn selected(&self, kept: &[usize]) -> Self {
        let channels = self.D.dims()[0];
        self.with_rows(&self.rows(&vec![kept.to_vec(); channels]))
    }
}

impl<B: BurnBackend> S4d<B> {
    /// How the layer looks with the states at `kept` only, as many in every channel.
    fn rows(&self, kept: &[Vec<usize>]) -> Vec<KeptRows> {
        let [hidden, state] = self.A_imag.dims();
        let flat = |channel: usize| kept[channel].iter().map(move |n| channel * state + n);
        let flat: Vec<usize> = (0..hidden).flat_map(flat).collect();
        ["log_A_real", "A_imag", "C"]
            .map(|name| KeptRows::channelwise(name, [hidden, state], flat.clone()))
            .to_vec()
    }

    fn with_rows(&self, rows: &[KeptRows]) -> Self {
        let [re, im, c] = rows else {
            unreachable!("three tensors depend on the state");
        };
        Self {
            log_dt: self.log_dt.clone(),
            log_A_real: re.of(&self.log_A_real),
            A_imag: im.of(&self.A_imag),
            C: c.of(&self.C),
            D: self.D.clone(),
        }
    }
}
