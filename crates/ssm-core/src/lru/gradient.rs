//! How gradients of a layer's parameters look after a truncation: what an optimizer needs to carry its moments
//! through the change of basis.
//!
//! A change δB', δC', δΛ' of the small layer acts on the large one as δB = R δB', δC = δC' L and
//! δΛ = diag(R δΛ' L), where R and L are the maps between the states, `x ≈ R z` and `z = L x`. Gradients transform
//! with the adjoint: g_B' = Rᴴ g_B, g_C' = g_C Lᴴ, g_λ'_i = Σ_j conj(R_ji L_ij) g_λ_j. For B and C this is the chain
//! rule. For Λ it leaves out what the off-diagonal part of R δΛ' L would contribute, which no gradient of a diagonal
//! layer contains; where modes are removed without mixing the others, nothing is left out.
//!
//! Where the maps also take conjugates, `x ≈ R z + R̃ z̄` and `z = L x + L̃ x̄` with a real input and the real part of
//! the output, δB = R δB' + R̃ conj(δB') and so on, and the adjoints gain g_B' += R̃ᵀ conj(g_B),
//! g_C' += conj(g_C) L̃ᴴ and g_λ'_i += Σ_j R̃_ji conj(L̃_ij) conj(g_λ_j).
//!
//! Complex gradients are ∂/∂Re + i ∂/∂Im. Squared gradients transform with the squared entries of the real map from
//! components to components, as if the components were uncorrelated.

use burn::tensor::backend::Backend as BurnBackend;
use hsv::{Mat, c64};

use super::Lru;
use crate::{
    parameter::values,
    reduction::{MapPair, Reducible, StateMaps},
};

/// One value per parameter of an [`Lru`] that depends on its state, row-major, in the parameter's shape.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the parameters' names and shapes, as in `Lru`")]
pub struct LruGradient {
    pub nu_log: Vec<f64>,
    pub theta_log: Vec<f64>,
    pub gamma_log: Vec<f64>,
    pub B_re: Vec<f64>,
    pub B_im: Vec<f64>,
    pub C_re: Vec<f64>,
    pub C_im: Vec<f64>,
}

/// What the numbers are, and so how they transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientKind {
    /// Gradients or averages of gradients: linear.
    Gradient,
    /// Averages of squared gradients.
    Squared,
}

impl GradientKind {
    /// What a real factor makes of a value.
    fn scale(self, factor: f64, value: f64) -> f64 {
        match self {
            Self::Gradient => factor * value,
            Self::Squared => factor * factor * value,
        }
    }

    /// What `z ↦ a z + b z̄` makes of the values at real and imaginary part.
    fn map(self, a: c64, b: c64, value: c64) -> c64 {
        let [re_re, re_im] = [a.re + b.re, b.im - a.im];
        let [im_re, im_im] = [a.im + b.im, a.re - b.re];
        c64::new(
            self.scale(re_re, value.re) + self.scale(re_im, value.im),
            self.scale(im_re, value.re) + self.scale(im_im, value.im),
        )
    }
}

/// Eigenvalues and normalization of one layer, as its parameters give them.
struct Modes {
    /// exp(ν), so that |λ| = exp(-decay).
    decay: Vec<f64>,
    phase: Vec<f64>,
    gamma: Vec<f64>,
}

impl Modes {
    fn of<B: BurnBackend>(layer: &Lru<B>) -> Self {
        let [decay, phase, gamma] = [&layer.nu_log, &layer.theta_log, &layer.gamma_log]
            .map(|parameter| values(parameter).into_iter().map(f64::exp).collect());
        Self {
            decay,
            phase,
            gamma,
        }
    }

    /// conj(λ).
    fn conjugate(&self, i: usize) -> c64 {
        let modulus = (-self.decay[i]).exp();
        c64::new(
            modulus * self.phase[i].cos(),
            -modulus * self.phase[i].sin(),
        )
    }
}

impl LruGradient {
    /// The same gradient in the basis of `smaller`, a reduction of `layer` whose states `maps` connects with its own.
    pub fn after_reduction<B: BurnBackend>(
        &self,
        kind: GradientKind,
        layer: &Lru<B>,
        smaller: &Lru<B>,
        maps: &StateMaps,
    ) -> Self {
        let (old, new) = (Modes::of(layer), Modes::of(smaller));
        let (n, r) = (layer.state_dim(), smaller.state_dim());
        let h = self.B_re.len() / n;
        let (right, left) = (&maps.linear.right, &maps.linear.left);
        let conjugate = |side: fn(&MapPair) -> &Mat<c64>, row, col| {
            let pair = maps.conjugate.as_ref();
            pair.map_or(c64::new(0.0, 0.0), |pair| side(pair)[(row, col)])
        };
        let right_conjugate = |row, col| conjugate(|pair| &pair.right, row, col);
        let left_conjugate = |row, col| conjugate(|pair| &pair.left, row, col);
        let mut result = Self::zeros(r, h);

        // With λ = exp(-e^ν + iφ): conj(λ) g_λ = -g_ν / e^ν + i g_θ / φ, and back.
        for i in 0..r {
            let mut sum = c64::new(0.0, 0.0);
            for j in 0..n {
                let z = c64::new(
                    kind.scale(-1.0 / old.decay[j], self.nu_log[j]),
                    kind.scale(1.0 / old.phase[j], self.theta_log[j]),
                );
                let a = (right[(j, i)] * left[(i, j)]).conj() / old.conjugate(j);
                let b =
                    right_conjugate(j, i) * left_conjugate(i, j).conj() / old.conjugate(j).conj();
                sum += kind.map(a * new.conjugate(i), b * new.conjugate(i), z);
            }
            result.nu_log[i] = kind.scale(-new.decay[i], sum.re);
            result.theta_log[i] = kind.scale(new.phase[i], sum.im);
        }

        // The system's input matrix is ΓB, so its gradient is that of B over γ.
        let (b_re, b_im) = (values(&smaller.B_re), values(&smaller.B_im));
        for i in 0..r {
            for k in 0..h {
                let mut sum = c64::new(0.0, 0.0);
                for j in 0..n {
                    let g = c64::new(self.B_re[j * h + k], self.B_im[j * h + k]);
                    let gain = new.gamma[i] / old.gamma[j];
                    let (a, b) = (right[(j, i)].conj(), right_conjugate(j, i));
                    sum += kind.map(a * gain, b * gain, g);
                }
                let at = i * h + k;
                (result.B_re[at], result.B_im[at]) = (sum.re, sum.im);
                result.gamma_log[i] += kind.scale(b_re[at], sum.re) + kind.scale(b_im[at], sum.im);
            }
        }

        for k in 0..h {
            for i in 0..r {
                let mut sum = c64::new(0.0, 0.0);
                for j in 0..n {
                    let g = c64::new(self.C_re[k * n + j], self.C_im[k * n + j]);
                    sum += kind.map(left[(i, j)].conj(), left_conjugate(i, j).conj(), g);
                }
                (result.C_re[k * r + i], result.C_im[k * r + i]) = (sum.re, sum.im);
            }
        }
        result
    }

    fn zeros(state: usize, hidden: usize) -> Self {
        let [nu_log, theta_log, gamma_log] = [(); 3].map(|()| vec![0.0; state]);
        let [b_re, b_im, c_re, c_im] = [(); 4].map(|()| vec![0.0; state * hidden]);
        Self {
            nu_log,
            theta_log,
            gamma_log,
            B_re: b_re,
            B_im: b_im,
            C_re: c_re,
            C_im: c_im,
        }
    }
}
