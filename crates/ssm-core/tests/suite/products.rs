//! Matrix products of ones: every element is the number of terms, exactly, whatever the order of the sum.
//!
//! A kernel that reads a term too many or too few is off by whole numbers, where a comparison of random values could take
//! that for rounding. Ones and their sums up to 2²⁴ have no rounding, not even where factors are rounded to TF32. What went
//! wrong with such kernels, and at which sizes, is in `docs/performance.md`.

use burn::tensor::{DType, Tensor};
use ssm_core::TrainingBackend;

use super::{Effort, values};

/// `[batch, rows, terms] [batch, terms, columns]`.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    rows: usize,
    terms: usize,
    columns: usize,
}

impl Case {
    fn of([batch, rows, terms, columns]: [usize; 4]) -> Self {
        Self {
            batch,
            rows,
            terms,
            columns,
        }
    }
}

/// Numbers of terms that are an odd number of stages of some kernel that buffers twice: 8 and odd multiples of it with
/// stages of 8, odd multiples of 16 and 32 with those of matrix units; and neighbors that are a multiple of none.
const TERMS: [usize; 13] = [1, 4, 8, 16, 17, 24, 32, 40, 48, 56, 96, 100, 160];

/// Shapes of this project: the maps into and out of the states of a layer at the sMNIST and the sCIFAR size, cut in between
/// and small at the end; the gated unit of the wide one; several sequences at once.
const SHAPES: [[usize; 4]; 9] = [
    [1, 784, 8, 512],
    [1, 784, 512, 8],
    [1, 784, 8, 298],
    [1, 784, 86, 8],
    [1, 200, 512, 768],
    [1, 200, 768, 512],
    [1, 200, 512, 512],
    [3, 784, 8, 56],
    [5, 70, 56, 8],
];

pub fn products_of_ones_are_exact<B: TrainingBackend>(effort: Effort) {
    // Upstream's smallest failing case has 1024 rows and 8 terms.
    let named = TERMS.map(|terms| [1, 1024, terms, 16]);
    let batched = [8, 24, 160].map(|terms| [3, 1024, terms, 40]);
    let cases = named.into_iter().chain(batched).chain(SHAPES);
    for case in cases.map(Case::of) {
        for &dtype in effort.dtypes {
            for is_transposed in [false, true] {
                check::<B>(case, dtype, is_transposed);
            }
        }
    }
}

/// The product by itself, one that goes on into element-wise operations, as a fusing backend takes them together, and the
/// gradients of that, which are products with a transposed side each.
fn check<B: TrainingBackend>(case: Case, dtype: DType, right_is_transposed: bool) {
    let Case {
        batch,
        rows,
        terms,
        columns,
    } = case;
    let device = B::Device::default();
    let ones = |shape: [usize; 3]| Tensor::<B, 3>::ones(shape, (&device, dtype));
    let left = ones([batch, rows, terms]).require_grad();
    let right = match right_is_transposed {
        false => ones([batch, terms, columns]),
        true => ones([batch, columns, terms]).swap_dims(1, 2),
    };
    let right = right.require_grad();
    let all_are = |what: &str, tensor: Vec<f64>, expected: usize| {
        let expected = expected as f64;
        let wrong = tensor.iter().position(|value| *value != expected);
        assert!(
            wrong.is_none(),
            "{case:?}, {dtype:?}, right side transposed: {right_is_transposed}: {what} at {wrong:?} is {}, not {expected}",
            tensor[wrong.unwrap_or(0)],
        );
    };
    let product = left.clone().matmul(right.clone());
    all_are("product", values(product), terms);

    let output = left.clone().matmul(right.clone()) * 2.0 + 1.0;
    let mut gradients = output.clone().sum().backward();
    all_are("twice the product and one", values(output), 2 * terms + 1);
    let of_left = left.grad_remove(&mut gradients).unwrap();
    all_are("gradient of the left side", values(of_left), 2 * columns);
    let of_right = right.grad_remove(&mut gradients).unwrap();
    all_are("gradient of the right side", values(of_right), 2 * rows);
}
