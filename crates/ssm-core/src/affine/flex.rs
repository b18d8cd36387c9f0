//! Native CPU kernel: blocks of rows in parallel.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    AffineGradients,
    native::{Affine, AffineGradient},
};
use crate::cpu::{Destination, REDUCTION_PIECES, Real, dims, tensor};

/// Rows of a block: a multiple of every tile, and enough that the blocked routine packs the weight rarely.
const BLOCK_ROWS: usize = 240;

pub(crate) fn forward(input: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, weight, bias),
        _ => forward_typed::<f32>(input, weight, bias),
    }
}

pub(crate) fn backward(
    input: &FlexTensor,
    weight: &FlexTensor,
    output_gradient: &FlexTensor,
    of_input: bool,
) -> AffineGradients<FlexTensor> {
    match input.dtype() {
        DType::F64 => backward_typed::<f64>(input, weight, output_gradient, of_input),
        _ => backward_typed::<f32>(input, weight, output_gradient, of_input),
    }
}

fn forward_typed<T: Real>(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
) -> FlexTensor {
    let ([rows, inputs], [outputs, _]) = (dims(input), dims::<2>(weight));
    let [input, weight, bias] = [input, weight, bias].map(FlexTensor::to_contiguous);
    let map = Affine::new(weight.storage::<T>(), bias.storage::<T>());
    let mut output = vec![T::ZERO; rows * outputs];
    output
        .par_chunks_mut(BLOCK_ROWS * outputs)
        .zip(input.storage::<T>().par_chunks(BLOCK_ROWS * inputs))
        .for_each(|(output, input)| {
            pulp::Arch::new().dispatch(ForwardBlock {
                map: &map,
                input,
                output,
            });
        });
    tensor(output, [rows, outputs])
}

struct ForwardBlock<'a, T> {
    map: &'a Affine<T>,
    input: &'a [T],
    output: &'a mut [T],
}

impl<T: Real> WithSimd for ForwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.map.apply(simd, self.input, self.output);
    }
}

fn backward_typed<T: Real>(
    input: &FlexTensor,
    weight: &FlexTensor,
    output_gradient: &FlexTensor,
    of_input: bool,
) -> AffineGradients<FlexTensor> {
    let ([rows, inputs], [outputs, _]) = (dims(input), dims::<2>(weight));
    let [input, weight, gradient] = [input, weight, output_gradient].map(FlexTensor::to_contiguous);
    let map = Affine::new(weight.storage::<T>(), &vec![T::ZERO; outputs]);
    let piece = rows.div_ceil(REDUCTION_PIECES).next_multiple_of(BLOCK_ROWS);

    // Without rows, where nobody asked for it.
    let mut input_gradient = vec![T::ZERO; if of_input { rows * inputs } else { 0 }];
    let mut input_gradients = input_gradient.chunks_mut(piece * inputs);
    let pieces: Vec<Piece<'_, T>> = input
        .storage::<T>()
        .chunks(piece * inputs)
        .zip(gradient.storage::<T>().chunks(piece * outputs))
        .map(|(input, gradient)| Piece {
            map: &map,
            input,
            gradient,
            input_gradient: input_gradients.next(),
        })
        .collect();
    let sums: Vec<AffineGradient<T>> = pieces
        .into_par_iter()
        .map(|piece| pulp::Arch::new().dispatch(piece))
        .collect();
    let mut total = AffineGradient::zeros([outputs, inputs]);
    for part in &sums {
        total.add(part);
    }
    AffineGradients {
        input: of_input.then(|| tensor(input_gradient, [rows, inputs])),
        weight: tensor(total.weight, [outputs, inputs]),
        bias: tensor(total.bias, [outputs]),
    }
}

/// Some rows on their way back.
struct Piece<'a, T> {
    map: &'a Affine<T>,
    input: &'a [T],
    gradient: &'a [T],
    input_gradient: Option<&'a mut [T]>,
}

impl<T: Real> WithSimd for Piece<'_, T> {
    type Output = AffineGradient<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> AffineGradient<T> {
        let [outputs, inputs] = self.map.shape();
        let mut sums = AffineGradient::zeros([outputs, inputs]);
        let blocks = self
            .input
            .chunks(BLOCK_ROWS * inputs)
            .zip(self.gradient.chunks(BLOCK_ROWS * outputs));
        for (input, gradient) in blocks {
            sums.accumulate(simd, self.map.products(), gradient, input);
        }
        if let Some(input_gradient) = self.input_gradient {
            self.map
                .pull_back(simd, self.gradient, Destination::Overwrite, input_gradient);
        }
        sums
    }
}
