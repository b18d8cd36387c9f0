//! A diagonal system one step at a time.

use std::sync::Arc;

use burn::tensor::backend::Backend;

use super::matrix::LaneMatrix;
use super::{LayerStream, values};
use crate::{cpu::vectorized, diagonal_ssm::DiagonalSsmTensors, lru::Lru};

/// A diagonal system under way: x ← Λ x + B u, y = Re(C x) + D ∘ u.
#[derive(Clone, Debug)]
pub struct DiagonalStream {
    weights: Arc<Weights>,
    /// Real parts, then imaginary parts.
    state: Vec<f32>,
    /// B u of the step under way, laid out like the state.
    drive: Vec<f32>,
}

#[derive(Debug)]
struct Weights {
    lambda_re: Vec<f32>,
    lambda_im: Vec<f32>,
    /// Re B above Im B, `[2 * state, hidden]`.
    input: LaneMatrix,
    /// Re C beside -Im C, `[hidden, 2 * state]`.
    output: LaneMatrix,
    feedthrough: Vec<f32>,
}

impl<B: Backend> Lru<B> {
    /// This layer one step at a time, from a zero state.
    pub fn stream(&self) -> DiagonalStream {
        DiagonalStream::new(self.system_tensors())
    }
}

impl DiagonalStream {
    /// From a zero state.
    pub fn new<B: Backend>(system: DiagonalSsmTensors<B>) -> Self {
        let [state, hidden] = system.input_matrix[0].dims();
        let [lambda_re, lambda_im] = system.lambda.map(values);
        let input = system.input_matrix.map(values);
        let output = system.output_matrix.map(values);
        let weights = Weights {
            input: LaneMatrix::from_fn([2 * state, hidden], |row, column| {
                input[row / state][row % state * hidden + column]
            }),
            output: LaneMatrix::from_fn([hidden, 2 * state], |row, column| {
                let sign = if column < state { 1.0 } else { -1.0 };
                sign * output[column / state][row * state + column % state]
            }),
            feedthrough: values(system.feedthrough),
            lambda_re,
            lambda_im,
        };
        Self {
            weights: Arc::new(weights),
            state: vec![0.0; 2 * state],
            drive: vec![0.0; 2 * state],
        }
    }

    /// Width of input and output.
    pub fn hidden_dim(&self) -> usize {
        self.weights.feedthrough.len()
    }

    /// Number of complex states.
    pub fn state_dim(&self) -> usize {
        self.weights.lambda_re.len()
    }

    /// Takes one input and writes its output, both `[hidden]`. O(state · hidden), without allocation.
    ///
    /// # Panics
    /// If `input` or `output` is not [`hidden_dim`](Self::hidden_dim) long.
    pub fn step(&mut self, input: &[f32], output: &mut [f32]) {
        let hidden = self.hidden_dim();
        assert_eq!(input.len(), hidden, "the input has one value per channel");
        assert_eq!(output.len(), hidden, "the output has one value per channel");
        vectorized::<f32, _>(
            #[inline(always)]
            || self.advance(input, output),
        );
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, input: &[f32], output: &mut [f32]) {
        let weights = &*self.weights;
        weights.input.apply(input, &mut self.drive);
        rotate(
            &weights.lambda_re,
            &weights.lambda_im,
            &mut self.state,
            &self.drive,
        );
        weights.output.apply(&self.state, output);
        for ((y, d), u) in output.iter_mut().zip(&weights.feedthrough).zip(input) {
            *y += d * u;
        }
    }

    /// State after the last step, `[2 * state]`: real parts, then imaginary parts.
    pub fn state(&self) -> &[f32] {
        &self.state
    }

    /// Goes on from `state`, laid out as [`state`](Self::state) gives it.
    ///
    /// # Panics
    /// If `state` has another length.
    pub fn set_state(&mut self, state: &[f32]) {
        assert_eq!(
            state.len(),
            self.state.len(),
            "the state has a real and an imaginary part per eigenvalue"
        );
        self.state.copy_from_slice(state);
    }

    /// Forgets everything: the state is zero again.
    pub fn reset(&mut self) {
        self.state.fill(0.0);
    }
}

/// x ← Λ x + drive, on real and imaginary parts.
#[inline(always)]
fn rotate(lambda_re: &[f32], lambda_im: &[f32], state: &mut [f32], drive: &[f32]) {
    let n = lambda_re.len();
    let (x_re, x_im) = state.split_at_mut(n);
    let (b_re, b_im) = drive.split_at(n);
    let (lambda_im, x_im, b_im) = (&lambda_im[..n], &mut x_im[..n], &b_im[..n]);
    for i in 0..n {
        let (re, im) = (x_re[i], x_im[i]);
        x_re[i] = lambda_re[i] * re - lambda_im[i] * im + b_re[i];
        x_im[i] = lambda_re[i] * im + lambda_im[i] * re + b_im[i];
    }
}

impl LayerStream for DiagonalStream {
    fn step(&mut self, input: &[f32], output: &mut [f32]) {
        Self::step(self, input, output);
    }

    fn reset(&mut self) {
        Self::reset(self);
    }

    fn boxed(&self) -> Box<dyn LayerStream> {
        Box::new(self.clone())
    }
}
