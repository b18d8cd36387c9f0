//! The pointwise rest of a block: GELU, dropout, gated linear unit, dropout, skip connection.
//!
//! As one operation it reads and writes every activation once; as a dozen tensor operations under autodiff it
//! would cost more than a compressed recurrence and hide what compression gains.

mod composed;
pub(crate) mod flex;

use burn::tensor::{
    Tensor, TensorData, activation::sigmoid, backend::Backend as BurnBackend, ops::FloatTensor,
};
use burn_flex::FlexTensor;

use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
    dropout::Dropout,
    operation::{Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of input, skip, W₁, b₁, W₂ and b₂, with dropout: see [`gated_unit`](crate::gated_unit()).
#[derive(Clone, Copy, Debug)]
pub struct GatedUnit;

/// W₁ a + b₁ and W₂ a + b₂, `[batch, length, hidden]` each, as the kernel has them, where keeping them costs less than
/// computing them again.
type Branches<T> = Option<[T; 2]>;

impl Operation<6> for GatedUnit {
    const NAME: &'static str = "gated_unit";

    type Settings = Option<Dropout>;
    type Outputs<T> = ([T; 1], Branches<T>);
    /// The inputs without skip.
    type Saved<T> = ([T; 5], Branches<T>);

    fn save<T: Clone>(
        [input, _, value_weight, value_bias, gate_weight, gate_bias]: [T; 6],
        (_, branches): &([T; 1], Branches<T>),
    ) -> ([T; 5], Branches<T>) {
        let inputs = [input, value_weight, value_bias, gate_weight, gate_bias];
        (inputs, branches.clone())
    }

    fn forward<B: Backend>(
        [input, skip, weights @ ..]: [FloatTensor<B>; 6],
        dropout: &Option<Dropout>,
    ) -> ([FloatTensor<B>; 1], Branches<FloatTensor<B>>) {
        let weights = GatedUnitWeights::of_parts(weights);
        composed::forward::<B>(input, skip, &weights, *dropout)
    }

    fn backward<B: Kernels>(
        back: Pullback<([FloatTensor<B>; 5], Branches<FloatTensor<B>>), FloatTensor<B>, 6>,
        dropout: &Option<Dropout>,
    ) -> [Option<FloatTensor<B>>; 6] {
        let ([input, weights @ ..], branches) = back.saved;
        let (weights, gradient) = (GatedUnitWeights::of_parts(weights), back.gradient);
        let [input, weights @ ..] =
            composed::backward::<B>(input, &weights, *dropout, branches, gradient.clone());
        with_skip(input, gradient, weights)
    }

    fn native_forward<T: Real>(
        [input, skip, weights @ ..]: [FlexTensor; 6],
        dropout: &Option<Dropout>,
    ) -> ([FlexTensor; 1], Branches<FlexTensor>) {
        let weights = GatedUnitWeights::of_parts(weights);
        let (output, branches) = flex::forward::<T>(&input, &skip, &weights, *dropout);
        ([output], branches)
    }

    fn native_backward<T: Real>(
        back: Pullback<([FlexTensor; 5], Branches<FlexTensor>), FlexTensor, 6>,
        dropout: &Option<Dropout>,
    ) -> [Option<FlexTensor>; 6] {
        let ([input, weights @ ..], branches) = back.saved;
        let (weights, gradient) = (GatedUnitWeights::of_parts(weights), back.gradient);
        let [input, weights @ ..] =
            flex::backward::<T>(&input, &weights, *dropout, branches.as_ref(), &gradient);
        with_skip(input, gradient, weights)
    }
}

/// All gradients: that of what is added to the output is the output's.
fn with_skip<T>(
    input: T,
    skip: T,
    [value_weight, value_bias, gate_weight, gate_bias]: [T; 4],
) -> [Option<T>; 6] {
    [
        input,
        skip,
        value_weight,
        value_bias,
        gate_weight,
        gate_bias,
    ]
    .map(Some)
}

/// Weights of the gated linear unit, (W₁ a + b₁) ∘ σ(W₂ a + b₂).
#[derive(Clone, Debug)]
pub(crate) struct GatedUnitWeights<T> {
    /// W₁, `[hidden, hidden]` as `[output, input]`.
    value_weight: T,
    /// b₁, `[hidden]`.
    value_bias: T,
    /// W₂, `[hidden, hidden]` as `[output, input]`.
    gate_weight: T,
    /// b₂, `[hidden]`.
    gate_bias: T,
}

impl<T> GatedUnitWeights<T> {
    /// From parts in the order of the fields.
    fn of_parts([value_weight, value_bias, gate_weight, gate_bias]: [T; 4]) -> Self {
        Self {
            value_weight,
            value_bias,
            gate_weight,
            gate_bias,
        }
    }

    /// Every weight through `f`.
    fn map<'a, U>(&'a self, f: impl Fn(&'a T) -> U) -> GatedUnitWeights<U> {
        GatedUnitWeights {
            value_weight: f(&self.value_weight),
            value_bias: f(&self.value_bias),
            gate_weight: f(&self.gate_weight),
            gate_bias: f(&self.gate_bias),
        }
    }
}

/// The weights as tensors.
#[derive(Clone, Debug)]
pub struct GatedUnitTensors<B: BurnBackend> {
    /// W₁ and W₂, `[hidden, hidden]` as `[output, input]`.
    pub weights: [Tensor<B, 2>; 2],
    /// b₁ and b₂, `[hidden]`.
    pub biases: [Tensor<B, 1>; 2],
}

/// √(2/π) of GELU's tanh form, and its cubic coefficient.
pub(crate) const GELU_SLOPE: f64 = 0.797_884_560_802_865_4;
pub(crate) const GELU_CUBIC: f64 = 0.044_715;

/// skip + drop((W₁ a + b₁) ∘ σ(W₂ a + b₂)) with a = drop(gelu(input)).
///
/// GELU is the tanh form. The two dropout masks are streams 0 and 1 of `dropout`; `None` drops nothing.
///
/// # Shapes
/// - `input`, `skip`: `[batch, length, hidden]`
/// - returns `[batch, length, hidden]`
pub fn gated_unit<B: Backend>(
    input: Tensor<B, 3>,
    skip: Tensor<B, 3>,
    weights: GatedUnitTensors<B>,
    dropout: Option<Dropout>,
) -> Tensor<B, 3> {
    let [value_weight, gate_weight] = weights.weights.map(primitive);
    let [value_bias, gate_bias] = weights.biases.map(primitive);
    let inputs = [
        primitive(input),
        primitive(skip),
        value_weight,
        value_bias,
        gate_weight,
        gate_bias,
    ];
    let ([output], _) = <B as Run<GatedUnit, 6>>::run(inputs, &dropout);
    tensor(output)
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn gated_unit_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    skip: Tensor<B, 3>,
    weights: GatedUnitTensors<B>,
    dropout: Option<Dropout>,
) -> Tensor<B, 3> {
    let [batch, length, hidden] = input.dims();
    let drop = |x: Tensor<B, 2>, stream: u64| match dropout {
        None => x,
        Some(dropout) => {
            let dropout = dropout.stream(stream);
            let factors: Vec<f32> = (0..batch * length * hidden)
                .map(|position| dropout.factor(position))
                .collect();
            let data = TensorData::new(factors, [batch * length, hidden]);
            x.clone() * Tensor::from_data(data, (&x.device(), x.dtype()))
        }
    };
    let x = input.reshape([batch * length, hidden]);
    let cubic = x.clone() * x.clone() * x.clone() * GELU_CUBIC;
    let gelu = x.clone() * 0.5 * (((x + cubic) * GELU_SLOPE).tanh() + 1.0);
    let a = drop(gelu, 0);
    let [value, gate] = [0, 1].map(|k| {
        let bias = weights.biases[k].clone().reshape([1, hidden]);
        a.clone().matmul(weights.weights[k].clone().transpose()) + bias
    });
    let gated = drop(value * sigmoid(gate), 1);
    skip + gated.reshape([batch, length, hidden])
}
