//! An affine map and its gradient on slices of rows.

use pulp::Simd;

use crate::cpu::{Destination, MatrixRef, Products, Real, add_assign};

/// y = W x + b with the weight in both orders.
pub(crate) struct Affine<T> {
    inputs: usize,
    /// `[output, input]`.
    weight: Vec<T>,
    /// `[input, output]`.
    transposed: Vec<T>,
    /// `[output]`.
    bias: Vec<T>,
    products: Products,
}

impl<T: Real> Affine<T> {
    /// `weight` is `[output, input]`.
    pub(crate) fn new(weight: &[T], bias: &[T]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let transposed = (0..weight.len())
            .map(|k| weight[k % outputs * inputs + k / outputs])
            .collect();
        Self {
            inputs,
            weight: weight.to_vec(),
            transposed,
            bias: bias.to_vec(),
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
        for row in output.chunks_exact_mut(outputs) {
            row.copy_from_slice(&self.bias);
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
    /// `[output, input]`.
    pub(crate) weight: Vec<T>,
    /// `[output]`.
    pub(crate) bias: Vec<T>,
}

impl<T: Real> AffineGradient<T> {
    pub(crate) fn zeros([outputs, inputs]: [usize; 2]) -> Self {
        Self {
            weight: vec![T::ZERO; outputs * inputs],
            bias: vec![T::ZERO; outputs],
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
        let outputs = self.bias.len();
        let (rows, inputs) = (gradient.len() / outputs, self.weight.len() / outputs);
        for row in gradient.chunks_exact(outputs) {
            add_assign(&mut self.bias, row);
        }
        let gradient = MatrixRef::new(gradient, rows, outputs).transpose();
        let input = MatrixRef::new(input, rows, inputs);
        let mode = Destination::Accumulate;
        products.multiply(simd, &mut self.weight, mode, gradient, input);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add_assign(&mut self.weight, &other.weight);
        add_assign(&mut self.bias, &other.bias);
    }
}
