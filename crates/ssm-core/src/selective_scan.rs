//! The selective scan: a diagonal state space map whose step size, input and output vectors come from the input.

mod composed;
#[cfg(feature = "cube")]
mod cube;
mod flex;

use burn::tensor::{
    Tensor, activation::silu, backend::Backend as BurnBackend, ops::FloatTensor, s,
};

#[cfg(feature = "cube")]
use burn::tensor::{DType, Shape};
#[cfg(feature = "cube")]
use burn_cubecl::kernel::into_contiguous;
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use crate::operation::OnCube;
use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of u, Δ, A, B, C, D and z to y and the states that the way back restarts from, in a layout of the kernel's own: see
/// [`selective_scan`](crate::selective_scan()).
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan;

impl Operation<7> for SelectiveScan {
    const NAME: &'static str = "selective_scan";
    const LENT: bool = true;

    type Settings = ();
    type Outputs<T> = [T; 2];
    /// The inputs and the states.
    type Saved<T> = [T; 8];

    fn save<T: Clone>([u, step, a, b, c, d, z]: [T; 7], [_, states]: &[T; 2]) -> [T; 8] {
        [u, step, a, b, c, d, z, states.clone()]
    }

    fn forward<B: Backend>(inputs: [FloatTensor<B>; 7], _: &()) -> [FloatTensor<B>; 2] {
        composed::forward::<B>(&SelectiveParts::of_parts(inputs))
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 8], FloatTensor<B>, 7>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 7] {
        let [parts @ .., chunk_states] = back.saved;
        let scan = SelectiveParts::of_parts(parts);
        composed::backward::<B>(&scan, chunk_states, back.gradient).map(Some)
    }

    fn native_forward<T: Real>(inputs: [FlexTensor; 7], _: &()) -> [FlexTensor; 2] {
        flex::forward::<T>(&SelectiveParts::of_parts(inputs))
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 8], FlexTensor, 7>,
        _: &(),
    ) -> [Option<FlexTensor>; 7] {
        let [parts @ .., chunk_states] = back.saved;
        let scan = SelectiveParts::of_parts(parts);
        flex::backward::<T>(&scan, &chunk_states, &back.gradient).map(Some)
    }

    #[cfg(feature = "cube")]
    fn cube_outputs(
        [input, _, decay, ..]: &[Shape; 7],
        dtype: DType,
        _: &(),
    ) -> Option<[(Shape, DType); 2]> {
        let states = cube::chunk_states(input, decay, dtype);
        Some([(input.clone(), dtype), states])
    }

    #[cfg(feature = "cube")]
    fn cube_forward<B: OnCube>(inputs: [FloatTensor<B>; 7], _: &()) -> [FloatTensor<B>; 2] {
        cube::forward(SelectiveParts::of_parts(inputs.map(into_contiguous)))
    }

    #[cfg(feature = "cube")]
    fn cube_backward<B: OnCube>(
        back: Pullback<[FloatTensor<B>; 8], FloatTensor<B>, 7>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 7] {
        let [parts @ .., chunk_states] = back.saved;
        let scan = SelectiveParts::of_parts(parts.map(into_contiguous));
        cube::backward(scan, chunk_states, back.gradient).map(Some)
    }
}

/// Everything that goes into a selective scan, as a backend's primitives.
#[derive(Clone, Debug)]
pub(crate) struct SelectiveParts<T> {
    /// u, `[batch, length, channels]`.
    input: T,
    /// Δ before softplus, `[batch, length, channels]`.
    step: T,
    /// A, negative, `[channels, state]`.
    decay: T,
    /// B, `[batch, length, state]`.
    input_vector: T,
    /// C, `[batch, length, state]`.
    output_vector: T,
    /// D, `[channels]`.
    feedthrough: T,
    /// z before SiLU, `[batch, length, channels]`.
    gate: T,
}

impl<T> SelectiveParts<T> {
    /// From parts in the order of the fields.
    fn of_parts(parts: [T; 7]) -> Self {
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

    fn into_primitives(self) -> [FloatTensor<B>; 7] {
        [
            primitive(self.input),
            primitive(self.step),
            primitive(self.decay),
            primitive(self.input_vector),
            primitive(self.output_vector),
            primitive(self.feedthrough),
            primitive(self.gate),
        ]
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
    let [output, _] = <B as Run<SelectiveScan, 7>>::run(scan.into_primitives(), &());
    tensor(output)
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
