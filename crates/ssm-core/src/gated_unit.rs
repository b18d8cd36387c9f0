//! The pointwise rest of a block: GELU, dropout, gated linear unit, dropout, skip connection.
//!
//! As one operation it reads and writes every activation once; as a dozen tensor operations under autodiff it
//! would cost more than a compressed recurrence and hide what compression gains.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;

use burn::tensor::{
    Tensor, TensorData, TensorPrimitive, activation::sigmoid, backend::Backend as BurnBackend,
};

use crate::{backend::Backend, dropout::Dropout};

/// Weights of the gated linear unit, (W₁ a + b₁) ∘ σ(W₂ a + b₂).
#[derive(Clone, Debug)]
pub struct GatedUnit<T> {
    /// W₁, `[hidden, hidden]` as `[output, input]`.
    pub value_weight: T,
    /// b₁, `[hidden]`.
    pub value_bias: T,
    /// W₂, `[hidden, hidden]` as `[output, input]`.
    pub gate_weight: T,
    /// b₂, `[hidden]`.
    pub gate_bias: T,
}

impl<T> GatedUnit<T> {
    /// Every weight through `f`.
    pub fn map<'a, U>(&'a self, f: impl Fn(&'a T) -> U) -> GatedUnit<U> {
        GatedUnit {
            value_weight: f(&self.value_weight),
            value_bias: f(&self.value_bias),
            gate_weight: f(&self.gate_weight),
            gate_bias: f(&self.gate_bias),
        }
    }
}

/// The same weights as tensors.
#[derive(Clone, Debug)]
pub struct GatedUnitTensors<B: BurnBackend> {
    /// W₁ and W₂, `[hidden, hidden]` as `[output, input]`.
    pub weights: [Tensor<B, 2>; 2],
    /// b₁ and b₂, `[hidden]`.
    pub biases: [Tensor<B, 1>; 2],
}

/// Output of the gated unit and what its backward pass may want of it.
#[derive(Clone, Debug)]
pub struct GatedUnitForward<T> {
    /// `[batch, length, hidden]`.
    pub output: T,
    /// W₁ a + b₁ and W₂ a + b₂, `[batch, length, hidden]` each, where keeping them costs less than computing them again.
    pub branches: Option<[T; 2]>,
}

/// Gradients of the input and of the weights.
#[derive(Clone, Debug)]
pub struct GatedUnitGradients<T> {
    /// Gradient of the input.
    pub input: T,
    /// Gradients of the weights.
    pub weights: GatedUnit<T>,
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
    let [value_weight, gate_weight] = weights.weights.map(|t| t.into_primitive().tensor());
    let [value_bias, gate_bias] = weights.biases.map(|t| t.into_primitive().tensor());
    let output = B::gated_unit(
        input.into_primitive().tensor(),
        skip.into_primitive().tensor(),
        GatedUnit {
            value_weight,
            value_bias,
            gate_weight,
            gate_bias,
        },
        dropout,
    );
    Tensor::from_primitive(TensorPrimitive::Float(output))
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
