//! The operations of this crate, a line for each, and the backends that can run all of them.

use burn::tensor::{
    backend::{AutodiffBackend, Backend as BurnBackend},
    ops::FloatTensor,
};
use burn_flex::Flex;

use crate::operation::{self, ByHand, Kernel, Operation, Pullback, Run};

/// Registers operations: the module and name of each, with the numbers of inputs that it may have.
macro_rules! operations {
    ($($module:ident :: $name:ident [$($inputs:literal),+]),+ $(,)?) => {
        /// A burn backend with the operations of this crate: what layers are generic over.
        pub trait Backend: BurnBackend $($(+ Run<crate::$module::$name, $inputs>)+)+ {}

        impl<B> Backend for B where B: BurnBackend $($(+ Run<crate::$module::$name, $inputs>)+)+ {}

        /// A backend without automatic differentiation that has a backward pass for each of them. `Autodiff` around it is
        /// a [`Backend`] with one node in the graph per operation.
        pub trait Kernels: Backend $($(+ Kernel<crate::$module::$name, $inputs>)+)+ {}

        impl<B> Kernels for B where B: Backend $($(+ Kernel<crate::$module::$name, $inputs>)+)+ {}

        $($(native! { crate::$module::$name, $inputs })+)+

        /// Every operation that there is.
        pub mod operations {
            $(pub use crate::$module::$name;)+
        }
    };
}

/// An operation on the CPU: not for all of them at once, which would compile kernels wherever they are called from.
macro_rules! native {
    ($operation:ty, $inputs:literal) => {
        impl Run<$operation, $inputs> for Flex {
            fn run(
                inputs: [FloatTensor<Self>; $inputs],
                settings: &<$operation as Operation<$inputs>>::Settings,
            ) -> <$operation as Operation<$inputs>>::Outputs<FloatTensor<Self>> {
                operation::flex::forward::<$operation, $inputs>(inputs, settings)
            }
        }

        impl Kernel<$operation, $inputs> for Flex {
            fn has_backward(_inputs: &[FloatTensor<Self>; $inputs]) -> bool {
                <$operation as Operation<$inputs>>::BACKWARD != ByHand::Nowhere
            }

            fn backward(
                back: Pullback<
                    <$operation as Operation<$inputs>>::Saved<FloatTensor<Self>>,
                    FloatTensor<Self>,
                    $inputs,
                >,
                settings: &<$operation as Operation<$inputs>>::Settings,
            ) -> [Option<FloatTensor<Self>>; $inputs] {
                operation::flex::backward::<$operation, $inputs>(back, settings)
            }
        }
    };
}

operations! {
    affine::Affine[2, 3],
    batch_norm::BatchNorm[1],
    batch_norm::Normalize[3],
    causal_conv::CausalConv[3],
    channel_ssm::ChannelSsm[6],
    diagonal_ssm::DiagonalSsm[9],
    dropout::DropoutFactors[1],
    gated_unit::GatedUnit[6],
    mean_over_time::MeanOverTime[1],
    rms_norm::RmsNorm[2, 3],
    scan::LinearScan[3],
    selective_scan::SelectiveScan[7],
    ssd::Ssd[6],
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
