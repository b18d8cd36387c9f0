//! What an operation of this crate is, apart from the backends that run it.
//!
//! An operation is a type that implements [`Operation`]: its inputs and settings, what it keeps for its backward pass, and
//! both passes in tensor operations, which every backend can run. Where a kernel of its own pays it brings one: for the
//! CPU, for CubeCL devices, or for both. All else is written once for all operations: the node of the autodiff graph, the
//! lazy operation of a fusing backend, the loan of LibTorch's memory to the CPU's kernel, and the choice of an element
//! type. A line in `backend.rs` registers it.

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
pub(crate) mod flex;
#[cfg(feature = "cube")]
mod fusion;
#[cfg(feature = "libtorch")]
mod libtorch;

#[cfg(feature = "cube")]
pub use cube::OnCube;
#[cfg(feature = "libtorch")]
pub use libtorch::libtorch_device;

use std::{array::from_fn, fmt::Debug};

use burn::tensor::{Shape, TensorMetadata, backend::Backend as BurnBackend, ops::FloatTensor};
use burn_flex::{Flex, FlexTensor};

use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
};

/// An operation on `N` tensors, of which optional ones come last: an operation may be one for several `N`.
pub trait Operation<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// What it is called in the stream of a fusing backend.
    const NAME: &'static str;

    /// Where its backward pass is written by hand.
    const BACKWARD: ByHand = ByHand::Everywhere;

    /// Whether LibTorch's tensors on the CPU are lent to the native kernel: what LibTorch has no good operations for.
    const LENT: bool = false;

    /// What it is told beside its inputs: plain data.
    type Settings: Clone + Debug + Send + Sync + 'static;

    /// What comes of it. The first is differentiated, others are not.
    type Outputs<T>: Tensors<T>;

    /// What its backward pass needs of inputs and outputs.
    type Saved<T>: Tensors<T>;

    /// Keeps it.
    fn save<T: Clone>(inputs: [T; N], outputs: &Self::Outputs<T>) -> Self::Saved<T>;

    /// The outputs, by tensor operations.
    fn forward<B: Backend>(
        inputs: [FloatTensor<B>; N],
        settings: &Self::Settings,
    ) -> Self::Outputs<FloatTensor<B>>;

    /// The gradients, by tensor operations.
    fn backward<B: Kernels>(
        back: Pullback<Self::Saved<FloatTensor<B>>, FloatTensor<B>, N>,
        settings: &Self::Settings,
    ) -> [Option<FloatTensor<B>>; N] {
        let _ = (back, settings);
        unreachable!("the tensor operations of {} are differentiated", Self::NAME)
    }

    /// The outputs, by the CPU's kernel if there is one. The inputs are contiguous.
    fn native_forward<T: Real>(
        inputs: [FlexTensor; N],
        settings: &Self::Settings,
    ) -> Self::Outputs<FlexTensor> {
        Self::forward::<Flex>(inputs, settings)
    }

    /// The gradients, by the CPU's kernel if there is one. All tensors are contiguous.
    fn native_backward<T: Real>(
        back: Pullback<Self::Saved<FlexTensor>, FlexTensor, N>,
        settings: &Self::Settings,
    ) -> [Option<FlexTensor>; N] {
        Self::backward::<Flex>(back, settings)
    }

    /// Shape and type of every output where the kernel below is to run as one operation of a fusing backend's stream; `None`
    /// where the tensor operations are fused instead. All inputs are of one type.
    #[cfg(feature = "cube")]
    fn cube_outputs(
        shapes: &[Shape; N],
        dtype: burn::tensor::DType,
        settings: &Self::Settings,
    ) -> Option<Self::Outputs<(Shape, burn::tensor::DType)>> {
        let _ = (shapes, dtype, settings);
        None
    }

    /// The outputs, by the kernel of CubeCL devices if there is one.
    #[cfg(feature = "cube")]
    fn cube_forward<B: OnCube>(
        inputs: [FloatTensor<B>; N],
        settings: &Self::Settings,
    ) -> Self::Outputs<FloatTensor<B>> {
        Self::forward::<B>(inputs, settings)
    }

    /// The gradients, by the kernel of CubeCL devices if there is one.
    #[cfg(feature = "cube")]
    fn cube_backward<B: OnCube>(
        back: Pullback<Self::Saved<FloatTensor<B>>, FloatTensor<B>, N>,
        settings: &Self::Settings,
    ) -> [Option<FloatTensor<B>>; N] {
        Self::backward::<B>(back, settings)
    }
}

/// Where the backward pass of an operation is written by hand. Elsewhere `Autodiff` records the tensor operations that its
/// forward pass is composed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHand {
    /// In tensor operations at least.
    Everywhere,
    /// For the CPU's kernel alone.
    Natively,
    /// Nowhere.
    Nowhere,
}

/// A fixed number of tensors, or of what there is one of for each.
pub trait Tensors<T>: Sized {
    /// All in order.
    fn into_vec(self) -> Vec<T>;

    /// The same back from it.
    fn of_vec(all: Vec<T>) -> Self;

    /// Every one through `f`.
    fn map<U, G: Tensors<U>>(self, f: impl FnMut(T) -> U) -> G {
        G::of_vec(self.into_vec().into_iter().map(f).collect())
    }
}

const AS_MANY: &str = "there are as many tensors as went in";

impl<T, const K: usize> Tensors<T> for [T; K] {
    fn into_vec(self) -> Vec<T> {
        self.into()
    }

    fn of_vec(all: Vec<T>) -> Self {
        let mut all = all.into_iter();
        from_fn(|_| all.next().expect(AS_MANY))
    }
}

/// With some that only one of several kernels has.
impl<T, const K: usize, const L: usize> Tensors<T> for ([T; K], Option<[T; L]>) {
    fn into_vec(self) -> Vec<T> {
        let (always, at_times) = self;
        let at_times = at_times.into_iter().flatten();
        always.into_iter().chain(at_times).collect()
    }

    fn of_vec(mut all: Vec<T>) -> Self {
        let at_times = all.split_off(K);
        let is_there = !at_times.is_empty();
        (
            Tensors::of_vec(all),
            is_there.then(|| Tensors::of_vec(at_times)),
        )
    }
}

/// What a backward pass begins with.
#[derive(Clone, Debug)]
pub struct Pullback<S, T, const N: usize> {
    /// What the operation kept.
    pub saved: S,
    /// Gradient of the first output.
    pub gradient: T,
    /// Of the inputs.
    pub shapes: [Shape; N],
    /// The inputs whose gradients are asked for. These must be found, others may be.
    pub wanted: [bool; N],
}

impl<S, T, const N: usize> Pullback<S, T, N> {
    /// Whether there is an input of this number and its gradient is asked for.
    pub(crate) fn wants(&self, input: usize) -> bool {
        self.wanted.get(input) == Some(&true)
    }
}

/// The first `K` inputs, and the optional one behind them.
pub(crate) fn with_optional<T, const K: usize, const N: usize>(
    inputs: [T; N],
) -> ([T; K], Option<T>) {
    let mut inputs = inputs.into_iter();
    let required = from_fn(|_| inputs.next().expect("only the last input is optional"));
    (required, inputs.next())
}

/// Gradients of as many inputs as there are.
pub(crate) fn leading<T, const K: usize, const N: usize>(
    mut gradients: [Option<T>; K],
) -> [Option<T>; N] {
    from_fn(|input| gradients[input].take())
}

/// A backend that can run an operation.
pub trait Run<O: Operation<N>, const N: usize>: BurnBackend {
    /// The outputs.
    fn run(inputs: [FloatTensor<Self>; N], settings: &O::Settings)
    -> O::Outputs<FloatTensor<Self>>;
}

/// A backend without automatic differentiation that can also run an operation's backward pass.
pub trait Kernel<O: Operation<N>, const N: usize>: Run<O, N> {
    /// Whether there is a backward pass by hand for these inputs.
    fn has_backward(inputs: &[FloatTensor<Self>; N]) -> bool;

    /// The gradients, of those inputs at least that want one.
    fn backward(
        back: Pullback<O::Saved<FloatTensor<Self>>, FloatTensor<Self>, N>,
        settings: &O::Settings,
    ) -> [Option<FloatTensor<Self>>; N];
}

/// An operation after its forward pass: the state of its node in a graph, or by itself what a bench calls.
///
/// # Example
/// ```
/// use burn::backend::Flex;
/// use burn::tensor::Tensor;
/// use ssm_core::{Recorded, operations::MeanOverTime};
///
/// let input = Tensor::<Flex, 3>::ones([2, 10, 4], &Default::default());
/// let input = input.into_primitive().tensor();
/// let ([mean], way_back) = Recorded::<MeanOverTime, Flex, 1>::run([input], ());
/// let [gradient] = way_back.backward(mean, [true]);
/// assert!(gradient.is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Recorded<O: Operation<N>, B: BurnBackend, const N: usize> {
    saved: Vec<FloatTensor<B>>,
    shapes: [Shape; N],
    settings: O::Settings,
}

impl<O: Operation<N>, B: Kernel<O, N>, const N: usize> Recorded<O, B, N> {
    /// The outputs, and the way back.
    pub fn run(
        inputs: [FloatTensor<B>; N],
        settings: O::Settings,
    ) -> (O::Outputs<FloatTensor<B>>, Self) {
        let shapes = inputs.each_ref().map(FloatTensor::<B>::shape);
        let outputs = B::run(inputs.clone(), &settings);
        let saved = O::save(inputs, &outputs).into_vec();
        let way_back = Self {
            saved,
            shapes,
            settings,
        };
        (outputs, way_back)
    }

    /// Gradients of the inputs from that of the first output; those that are `wanted` are there.
    pub fn backward(
        self,
        gradient: FloatTensor<B>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<B>>; N] {
        let back = Pullback {
            saved: Tensors::of_vec(self.saved),
            gradient,
            shapes: self.shapes,
            wanted,
        };
        B::backward(back, &self.settings)
    }
}
