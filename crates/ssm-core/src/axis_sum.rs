//! Sums and means along an axis of any length.

use burn::tensor::{Tensor, backend::Backend};

/// Longest axis that is summed in one go: burn 0.21's reduction loses terms of axes of 65536 and more on CubeCL devices.
const LONGEST: usize = 1 << 15;

/// Sum along `axis`, of which one element is left.
pub(crate) fn sum_along<B: Backend, const D: usize>(x: Tensor<B, D>, axis: usize) -> Tensor<B, D> {
    if x.dims()[axis] <= LONGEST {
        return x.sum_dim(axis);
    }
    let sums = x.split(LONGEST, axis).into_iter();
    sums.map(|part| part.sum_dim(axis))
        .reduce(|sum, part| sum + part)
        .expect("a long axis has parts")
}

/// Mean along `axis`, of which one element is left.
pub(crate) fn mean_along<B: Backend, const D: usize>(x: Tensor<B, D>, axis: usize) -> Tensor<B, D> {
    let count = x.dims()[axis];
    match count {
        // Not a sum divided by its count: burn's autodiff takes the reciprocal of that in f32, whatever the tensors are.
        ..=LONGEST => x.mean_dim(axis),
        _ => sum_along(x, axis) / count as f64,
    }
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::Int};

    use super::*;

    #[test]
    fn an_axis_in_parts_has_the_sum_of_the_whole() {
        let rows = 2 * LONGEST + 3;
        // 0 or 1, so that sums are exact.
        let bits = Tensor::<Flex, 1, Int>::arange(0..2 * rows as i64, &Default::default()) % 3 % 2;
        let bits = bits.float().reshape([rows, 2]);
        let ones: Vec<f32> = (0..2)
            .map(|j| (0..rows).filter(|i| (2 * i + j) % 3 == 1).count() as f32)
            .collect();
        let along_rows = sum_along(bits.clone(), 0).into_data();
        assert_eq!(along_rows.to_vec::<f32>().unwrap(), ones);
        let along_columns = sum_along(bits.transpose(), 1).into_data();
        assert_eq!(along_columns.to_vec::<f32>().unwrap(), ones);
    }
}
