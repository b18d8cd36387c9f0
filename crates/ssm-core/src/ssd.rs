//! The map of Mamba-2: a state space map with one decay for all states of a head.

mod composed;
mod flex;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor, s};

use burn_flex::FlexTensor;

use crate::{
    backend::Backend,
    cpu::Real,
    operation::{ByHand, Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of x, Δ, A, B, C and D, with the number of groups, to y and, of a kernel, the states that the way back restarts from: see
/// [`ssd`](crate::ssd()).
#[derive(Clone, Copy, Debug)]
pub struct Ssd;

impl Operation<6> for Ssd {
    const NAME: &'static str = "ssd";
    const BACKWARD: ByHand = ByHand::Natively;
    const LENT: bool = true;

    type Settings = usize;
    type Outputs<T> = ([T; 1], Option<[T; 1]>);
    /// The inputs and the states.
    type Saved<T> = [T; 7];

    fn save<T: Clone>(
        [x, step, a, b, c, d]: [T; 6],
        (_, states): &([T; 1], Option<[T; 1]>),
    ) -> [T; 7] {
        let [states] = states.clone().expect("the kernel leaves its states");
        [x, step, a, b, c, d, states]
    }

    fn forward<B: Backend>(
        inputs: [FloatTensor<B>; 6],
        groups: &usize,
    ) -> ([FloatTensor<B>; 1], Option<[FloatTensor<B>; 1]>) {
        let map = SsdTensors::<B>::of_primitives(inputs, *groups);
        ([primitive(composed::ssd(map))], None)
    }

    fn native_forward<T: Real>(
        inputs: [FlexTensor; 6],
        groups: &usize,
    ) -> ([FlexTensor; 1], Option<[FlexTensor; 1]>) {
        let [output, states] = flex::forward::<T>(&SsdParts::of_parts(inputs, *groups));
        ([output], Some([states]))
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 7], FlexTensor, 6>,
        groups: &usize,
    ) -> [Option<FlexTensor>; 6] {
        let [parts @ .., chunk_states] = back.saved;
        let map = SsdParts::of_parts(parts, *groups);
        flex::backward::<T>(&map, &chunk_states, &back.gradient).map(Some)
    }
}

/// Everything that goes into the map, as the CPU's primitives.
#[derive(Clone, Debug)]
struct SsdParts<T> {
    /// x, `[batch, length, heads, width]`.
    input: T,
    /// Δ, `[batch, length, heads]`.
    step: T,
    /// A, negative, `[heads]`.
    decay: T,
    /// B, `[batch, length, groups · state]`.
    input_vector: T,
    /// C, likewise.
    output_vector: T,
    /// D, `[heads]`.
    feedthrough: T,
    /// Groups of B and C: one for all heads, or one for each.
    groups: usize,
}

impl<T> SsdParts<T> {
    /// From parts in the order of the fields.
    fn of_parts(parts: [T; 6], groups: usize) -> Self {
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

    fn of_primitives(parts: [FloatTensor<B>; 6], groups: usize) -> Self {
        let [input, step, decay, input_vector, output_vector, feedthrough] = parts;
        Self {
            input: tensor(input),
            step: tensor(step),
            decay: tensor(decay),
            input_vector: tensor(input_vector),
            output_vector: tensor(output_vector),
            feedthrough: tensor(feedthrough),
            groups,
        }
    }

    fn into_primitives(self) -> [FloatTensor<B>; 6] {
        [
            primitive(self.input),
            primitive(self.step),
            primitive(self.decay),
            primitive(self.input_vector),
            primitive(self.output_vector),
            primitive(self.feedthrough),
        ]
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
    let groups = map.groups;
    let ([output], _) = <B as Run<Ssd, 6>>::run(map.into_primitives(), &groups);
    tensor(output)
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
