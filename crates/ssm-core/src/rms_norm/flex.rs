//! Native CPU kernel: pieces of rows in parallel, vectors along the channels. Bound by memory.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::{Real, dims, dispatch, dot, piece_len, tensor};

/// 1 / √(mean x² + ε).
#[inline(always)]
fn scale<T: Real>(row: &[T], epsilon: f64) -> T {
    let mean = dot(row, row) / row.len() as f64;
    T::from_f64((mean + epsilon).sqrt().recip())
}

pub(super) fn forward<T: Real>(
    input: &FlexTensor,
    gate: Option<&FlexTensor>,
    weight: &FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let shape: [usize; 3] = dims(input);
    let (x, weight) = (input.storage::<T>(), weight.storage::<T>());
    let gate = gate.map(FlexTensor::storage::<T>);
    let piece = piece_len(x.len(), weight.len());
    let mut output = Box::<[T]>::new_uninit_slice(x.len());
    output
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .enumerate()
        .for_each(|(index, (output, input))| {
            dispatch::<T, _>(Forward {
                weight,
                epsilon,
                input,
                gate: gate.map(|gate| &gate[index * piece..][..input.len()]),
                output,
            });
        });
    // SAFETY: every piece writes its part, and the pieces are all there is.
    tensor(unsafe { output.assume_init() }.into_vec(), shape)
}

/// Some rows on their way forward.
struct Forward<'a, T> {
    weight: &'a [T],
    epsilon: f64,
    input: &'a [T],
    gate: Option<&'a [T]>,
    output: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.weight.len();
        let mut gated = vec![T::ZERO; channels];
        let rows = self.output.chunks_exact_mut(channels);
        for (index, (output, input)) in rows.zip(self.input.chunks_exact(channels)).enumerate() {
            let row = match self.gate {
                None => input,
                Some(gate) => {
                    let gate = &gate[index * channels..][..channels];
                    for ((gated, y), z) in gated.iter_mut().zip(input).zip(gate) {
                        *gated = *y * *z * z.sigmoid::<S>();
                    }
                    &gated
                }
            };
            let scale = scale(row, self.epsilon);
            for ((output, x), weight) in output.iter_mut().zip(row).zip(self.weight) {
                output.write(*x * scale * *weight);
            }
        }
    }
}

/// Gradients of input, weight and gate.
pub(super) fn backward<T: Real>(
    input: &FlexTensor,
    gate: Option<&FlexTensor>,
    weight: &FlexTensor,
    epsilon: f64,
    output_gradient: &FlexTensor,
) -> [Option<FlexTensor>; 3] {
    let shape: [usize; 3] = dims(input);
    let (x, g) = (input.storage::<T>(), output_gradient.storage::<T>());
    let weight = weight.storage::<T>();
    let gate = gate.map(FlexTensor::storage::<T>);
    let piece = piece_len(x.len(), weight.len());
    let mut dx = Box::<[T]>::new_uninit_slice(x.len());
    // Without elements, where there is no gate.
    let mut dz = Box::<[T]>::new_uninit_slice(gate.map_or(0, <[T]>::len));
    let mut gate_gradients = dz.chunks_mut(piece);
    let pieces: Vec<Backward<'_, T>> = dx
        .chunks_mut(piece)
        .zip(x.chunks(piece))
        .zip(g.chunks(piece))
        .enumerate()
        .map(
            |(index, ((input_gradient, input), output_gradient))| Backward {
                weight,
                epsilon,
                input,
                output_gradient,
                gate: gate
                    .map(|gate| &gate[index * piece..][..input.len()])
                    .zip(gate_gradients.next()),
                input_gradient,
            },
        )
        .collect();
    let sums: Vec<Vec<f64>> = pieces
        .into_par_iter()
        .map(|piece| dispatch::<T, _>(piece))
        .collect();
    // SAFETY: every piece writes its part of both, and the pieces are all there is.
    let [dx, dz] = [dx, dz].map(|values| unsafe { values.assume_init() }.into_vec());
    let of_weight = (0..weight.len()).map(|j| T::from_f64(sums.iter().map(|sums| sums[j]).sum()));
    [
        Some(tensor(dx, shape)),
        Some(tensor(of_weight.collect(), [weight.len()])),
        gate.map(|_| tensor(dz, shape)),
    ]
}

/// Some rows on their way back, to what they contribute to the gradient of the weight.
struct Backward<'a, T> {
    weight: &'a [T],
    epsilon: f64,
    input: &'a [T],
    /// With where its gradient goes.
    gate: Option<(&'a [T], &'a mut [MaybeUninit<T>])>,
    output_gradient: &'a [T],
    input_gradient: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for Backward<'_, T> {
    type Output = Vec<f64>;

    /// With s = 1 / √(mean x² + ε): ∂x = s (w ∘ g) - s³ mean(w ∘ g ∘ x) x, ∂w = Σ s g ∘ x.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Vec<f64> {
        let channels = self.weight.len();
        let mut sums = vec![0.0; channels];
        let [mut gated, mut open, mut weighted] = [(); 3].map(|()| vec![T::ZERO; channels]);
        let rows = self
            .input_gradient
            .chunks_exact_mut(channels)
            .zip(self.input.chunks_exact(channels))
            .zip(self.output_gradient.chunks_exact(channels));
        for (index, ((of_input, input), gradient)) in rows.enumerate() {
            let part = index * channels..(index + 1) * channels;
            let row = match &self.gate {
                None => input,
                Some((gate, _)) => {
                    let gates = gate[part.clone()].iter().zip(&mut open);
                    for ((gated, y), (z, open)) in gated.iter_mut().zip(input).zip(gates) {
                        *open = z.sigmoid::<S>();
                        *gated = *y * *z * *open;
                    }
                    &gated
                }
            };
            let scale = scale(row, self.epsilon);
            let weights = weighted.iter_mut().zip(self.weight).zip(&mut sums);
            for (((weighted, weight), sum), (x, g)) in weights.zip(row.iter().zip(gradient)) {
                *weighted = *weight * *g;
                *sum += (*g * *x * scale).into_f64();
            }
            let mean = dot(&weighted, row) / channels as f64;
            let slope = T::from_f64(mean * scale.into_f64().powi(3));
            let of_row = weighted.iter().zip(row);
            let of_row = of_row.map(|(weighted, x)| *weighted * scale - *x * slope);
            match &mut self.gate {
                None => {
                    for (of_input, of_x) in of_input.iter_mut().zip(of_row) {
                        of_input.write(of_x);
                    }
                }
                Some((gate, of_gate)) => {
                    let outputs = of_input.iter_mut().zip(&mut of_gate[part.clone()]);
                    let inputs = input.iter().zip(&gate[part]).zip(&open);
                    for (((of_y, of_z), of_x), ((y, z), open)) in outputs.zip(of_row).zip(inputs) {
                        of_y.write(of_x * *z * *open);
                        // SiLU'(z) = σ(z) (1 + z (1 - σ(z))).
                        let slope = *open * z.fused::<S>(T::ONE - *open, T::ONE);
                        of_z.write(of_x * *y * slope);
                    }
                }
            }
        }
        sums
    }
}
