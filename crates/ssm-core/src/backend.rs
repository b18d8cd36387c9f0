//! The operations of this crate as an extension of burn's backends.
//!
//! [`Backend`] is what layers are generic over. A plain backend implements [`Kernels`]: forward and
//! hand-written backward of every operation; `Autodiff` around it then gets [`Backend`] for free, with
//! one node in the graph per operation.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{
        DType, Shape,
        backend::{AutodiffBackend, Backend as BurnBackend},
        ops::FloatTensor,
    },
};
#[cfg(feature = "cube")]
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
#[cfg(feature = "cube")]
use burn_fusion::{Fusion, FusionBackend};

#[cfg(feature = "cube")]
use crate::fusion::LazyKernels;
use crate::{
    affine::{self, AffineGradients},
    batch_norm::{self, Normalized},
    causal_conv::{self, CausalConvGradients},
    diagonal_ssm::{
        self, DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmOutput,
    },
    dropout::{self, Dropout},
    gated_unit::{self, GatedUnit, GatedUnitForward, GatedUnitGradients},
    mean_over_time,
    rms_norm::{self, RmsNormGradients},
    scan::{self, LinearScan, LinearScanGradients},
    selective_scan::{self, SelectiveScan, SelectiveScanForward},
    ssd::{self, Ssd, SsdForward},
};

/// A burn backend with the operations of this crate.
pub trait Backend: BurnBackend {
    /// See [`diagonal_ssm_from`](crate::diagonal_ssm_from()).
    fn diagonal_ssm(
        input: FloatTensor<Self>,
        system: DiagonalSsm<FloatTensor<Self>>,
        initial_state: FloatTensor<Self>,
    ) -> DiagonalSsmOutput<FloatTensor<Self>>;

    /// See [`linear_scan`](crate::linear_scan()).
    fn linear_scan(scan: LinearScan<FloatTensor<Self>>) -> FloatTensor<Self>;

    /// See [`batch_norm`](crate::batch_norm()).
    fn batch_norm(input: FloatTensor<Self>, epsilon: f64) -> Normalized<FloatTensor<Self>>;

    /// See [`gated_unit`](crate::gated_unit()).
    fn gated_unit(
        input: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        weights: GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;

    /// See [`affine`](crate::affine()).
    fn affine(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// See [`rms_norm`](crate::rms_norm()).
    fn rms_norm(
        input: FloatTensor<Self>,
        gate: Option<FloatTensor<Self>>,
        weight: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`mean_over_time`](crate::mean_over_time()).
    fn mean_over_time(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`causal_conv`](crate::causal_conv()).
    fn causal_conv(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`selective_scan`](crate::selective_scan()).
    fn selective_scan(scan: SelectiveScan<FloatTensor<Self>>) -> FloatTensor<Self>;

    /// See [`ssd`](crate::ssd()).
    fn ssd(map: Ssd<FloatTensor<Self>>) -> FloatTensor<Self>;

    /// See [`normalize`](crate::normalize()).
    fn normalize(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::plain_normalize::<Self>(input, mean, variance, epsilon)
    }
}

/// Forward and backward kernels on a backend without automatic differentiation.
///
/// The plain scan is all that a backend must bring. Everything else is composed of tensor operations around it, and may
/// be replaced by a kernel where that pays.
pub trait Kernels: BurnBackend {
    /// All states of a scan.
    fn linear_scan_forward(scan: &LinearScan<FloatTensor<Self>>) -> FloatTensor<Self>;

    /// Gradients of every input of the scan, given its states.
    fn linear_scan_backward(
        scan: &LinearScan<FloatTensor<Self>>,
        states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> LinearScanGradients<FloatTensor<Self>>;

    /// Output, and the states that the backward pass restarts from.
    fn diagonal_ssm_forward(
        input: &FloatTensor<Self>,
        system: &DiagonalSsm<FloatTensor<Self>>,
        initial_state: &FloatTensor<Self>,
    ) -> DiagonalSsmForward<FloatTensor<Self>> {
        diagonal_ssm::composed::forward::<Self>(input, system, initial_state)
    }

    /// Gradients of every input of the forward pass.
    fn diagonal_ssm_backward(
        input: &FloatTensor<Self>,
        system: &DiagonalSsm<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> DiagonalSsmGradients<FloatTensor<Self>> {
        diagonal_ssm::composed::backward::<Self>(input, system, chunk_states, output_gradient)
    }

    /// Normalized input and the statistics it was normalized with.
    fn batch_norm_forward(
        input: &FloatTensor<Self>,
        epsilon: f64,
    ) -> Normalized<FloatTensor<Self>> {
        batch_norm::composed::forward::<Self>(input, epsilon)
    }

    /// Gradient of the input, through the statistics too.
    fn batch_norm_backward(
        normalized: &FloatTensor<Self>,
        variance: &FloatTensor<Self>,
        epsilon: f64,
        output_gradient: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        batch_norm::composed::backward::<Self>(normalized, variance, epsilon, output_gradient)
    }

    /// Input normalized by given statistics.
    fn normalize_forward(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::plain_normalize::<Self>(input, mean, variance, epsilon)
    }

    /// Factor of every element of a tensor of this shape in row-major order: bit for bit [`Dropout::factor`].
    fn dropout_factors(
        dropout: Dropout,
        shape: Shape,
        device: &Self::Device,
        dtype: DType,
    ) -> FloatTensor<Self> {
        dropout::factors_from_host::<Self>(dropout, shape, device, dtype)
    }

    /// Output of the gated unit, and its branches if they are kept.
    fn gated_unit_forward(
        input: &FloatTensor<Self>,
        skip: &FloatTensor<Self>,
        weights: &GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
    ) -> GatedUnitForward<FloatTensor<Self>> {
        gated_unit::composed::forward::<Self>(input, skip, weights, dropout)
    }

    /// Gradients of the input and the weights; the gradient of `skip` is the output's.
    fn gated_unit_backward(
        input: &FloatTensor<Self>,
        weights: &GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
        branches: Option<&[FloatTensor<Self>; 2]>,
        output_gradient: &FloatTensor<Self>,
    ) -> GatedUnitGradients<FloatTensor<Self>> {
        gated_unit::composed::backward::<Self>(input, weights, dropout, branches, output_gradient)
    }

    /// Output of an affine map, or of a linear one without bias.
    fn affine_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: Option<&FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        affine::composed::forward::<Self>(input, weight, bias)
    }

    /// Gradients of the weight, and of input and bias where they are `wanted`.
    fn affine_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
        wanted: [bool; 2],
    ) -> AffineGradients<FloatTensor<Self>> {
        affine::composed::backward::<Self>(input, weight, output_gradient, wanted)
    }

    /// Every step, gated if there is a gate, by the root mean square of its channels.
    fn rms_norm_forward(
        input: &FloatTensor<Self>,
        gate: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        rms_norm::composed::forward::<Self>(input, gate, weight, epsilon)
    }

    /// Gradients of what goes into that normalization.
    fn rms_norm_backward(
        input: &FloatTensor<Self>,
        gate: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        epsilon: f64,
        output_gradient: &FloatTensor<Self>,
    ) -> RmsNormGradients<FloatTensor<Self>> {
        rms_norm::composed::backward::<Self>(input, gate, weight, epsilon, output_gradient)
    }

    /// Mean over time, `[batch, hidden]`.
    fn mean_over_time_forward(input: FloatTensor<Self>) -> FloatTensor<Self> {
        mean_over_time::plain_forward::<Self>(input)
    }

    /// Gradient of the input, `[batch, length, hidden]`.
    fn mean_over_time_backward(gradient: FloatTensor<Self>, length: usize) -> FloatTensor<Self> {
        mean_over_time::plain_backward::<Self>(gradient, length)
    }

    /// Output of a causal convolution.
    fn causal_conv_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        causal_conv::composed::forward::<Self>(input, weight, bias)
    }

    /// Gradients of every input of a causal convolution.
    fn causal_conv_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> CausalConvGradients<FloatTensor<Self>> {
        causal_conv::composed::backward::<Self>(input, weight, bias, output_gradient)
    }

    /// Output of a selective scan, and the states that its backward pass restarts from.
    fn selective_scan_forward(
        scan: &SelectiveScan<FloatTensor<Self>>,
    ) -> SelectiveScanForward<FloatTensor<Self>> {
        selective_scan::composed::forward::<Self>(scan)
    }

    /// Gradients of every input of a selective scan.
    fn selective_scan_backward(
        scan: &SelectiveScan<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> SelectiveScan<FloatTensor<Self>> {
        selective_scan::composed::backward::<Self>(scan, chunk_states, output_gradient)
    }

    /// Output of the map of Mamba-2, and the states that its backward pass restarts from; `None` where there is no kernel for
    /// it, and it is made of tensor operations.
    fn ssd_forward(map: &Ssd<FloatTensor<Self>>) -> Option<SsdForward<FloatTensor<Self>>> {
        let _ = map;
        None
    }

    /// Gradients of every input of that map, after a forward pass by the kernel.
    fn ssd_backward(
        map: &Ssd<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> Ssd<FloatTensor<Self>> {
        let _ = (map, chunk_states, output_gradient);
        unreachable!("there was no forward pass by a kernel")
    }
}

/// An autodiff backend whose inner backend runs the same layers: what training is generic over.
pub trait TrainingBackend: Backend + AutodiffBackend<InnerBackend = Self::Inner> {
    /// The backend without automatic differentiation, for evaluation.
    type Inner: Backend<Device = Self::Device> + Kernels;
}

impl<B> TrainingBackend for B
where
    B: Backend + AutodiffBackend,
    B::InnerBackend: Backend<Device = B::Device> + Kernels,
{
    type Inner = B::InnerBackend;
}

/// [`Backend`] for a backend with [`Kernels`] and without automatic differentiation. Not a blanket implementation: the
/// compiler cannot know that `Autodiff` never gets kernels of its own.
macro_rules! plain_backend {
    ([$($generics:tt)*] $backend:ty) => {
        impl<$($generics)*> Backend for $backend {
            fn diagonal_ssm(
                input: FloatTensor<Self>,
                system: DiagonalSsm<FloatTensor<Self>>,
                initial_state: FloatTensor<Self>,
            ) -> DiagonalSsmOutput<FloatTensor<Self>> {
                Self::diagonal_ssm_forward(&input, &system, &initial_state).result
            }

            fn linear_scan(scan: LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
                Self::linear_scan_forward(&scan)
            }

            fn batch_norm(
                input: FloatTensor<Self>,
                epsilon: f64,
            ) -> Normalized<FloatTensor<Self>> {
                Self::batch_norm_forward(&input, epsilon)
            }

            fn gated_unit(
                input: FloatTensor<Self>,
                skip: FloatTensor<Self>,
                weights: GatedUnit<FloatTensor<Self>>,
                dropout: Option<Dropout>,
            ) -> FloatTensor<Self> {
                Self::gated_unit_forward(&input, &skip, &weights, dropout).output
            }

            fn affine(
                input: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Option<FloatTensor<Self>>,
            ) -> FloatTensor<Self> {
                Self::affine_forward(&input, &weight, bias.as_ref())
            }

            fn rms_norm(
                input: FloatTensor<Self>,
                gate: Option<FloatTensor<Self>>,
                weight: FloatTensor<Self>,
                epsilon: f64,
            ) -> FloatTensor<Self> {
                Self::rms_norm_forward(&input, gate.as_ref(), &weight, epsilon)
            }

            fn mean_over_time(input: FloatTensor<Self>) -> FloatTensor<Self> {
                Self::mean_over_time_forward(input)
            }

            fn causal_conv(
                input: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                Self::causal_conv_forward(&input, &weight, &bias)
            }

            fn selective_scan(scan: SelectiveScan<FloatTensor<Self>>) -> FloatTensor<Self> {
                Self::selective_scan_forward(&scan).output
            }

            fn ssd(map: Ssd<FloatTensor<Self>>) -> FloatTensor<Self> {
                match Self::ssd_forward(&map) {
                    Some(forward) => forward.output,
                    None => ssd::composed::ssd::<Self>(map),
                }
            }

            fn normalize(
                input: FloatTensor<Self>,
                mean: FloatTensor<Self>,
                variance: FloatTensor<Self>,
                epsilon: f64,
            ) -> FloatTensor<Self> {
                Self::normalize_forward(input, mean, variance, epsilon)
            }
        }
    };
}

plain_backend!([] burn_flex::Flex);

#[cfg(feature = "cube")]
plain_backend!(
    [R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement] CubeBackend<R, F, I, BT>
);

#[cfg(feature = "cube")]
plain_backend!([B: FusionBackend + LazyKernels] Fusion<B>);

#[cfg(feature = "libtorch")]
plain_backend!([E: burn::backend::libtorch::TchElement] burn::backend::LibTorch<E>);

impl Kernels for burn_flex::Flex {
    fn linear_scan_forward(scan: &LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        scan::flex::forward(scan)
    }

    fn linear_scan_backward(
        scan: &LinearScan<FloatTensor<Self>>,
        states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> LinearScanGradients<FloatTensor<Self>> {
        scan::flex::backward(scan, states, output_gradient)
    }

    fn diagonal_ssm_forward(
        input: &FloatTensor<Self>,
        system: &DiagonalSsm<FloatTensor<Self>>,
        initial_state: &FloatTensor<Self>,
    ) -> DiagonalSsmForward<FloatTensor<Self>> {
        diagonal_ssm::flex::forward(input, system, initial_state)
    }

    fn diagonal_ssm_backward(
        input: &FloatTensor<Self>,
        system: &DiagonalSsm<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> DiagonalSsmGradients<FloatTensor<Self>> {
        diagonal_ssm::flex::backward(input, system, chunk_states, output_gradient)
    }

    fn batch_norm_forward(
        input: &FloatTensor<Self>,
        epsilon: f64,
    ) -> Normalized<FloatTensor<Self>> {
        batch_norm::flex::forward(input, epsilon)
    }

    fn batch_norm_backward(
        normalized: &FloatTensor<Self>,
        variance: &FloatTensor<Self>,
        epsilon: f64,
        output_gradient: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        batch_norm::flex::backward(normalized, variance, epsilon, output_gradient)
    }

    fn normalize_forward(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::flex::normalize(&input, &mean, &variance, epsilon)
    }

    fn gated_unit_forward(
        input: &FloatTensor<Self>,
        skip: &FloatTensor<Self>,
        weights: &GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
    ) -> GatedUnitForward<FloatTensor<Self>> {
        gated_unit::flex::forward(input, skip, weights, dropout)
    }

    fn gated_unit_backward(
        input: &FloatTensor<Self>,
        weights: &GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
        branches: Option<&[FloatTensor<Self>; 2]>,
        output_gradient: &FloatTensor<Self>,
    ) -> GatedUnitGradients<FloatTensor<Self>> {
        gated_unit::flex::backward(input, weights, dropout, branches, output_gradient)
    }

    fn affine_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: Option<&FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        affine::flex::forward(input, weight, bias)
    }

    fn affine_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
        wanted: [bool; 2],
    ) -> AffineGradients<FloatTensor<Self>> {
        affine::flex::backward(input, weight, output_gradient, wanted)
    }

    fn rms_norm_forward(
        input: &FloatTensor<Self>,
        gate: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        rms_norm::flex::forward(input, gate, weight, epsilon)
    }

    fn rms_norm_backward(
        input: &FloatTensor<Self>,
        gate: Option<&FloatTensor<Self>>,
        weight: &FloatTensor<Self>,
        epsilon: f64,
        output_gradient: &FloatTensor<Self>,
    ) -> RmsNormGradients<FloatTensor<Self>> {
        rms_norm::flex::backward(input, gate, weight, epsilon, output_gradient)
    }

    fn mean_over_time_forward(input: FloatTensor<Self>) -> FloatTensor<Self> {
        mean_over_time::flex::forward(&input)
    }

    fn mean_over_time_backward(gradient: FloatTensor<Self>, length: usize) -> FloatTensor<Self> {
        mean_over_time::flex::backward(&gradient, length)
    }

    fn causal_conv_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        causal_conv::flex::forward(input, weight, bias)
    }

    fn causal_conv_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> CausalConvGradients<FloatTensor<Self>> {
        causal_conv::flex::backward(input, weight, bias, output_gradient)
    }

    fn selective_scan_forward(
        scan: &SelectiveScan<FloatTensor<Self>>,
    ) -> SelectiveScanForward<FloatTensor<Self>> {
        selective_scan::flex::forward(scan)
    }

    fn selective_scan_backward(
        scan: &SelectiveScan<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> SelectiveScan<FloatTensor<Self>> {
        selective_scan::flex::backward(scan, chunk_states, output_gradient)
    }

    fn ssd_forward(map: &Ssd<FloatTensor<Self>>) -> Option<SsdForward<FloatTensor<Self>>> {
        Some(ssd::flex::forward(map))
    }

    fn ssd_backward(
        map: &Ssd<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> Ssd<FloatTensor<Self>> {
        ssd::flex::backward(map, chunk_states, output_gradient)
    }
}

impl<B: Kernels, C: CheckpointStrategy> Backend for Autodiff<B, C> {
    fn diagonal_ssm(
        input: FloatTensor<Self>,
        system: DiagonalSsm<FloatTensor<Self>>,
        initial_state: FloatTensor<Self>,
    ) -> DiagonalSsmOutput<FloatTensor<Self>> {
        diagonal_ssm::autodiff::diagonal_ssm::<B, C>(input, system, initial_state)
    }

    fn linear_scan(scan: LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        scan::autodiff::linear_scan::<B, C>(scan)
    }

    fn batch_norm(input: FloatTensor<Self>, epsilon: f64) -> Normalized<FloatTensor<Self>> {
        batch_norm::autodiff::batch_norm::<B, C>(input, epsilon)
    }

    fn gated_unit(
        input: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        weights: GatedUnit<FloatTensor<Self>>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        gated_unit::autodiff::gated_unit::<B, C>(input, skip, weights, dropout)
    }

    fn affine(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        affine::autodiff::affine::<B, C>(input, weight, bias)
    }

    fn rms_norm(
        input: FloatTensor<Self>,
        gate: Option<FloatTensor<Self>>,
        weight: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        rms_norm::autodiff::rms_norm::<B, C>(input, gate, weight, epsilon)
    }

    fn mean_over_time(input: FloatTensor<Self>) -> FloatTensor<Self> {
        mean_over_time::autodiff::mean_over_time::<B, C>(input)
    }

    fn causal_conv(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        causal_conv::autodiff::causal_conv::<B, C>(input, weight, bias)
    }

    fn selective_scan(scan: SelectiveScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        selective_scan::autodiff::selective_scan::<B, C>(scan)
    }

    fn ssd(map: Ssd<FloatTensor<Self>>) -> FloatTensor<Self> {
        ssd::autodiff::ssd::<B, C>(map)
    }
}
