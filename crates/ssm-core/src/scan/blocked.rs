//! The scan in tensor operations, for devices without a kernel of their own.
//!
//! The sequence is cut into about √length blocks of about √length steps. All blocks take a step at a time side by side,
//! from zero states; then the states that the blocks really start from are carried from block to block; then every step
//! gets what its block's start contributes, which is that state times the product of the factors since. Twice √length
//! dependent operations on large tensors, and no division: nothing overflows that would not in a step-by-step scan.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor, s};

use super::{Decay, Field, ScanParts};
use crate::primitive::{primitive, tensor};

/// Real or complex numbers, the parts of the latter in tensors of their own.
#[derive(Clone)]
struct Numbers<B: Backend, const D: usize> {
    re: Tensor<B, D>,
    im: Option<Tensor<B, D>>,
}

impl<B: Backend, const D: usize> Numbers<B, D> {
    /// From planes along the last axis.
    fn from_planes(planes: Tensor<B, D>, field: Field) -> Self {
        let states = planes.dims()[D - 1] / 2;
        match field {
            Field::Real => Self {
                re: planes,
                im: None,
            },
            Field::Complex => Self {
                re: planes.clone().narrow(D - 1, 0, states),
                im: Some(planes.narrow(D - 1, states, states)),
            },
        }
    }

    fn into_planes(self) -> Tensor<B, D> {
        match self.im {
            None => self.re,
            Some(im) => Tensor::cat(vec![self.re, im], D - 1),
        }
    }

    fn map<const E: usize>(self, f: impl Fn(Tensor<B, D>) -> Tensor<B, E>) -> Numbers<B, E> {
        Numbers {
            re: f(self.re),
            im: self.im.map(f),
        }
    }

    /// The same operation on the parts of many numbers.
    fn join<const E: usize>(
        all: Vec<Self>,
        f: impl Fn(Vec<Tensor<B, D>>) -> Tensor<B, E>,
    ) -> Numbers<B, E> {
        let (re, im): (Vec<_>, Vec<_>) = all.into_iter().map(|n| (n.re, n.im)).unzip();
        let im: Option<Vec<_>> = im.into_iter().collect();
        Numbers {
            re: f(re),
            im: im.map(f),
        }
    }

    fn conjugate(self) -> Self {
        Self {
            re: self.re,
            im: self.im.map(|im| -im),
        }
    }

    fn times(&self, other: &Self) -> Self {
        let (a, b) = (self, other);
        let re = a.re.clone() * b.re.clone();
        match (&a.im, &b.im) {
            (Some(a_im), Some(b_im)) => Self {
                re: re - a_im.clone() * b_im.clone(),
                im: Some(a.re.clone() * b_im.clone() + a_im.clone() * b.re.clone()),
            },
            _ => Self { re, im: None },
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im.zip(other.im).map(|(a, b)| a + b),
        }
    }
}

impl<B: Backend> Numbers<B, 4> {
    /// Step `index` of every block, `[batch, blocks, 1, state]`; the only one if all are the same.
    fn step(&self, index: usize) -> Self {
        let index = index.min(self.re.dims()[2] - 1);
        self.clone().map(|part| part.narrow(2, index, 1))
    }

    /// One block, `[batch, 1, steps, state]`; the only one if all are the same.
    fn block(&self, index: usize) -> Self {
        let index = index.min(self.re.dims()[1] - 1);
        self.clone().map(|part| part.narrow(1, index, 1))
    }
}

/// Blocks and the steps of each: at least as many steps as there are, for about as many blocks as steps.
fn blocking(length: usize) -> [usize; 2] {
    let steps = (length as f64).sqrt().ceil() as usize;
    [length.div_ceil(steps), steps]
}

/// `[batch, length, state]` as `[batch, blocks, steps, state]`, with zeros behind the end.
fn blocked<B: Backend>(sequence: Tensor<B, 3>, [blocks, steps]: [usize; 2]) -> Tensor<B, 4> {
    let [batch, length, states] = sequence.dims();
    let missing = blocks * steps - length;
    let padded = match missing {
        0 => sequence,
        _ => {
            let options = (&sequence.device(), sequence.dtype());
            let zeros = Tensor::zeros([batch, missing, states], options);
            Tensor::cat(vec![sequence, zeros], 1)
        }
    };
    padded.reshape([batch, blocks, steps, states])
}

/// All states, from factors `[1, 1, 1, state]` or `[batch, blocks, steps, state]`, inputs in blocks and the initial
/// state `[batch, 1, 1, state]`.
fn scan_blocks<B: Backend>(
    decay: &Numbers<B, 4>,
    input: &Numbers<B, 4>,
    initial_state: Numbers<B, 4>,
) -> Numbers<B, 4> {
    let [_, blocks, steps, _] = input.re.dims();

    // 1. Every block from zero, and the products of the factors since its start.
    let (mut states, mut products) = (vec![input.step(0)], vec![decay.step(0)]);
    for k in 1..steps {
        let factor = decay.step(k);
        states.push(factor.times(&states[k - 1]).plus(input.step(k)));
        products.push(factor.times(&products[k - 1]));
    }
    let (last_state, last_product) = (states[steps - 1].clone(), products[steps - 1].clone());

    // 2. The states that the blocks start from.
    let mut starts = vec![initial_state];
    for index in 0..blocks - 1 {
        let kept = last_product.block(index).times(&starts[index]);
        starts.push(kept.plus(last_state.block(index)));
    }

    // 3. What the starts contribute to every step.
    let starts = Numbers::join(starts, |parts| Tensor::cat(parts, 1));
    let [states, products] =
        [states, products].map(|all| Numbers::join(all, |parts| Tensor::cat(parts, 2)));
    products.times(&starts).plus(states)
}

/// The scan on parts of planes: `decay` is `[1, 1, state]` or `[batch, length, state]`.
fn scan<B: Backend>(
    decay: Numbers<B, 3>,
    input: Numbers<B, 3>,
    initial_state: Numbers<B, 2>,
) -> Numbers<B, 3> {
    let [batch, length, states] = input.re.dims();
    let blocking = blocking(length);
    let decay = match decay.re.dims()[1] == length {
        true => decay.map(|part| blocked(part, blocking)),
        false => decay.map(|part| part.unsqueeze_dim(2)),
    };
    let input = input.map(|part| blocked(part, blocking));
    let initial_state = initial_state.map(|part| part.reshape([batch, 1, 1, states]));
    scan_blocks(&decay, &input, initial_state).map(|part| {
        let flat = part.reshape([batch, blocking[0] * blocking[1], states]);
        flat.narrow(1, 0, length)
    })
}

/// The factors as `[1, 1, state]` or `[batch, length, state]`.
fn decay<B: Backend>(scan: &ScanParts<FloatTensor<B>>) -> Numbers<B, 3> {
    let planes = match &scan.decay {
        Decay::Constant(a) => tensor::<B, 1>(a.clone()).unsqueeze(),
        Decay::PerStep(a) => tensor(a.clone()),
    };
    Numbers::from_planes(planes, scan.field)
}

pub(super) fn forward<B: Backend>(scan: &ScanParts<FloatTensor<B>>) -> FloatTensor<B> {
    let input = Numbers::from_planes(tensor(scan.sequence.clone()), scan.field);
    let initial_state = Numbers::from_planes(tensor(scan.initial_state.clone()), scan.field);
    let states = self::scan::<B>(decay(scan), input, initial_state);
    primitive(states.into_planes())
}

/// Gradients of factors, input and initial state.
///
/// s_k = g_k + conj(a_{k+1}) s_{k+1} is the scan of the reversed sequence by the conjugate factors, one step late.
pub(super) fn backward<B: Backend>(
    scan: &ScanParts<FloatTensor<B>>,
    output_gradient: &FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let decay = decay::<B>(scan).conjugate();
    let gradient: Tensor<B, 3> = tensor(output_gradient.clone());
    let initial_state: Tensor<B, 2> = tensor(scan.initial_state.clone());
    let [_, length, _] = gradient.dims();
    let reversed = |part: Tensor<B, 3>| part.flip([1]);

    // The first factor of the reversed sequence meets a zero state: any will do.
    let late = match &scan.decay {
        Decay::Constant(_) => decay.clone(),
        // To later steps: `roll_dim` counts the other way.
        Decay::PerStep(_) => decay.clone().map(|part| reversed(part).roll_dim(-1, 1)),
    };
    let adjoints = self::scan::<B>(
        late,
        Numbers::from_planes(reversed(gradient), scan.field),
        Numbers::from_planes(initial_state.zeros_like(), scan.field),
    )
    .map(reversed);

    let states: Tensor<B, 3> = tensor(scan.sequence.clone());
    let mut before = vec![initial_state.unsqueeze_dim(1)];
    if length > 1 {
        before.push(states.slice(s![.., ..length - 1, ..]));
    }
    let before = Tensor::cat(before, 1);
    let before = Numbers::from_planes(before, scan.field).conjugate();
    let decay_gradient = adjoints.times(&before).into_planes();
    let first = |numbers: &Numbers<B, 3>| numbers.clone().map(|part| part.narrow(1, 0, 1));
    let initial_gradient = first(&decay).times(&first(&adjoints)).into_planes();
    let decay_gradient = match &scan.decay {
        Decay::PerStep(_) => primitive(decay_gradient),
        Decay::Constant(_) => {
            let over_time = decay_gradient.sum_dim(1).squeeze_dim::<2>(1);
            primitive(over_time.sum_dim(0).squeeze_dim::<1>(0))
        }
    };
    [
        decay_gradient,
        primitive(adjoints.into_planes()),
        primitive(initial_gradient.squeeze_dim::<2>(1)),
    ]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        scan::LinearScan,
        testing::{assert_composed_equals_native, random},
    };

    #[test]
    fn blocks_equal_one_step_after_the_other() {
        for field in [Field::Real, Field::Complex] {
            // One step, one block and a bit, a square, an incomplete last block, a last block of padding only.
            for [batch, length, state] in [[1, 1, 1], [2, 2, 3], [3, 16, 4], [2, 23, 5], [1, 5, 1]]
            {
                let width = match field {
                    Field::Real => state,
                    Field::Complex => 2 * state,
                };
                let shape = [batch, length, width];
                let constant = primitive(random::<Flex, 1>(1, [width]));
                let per_step = primitive(random::<Flex, 3>(2, shape));
                for (decay, kind) in [
                    (constant, Decay::Constant(())),
                    (per_step, Decay::PerStep(())),
                ] {
                    let input = primitive(random::<Flex, 3>(3, shape));
                    let inputs = [
                        decay,
                        input,
                        primitive(random::<Flex, 2>(4, [batch, width])),
                    ];
                    let gradient = primitive(random::<Flex, 3>(5, shape));
                    let kind = (kind, field);
                    assert_composed_equals_native::<LinearScan, 3>(inputs, kind, gradient, 1);
                }
            }
        }
    }
}
