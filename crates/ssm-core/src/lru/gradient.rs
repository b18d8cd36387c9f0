//! How gradients of a layer's parameters look after a truncation: what an optimizer needs to carry its moments
//! through the change of basis.
//!
//! A change δB', δC', δΛ' of the small layer acts on the large one as δB = R δB', δC = δC' L and
//! δΛ = diag(R δΛ' L), where R (`right`) and L (`left`) are the projections of the truncation. Gradients transform
//! with the adjoint: g_B' = Rᴴ g_B, g_C' = g_C Lᴴ, g_λ'_i = Σ_j conj(R_ji L_ij) g_λ_j. For B and C this is the chain
//! rule. For Λ it leaves out what the off-diagonal part of R δΛ' L would contribute, which no gradient of a diagonal
//! layer contains; where modes are removed without mixing the others, nothing is left out.
//!
//! Complex gradients are ∂/∂Re + i ∂/∂Im. Squared gradients transform with squared magnitudes, as if the
//! components were uncorrelated.

use burn::tensor::backend::Backend as BurnBackend;
use hsv::{DiagonalTruncation, c64};

use super::Lru;
use crate::{parameter::values, reduction::Reducible};

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

/// Eigenvalues and normalization of one layer, as its parameters give them.
struct Modes {
    /// exp(ν), so that |λ| = exp(-decay).
    decay: Vec<f64>,
    phase: Vec<f64>,
    gamma: Vec<f64>,
}

impl Modes {
    fn of<B: BurnBackend>(layer: &Lru<B>) -> Self {
        let exp = |p| values(p).iter().map(|v| v.exp()).collect();
        Self {
            decay: exp(&layer.nu_log),
            phase: exp(&layer.theta_log),
            gamma: exp(&layer.gamma_log),
        }
    }

    /// λ / |λ|² = 1 / conj(λ).
    fn inverse_conjugate(&self, i: usize) -> c64 {
        let modulus = self.decay[i].exp();
        c64::new(modulus * self.phase[i].cos(), modulus * self.phase[i].sin())
    }

    fn conjugate(&self, i: usize) -> c64 {
        let modulus = (-self.decay[i]).exp();
        c64::new(
            modulus * self.phase[i].cos(),
            -modulus * self.phase[i].sin(),
        )
    }
}

impl LruGradient {
    /// The same gradient in the basis of `smaller`, which `truncation` made out of `layer`.
    pub fn after_truncation<B: BurnBackend>(
        &self,
        kind: GradientKind,
        layer: &Lru<B>,
        smaller: &Lru<B>,
        truncation: &DiagonalTruncation,
    ) -> Self {
        let (old, new) = (Modes::of(layer), Modes::of(smaller));
        match kind {
            GradientKind::Gradient => self.linear(&old, &new, smaller, truncation),
            GradientKind::Squared => self.squared(&old, &new, smaller, truncation),
        }
    }

    fn linear<B: BurnBackend>(
        &self,
        old: &Modes,
        new: &Modes,
        smaller: &Lru<B>,
        truncation: &DiagonalTruncation,
    ) -> Self {
        let (n, r) = (old.decay.len(), smaller.state_dim());
        let h = self.B_re.len() / n;
        let (right, left) = (&truncation.right, &truncation.left);
        let mut result = Self::zeros(r, h);

        // With λ = exp(-e^ν + iφ): conj(λ) g_λ = -g_ν / e^ν + i g_θ / φ, and back.
        for i in 0..r {
            let mut g = c64::new(0.0, 0.0);
            for j in 0..n {
                let z = c64::new(
                    -self.nu_log[j] / old.decay[j],
                    self.theta_log[j] / old.phase[j],
                );
                g += (right[(j, i)] * left[(i, j)]).conj() * z * old.inverse_conjugate(j);
            }
            let z = new.conjugate(i) * g;
            result.nu_log[i] = -new.decay[i] * z.re;
            result.theta_log[i] = new.phase[i] * z.im;
        }

        // The system's input matrix is ΓB, so its gradient is that of B over γ.
        let (b_re, b_im) = (values(&smaller.B_re), values(&smaller.B_im));
        for i in 0..r {
            for k in 0..h {
                let g: c64 = (0..n)
                    .map(|j| {
                        let g = c64::new(self.B_re[j * h + k], self.B_im[j * h + k]);
                        right[(j, i)].conj() * g * (new.gamma[i] / old.gamma[j])
                    })
                    .sum();
                result.B_re[i * h + k] = g.re;
                result.B_im[i * h + k] = g.im;
                result.gamma_log[i] += b_re[i * h + k] * g.re + b_im[i * h + k] * g.im;
            }
        }

        for k in 0..h {
            for i in 0..r {
                let g: c64 = (0..n)
                    .map(|j| {
                        left[(i, j)].conj() * c64::new(self.C_re[k * n + j], self.C_im[k * n + j])
                    })
                    .sum();
                result.C_re[k * r + i] = g.re;
                result.C_im[k * r + i] = g.im;
            }
        }
        result
    }

    /// As [`linear`](Self::linear), every coefficient squared.
    fn squared<B: BurnBackend>(
        &self,
        old: &Modes,
        new: &Modes,
        smaller: &Lru<B>,
        truncation: &DiagonalTruncation,
    ) -> Self {
        let (n, r) = (old.decay.len(), smaller.state_dim());
        let h = self.B_re.len() / n;
        let (right, left) = (&truncation.right, &truncation.left);
        let mut result = Self::zeros(r, h);

        for i in 0..r {
            let (mut re, mut im) = (0.0, 0.0);
            for j in 0..n {
                let (nu, theta) = (self.nu_log[j], self.theta_log[j]);
                let (z_re, z_im) = (nu / old.decay[j].powi(2), theta / old.phase[j].powi(2));
                let w = (right[(j, i)] * left[(i, j)]).conj()
                    * old.inverse_conjugate(j)
                    * new.conjugate(i);
                re += w.re.powi(2) * z_re + w.im.powi(2) * z_im;
                im += w.im.powi(2) * z_re + w.re.powi(2) * z_im;
            }
            result.nu_log[i] = new.decay[i].powi(2) * re;
            result.theta_log[i] = new.phase[i].powi(2) * im;
        }

        let (b_re, b_im) = (values(&smaller.B_re), values(&smaller.B_im));
        for i in 0..r {
            for k in 0..h {
                let (mut re, mut im) = (0.0, 0.0);
                for j in 0..n {
                    let w = right[(j, i)] * (new.gamma[i] / old.gamma[j]);
                    let (v_re, v_im) = (self.B_re[j * h + k], self.B_im[j * h + k]);
                    re += w.re.powi(2) * v_re + w.im.powi(2) * v_im;
                    im += w.im.powi(2) * v_re + w.re.powi(2) * v_im;
                }
                result.B_re[i * h + k] = re;
                result.B_im[i * h + k] = im;
                result.gamma_log[i] += b_re[i * h + k].powi(2) * re + b_im[i * h + k].powi(2) * im;
            }
        }

        for k in 0..h {
            for i in 0..r {
                let (mut re, mut im) = (0.0, 0.0);
                for j in 0..n {
                    let w = left[(i, j)];
                    let (v_re, v_im) = (self.C_re[k * n + j], self.C_im[k * n + j]);
                    re += w.re.powi(2) * v_re + w.im.powi(2) * v_im;
                    im += w.im.powi(2) * v_re + w.re.powi(2) * v_im;
                }
                result.C_re[k * r + i] = re;
                result.C_im[k * r + i] = im;
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
