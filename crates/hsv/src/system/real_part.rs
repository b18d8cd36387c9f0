//! The real system that a complex layer is to those who see the real part of its output.

use std::f64::consts::SQRT_2;

use faer::{Mat, c64};

use crate::gramian::diagonal_factor::gramian_factor;
use crate::gramian::real_factor::graded_real_factor;
use crate::hankel::HankelError;
use crate::hankel::accuracy::Accuracy;
use crate::hankel::rounding::FactorRounding;
use crate::linalg::parallel::both;
use crate::linalg::scalar::sealed::Entry;
use crate::system::dense::DenseSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::TimeDomain;
use crate::system::units::Units;
use crate::system::{LinearSystem, sealed};

/// `y = Re(C x + D u)` of a diagonal system under a real input u: a real system with twice as many states.
///
/// With `x` its conjugate runs along, so the poles are λ and λ̄. The real states are `√2 Re x_1, .., √2 Re x_n,
/// √2 Im x_1, .., √2 Im x_n`: a unitary change of coordinates from `(x, x̄)`, in which a mode `λ = a + ib` is the block
/// `[a, -b; b, a]`, its input rows are `√2 Re b_i` and `√2 Im b_i`, its output columns `Re c_i / √2` and `-Im c_i / √2`.
///
/// Hankel singular values of this system rank states by what the real output sees of them; those of the complex
/// system also count the imaginary part, which nobody reads.
#[derive(Debug, Clone, PartialEq)]
pub struct RealPartSystem<D> {
    complex: DiagonalSystem<D>,
    feedthrough: Option<Mat<f64>>,
}

impl<D: TimeDomain> DiagonalSystem<D> {
    /// The system of the real part of this one's output under a real input.
    ///
    /// Written out, input entries above `f64::MAX / √2` come back infinite.
    pub fn real_part(&self) -> RealPartSystem<D> {
        let real = |d: &Mat<c64>| Mat::from_fn(d.nrows(), d.ncols(), |i, j| d[(i, j)].re);
        RealPartSystem {
            feedthrough: self.feedthrough().map(real),
            complex: self.clone(),
        }
    }
}

impl<D: TimeDomain> RealPartSystem<D> {
    /// The complex system whose output this is the real part of.
    pub fn complex(&self) -> &DiagonalSystem<D> {
        &self.complex
    }

    /// The eigenvalues λ, then their conjugates.
    pub(crate) fn paired_lambda(&self) -> Vec<c64> {
        let lambda = self.complex.lambda();
        lambda
            .iter()
            .copied()
            .chain(lambda.iter().map(c64::conj))
            .collect()
    }

    /// Number of complex modes, half of the states.
    fn modes(&self) -> usize {
        self.complex.state_dim()
    }
}

impl<D: TimeDomain> LinearSystem for RealPartSystem<D> {
    type Scalar = f64;
    type Domain = D;

    fn state_dim(&self) -> usize {
        2 * self.modes()
    }

    fn inputs(&self) -> usize {
        self.complex.inputs()
    }

    fn outputs(&self) -> usize {
        self.complex.outputs()
    }

    fn feedthrough(&self) -> Option<&Mat<f64>> {
        self.feedthrough.as_ref()
    }

    fn to_dense(&self) -> DenseSystem<f64, D> {
        let (n, lambda) = (self.modes(), self.complex.lambda());
        let (b, c) = (self.complex.input_matrix(), self.complex.output_matrix());
        let state = Mat::from_fn(2 * n, 2 * n, |i, j| match (i % n == j % n, i < n, j < n) {
            (false, ..) => 0.0,
            (true, true, false) => -lambda[i % n].im,
            (true, false, true) => lambda[i % n].im,
            _ => lambda[i % n].re,
        });
        DenseSystem::from_checked(
            state,
            real_input(b),
            real_output(c),
            self.feedthrough.clone(),
        )
    }

    fn poles(&self) -> Result<Vec<c64>, HankelError> {
        Ok(self.paired_lambda())
    }
}

impl<D: TimeDomain> sealed::Reducible<f64> for RealPartSystem<D> {
    fn units(&self) -> Units<f64> {
        let Units {
            input,
            output,
            state_exponents,
            gain_exponent,
        } = Units::per_mode(self.complex.input_matrix(), self.complex.output_matrix());
        Units {
            input: real_input(&input),
            output: real_output(&output),
            state_exponents: state_exponents.repeat(2),
            gain_exponent,
        }
    }

    fn gramian_factors(
        &self,
        units: &Units<f64>,
        accuracy: Accuracy,
    ) -> Result<(Mat<f64>, Mat<f64>), HankelError> {
        let (modes, pairs) = (self.modes(), self.paired_lambda());
        let dual: Vec<c64> = pairs.iter().map(c64::conj).collect();
        // From the real units back to (x, x̄), both of one mode in one unit.
        let input = Mat::from_fn(2 * modes, units.input.ncols(), |i, j| {
            let (re, im) = (
                units.input[(i % modes, j)],
                units.input[(i % modes + modes, j)],
            );
            c64::new(re, if i < modes { im } else { -im }) / SQRT_2
        });
        // Cᴴ in the same coordinates: (c, c̄) / 2 with c = √2 (re - i im).
        let output = Mat::from_fn(2 * modes, units.output.nrows(), |i, j| {
            let (re, minus_im) = (
                units.output[(j, i % modes)],
                units.output[(j, i % modes + modes)],
            );
            c64::new(re, if i < modes { minus_im } else { -minus_im }) / SQRT_2
        });
        let factor = |lambda: &[c64], input: &Mat<c64>| {
            let shortest = accuracy.shortest_column(lambda.len());
            let factor = to_real_states(&gramian_factor::<D, _>(lambda, input.as_ref(), shortest));
            match accuracy {
                Accuracy::Absolute => f64::factor(factor),
                Accuracy::Relative => graded_real_factor(&factor),
            }
        };
        Ok(both(|| factor(&pairs, &input), || factor(&dual, &output)))
    }

    fn factor_rounding(&self) -> (FactorRounding, FactorRounding) {
        // One input or several: real and imaginary parts of a column cancel in the next.
        let rounding = FactorRounding::Rows { parts: 2 };
        (rounding, rounding)
    }

    fn response(&self) -> Box<dyn Fn(f64) -> Mat<c64> + Sync + '_> {
        // Both at the end: an imaginary feed-through would take digits along when it cancels, and two responses beyond
        // the range of f64 would cancel to NaN.
        let (complex, gain_exponent) = self.complex.response_in_units();
        Box::new(move |omega| {
            let (here, there) = (complex(omega), complex(-omega));
            Mat::from_fn(here.nrows(), here.ncols(), |i, j| {
                let direct = self.feedthrough.as_ref().map_or(0.0, |d| d[(i, j)]);
                let mean = here[(i, j)] * 0.5 + there[(i, j)].conj() * 0.5;
                mean.scaled(gain_exponent) + direct
            })
        })
    }

    fn apply_state_matrix(&self, x: &Mat<f64>) -> Mat<f64> {
        let (modes, lambda) = (self.modes(), self.complex.lambda());
        Mat::from_fn(x.nrows(), x.ncols(), |i, j| {
            if i < modes {
                lambda[i].re * x[(i, j)] - lambda[i].im * x[(i + modes, j)]
            } else {
                lambda[i - modes].im * x[(i - modes, j)] + lambda[i - modes].re * x[(i, j)]
            }
        })
    }
}

/// Rows `√2 Re b_i`, then rows `√2 Im b_i`.
fn real_input(input: &Mat<c64>) -> Mat<f64> {
    let modes = input.nrows();
    Mat::from_fn(2 * modes, input.ncols(), |i, j| {
        SQRT_2
            * if i < modes {
                input[(i, j)].re
            } else {
                input[(i - modes, j)].im
            }
    })
}

/// Columns `Re c_i / √2`, then columns `-Im c_i / √2`.
fn real_output(output: &Mat<c64>) -> Mat<f64> {
    let modes = output.ncols();
    Mat::from_fn(output.nrows(), 2 * modes, |j, i| {
        let column = if i < modes {
            output[(j, i)].re
        } else {
            -output[(j, i - modes)].im
        };
        column / SQRT_2
    })
}

/// Rows for `(x, x̄)` to rows for `(√2 Re x, √2 Im x)`: a unitary map.
fn to_real_states(factor: &Mat<c64>) -> Mat<c64> {
    let modes = factor.nrows() / 2;
    Mat::from_fn(2 * modes, factor.ncols(), |i, j| {
        let (x, conjugate) = (factor[(i % modes, j)], factor[(i % modes + modes, j)]);
        if i < modes {
            (x + conjugate) / SQRT_2
        } else {
            (x - conjugate) * c64::new(0.0, -1.0) / SQRT_2
        }
    })
}
