//! The plain scan h_k = a_k ∘ h_{k-1} + b_k, for layers that need the states themselves.

pub(crate) mod autodiff;
#[cfg(any(test, feature = "libtorch"))]
pub(crate) mod blocked;
#[cfg(feature = "cube")]
pub(crate) mod cube;
pub(crate) mod flex;

use burn::tensor::{Tensor, TensorPrimitive, backend::Backend as BurnBackend, ops::FloatTensor, s};

use crate::backend::Backend;

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

/// Everything that goes into a scan, as a backend's primitives.
#[derive(Clone, Debug)]
pub struct LinearScan<T> {
    /// a.
    pub decay: Decay<T>,
    /// b, `[batch, length, width]`.
    pub input: T,
    /// h_{-1}, `[batch, width]`.
    pub initial_state: T,
    /// How the last axis is read.
    pub field: Field,
}

/// Gradients of everything that goes into a scan.
#[derive(Clone, Debug)]
pub struct LinearScanGradients<T> {
    /// Gradient of a, in its shape.
    pub decay: T,
    /// Gradient of b.
    pub input: T,
    /// Gradient of h_{-1}.
    pub initial_state: T,
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
    fn into_primitive(self) -> Decay<FloatTensor<B>> {
        match self {
            Self::Constant(a) => Decay::Constant(a.into_primitive().tensor()),
            Self::PerStep(a) => Decay::PerStep(a.into_primitive().tensor()),
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
    let states = B::linear_scan(LinearScan {
        decay: decay.into_primitive(),
        input: input.into_primitive().tensor(),
        initial_state: initial_state.into_primitive().tensor(),
        field,
    });
    Tensor::from_primitive(TensorPrimitive::Float(states))
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
