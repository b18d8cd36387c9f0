//! S5: one system with many inputs and outputs, in continuous time, of which a layer keeps one state of each conjugate pair.

mod gradient;
mod hippo;
mod linear;
mod step;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use hsv::Mat;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::hippo::{NormalHippo, normal_hippo};
pub(crate) use self::step::DiscreteMode;
pub use self::step::Discretization;
use crate::{
    backend::Backend,
    diagonal_ssm::{DiagonalSsmTensors, diagonal_ssm},
    layer::{Frame, OutOfRange, SequenceLayer, Settings, Surroundings, at_least_one, require},
    parameter::{constant, normal, parameter},
    planes::{exponentials, part, product, quotient},
    streaming::{DiagonalStream, LayerStream},
    tensors::{NamedTensors, WeightsError},
};

/// How an [`S5`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of keys, as in `[model.s5]`"
)]
pub struct S5Settings {
    /// Blocks of the state matrix at initialization, each a HiPPO-N matrix of its own; divides `model.state_dim`.
    pub blocks: usize,
    /// Smallest step at initialization, above 0 and at most `dt_max`.
    pub dt_min: f64,
    /// Largest step at initialization.
    pub dt_max: f64,
    /// From continuous to discrete time.
    pub discretization: Discretization,
}

impl Default for S5Settings {
    fn default() -> Self {
        Self {
            blocks: 1,
            dt_min: 1e-3,
            dt_max: 0.1,
            discretization: Discretization::ZeroOrderHold,
        }
    }
}

impl Settings for S5Settings {
    fn check(&self, _hidden: usize, state: usize) -> Result<(), OutOfRange> {
        at_least_one("blocks", self.blocks)?;
        require(
            state.is_multiple_of(self.blocks),
            "blocks",
            self.blocks,
            "every block has as many states: it must divide model.state_dim",
        )?;
        check_steps(self.dt_min, self.dt_max)
    }

    fn parameters(&self, hidden: f64, state: f64) -> f64 {
        // B and C are complex; the gated unit has two maps.
        4.0 * state * hidden + 2.0 * hidden * hidden
    }
}

/// The range of steps at initialization.
pub(crate) fn check_steps(dt_min: f64, dt_max: f64) -> Result<(), OutOfRange> {
    require(
        dt_max > 0.0 && dt_max.is_finite(),
        "dt_max",
        dt_max,
        "it is a step, above 0",
    )?;
    require(
        dt_min > 0.0 && dt_min <= dt_max,
        "dt_min",
        dt_min,
        "it is a step, above 0 and at most dt_max",
    )
}

/// The logarithm of a step, uniform between those of the two.
pub(crate) fn log_step(rng: &mut ChaCha8Rng, dt_min: f64, dt_max: f64) -> f32 {
    let (low, high) = (dt_min.ln(), dt_max.ln());
    (low + rng.random::<f64>() * (high - low)) as f32
}

/// Largest real part of an eigenvalue in the forward pass.
pub(crate) const LARGEST_REAL_PART: f64 = -1e-4;

/// x' = Λ x + B u, y = 2 Re(C x) + D ∘ u, with a step of every state's own.
///
/// Field names are the published tensor names; complex tensors have their parts on the last axis. Real parts of Λ above
/// -1e-4 count as -1e-4.
///
/// # Source
/// `SWL23`, sections 3 and 4 and appendix B (initialization).
#[derive(Module, Debug)]
pub struct S5<B: BurnBackend> {
    /// Re Λ, `[state]`.
    pub Lambda_re: Param<Tensor<B, 1>>,
    /// Im Λ, `[state]`.
    pub Lambda_im: Param<Tensor<B, 1>>,
    /// B, `[state, hidden, 2]`.
    pub B: Param<Tensor<B, 3>>,
    /// C, `[hidden, state, 2]`.
    pub C: Param<Tensor<B, 3>>,
    /// D, `[hidden]`.
    pub D: Param<Tensor<B, 1>>,
    /// log Δ, `[state, 1]`.
    pub log_step: Param<Tensor<B, 2>>,
    /// There, with the value 1, if the discretization is bilinear; published files have none, and a zero-order hold.
    pub bilinear: Option<Param<Tensor<B, 1>>>,
}

/// What is the same for all layers of a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct S5Shape {
    /// From continuous to discrete time.
    pub discretization: Discretization,
}

impl<B: BurnBackend> S5<B> {
    /// Blocks of HiPPO-N in the basis of their eigenvectors, B ~ N(0, 1/(2 state)) and C ~ N(0, 1/(2 state)) per part
    /// before that, D ~ N(0, 1), steps log-uniform.
    pub fn init(
        state: usize,
        hidden: usize,
        settings: &S5Settings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let (blocks, full) = (settings.blocks, 2 * state);
        let size = full / blocks;
        let NormalHippo { lambda, vectors } = normal_hippo(size);
        let half = size / 2;
        let deviation = (1.0 / full as f64).sqrt();
        let (input, [output_re, output_im]) = (
            normal(rng, full * hidden, deviation),
            [(); 2].map(|()| normal(rng, hidden * full, deviation)),
        );
        let input = Mat::from_fn(full, hidden, |i, j| f64::from(input[i * hidden + j]));
        let (mut b, mut c) = (Vec::new(), vec![0.0_f32; 2 * hidden * state]);
        for n in 0..state {
            let (block, vector) = (n / half, n % half);
            for h in 0..hidden {
                // Vᴴ B, C V: a block of the full state has its own vectors.
                let (mut of_b, mut of_c) = ([0.0; 2], [0.0; 2]);
                for row in 0..size {
                    let (v, at) = (vectors[(row, vector)], block * size + row);
                    of_b[0] += v.re * input[(at, h)];
                    of_b[1] -= v.im * input[(at, h)];
                    let (re, im) = (
                        f64::from(output_re[h * full + at]),
                        f64::from(output_im[h * full + at]),
                    );
                    of_c[0] += re * v.re - im * v.im;
                    of_c[1] += re * v.im + im * v.re;
                }
                b.extend(of_b.map(|x| x as f32));
                let at = 2 * (h * state + n);
                c[at..at + 2].copy_from_slice(&of_c.map(|x| x as f32));
            }
        }
        let eigenvalue = |n: usize| lambda[n % half];
        let re = (0..state).map(|n| eigenvalue(n).re as f32).collect();
        let im = (0..state).map(|n| eigenvalue(n).im as f32).collect();
        let d = normal(rng, hidden, 1.0);
        let (low, high) = (settings.dt_min, settings.dt_max);
        let steps = (0..state).map(|_| log_step(rng, low, high)).collect();
        Self {
            Lambda_re: parameter(re, [state], device),
            Lambda_im: parameter(im, [state], device),
            B: parameter(b, [state, hidden, 2], device),
            C: parameter(c, [hidden, state, 2], device),
            D: parameter(d, [hidden], device),
            log_step: parameter(steps, [state, 1], device),
            bilinear: match settings.discretization {
                Discretization::ZeroOrderHold => None,
                Discretization::Bilinear => Some(constant(vec![1.0], [1], device)),
            },
        }
    }

    /// From continuous to discrete time.
    pub fn discretization(&self) -> Discretization {
        match &self.bilinear {
            None => Discretization::ZeroOrderHold,
            Some(_) => Discretization::Bilinear,
        }
    }

    /// The discrete system that the kernel runs, whose output is the real part of 2 C x.
    pub(crate) fn system_tensors(&self) -> DiagonalSsmTensors<B> {
        let state = self.Lambda_re.dims()[0];
        let lambda = [
            self.Lambda_re.val().clamp_max(LARGEST_REAL_PART),
            self.Lambda_im.val(),
        ];
        let step = self.log_step.val().exp().reshape([state]);
        let scaled = lambda.clone().map(|part| part * step.clone());
        let (discrete, factor) = match self.discretization() {
            Discretization::ZeroOrderHold => {
                let [discrete, above] = exponentials(scaled);
                (discrete, quotient(above, lambda))
            }
            Discretization::Bilinear => {
                let [re, im] = scaled.map(|part| part / 2.0);
                let below = [-re.clone() + 1.0, -im.clone()];
                let zero = step.zeros_like();
                (
                    quotient([re + 1.0, im], below.clone()),
                    quotient([step, zero], below),
                )
            }
        };
        let factor = factor.map(|part| part.unsqueeze_dim::<2>(1));
        let input = [0, 1].map(|index| part(&self.B.val(), index));
        DiagonalSsmTensors {
            lambda: discrete,
            input_matrix: product(input, factor),
            output_matrix: [0, 1].map(|index| part(&self.C.val(), index) * 2.0),
            feedthrough: self.D.val(),
        }
    }
}

impl<B: Backend> SequenceLayer<B> for S5<B> {
    const NAME: &'static str = "s5";
    const FRAME: Frame = Frame::Gated;
    const RECURRENT: &'static [&'static str] = &["Lambda_re", "Lambda_im", "B", "log_step"];
    type Settings = S5Settings;
    type Shape = S5Shape;

    fn shape_of(settings: &S5Settings, _hidden: usize) -> S5Shape {
        S5Shape {
            discretization: settings.discretization,
        }
    }

    fn init(
        around: Surroundings,
        state: usize,
        settings: &S5Settings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        Self::init(state, around.hidden, settings, rng, device)
    }

    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        _hidden: usize,
    ) -> Result<(S5Shape, usize), WeightsError> {
        let [state] = tensors.sizes(&format!("{prefix}.Lambda_re"), &["state"])?;
        let discretization = match tensors.has(&format!("{prefix}.bilinear")) {
            false => Discretization::ZeroOrderHold,
            true => Discretization::Bilinear,
        };
        Ok((S5Shape { discretization }, state))
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        shape: &S5Shape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let (_, n) = <Self as SequenceLayer<B>>::sizes(tensors, prefix, hidden)?;
        let mut take = tensors.prefixed(prefix);
        let h = hidden;
        Ok(Self {
            Lambda_re: parameter(take("Lambda_re", &[n])?, [n], device),
            Lambda_im: parameter(take("Lambda_im", &[n])?, [n], device),
            B: parameter(take("B", &[n, h, 2])?, [n, h, 2], device),
            C: parameter(take("C", &[h, n, 2])?, [h, n, 2], device),
            D: parameter(take("D", &[h])?, [h], device),
            log_step: parameter(take("log_step", &[n, 1])?, [n, 1], device),
            bilinear: match shape.discretization {
                Discretization::ZeroOrderHold => None,
                Discretization::Bilinear => Some(constant(take("bilinear", &[1])?, [1], device)),
            },
        })
    }

    fn shape(&self) -> S5Shape {
        S5Shape {
            discretization: self.discretization(),
        }
    }

    fn state_dim(&self) -> usize {
        self.Lambda_re.dims()[0]
    }

    fn parameters_per_state(&self) -> usize {
        // Λ and a step, a row of B and a column of C.
        3 + 4 * self.D.dims()[0]
    }

    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        diagonal_ssm(input, self.system_tensors())
    }

    fn stream(&self) -> Box<dyn LayerStream> {
        Box::new(DiagonalStream::new(self.system_tensors()))
    }
}
