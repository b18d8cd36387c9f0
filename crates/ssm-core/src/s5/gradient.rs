//! How gradients of the parameters go over into another basis.
//!
//! The discrete system has Λ̄ = f(λ, Δ) and B̄ = g(λ, Δ) B. A gradient of λ is one of Λ̄ and one of B̄ together,
//! g_λ = conj(∂f/∂λ) g_Λ̄ + Σ_h conj(∂g/∂λ B_h) g_B̄h with g_B̄ = g_B / conj(g): taken apart, carried over as for any
//! diagonal system (`LruGradient` has the formulas) and put together again. Of squared gradients the part through B̄ is left
//! out, and the components go over as if they were uncorrelated.

use burn::tensor::backend::Backend as BurnBackend;
use hsv::{Mat, c64};

use super::{S5, step::DiscreteMode};
use crate::{
    compression::{GradientKind, GradientMap},
    parameter::values,
    system::{MapPair, StateMaps},
};

/// The modes of a layer, and its B, `[state][hidden]`.
struct Modes {
    modes: Vec<DiscreteMode>,
    lambda: Vec<c64>,
    input: Vec<Vec<c64>>,
}

impl Modes {
    fn of<B: BurnBackend>(layer: &S5<B>) -> Self {
        let hidden = layer.D.dims()[0];
        let parts = values(&layer.B);
        let (entries, _) = parts.as_chunks::<2>();
        let rows = entries.chunks_exact(hidden);
        Self {
            modes: layer.modes(),
            lambda: layer.continuous().into_iter().map(|(l, _)| l).collect(),
            input: rows
                .map(|row| row.iter().map(|[re, im]| c64::new(*re, *im)).collect())
                .collect(),
        }
    }

    /// Σ_h conj(slope B_h) g_B̄h of a state.
    fn through_input(&self, state: usize, slope: c64, of_input: impl Fn(usize) -> c64) -> c64 {
        let entries = self.input[state].iter().enumerate();
        entries.map(|(h, b)| (slope * b).conj() * of_input(h)).sum()
    }
}

pub(super) fn map<B: BurnBackend>(layer: &S5<B>, smaller: &S5<B>, maps: StateMaps) -> GradientMap {
    let (old, new) = (Modes::of(layer), Modes::of(smaller));
    Box::new(move |kind, values| {
        let [re, im, _, b, c]: [Vec<f64>; 5] =
            values.try_into().expect("one list for every parameter");
        let (n, r, h) = (old.modes.len(), new.modes.len(), old.input[0].len());
        let conjugate = |side: fn(&MapPair) -> &Mat<c64>, row, col| {
            let pair = maps.conjugate.as_ref();
            pair.map_or(c64::new(0.0, 0.0), |pair| side(pair)[(row, col)])
        };
        let (right, left) = (&maps.linear.right, &maps.linear.left);
        let right_conjugate = |row, col| conjugate(|pair| &pair.right, row, col);
        let left_conjugate = |row, col| conjugate(|pair| &pair.left, row, col);

        // g_B' over conj(g').
        let input = kind.matrix([r, n], |i, j| {
            let (from, to) = (old.modes[j].gain.conj(), new.modes[i].gain.conj());
            (
                right[(j, i)].conj() / from * to,
                right_conjugate(j, i) / from.conj() * to,
            )
        }) * Mat::from_fn(2 * n, h, |j, k| b[2 * (j % n * h + k) + j / n]);
        // C' counts twice in both.
        let output = kind.matrix([r, n], |i, j| {
            (left[(i, j)].conj(), left_conjugate(i, j).conj())
        }) * Mat::from_fn(2 * n, h, |j, k| c[2 * (k * n + j % n) + j / n]);

        let exact = kind == GradientKind::Gradient;
        // Of B̄, where signs count.
        let old_input = |j: usize, k: usize| {
            let at = 2 * (j * h + k);
            c64::new(b[at], b[at + 1]) / old.modes[j].gain.conj()
        };
        let new_input = |i: usize, k: usize| {
            c64::new(input[(i, k)], input[(r + i, k)]) / new.modes[i].gain.conj()
        };
        let of_value: Vec<c64> = (0..n)
            .map(|j| {
                let whole = c64::new(re[j], im[j]);
                match exact {
                    true => {
                        let slope = old.modes[j].gain_slope;
                        whole - old.through_input(j, slope, |k| old_input(j, k))
                    }
                    false => whole,
                }
            })
            .collect();
        let lambda = kind.matrix([r, n], |i, j| {
            let (from, to) = (
                old.modes[j].value_slope.conj(),
                new.modes[i].value_slope.conj(),
            );
            (
                (right[(j, i)] * left[(i, j)]).conj() / from * to,
                right_conjugate(j, i) * left_conjugate(i, j).conj() / from.conj() * to,
            )
        }) * Mat::from_fn(2 * n, 1, |j, _| match j.checked_sub(n) {
            None => of_value[j].re,
            Some(j) => of_value[j].im,
        });

        let mut of_step = Vec::with_capacity(r);
        let (mut new_re, mut new_im) = (Vec::with_capacity(r), Vec::with_capacity(r));
        for i in 0..r {
            let pure = c64::new(lambda[(i, 0)], lambda[(r + i, 0)]);
            let along = new.lambda[i];
            if exact {
                let mode = new.modes[i];
                let whole = pure + new.through_input(i, mode.gain_slope, |k| new_input(i, k));
                new_re.push(whole.re);
                new_im.push(whole.im);
                let through = new.through_input(i, mode.gain_step_slope, |k| new_input(i, k));
                of_step.push((along.conj() * pure).re + through.re);
            } else {
                new_re.push(pure.re);
                new_im.push(pure.im);
                of_step.push(along.re * along.re * pure.re + along.im * along.im * pure.im);
            }
        }
        let rows = |matrix: &Mat<f64>| -> Vec<f64> {
            let at = (0..r).flat_map(|i| (0..h).map(move |k| (i, k)));
            at.flat_map(|(i, k)| [matrix[(i, k)], matrix[(r + i, k)]])
                .collect()
        };
        let columns = |matrix: &Mat<f64>| -> Vec<f64> {
            let at = (0..h).flat_map(|k| (0..r).map(move |i| (i, k)));
            at.flat_map(|(i, k)| [matrix[(i, k)], matrix[(r + i, k)]])
                .collect()
        };
        vec![new_re, new_im, of_step, rows(&input), columns(&output)]
    })
}
