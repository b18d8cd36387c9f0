//! Arithmetic near the unit circle, where `1 - λ μ̄` is a small difference of numbers close to one.
//!
//! Every Gramian entry is divided by such a difference. Evaluated plainly it is known to ε absolutely, so at
//! 1 − |λ| = 1e-9 seven of sixteen digits are gone before anything else has happened. Products are therefore kept
//! with their rounding error, which a fused multiply-add gives exactly.

use faer::c64;

/// `a * b` as a rounded product and its exact error.
#[inline(always)]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// `a + b` as a rounded sum and its exact error.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_rounded = sum - a;
    (sum, (a - (sum - b_rounded)) + (b - b_rounded))
}

/// `1 - λ μ̄`, to a few units in the last place of its modulus.
#[inline(always)]
pub(crate) fn one_minus_product(lambda: c64, mu: c64) -> c64 {
    let (p, p_error) = two_product(lambda.re, mu.re);
    let (q, q_error) = two_product(lambda.im, mu.im);
    let (partial, partial_error) = two_sum(1.0, -p);
    let (real, real_error) = two_sum(partial, -q);
    // Kahan's difference of products: the first rounding is added back.
    let (cross, cross_error) = two_product(lambda.im, mu.re);
    c64::new(
        real + ((partial_error + real_error) - (p_error + q_error)),
        lambda.re.mul_add(mu.im, -cross) - cross_error,
    )
}

/// `1 - |λ|²`, nearly correctly rounded and with the exact sign: positive just where λ lies inside the unit circle.
/// λ must be finite.
pub(crate) fn one_minus_modulus_squared(lambda: c64) -> f64 {
    // Far out the squares could overflow; only the sign matters to anyone there.
    if lambda.re.abs() > 2.0 || lambda.im.abs() > 2.0 {
        return -f64::INFINITY;
    }
    let (p, p_error) = two_product(lambda.re, lambda.re);
    let (q, q_error) = two_product(lambda.im, lambda.im);
    let mut terms = [-p_error, -q_error, -q.min(p), -q.max(p), 1.0];
    // Each pass moves the exact rounding errors down; as many passes as terms leave an expansion without overlap.
    for _ in 0..terms.len() {
        for i in 1..terms.len() {
            let (sum, error) = two_sum(terms[i - 1], terms[i]);
            terms[i - 1] = error;
            terms[i] = sum;
        }
    }
    terms.iter().sum()
}

/// Reciprocal by the plain formula: for moduli well inside `1e-150..1e150`, as differences of points in the unit
/// disk are.
#[inline(always)]
pub(crate) fn reciprocal(z: c64) -> c64 {
    let scale = 1.0 / z.re.mul_add(z.re, z.im * z.im);
    c64::new(z.re * scale, -z.im * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 - (1 - h)²` written without cancellation.
    fn slow_pole(h: f64) -> f64 {
        h * (2.0 - h)
    }

    #[test]
    fn the_distance_to_the_circle_keeps_every_digit() {
        for exponent in 1..=52 {
            let h = 2f64.powi(-exponent);
            let lambda = c64::new(0.0, -(1.0 - h)); // 1 - h is exact
            assert_eq!(one_minus_modulus_squared(lambda), slow_pole(h));
            let product = one_minus_product(lambda, lambda);
            assert!((product.re - slow_pole(h)).abs() <= 2.0 * f64::EPSILON * slow_pole(h));
            assert_eq!(product.im, 0.0);
        }
    }

    #[test]
    fn the_sign_is_exact_at_the_circle() {
        // 3-4-5: the decimal numbers sum to one, their binary neighbors to just above it and just below it.
        let (re, im) = (0.6f64, 0.8f64);
        // 0.6 is rounded down by 2.22e-17, 0.8 up by 4.44e-17: |λ|² = 1 + 4.44e-17.
        assert!(one_minus_modulus_squared(c64::new(re, im)) < 0.0);
        assert!(one_minus_modulus_squared(c64::new(re, im.next_down())) > 0.0);
        assert_eq!(one_minus_modulus_squared(c64::new(1.0, 0.0)), 0.0);
        assert!(one_minus_modulus_squared(c64::new(0.0, 1f64.next_down())) > 0.0);
        assert!(one_minus_modulus_squared(c64::new(1e200, 1e-200)) < 0.0);
        assert_eq!(one_minus_modulus_squared(c64::new(0.0, 0.0)), 1.0);
    }

    #[test]
    fn neighbors_on_the_circle_are_told_apart() {
        // λ = 1 - a, μ = 1 - b + ic: 1 - λ μ̄ = a + b - ab + i(c - ac), all exact in powers of two.
        let (a, b, c) = (2f64.powi(-40), 2f64.powi(-38), 2f64.powi(-39));
        let product = one_minus_product(c64::new(1.0 - a, 0.0), c64::new(1.0 - b, c));
        let exact = c64::new(a + b - a * b, c - a * c);
        assert!((product - exact).norm() <= 4.0 * f64::EPSILON * exact.norm());
    }
}
