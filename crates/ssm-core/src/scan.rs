//! The plain scan h_k = a_k ∘ h_{k-1} + b_k, for layers that need the states themselves.

mod blocked;
#[cfg(feature = "cube")]
pub(crate) mod cube;
mod flex;

#[cfg(feature = "cube")]
use burn::tensor::{DType, Shape};
use burn::tensor::{Tensor, TensorMetadata, backend::Backend as BurnBackend, ops::FloatTensor, s};
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use crate::operation::OnCube;
use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Kernel, Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of factors, input and initial state, with the kind of factors and of entries: see [`linear_scan`](crate::linear_scan()).
#[derive(Clone, Copy, Debug)]
pub struct LinearScan;

impl Operation<3> for LinearScan {
    const NAME: &'static str = "linear_scan";
    const LENT: bool = true;

    type Settings = (Decay<()>, Field);
    type Outputs<T> = [T; 1];
    /// Factors, states and initial state.
    type Saved<T> = [T; 3];

    fn save<T: Clone>([decay, _, initial_state]: [T; 3], [states]: &[T; 1]) -> [T; 3] {
        [decay, states.clone(), initial_state]
    }

    fn forward<B: Backend>(
        inputs: [FloatTensor<B>; 3],
        kind: &(Decay<()>, Field),
    ) -> [FloatTensor<B>; 1] {
        [blocked::forward::<B>(&ScanParts::new(inputs, kind))]
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 3], FloatTensor<B>, 3>,
        kind: &(Decay<()>, Field),
    ) -> [Option<FloatTensor<B>>; 3] {
        let scanned = ScanParts::new(back.saved, kind);
        blocked::backward::<B>(&scanned, &back.gradient).map(Some)
    }

    fn native_forward<T: Real>(
        inputs: [FlexTensor; 3],
        kind: &(Decay<()>, Field),
    ) -> [FlexTensor; 1] {
        [flex::forward::<T>(&ScanParts::new(inputs, kind))]
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 3], FlexTensor, 3>,
        kind: &(Decay<()>, Field),
    ) -> [Option<FlexTensor>; 3] {
        let scanned = ScanParts::new(back.saved, kind);
        flex::backward::<T>(&scanned, &back.gradient).map(Some)
    }

    #[cfg(feature = "cube")]
    fn cube_outputs(
        [_, input, _]: &[Shape; 3],
        dtype: DType,
        _: &(Decay<()>, Field),
    ) -> Option<[(Shape, DType); 1]> {
        Some([(input.clone(), dtype)])
    }

    #[cfg(feature = "cube")]
    fn cube_forward<B: OnCube>(
        inputs: [FloatTensor<B>; 3],
        kind: &(Decay<()>, Field),
    ) -> [FloatTensor<B>; 1] {
        [cube::forward(&ScanParts::new(inputs, kind))]
    }

    #[cfg(feature = "cube")]
    fn cube_backward<B: OnCube>(
        back: Pullback<[FloatTensor<B>; 3], FloatTensor<B>, 3>,
        kind: &(Decay<()>, Field),
    ) -> [Option<FloatTensor<B>>; 3] {
        let scanned = ScanParts::new(back.saved, kind);
        cube::backward(&scanned, &back.gradient).map(Some)
    }
}

/// What the entries of a scan are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Real numbers; the last axis is `state` wide.
    Real,
    /// Complex numbers as planes: the last axis is `2 * state` wide, real parts first, then imaginary parts.
    Complex,
}

/// The factors a_k.
#[derive(Clone, Debug)]
pub enum Decay<T> {
    /// The same at every step, `[width]`.
    Constant(T),
    /// One per batch row and step, `[batch, length, width]`.
    PerStep(T),
}

impl<T> Decay<T> {
    /// The tensor, whichever it is.
    pub fn tensor(&self) -> &T {
        match self {
            Self::Constant(tensor) | Self::PerStep(tensor) => tensor,
        }
    }

    /// The same kind of decay around another tensor.
    pub fn with<U>(&self, tensor: U) -> Decay<U> {
        match self {
            Self::Constant(_) => Decay::Constant(tensor),
            Self::PerStep(_) => Decay::PerStep(tensor),
        }
    }
}

/// Everything that goes into a scan, or into its backward pass, as a backend's primitives.
#[derive(Clone, Debug)]
pub(crate) struct ScanParts<T> {
    /// a.
    pub(crate) decay: Decay<T>,
    /// b, `[batch, length, width]`; on the way back the states instead, of the same shape.
    pub(crate) sequence: T,
    /// h_{-1}, `[batch, width]`.
    pub(crate) initial_state: T,
    /// How the last axis is read.
    pub(crate) field: Field,
}

impl<T> ScanParts<T> {
    fn new(parts: [T; 3], (decay, field): &(Decay<()>, Field)) -> Self {
        let [factors, sequence, initial_state] = parts;
        Self {
            decay: decay.with(factors),
            sequence,
            initial_state,
            field: *field,
        }
    }

    fn kind(&self) -> (Decay<()>, Field) {
        (self.decay.with(()), self.field)
    }
}

impl<T: Clone> ScanParts<T> {
    fn primitives(&self) -> [T; 3] {
        [self.decay.tensor(), &self.sequence, &self.initial_state].map(Clone::clone)
    }
}

/// All states, for operations that are composed around a scan.
pub(crate) fn scan_states<B: Backend>(scan: &ScanParts<FloatTensor<B>>) -> FloatTensor<B> {
    let [states] = <B as Run<LinearScan, 3>>::run(scan.primitives(), &scan.kind());
    states
}

/// Gradients of factors, input and initial state from that of the `states`.
pub(crate) fn scan_gradients<B: Kernels>(
    scan: &ScanParts<FloatTensor<B>>,
    states: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let back = Pullback {
        shapes: scan.primitives().map(|part| part.shape()),
        saved: LinearScan::save(scan.primitives(), &[states]),
        gradient,
        wanted: [true; 3],
    };
    let gradients = <B as Kernel<LinearScan, 3>>::backward(back, &scan.kind());
    gradients.map(|gradient| gradient.expect("all of them are wanted"))
}

/// The factors a_k as tensors.
#[derive(Clone, Debug)]
pub enum DecayTensor<B: BurnBackend> {
    /// The same at every step, `[width]`.
    Constant(Tensor<B, 1>),
    /// One per batch row and step, `[batch, length, width]`.
    PerStep(Tensor<B, 3>),
}

impl<B: BurnBackend> DecayTensor<B> {
    fn into_primitive(self) -> (FloatTensor<B>, Decay<()>) {
        match self {
            Self::Constant(a) => (primitive(a), Decay::Constant(())),
            Self::PerStep(a) => (primitive(a), Decay::PerStep(())),
        }
    }

    /// What step `k` multiplies with, `[1 or batch, width]`.
    fn step(&self, k: usize) -> Tensor<B, 2> {
        match self {
            Self::Constant(a) => a.clone().unsqueeze(),
            Self::PerStep(a) => a.clone().slice(s![.., k, ..]).squeeze_dim(1),
        }
    }
}

/// All states h_k = a_k ∘ h_{k-1} + b_k, with complex products where `field` says so.
///
/// # Shapes
/// - `decay`: `[width]` or `[batch, length, width]`; `input`: `[batch, length, width]`
/// - `initial_state`: h_{-1}, `[batch, width]`; zero if `None`
/// - returns `[batch, length, width]`
///
/// # Panics
/// When the shapes do not fit together, or a complex width is odd.
pub fn linear_scan<B: Backend>(
    decay: DecayTensor<B>,
    input: Tensor<B, 3>,
    initial_state: Option<Tensor<B, 2>>,
    field: Field,
) -> Tensor<B, 3> {
    let [batch, length, width] = input.dims();
    assert!(
        field == Field::Real || width.is_multiple_of(2),
        "a complex scan has a real and an imaginary plane, so its width {width} is even"
    );
    match &decay {
        DecayTensor::Constant(a) => assert_eq!(a.dims(), [width], "one factor per state"),
        DecayTensor::PerStep(a) => {
            assert_eq!(a.dims(), [batch, length, width], "one factor per step")
        }
    }
    let initial_state = initial_state.unwrap_or_else(|| zero_state(&input, width));
    assert_eq!(
        initial_state.dims(),
        [batch, width],
        "one state per batch row"
    );
    let (decay, kind) = decay.into_primitive();
    let inputs = [decay, primitive(input), primitive(initial_state)];
    let [states] = <B as Run<LinearScan, 3>>::run(inputs, &(kind, field));
    tensor(states)
}

/// The state before the first input of every row of `input`, when nothing is known of it.
pub(crate) fn zero_state<B: BurnBackend>(input: &Tensor<B, 3>, width: usize) -> Tensor<B, 2> {
    Tensor::zeros([input.dims()[0], width], (&input.device(), input.dtype()))
}

/// The same in plain tensor operations, one step after the other: the twin of the kernels.
pub fn linear_scan_reference<B: BurnBackend>(
    decay: DecayTensor<B>,
    input: Tensor<B, 3>,
    initial_state: Option<Tensor<B, 2>>,
    field: Field,
) -> Tensor<B, 3> {
    let [_, length, width] = input.dims();
    let mut state = initial_state.unwrap_or_else(|| zero_state(&input, width));
    let mut states = Vec::with_capacity(length);
    for k in 0..length {
        let b = input.clone().slice(s![.., k, ..]).squeeze_dim(1);
        state = multiply(decay.step(k), state, field) + b;
        states.push(state.clone());
    }
    Tensor::stack(states, 1)
}

fn multiply<B: BurnBackend>(a: Tensor<B, 2>, h: Tensor<B, 2>, field: Field) -> Tensor<B, 2> {
    match field {
        Field::Real => a * h,
        Field::Complex => {
            let planes = |t: Tensor<B, 2>| {
                let [re, im]: [Tensor<B, 2>; 2] = t.chunk(2, 1).try_into().expect("two planes");
                (re, im)
            };
            let ((a_re, a_im), (h_re, h_im)) = (planes(a), planes(h));
            let re = a_re.clone() * h_re.clone() - a_im.clone() * h_im.clone();
            Tensor::cat(vec![re, a_re * h_im + a_im * h_re], 1)
        }
    }
}
