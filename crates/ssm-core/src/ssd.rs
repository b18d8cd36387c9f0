//! The map of Mamba-2: a state space map with one decay for all states of a head.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor, s};

use crate::{
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Everything that goes into the map, as a backend's primitives.
#[derive(Clone, Debug)]
pub struct Ssd<T> {
    /// x, `[batch, length, heads, width]`.
    pub input: T,
    /// Δ, `[batch, length, heads]`.
    pub step: T,
    /// A, negative, `[heads]`.
    pub decay: T,
    /// B, `[batch, length, groups · state]`.
    pub input_vector: T,
    /// C, likewise.
    pub output_vector: T,
    /// D, `[heads]`.
    pub feedthrough: T,
    /// Groups of B and C: one for all heads, or one for each.
    pub groups: usize,
}

impl<T> Ssd<T> {
    /// The parts in the order of the fields.
    pub(crate) fn parts(&self) -> [&T; 6] {
        [
            &self.input,
            &self.step,
            &self.decay,
            &self.input_vector,
            &self.output_vector,
            &self.feedthrough,
        ]
    }

    /// From parts in the order of the fields.
    pub(crate) fn of_parts(parts: [T; 6], groups: usize) -> Self {
        let [input, step, decay, input_vector, output_vector, feedthrough] = parts;
        Self {
            input,
            step,
            decay,
            input_vector,
            output_vector,
            feedthrough,
            groups,
        }
    }
}

/// What the forward pass of a kernel leaves.
#[derive(Clone, Debug)]
pub struct SsdForward<T> {
    /// `[batch, length, heads, width]`.
    pub output: T,
    /// States that the backward pass restarts from, in a layout of the backend's own.
    pub chunk_states: T,
}

/// Everything that goes into the map, as tensors.
#[derive(Clone, Debug)]
pub struct SsdTensors<B: BurnBackend> {
    /// x, `[batch, length, heads, width]`.
    pub input: Tensor<B, 4>,
    /// Δ, `[batch, length, heads]`.
    pub step: Tensor<B, 3>,
    /// A, negative, `[heads]`.
    pub decay: Tensor<B, 1>,
    /// B, `[batch, length, groups · state]`.
    pub input_vector: Tensor<B, 3>,
    /// C, likewise.
    pub output_vector: Tensor<B, 3>,
    /// D, `[heads]`.
    pub feedthrough: Tensor<B, 1>,
    /// Groups of B and C: one for all heads, or one for each.
    pub groups: usize,
}

impl<B: BurnBackend> SsdTensors<B> {
    fn check_shapes(&self) {
        let [batch, length, heads, _] = self.input.dims();
        assert!(
            self.groups == 1 || self.groups == heads,
            "one group, or one per head"
        );
        assert_eq!(self.step.dims(), [batch, length, heads], "a step per head");
        let vectors = self.input_vector.dims();
        assert_eq!(vectors[..2], [batch, length], "B per step");
        assert_eq!(vectors[2] % self.groups, 0, "groups of equal size");
        assert_eq!(self.output_vector.dims(), vectors, "C is as large as B");
        for (name, tensor) in [("A", &self.decay), ("D", &self.feedthrough)] {
            assert_eq!(tensor.dims(), [heads], "{name} per head");
        }
    }

    fn of_primitives(map: Ssd<FloatTensor<B>>) -> Self {
        Self {
            input: tensor(map.input),
            step: tensor(map.step),
            decay: tensor(map.decay),
            input_vector: tensor(map.input_vector),
            output_vector: tensor(map.output_vector),
            feedthrough: tensor(map.feedthrough),
            groups: map.groups,
        }
    }

    fn into_primitives(self) -> Ssd<FloatTensor<B>> {
        Ssd {
            input: primitive(self.input),
            step: primitive(self.step),
            decay: primitive(self.decay),
            input_vector: primitive(self.input_vector),
            output_vector: primitive(self.output_vector),
            feedthrough: primitive(self.feedthrough),
            groups: self.groups,
        }
    }
}

/// y_t = h_tᵀ C_t + D x_t with h_t = exp(Δ_t A) h_{t-1} + B_t (Δ_t x_t)ᵀ of every head, h_{-1} = 0.
///
/// # Shapes
/// As in [`SsdTensors`]; returns `[batch, length, heads, width]`.
///
/// # Panics
/// When the shapes do not fit together.
///
/// # Source
/// `DG24`, sections 3 and 6.
pub fn ssd<B: Backend>(map: SsdTensors<B>) -> Tensor<B, 4> {
    map.check_shapes();
    tensor(B::ssd(map.into_primitives()))
}

/// The same in plain tensor operations, one step after the other: the twin of the kernels.
pub fn ssd_reference<B: BurnBackend>(map: SsdTensors<B>) -> Tensor<B, 4> {
    map.check_shapes();
    let [batch, length, heads, width] = map.input.dims();
    let state = map.input_vector.dims()[2] / map.groups;
    let options = (&map.input.device(), map.input.dtype());
    let mut h: Tensor<B, 4> = Tensor::zeros([batch, heads, width, state], options);
    let mut outputs = Vec::with_capacity(length);
    for t in 0..length {
        let vector = |x: &Tensor<B, 3>| {
            let x = x.clone().slice(s![.., t, ..]);
            x.reshape([batch, map.groups, 1, state])
                .expand([batch, heads, 1, state])
        };
        let (b, c) = (vector(&map.input_vector), vector(&map.output_vector));
        let x: Tensor<B, 3> = map.input.clone().slice(s![.., t, .., ..]).squeeze_dim(1);
        let step: Tensor<B, 2> = map.step.clone().slice(s![.., t, ..]).squeeze_dim(1);
        let decay = (step.clone() * map.decay.clone().unsqueeze()).exp();
        let driven = (x.clone() * step.unsqueeze_dim(2)).unsqueeze_dim::<4>(3) * b;
        h = h * decay.reshape([batch, heads, 1, 1]) + driven;
        let seen: Tensor<B, 3> = (h.clone() * c).sum_dim(3).squeeze_dim(3);
        outputs.push(seen + x * map.feedthrough.clone().reshape([1, heads, 1]));
    }
    Tensor::stack(outputs, 1)
}
