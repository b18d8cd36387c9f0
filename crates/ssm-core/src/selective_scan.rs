//! The selective scan: a diagonal state space map whose step size, input and output vectors come from the input.

pub(crate) mod autodiff;
pub(crate) mod composed;
#[cfg(feature = "cube")]
pub(crate) mod cube;
pub(crate) mod flex;

use burn::tensor::{
    Tensor, activation::silu, backend::Backend as BurnBackend, ops::FloatTensor, s,
};

use crate::{
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Everything that goes into a selective scan, as a backend's primitives.
#[derive(Clone, Debug)]
pub struct SelectiveScan<T> {
    /// u, `[batch, length, channels]`.
    pub input: T,
    /// Δ before softplus, `[batch, length, channels]`.
    pub step: T,
    /// A, negative, `[channels, state]`.
    pub decay: T,
    /// B, `[batch, length, state]`.
    pub input_vector: T,
    /// C, `[batch, length, state]`.
    pub output_vector: T,
    /// D, `[channels]`.
    pub feedthrough: T,
    /// z before SiLU, `[batch, length, channels]`.
    pub gate: T,
}

impl<T> SelectiveScan<T> {
    /// The parts in the order of the fields.
    pub(crate) fn parts(&self) -> [&T; 7] {
        [
            &self.input,
            &self.step,
            &self.decay,
            &self.input_vector,
            &self.output_vector,
            &self.feedthrough,
            &self.gate,
        ]
    }

    /// From parts in the order of the fields.
    pub(crate) fn of_parts(parts: [T; 7]) -> Self {
        let [
            input,
            step,
            decay,
            input_vector,
            output_vector,
            feedthrough,
            gate,
        ] = parts;
        Self {
            input,
            step,
            decay,
            input_vector,
            output_vector,
            feedthrough,
            gate,
        }
    }
}

/// What the forward pass of a selective scan leaves.
#[derive(Clone, Debug)]
pub struct SelectiveScanForward<T> {
    /// `[batch, length, channels]`.
    pub output: T,
    /// States that the backward pass restarts from, in a layout of the backend's own.
    pub chunk_states: T,
}

/// Everything that goes into a selective scan, as tensors.
#[derive(Clone, Debug)]
pub struct SelectiveScanTensors<B: BurnBackend> {
    /// u, `[batch, length, channels]`.
    pub input: Tensor<B, 3>,
    /// Δ before softplus, `[batch, length, channels]`.
    pub step: Tensor<B, 3>,
    /// A, negative, `[channels, state]`.
    pub decay: Tensor<B, 2>,
    /// B, `[batch, length, state]`.
    pub input_vector: Tensor<B, 3>,
    /// C, `[batch, length, state]`.
    pub output_vector: Tensor<B, 3>,
    /// D, `[channels]`.
    pub feedthrough: Tensor<B, 1>,
    /// z before SiLU, `[batch, length, channels]`.
    pub gate: Tensor<B, 3>,
}

impl<B: BurnBackend> SelectiveScanTensors<B> {
    fn check_shapes(&self) {
        let [batch, length, channels] = self.input.dims();
        let state = self.decay.dims()[1];
        for (name, tensor) in [("step", &self.step), ("gate", &self.gate)] {
            assert_eq!(tensor.dims(), [batch, length, channels], "one {name} each");
        }
        assert_eq!(self.decay.dims(), [channels, state], "rates per channel");
        for (name, tensor) in [("B", &self.input_vector), ("C", &self.output_vector)] {
            assert_eq!(tensor.dims(), [batch, length, state], "{name} per step");
        }
        assert_eq!(self.feedthrough.dims(), [channels], "D per channel");
    }

    fn into_primitives(self) -> SelectiveScan<FloatTensor<B>> {
        SelectiveScan {
            input: primitive(self.input),
            step: primitive(self.step),
            decay: primitive(self.decay),
            input_vector: primitive(self.input_vector),
            output_vector: primitive(self.output_vector),
            feedthrough: primitive(self.feedthrough),
            gate: primitive(self.gate),
        }
    }
}

/// y ∘ SiLU(z) with h_t = exp(Δ_t A) ∘ h_{t-1} + Δ_t u_t B_tᵀ, y_t = h_t C_t + D ∘ u_t, Δ = softplus(step), h_{-1} = 0.
///
/// B_t and C_t are shared by all channels. The cost is proportional to the number of states.
///
/// # Shapes
/// As in [`SelectiveScanTensors`]; returns `[batch, length, channels]`.
///
/// # Panics
/// When the shapes do not fit together.
///
/// # Source
/// `GD23`, algorithm 2 and section 3.3.
pub fn selective_scan<B: Backend>(scan: SelectiveScanTensors<B>) -> Tensor<B, 3> {
    scan.check_shapes();
    tensor(B::selective_scan(scan.into_primitives()))
}

/// log(1 + e^x) with all digits: burn's own adds e^x to one first.
pub(crate) fn softplus<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()
}

/// The same in plain tensor operations, one step after the other: the twin of the kernels.
pub fn selective_scan_reference<B: BurnBackend>(scan: SelectiveScanTensors<B>) -> Tensor<B, 3> {
    scan.check_shapes();
    let [batch, length, channels] = scan.input.dims();
    let state = scan.decay.dims()[1];
    let options = (&scan.input.device(), scan.input.dtype());
    let mut h: Tensor<B, 3> = Tensor::zeros([batch, channels, state], options);
    let step = softplus(scan.step);
    let mut outputs = Vec::with_capacity(length);
    for t in 0..length {
        let at =
            |x: &Tensor<B, 3>| -> Tensor<B, 2> { x.clone().slice(s![.., t, ..]).squeeze_dim(1) };
        let (u, dt) = (at(&scan.input), at(&step));
        let decay = (dt.clone().unsqueeze_dim::<3>(2) * scan.decay.clone().unsqueeze_dim(0)).exp();
        let (b, c) = (at(&scan.input_vector), at(&scan.output_vector));
        h = decay * h + (dt * u.clone()).unsqueeze_dim::<3>(2) * b.unsqueeze_dim(1);
        let y: Tensor<B, 2> = (h.clone() * c.unsqueeze_dim(1)).sum_dim(2).squeeze_dim(2);
        let y = y + u * scan.feedthrough.clone().unsqueeze_dim(0);
        outputs.push(y * silu(at(&scan.gate)));
    }
    Tensor::stack(outputs, 1)
}
