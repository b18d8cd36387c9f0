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
    compression::GradientKind,
    parameter::values,
    system::{MapPair, StateMaps},
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

/// Eigenvalues and normalization of one layer, as its parameters give them.
struct Modes {
    /// exp(ν), so that |λ| = exp(-decay).
    decay: Vec<f64>,
    phase: Vec<f64>,
    gamma: Vec<f64>,
    /// conj(λ).
    conjugate: Vec<c64>,
}

impl Modes {
    fn of<B: BurnBackend>(layer: &Lru<B>) -> Self {
        let [decay, phase, gamma]: [Vec<f64>; 3] =
            [&layer.nu_log, &layer.theta_log, &layer.gamma_log]
                .map(|parameter| values(parameter).into_iter().map(f64::exp).collect());
        let conjugate = Iterator::zip(decay.iter(), &phase)
            .map(|(decay, phase)| c64::from_polar((-decay).exp(), -phase))
            .collect();
        Self {
            decay,
            phase,
            gamma,
            conjugate,
        }
    }
}

impl LruGradient {
    /// From one list per parameter, in the order of the layer's selection.
    pub(super) fn of_values(values: Vec<Vec<f64>>) -> Self {
        let [nu_log, theta_log, gamma_log, B_re, B_im, C_re, C_im] =
            values.try_into().expect("one list for every parameter");
        Self {
            nu_log,
            theta_log,
            gamma_log,
            B_re,
            B_im,
            C_re,
            C_im,
        }
    }

    /// One list per parameter, in that order.
    pub(super) fn into_values(self) -> Vec<Vec<f64>> {
        vec![
            self.nu_log,
            self.theta_log,
            self.gamma_log,
            self.B_re,
            self.B_im,
            self.C_re,
            self.C_im,
        ]
    }

    /// The same gradient in the basis of `smaller`, a reduction of `layer` whose states `maps` connects with its own.
    pub fn after_reduction<B: BurnBackend>(
        &self,
        kind: GradientKind,
        layer: &Lru<B>,
        smaller: &Lru<B>,
        maps: &StateMaps,
    ) -> Self {
        let (old, new) = (Modes::of(layer), Modes::of(smaller));
        let [n, r] = [layer, smaller].map(|layer| layer.nu_log.dims()[0]);
        let h = self.B_re.len() / n;
        let (right, left) = (&maps.linear.right, &maps.linear.left);
        let conjugate = |side: fn(&MapPair) -> &Mat<c64>, row, col| {
            let pair = maps.conjugate.as_ref();
            pair.map_or(c64::new(0.0, 0.0), |pair| side(pair)[(row, col)])
        };
        let right_conjugate = |row, col| conjugate(|pair| &pair.right, row, col);
        let left_conjugate = |row, col| conjugate(|pair| &pair.left, row, col);
        let shape = [r, n];

        // With λ = exp(-e^ν + iφ): conj(λ) g_λ = -g_ν / e^ν + i g_θ / φ, and back.
        let lambda = kind.matrix(shape, |i, j| {
            let (old, new) = (old.conjugate[j], new.conjugate[i]);
            let a = (right[(j, i)] * left[(i, j)]).conj() / old;
            let b = right_conjugate(j, i) * left_conjugate(i, j).conj() / old.conj();
            (a * new, b * new)
        });
        let lambda = lambda
            * Mat::from_fn(2 * n, 1, |j, _| match j.checked_sub(n) {
                None => kind.scale(-1.0 / old.decay[j], self.nu_log[j]),
                Some(j) => kind.scale(1.0 / old.phase[j], self.theta_log[j]),
            });

        // The system's input matrix is ΓB, so its gradient is that of B over γ.
        let input = kind.matrix(shape, |i, j| {
            let gain = new.gamma[i] / old.gamma[j];
            (right[(j, i)].conj() * gain, right_conjugate(j, i) * gain)
        });
        let input = input
            * Mat::from_fn(2 * n, h, |j, k| match j.checked_sub(n) {
                None => self.B_re[j * h + k],
                Some(j) => self.B_im[j * h + k],
            });

        let output = kind.matrix(shape, |i, j| {
            (left[(i, j)].conj(), left_conjugate(i, j).conj())
        });
        let output = output
            * Mat::from_fn(2 * n, h, |j, k| match j.checked_sub(n) {
                None => self.C_re[k * n + j],
                Some(j) => self.C_im[k * n + j],
            });

        let (b_re, b_im) = (values(&smaller.B_re), values(&smaller.B_im));
        let gamma_log = |i: usize| {
            let part = |values: &[f64], row: usize| -> f64 {
                let row = (0..h).map(|k| kind.scale(values[i * h + k], input[(row, k)]));
                row.sum()
            };
            part(&b_re, i) + part(&b_im, r + i)
        };
        let rows = |matrix: &Mat<f64>, first: usize| -> Vec<f64> {
            let entries = (0..r * h).map(|at| matrix[(first + at / h, at % h)]);
            entries.collect()
        };
        let columns = |matrix: &Mat<f64>, first: usize| -> Vec<f64> {
            let entries = (0..r * h).map(|at| matrix[(first + at % r, at / r)]);
            entries.collect()
        };
        let modes = 0..r;
        Self {
            nu_log: modes
                .clone()
                .map(|i| kind.scale(-new.decay[i], lambda[(i, 0)]))
                .collect(),
            theta_log: modes
                .clone()
                .map(|i| kind.scale(new.phase[i], lambda[(r + i, 0)]))
                .collect(),
            gamma_log: modes.map(gamma_log).collect(),
            B_re: rows(&input, 0),
            B_im: rows(&input, r),
            C_re: columns(&output, 0),
            C_im: columns(&output, r),
        }
    }
}
