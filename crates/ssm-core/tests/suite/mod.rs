//! What every backend must pass: each operation against its twin in plain tensor operations, values and the gradient of
//! every input.
//!
//! Sizes, values, memory layout and which inputs are tracked are drawn from a seed that a failure prints. Values are
//! drawn in `f32`, so that every precision is given the same problem. The truth is the twin in `f64` on the CPU; a
//! kernel in `f32` may be as far from it as the twin in `f32` is, twice over, plus a floor; further where a backend says that
//! its products are rounded more.

pub mod diagonal_ssm;
pub mod linear_scan;
pub mod pointwise;
pub mod products;
pub mod selective_scan;
mod sequential;
pub mod ssd;

use std::fmt::Debug;

use burn::{
    backend::{Autodiff, Flex},
    tensor::{DType, Tensor, TensorData, backend::Backend},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::TrainingBackend;

/// Where truth is computed.
pub type Cpu = Autodiff<Flex>;

/// How hard a backend is tested.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Random cases per operation.
    pub cases: u64,
    /// Element types that the backend computes in.
    pub dtypes: &'static [DType],
    /// Largest relative error of a product of two factors in `f32`, if it is larger than that of `f32`: 0, or of the order of
    /// the type that factors are rounded to.
    pub product_error: f64,
    /// What the backend needs and does not find here: the suite is then skipped.
    pub missing: fn() -> Option<String>,
}

/// Says so if it is.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn is_skipped(effort: Effort) -> bool {
    let missing = (effort.missing)();
    if let Some(reason) = &missing {
        eprintln!("skipped: {reason}");
    }
    missing.is_some()
}

/// Instantiates the suite for one backend.
macro_rules! suite_on {
    (
        $name:ident, $backend:ty, $effort:expr,
        problems [$($module:ident :: $problem:ident: $as_exact:ident),+ $(,)?],
        laws [$($operation:ident :: $law:ident),+ $(,)?]
    ) => {
        mod $name {
            use super::*;

            $(
                #[test]
                fn $as_exact() {
                    if !suite::is_skipped($effort) {
                        type Problem = suite::$module::$problem;
                        suite::all_are_as_exact_as_the_twin::<Problem, $backend>($effort);
                    }
                }
            )+

            $(
                #[test]
                fn $law() {
                    if !suite::is_skipped($effort) {
                        suite::$operation::$law::<$backend>($effort);
                    }
                }
            )+
        }
    };
    ($name:ident, $backend:ty, $effort:expr) => {
        suite_on!(
            $name, $backend, $effort,
            problems [
                diagonal_ssm::Case: the_diagonal_map_is_as_exact_as_its_twin,
                linear_scan::Case: a_scan_is_as_exact_as_its_twin,
                selective_scan::Case: a_selective_scan_is_as_exact_as_its_twin,
                ssd::Case: the_map_of_mamba2_is_as_exact_as_its_twin,
                pointwise::Affine: affine_maps_are_as_exact_as_their_twin,
                pointwise::BatchNorm: batch_normalization_is_as_exact_as_its_twin,
                pointwise::CausalConv: a_causal_convolution_is_as_exact_as_its_twin,
                pointwise::GatedUnit: the_gated_unit_is_as_exact_as_its_twin,
                pointwise::MeanOverTime: the_mean_over_time_is_as_exact_as_its_twin,
                pointwise::Normalize: normalization_by_given_statistics_is_as_exact_as_its_twin,
                pointwise::RmsNorm: normalization_by_the_root_mean_square_is_as_exact_as_its_twin,
            ],
            laws [
                diagonal_ssm::the_diagonal_map_neither_drifts_nor_overflows_on_long_sequences,
                diagonal_ssm::states_that_die_out_are_as_exact_as_their_twin,
                diagonal_ssm::a_sequence_can_be_cut_anywhere,
                linear_scan::a_scan_neither_drifts_nor_overflows_on_long_sequences,
                selective_scan::a_selective_scan_neither_drifts_nor_overflows_on_long_sequences,
                ssd::the_map_of_mamba2_neither_drifts_nor_overflows_on_long_sequences,
                products::products_of_ones_are_exact,
            ]
        );
    };
}
pub(crate) use suite_on;

/// How an operation is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Kernel,
    Twin,
}

/// A source of random values and sizes.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in [-1, 1], exact in `f32`.
    pub fn values(&mut self, len: usize) -> Vec<f64> {
        (0..len)
            .map(|_| f64::from(self.0.random_range(-1.0_f32..1.0)))
            .collect()
    }

    /// The same, scaled and moved.
    pub fn affine(&mut self, len: usize, scale: f64, offset: f64) -> Vec<f64> {
        let values = self.values(len).into_iter();
        values
            .map(|v| f64::from((offset + scale * v) as f32))
            .collect()
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())]
    }

    pub fn bits(&mut self) -> u32 {
        self.0.random()
    }

    /// Points of the disk of this radius, more of them near its edge: real and imaginary parts.
    pub fn disk(&mut self, len: usize, radius: f64) -> [Vec<f64>; 2] {
        let mut planes = [Vec::new(), Vec::new()];
        for _ in 0..len {
            let modulus = radius * self.0.random::<f64>().powf(0.1);
            let angle = self.0.random_range(0.0..std::f64::consts::TAU);
            // Towards zero: a modulus of 1 - 1e-6 must not be rounded to 1.
            planes[0].push(shrunk(modulus * angle.cos()));
            planes[1].push(shrunk(modulus * angle.sin()));
        }
        planes
    }
}

/// To `f32` without growing.
fn shrunk(value: f64) -> f64 {
    let rounded = value as f32;
    let grew = f64::from(rounded).abs() > value.abs();
    f64::from(if grew {
        rounded.next_towards_zero()
    } else {
        rounded
    })
}

trait TowardsZero {
    fn next_towards_zero(self) -> Self;
}

impl TowardsZero for f32 {
    fn next_towards_zero(self) -> Self {
        if self > 0.0 {
            self.next_down()
        } else {
            self.next_up()
        }
    }
}

/// How tensors are made of values: which are tracked, which are views of something laid out otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    pub dtype: DType,
    /// A bit per input, in the order in which they are made.
    tracked: u32,
    /// A bit per input; the highest is for the gradient of the output.
    views: u32,
    next: u32,
}

impl Placement {
    /// Every input tracked and contiguous.
    pub fn plain(dtype: DType) -> Self {
        Self {
            dtype,
            tracked: u32::MAX,
            views: 0,
            next: 0,
        }
    }

    /// Any, but for the first input, which is tracked: something must be.
    pub fn drawn(dtype: DType, draw: &mut Draw) -> Self {
        Self {
            dtype,
            // Rather more tracked than not.
            tracked: draw.bits() | draw.bits() | 1,
            views: draw.bits(),
            next: 0,
        }
    }

    pub fn is_tracked(&self, input: usize) -> bool {
        self.tracked >> input & 1 == 1
    }

    /// Whether the gradient of the output reaches the kernel as a view.
    pub fn gradient_is_a_view(&self) -> bool {
        self.views >> 31 == 1
    }

    /// The next input.
    pub fn place<B: TrainingBackend, const D: usize>(
        &mut self,
        values: &[f64],
        shape: [usize; D],
    ) -> Tensor<B, D> {
        let (input, device) = (self.next, B::Device::default());
        self.next += 1;
        let from = |values: Vec<f64>, shape: &[usize]| TensorData::new(values, shape.to_vec());
        let options = (&device, self.dtype);
        let tensor: Tensor<B, D> = match (self.views >> input & 1 == 1, D) {
            (false, _) => Tensor::from_data(from(values.to_vec(), &shape), options),
            (true, 1) => {
                // Every other element of a longer vector.
                let pairs = values.iter().flat_map(|v| [*v, f64::NAN]).collect();
                let wide: Tensor<B, 2> = Tensor::from_data(from(pairs, &[shape[0], 2]), options);
                wide.slice([0..shape[0], 0..1]).reshape(shape)
            }
            (true, _) => {
                let (rows, columns) = (shape[D - 2], shape[D - 1]);
                let mut transposed = Vec::with_capacity(values.len());
                for matrix in values.chunks_exact(rows * columns) {
                    transposed.extend(
                        (0..columns).flat_map(|j| (0..rows).map(move |i| matrix[i * columns + j])),
                    );
                }
                let mut swapped = shape;
                swapped.swap(D - 2, D - 1);
                let stored: Tensor<B, D> = Tensor::from_data(from(transposed, &swapped), options);
                stored.swap_dims(D - 2, D - 1)
            }
        };
        match self.is_tracked(input as usize) {
            true => tensor.require_grad(),
            false => tensor,
        }
    }
}

/// Values of a tensor in row-major order.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().to_vec().unwrap()
}

/// A loss, Σ w ∘ output, whose gradient reaches `output` contiguous or as a view.
pub fn loss<B: TrainingBackend>(
    output: Tensor<B, 3>,
    weights: &[f64],
    placement: &Placement,
) -> Tensor<B, 1> {
    let weights = TensorData::new(weights.to_vec(), output.dims());
    let weights = Tensor::<B, 3>::from_data(weights, (&output.device(), output.dtype()));
    match placement.gradient_is_a_view() {
        false => (output * weights).sum(),
        true => {
            let view = output.swap_dims(0, 2);
            // A second owner: burn-tch 0.21 takes a transposed view for the only owner of its memory, and would multiply
            // the output itself in place.
            (view.clone() * weights.swap_dims(0, 2)).sum()
        }
    }
}

/// The output and, for every input, its gradient if it is tracked.
pub type Results = Vec<Option<Vec<f64>>>;

/// Results of an operation: `output` with its gradients of Σ `weights` ∘ output in the inputs, in the order of their
/// making.
macro_rules! results {
    ($output:expr, $weights:expr, $placement:expr, [$($input:expr),+ $(,)?]) => {{
        let output = $output;
        let mut gradients = crate::suite::loss(output.clone(), $weights, &$placement).backward();
        let mut all = vec![Some(crate::suite::values(output))];
        $(
            let tracked = $placement.is_tracked(all.len() - 1);
            let gradient = $input.grad_remove(&mut gradients).map(crate::suite::values);
            // At length 1 the twin never uses λ: no gradient is a gradient of zero.
            let zero = || vec![0.0; $input.dims().iter().product()];
            all.push(tracked.then(|| gradient.unwrap_or_else(zero)));
        )+
        all
    }};
}
pub(crate) use results;

/// Something to compute by an operation, drawn from a seed: joins the suite by a line in [`suite_on`].
pub trait Problem: Copy + Debug + 'static {
    /// Problems by name, which are always among those that are drawn.
    const NAMED: &'static [Self] = &[];

    /// What this seed gives; `None` if nothing but rounding errors would come of it.
    fn drawn(seed: u64) -> Option<Self>;

    /// The seed.
    fn seed(&self) -> u64;

    /// Length of the longest sums.
    fn terms(&self) -> usize;

    /// The output, the gradients of the inputs in the order in which they are placed, and what else can be compared.
    fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results;
}

pub fn all_are_as_exact_as_the_twin<P: Problem, B: TrainingBackend>(effort: Effort) {
    let drawn = (0..effort.cases).filter_map(P::drawn);
    for problem in P::NAMED.iter().copied().chain(drawn) {
        is_as_exact_as_the_twin::<P, B>(problem, effort);
    }
}

pub fn is_as_exact_as_the_twin<P: Problem, B: TrainingBackend>(problem: P, effort: Effort) {
    let twin = |dtype| problem.solve::<Cpu>(Placement::plain(dtype), Form::Twin);
    let placed = |dtype| Placement::drawn(dtype, &mut Draw::new(problem.seed() ^ 1));
    let known = Known {
        truth: twin(DType::F64),
        plain: twin(DType::F32),
    };
    known.compare(problem.terms(), effort, &problem, |dtype| {
        problem.solve::<B>(placed(dtype), Form::Kernel)
    });
}

/// What a computation should come to.
pub struct Known {
    /// In `f64`.
    pub truth: Results,
    /// What plain `f32` makes of it.
    pub plain: Results,
}

impl Known {
    /// Compares it with what a backend gets in each of its element types.
    ///
    /// `terms` is the length of the longest sums. Added up in any order, rounding errors of random sign grow like its
    /// root; the twin may be lucky or sum in a tree, whence the floor.
    pub fn compare(
        &self,
        terms: usize,
        effort: Effort,
        case: &dyn Debug,
        got: impl Fn(DType) -> Results,
    ) {
        for &dtype in effort.dtypes {
            self.compare_in(dtype, terms, effort, case, got(dtype));
        }
    }

    /// The same for one element type.
    pub fn compare_in(
        &self,
        dtype: DType,
        terms: usize,
        effort: Effort,
        case: &dyn Debug,
        got: Results,
    ) {
        let floor = f64::from(f32::EPSILON) * (8.0 + (terms as f64).sqrt());
        let known = self.plain.iter().zip(&self.truth);
        for (item, (got, (plain, truth))) in got.iter().zip(known).enumerate() {
            let (Some(got), Some(plain), Some(truth)) = (got, plain, truth) else {
                continue;
            };
            let (found, plain) = (error(got, truth), error(plain, truth));
            let allowed = match dtype {
                // The same problem, so errors in proportion to the unit of rounding; the truth has them as well.
                DType::F64 => 4.0 * (2.0 * plain + floor) * f64::EPSILON / f64::from(f32::EPSILON),
                _ => 2.0 * plain + floor + effort.product_error,
            };
            assert!(
                found <= allowed,
                "{case:?}, {dtype:?}, item {item}: error {found:e}, allowed {allowed:e}, plain {plain:e}"
            );
        }
    }
}

/// Largest difference of two vectors relative to the largest entry of the second; infinite where something is not a
/// number.
pub fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    let differences = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0_f64, |m, d| match d.is_nan() {
        true => f64::INFINITY,
        false => m.max(d),
    });
    largest / scale
}
