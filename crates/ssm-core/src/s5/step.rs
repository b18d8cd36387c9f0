//! From a continuous mode to a discrete one and back, with its derivatives.

use hsv::c64;
use serde::{Deserialize, Serialize};

/// From continuous to discrete time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discretization {
    /// The input is constant over a step.
    ZeroOrderHold,
    /// The trapezoidal rule.
    Bilinear,
}

/// A mode x' = λ x + b u in discrete time, x ← f x + g b u, and how f and g change with λ and log Δ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiscreteMode {
    /// f, the discrete eigenvalue.
    pub value: c64,
    /// g, what the input is multiplied with.
    pub gain: c64,
    /// ∂f/∂λ; that by log Δ is λ times it.
    pub value_slope: c64,
    /// ∂g/∂λ.
    pub gain_slope: c64,
    /// ∂g/∂(log Δ).
    pub gain_step_slope: c64,
}

/// e^z - 1, also for small z.
fn exp_minus_one(z: c64) -> c64 {
    let half = (0.5 * z.im).sin();
    c64::new(
        z.re.exp_m1() * z.im.cos() - 2.0 * half * half,
        z.re.exp() * z.im.sin(),
    )
}

/// log z, whose real part has the digits of 1 - |z|.
fn logarithm(z: c64) -> c64 {
    let modulus = z.norm();
    c64::new((modulus - 1.0).ln_1p(), z.im.atan2(z.re))
}

impl Discretization {
    /// The discrete mode.
    pub(crate) fn mode(self, lambda: c64, step: f64) -> DiscreteMode {
        let one = c64::new(1.0, 0.0);
        match self {
            Self::ZeroOrderHold => {
                let scaled = lambda * step;
                let value = scaled.exp();
                let gain = exp_minus_one(scaled) / lambda;
                DiscreteMode {
                    value,
                    gain,
                    value_slope: value * step,
                    gain_slope: (value * step - gain) / lambda,
                    gain_step_slope: value * step,
                }
            }
            Self::Bilinear => {
                let below = one - lambda * (0.5 * step);
                let square = below * below;
                DiscreteMode {
                    value: (one + lambda * (0.5 * step)) / below,
                    gain: one * step / below,
                    value_slope: one * step / square,
                    gain_slope: one * (0.5 * step * step) / square,
                    gain_step_slope: one * step / square,
                }
            }
        }
    }

    /// λ Δ of a discrete eigenvalue. What does not exist is not finite.
    pub(crate) fn scaled(self, value: c64) -> c64 {
        let one = c64::new(1.0, 0.0);
        match self {
            Self::ZeroOrderHold => logarithm(value),
            Self::Bilinear => (value - one) / (value + one) * 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Discretization; 2] = [Discretization::ZeroOrderHold, Discretization::Bilinear];

    #[test]
    fn a_mode_comes_back() {
        for method in BOTH {
            for lambda in [(-0.5, 40.0), (-0.5, -3.0), (-2e-4, 0.0), (-30.0, 1.0)] {
                let lambda = c64::new(lambda.0, lambda.1);
                let mode = method.mode(lambda, 0.01);
                let again = method.scaled(mode.value) / 0.01;
                assert!((again - lambda).norm() < 1e-11 * lambda.norm(), "{again}");
            }
        }
    }

    #[test]
    fn slopes_are_those_of_central_differences() {
        let (lambda, log_step, h) = (c64::new(-0.5, 12.0), 0.03_f64.ln(), 1e-6);
        for method in BOTH {
            let at = |lambda: c64, log_step: f64| method.mode(lambda, log_step.exp());
            let mode = at(lambda, log_step);
            let shift = c64::new(h, 0.0);
            let (above, below) = (at(lambda + shift, log_step), at(lambda - shift, log_step));
            let (longer, shorter) = (at(lambda, log_step + h), at(lambda, log_step - h));
            for (slope, high, low) in [
                (mode.value_slope, above.value, below.value),
                (mode.gain_slope, above.gain, below.gain),
                (mode.value_slope * lambda, longer.value, shorter.value),
                (mode.gain_step_slope, longer.gain, shorter.gain),
            ] {
                let want = (high - low) / (2.0 * h);
                // Differences of numbers of order one over 2e-6.
                assert!((slope - want).norm() < 1e-9, "{method:?}: {slope} {want}");
            }
        }
    }
}
