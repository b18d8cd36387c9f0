//! Complex tensors as two planes of the same shape, the real parts and the imaginary ones.

use burn::tensor::{Tensor, backend::Backend as BurnBackend, s};

/// A complex number in two planes of the same shape.
pub(crate) type Planes<B, const D: usize> = [Tensor<B, D>; 2];

/// (a + bi)(c + di).
pub(crate) fn product<B: BurnBackend, const D: usize>(
    [a, b]: Planes<B, D>,
    [c, d]: Planes<B, D>,
) -> Planes<B, D> {
    [a.clone() * c.clone() - b.clone() * d.clone(), a * d + b * c]
}

/// (a + bi) / (c + di).
pub(crate) fn quotient<B: BurnBackend, const D: usize>(
    [a, b]: Planes<B, D>,
    [c, d]: Planes<B, D>,
) -> Planes<B, D> {
    let square = c.clone().square() + d.clone().square();
    let [re, im] = product([a, b], [c, d.neg()]);
    [re / square.clone(), im / square]
}

/// e^z, and e^z - 1 without the difference of nearly equal numbers that short steps would make of it.
pub(crate) fn exponentials<B: BurnBackend, const D: usize>(
    [re, im]: Planes<B, D>,
) -> [Planes<B, D>; 2] {
    let (modulus, half) = (re.clone().exp(), re / 2.0);
    let (cosine, sine) = (im.clone().cos(), im.clone().sin());
    let growth = half.clone().exp() * half.sinh() * 2.0;
    let turned = (im / 2.0).sin().square() * 2.0;
    let above = growth * cosine.clone() - turned;
    let rising = modulus.clone() * sine;
    [[modulus * cosine, rising.clone()], [above, rising]]
}

/// The real or imaginary part of a tensor with the parts on its last axis.
pub(crate) fn part<B: BurnBackend>(tensor: &Tensor<B, 3>, index: usize) -> Tensor<B, 2> {
    tensor
        .clone()
        .slice(s![.., .., index..index + 1])
        .squeeze_dim(2)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use hsv::c64;

    use super::*;
    use crate::parameter::values;

    #[test]
    fn short_steps_keep_the_digits_of_the_exponential() {
        let device = Default::default();
        let tensor = |values: [f32; 4]| Tensor::<Flex, 1>::from_floats(values, &device);
        let (re, im) = ([-5e-4, -1e-6, -0.5, -3.0], [2e-3, 0.0, 0.1, 7.0]);
        let [value, above] = exponentials([tensor(re), tensor(im)]);
        let host = |[re, im]: Planes<Flex, 1>| -> Vec<c64> {
            let [re, im] = [re, im].map(|part| values(&part));
            re.into_iter()
                .zip(im)
                .map(|(re, im)| c64::new(re, im))
                .collect()
        };
        let [value, above] = [value, above].map(host);
        for n in 0..4 {
            let z = c64::new(re[n].into(), im[n].into());
            let want = z.exp();
            assert!(
                (value[n] - want).norm() < 1e-6 * want.norm(),
                "{z}: {}",
                value[n]
            );
            let series = z + z * z / 2.0 + z * z * z / 6.0;
            let want = if z.norm() < 1e-2 { series } else { want - 1.0 };
            assert!(
                (above[n] - want).norm() < 1e-6 * want.norm(),
                "{z}: {}",
                above[n]
            );
        }
    }
}
