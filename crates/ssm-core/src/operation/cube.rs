//! Operations on CubeCL devices (wgpu, CUDA).

use burn::tensor::{backend::Backend as BurnBackend, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};

use super::{ByHand, Kernel, Operation, Pullback, Run};
use crate::backend::Kernels;

/// A backend whose tensors lie on a CubeCL device.
pub trait OnCube: Kernels + BurnBackend<FloatTensorPrimitive = CubeTensor<Self::Runtime>> {
    /// What runs there.
    type Runtime: CubeRuntime;
}

impl<R, F, I, BT> OnCube for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type Runtime = R;
}

impl<O, R, F, I, BT, const N: usize> Run<O, N> for CubeBackend<R, F, I, BT>
where
    O: Operation<N>,
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn run(
        inputs: [FloatTensor<Self>; N],
        settings: &O::Settings,
    ) -> O::Outputs<FloatTensor<Self>> {
        O::cube_forward::<Self>(inputs, settings)
    }
}

impl<O, R, F, I, BT, const N: usize> Kernel<O, N> for CubeBackend<R, F, I, BT>
where
    O: Operation<N>,
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn has_backward(_inputs: &[FloatTensor<Self>; N]) -> bool {
        O::BACKWARD == ByHand::Everywhere
    }

    fn backward(
        back: Pullback<O::Saved<FloatTensor<Self>>, FloatTensor<Self>, N>,
        settings: &O::Settings,
    ) -> [Option<FloatTensor<Self>>; N] {
        O::cube_backward::<Self>(back, settings)
    }
}
