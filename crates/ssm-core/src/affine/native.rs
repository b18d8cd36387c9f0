//! An affine map and its gradient on slices of rows.

use pulp::Simd;

use crate::cpu::{Destination, MatrixRef, Products, Real, add_assign, transposed};

/// Elements, about, of as many rows as a loop should work on at once: long enough to vectorize well even where rows are
/// short, and to stay in the first cache.
const TILE: usize = 512;

/// y = W x + b with the weight in both orders.
pub(crate) struct Affine<T> {
    inputs: usize,
    /// `[output, input]`.
    weight: Vec<T>,
    /// `[input, output]`.
    transposed: Vec<T>,
    /// `[output]`.
    bias: Vec<T>,
    /// The same, repeated: copied many rows at a time where rows are short.
    bias_rows: Vec<T>,
    products: Products,
}

impl<T: Real> Affine<T> {
    /// `weight` is `[output, input]`.
    pub(crate) fn new(weight: &[T], bias: &[T]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        Self {
            inputs,
            weight: weight.to_vec(),
            transposed: transposed(weight, inputs),
            bias: bias.to_vec(),
            bias_rows: bias.repeat(TILE.div_ceil(outputs)),
            products: Products::for_channels(inputs.max(outputs)),
        }
    }

    pub(crate) fn products(&self) -> Products {
        self.products
    }

    /// `[output, input]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.bias.len(), self.inputs]
    }

    /// W x + b for the rows x of `input`.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, simd: S, input: &[T], output: &mut [T]) {
        let [outputs, inputs] = self.shape();
        for rows in output.chunks_mut(self.bias_rows.len()) {
            rows.copy_from_slice(&self.bias_rows[..rows.len()]);
        }
        let input = MatrixRef::new(input, input.len() / inputs, inputs);
        let weight = MatrixRef::new(&self.transposed, inputs, outputs);
        let mode = Destination::Accumulate;
        self.products.multiply(simd, output, mode, input, weight);
    }

    /// `input (+)=` Wᵀ g for the rows g of `gradient`.
    #[inline(always)]
    pub(crate) fn pull_back<S: Simd>(
        &self,
        simd: S,
        gradient: &[T],
        mode: Destination,
        input: &mut [T],
    ) {
        let [outputs, inputs] = self.shape();
        let gradient = MatrixRef::new(gradient, gradient.len() / outputs, outputs);
        let weight = MatrixRef::new(&self.weight, outputs, inputs);
        self.products.multiply(simd, input, mode, gradient, weight);
    }
}

/// Gradients of an affine map, summed over some rows.
pub(crate) struct AffineGradient<T> {
    outputs: usize,
    /// Of the weight, `[input, output]`: rows of the gradient are what is contiguous.
    transposed: Vec<T>,
    /// Of the bias, as many partial sums side by side as fit a tile.
    bias_rows: Vec<T>,
}

impl<T: Real> AffineGradient<T> {
    pub(crate) fn zeros([outputs, inputs]: [usize; 2]) -> Self {
        Self {
            outputs,
            transposed: vec![T::ZERO; inputs * outputs],
            bias_rows: vec![T::ZERO; TILE.div_ceil(outputs) * outputs],
        }
    }

    /// Adds what `gradient`, of the rows that came of the rows of `input`, contributes.
    #[inline(always)]
    pub(crate) fn accumulate<S: Simd>(
        &mut self,
        simd: S,
        products: Products,
        gradient: &[T],
        input: &[T],
    ) {
        let rows = gradient.len() / self.outputs;
        for part in gradient.chunks(self.bias_rows.len()) {
            add_assign(&mut self.bias_rows, part);
        }
        let gradient = MatrixRef::new(gradient, rows, self.outputs);
        let input = MatrixRef::new(input, rows, input.len() / rows).transpose();
        let mode = Destination::Accumulate;
        products.multiply(simd, &mut self.transposed, mode, input, gradient);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add_assign(&mut self.transposed, &other.transposed);
        add_assign(&mut self.bias_rows, &other.bias_rows);
    }

    /// Gradients of weight, `[output, input]`, and bias, `[output]`.
    pub(crate) fn into_parts(self) -> [Vec<T>; 2] {
        let mut bias = vec![T::ZERO; self.outputs];
        for part in self.bias_rows.chunks_exact(self.outputs) {
            add_assign(&mut bias, part);
        }
        [transposed(&self.transposed, self.outputs), bias]
    }
}
