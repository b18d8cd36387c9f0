//! An affine map and its gradient on slices of rows.

use std::mem::MaybeUninit;

use pulp::Simd;
use rayon::prelude::*;

use crate::cpu::{
    COPIED_AT_ONCE, Destination, MatrixRef, Products, Real, accumulate, add_assign, sum_of_rows,
    tile_len, transposed,
};

/// y = W x + b, or W x alone, with the weight in both orders.
pub(crate) struct Affine<T> {
    /// `[output, input]`.
    shape: [usize; 2],
    weight: Vec<T>,
    /// `[input, output]`.
    transposed: Vec<T>,
    bias: Option<Vec<T>>,
    products: Products,
}

impl<T: Real> Affine<T> {
    /// `weight` is `[output, input]`.
    pub(crate) fn new(weight: &[T], shape: [usize; 2], bias: Option<&[T]>) -> Self {
        let [_, inputs] = shape;
        Self {
            shape,
            weight: weight.to_vec(),
            transposed: transposed(weight, inputs),
            bias: bias.map(<[T]>::to_vec),
            products: Products::for_weight(shape),
        }
    }

    /// `[output, input]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(crate) fn products(&self) -> Products {
        self.products
    }

    /// What the map makes of the rows of `input`: what is in the output now.
    #[inline(always)]
    pub(crate) fn apply<'a, S: Simd>(
        &self,
        simd: S,
        input: &[T],
        output: &'a mut [MaybeUninit<T>],
    ) -> &'a mut [T] {
        let [outputs, inputs] = self.shape;
        let input = MatrixRef::new(input, input.len() / inputs, inputs);
        let weight = MatrixRef::new(&self.transposed, inputs, outputs);
        let bias = self.bias.as_deref();
        self.products
            .multiply_into(simd, output, bias, input, weight)
    }

    /// Wᵀ g for the rows g of `gradient`: what is in `input` now.
    #[inline(always)]
    pub(crate) fn pull_back<'a, S: Simd>(
        &self,
        simd: S,
        gradient: &[T],
        input: &'a mut [MaybeUninit<T>],
    ) -> &'a mut [T] {
        let [gradient, weight] = self.pull_back_factors(gradient);
        self.products
            .multiply_into(simd, input, None, gradient, weight)
    }

    /// Adds Wᵀ g for the rows g of `gradient`.
    #[inline(always)]
    pub(crate) fn add_pulled_back<S: Simd>(&self, simd: S, gradient: &[T], input: &mut [T]) {
        let [gradient, weight] = self.pull_back_factors(gradient);
        let mode = Destination::Accumulate;
        self.products.multiply(simd, input, mode, gradient, weight);
    }

    fn pull_back_factors<'a>(&'a self, gradient: &'a [T]) -> [MatrixRef<'a, T>; 2] {
        let [outputs, inputs] = self.shape;
        [
            MatrixRef::new(gradient, gradient.len() / outputs, outputs),
            MatrixRef::new(&self.weight, outputs, inputs),
        ]
    }
}

/// Gradients of an affine map, summed over some rows.
pub(crate) struct AffineGradient<T> {
    /// `[output, input]`.
    shape: [usize; 2],
    /// Of the weight; transposed if there are more outputs than inputs, since vectors go along the longer side. Empty before
    /// the first rows.
    weight: Vec<T>,
    /// Of the bias, as many partial sums side by side as fit a tile.
    bias_rows: Vec<T>,
}

impl<T: Real> AffineGradient<T> {
    /// Over no rows yet; `shape` is `[output, input]`.
    pub(crate) fn new(shape: [usize; 2]) -> Self {
        let [outputs, _] = shape;
        Self {
            shape,
            weight: Vec::new(),
            bias_rows: vec![T::ZERO; tile_len(outputs)],
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
        for part in gradient.chunks(self.bias_rows.len()) {
            add_assign(&mut self.bias_rows, part);
        }
        let [outputs, inputs] = self.shape;
        let rows = gradient.len() / outputs;
        let (gradient, input) = (
            MatrixRef::new(gradient, rows, outputs),
            MatrixRef::new(input, rows, inputs),
        );
        let (lhs, rhs) = match self.is_transposed() {
            true => (input.transpose(), gradient),
            false => (gradient.transpose(), input),
        };
        if self.weight.is_empty() {
            let mut first = Box::<[T]>::new_uninit_slice(outputs * inputs);
            products.multiply_into(simd, &mut first, None, lhs, rhs);
            // SAFETY: the product is all of it.
            self.weight = unsafe { first.assume_init() }.into_vec();
        } else {
            products.multiply(simd, &mut self.weight, Destination::Accumulate, lhs, rhs);
        }
    }

    /// The sums of all pieces, in this order.
    pub(crate) fn total(shape: [usize; 2], pieces: impl IntoIterator<Item = Self>) -> Self {
        let mut total = Self::new(shape);
        for piece in pieces {
            accumulate(&mut total.bias_rows, &piece.bias_rows);
            if total.weight.is_empty() {
                total.weight = piece.weight;
                continue;
            }
            let parts = total.weight.par_chunks_mut(COPIED_AT_ONCE);
            parts
                .zip(piece.weight.par_chunks(COPIED_AT_ONCE))
                .for_each(|(total, part)| accumulate(total, part));
        }
        total
    }

    /// Gradients of weight, `[output, input]`, and bias, `[output]`.
    pub(crate) fn into_parts(mut self) -> [Vec<T>; 2] {
        let [outputs, inputs] = self.shape;
        let bias = sum_of_rows(&self.bias_rows, outputs);
        // Without rows there is nothing yet.
        self.weight.resize(outputs * inputs, T::ZERO);
        match self.is_transposed() {
            true => [transposed(&self.weight, outputs), bias],
            false => [self.weight, bias],
        }
    }

    fn is_transposed(&self) -> bool {
        let [outputs, inputs] = self.shape;
        outputs > inputs
    }
}
