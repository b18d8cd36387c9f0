//! Sums, in `f64`.

use super::Real;

/// Sums side by side, so that a loop of additions vectorizes.
const LANES: usize = 16;

/// Σ aₖ bₖ.
#[inline(always)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    for (sum, (a, b)) in sums.iter_mut().zip(rest) {
        *sum = a.into_f64() * b.into_f64();
    }
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a.into_f64() * b.into_f64();
        }
    }
    sums.iter().sum()
}

/// Σ aₖ.
#[inline(always)]
pub(crate) fn sum(values: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for values in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_products_of_every_length_are_summed() {
        for len in 0..50 {
            let values: Vec<f32> = (0..len).map(|k| k as f32).collect();
            let want: usize = (0..len).map(|k| k * k).sum();
            assert_eq!(dot(&values, &values), want as f64);
            let values: Vec<f64> = (0..len).map(|k| k as f64).collect();
            assert_eq!(sum(&values), (len * len.saturating_sub(1) / 2) as f64);
        }
    }
}
