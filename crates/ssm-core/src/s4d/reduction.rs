//! A layer with fewer states: every channel keeps, or makes, its own, as many as all others.
//!
//! Only the product of what goes into a mode and what comes out of it counts, so a channel has no scale to choose: every
//! mode is driven by the input as it is, and C takes the rest. The gradient of C goes over as that of a system whose
//! states are scaled so, and that of A as in S5.

use burn::tensor::backend::Backend as BurnBackend;
use hsv::{LinearSystem, Mat, c64};
use rayon::prelude::*;

use super::S4d;
use crate::{
    compression::{
        BasisChange, Carry, CompressionError, Drift, GradientKind, GradientMap, KeptRows, Method,
        OutputBound, Ranking, Reduced, ReducedSystem, ReductionError, States,
    },
    parameter::{parameter, values},
    s5::{DiscreteMode, Discretization},
    system::StateMaps,
};

/// A mode whose input is held over a step.
pub(super) fn held(a: c64, step: f64) -> DiscreteMode {
    Discretization::ZeroOrderHold.mode(a, step)
}

/// Of a layer, what its channels are by.
pub(super) fn drift_of_all(channels: Vec<Drift>) -> Option<Drift> {
    let count = channels.len() as f64;
    let correlations: Option<Vec<f64>> = channels.iter().map(|d| d.rank_correlation).collect();
    Some(Drift {
        rank_correlation: correlations.map(|all| all.iter().sum::<f64>() / count),
        // Values of the spectrum are sums over the channels.
        hankel_distance: channels.iter().map(|d| d.hankel_distance).sum(),
    })
}

pub(super) fn reduce<B: BurnBackend>(
    layer: &S4d<B>,
    basis: &[Ranking],
    order: usize,
    method: Method,
) -> Result<Reduced<S4d<B>>, CompressionError> {
    let channels = basis
        .par_iter()
        .map(|ranking| method.reduction.reduce(ranking, order, method.selection))
        .collect::<Result<Vec<ReducedSystem>, _>>()?;
    // Of systems that do not touch each other the error is that of the worst.
    let bound = OutputBound {
        gain: channels.iter().map(|c| c.bound).fold(0.0, f64::max),
        decay: channels
            .iter()
            .map(ReducedSystem::decay)
            .fold(f64::INFINITY, f64::min),
    };
    let sums: Vec<f64> = basis.iter().map(|r| r.values().iter().sum()).collect();
    let gone = channels.iter().zip(&sums).map(|(c, sum)| c.discarded * sum);
    let (gone, all) = (gone.sum::<f64>(), sums.iter().sum::<f64>());
    let kept: Option<Vec<Vec<usize>>> = channels
        .iter()
        .map(|channel| match &channel.states {
            States::Kept(kept) => Some(kept.clone()),
            States::New(_) => None,
        })
        .collect();
    let (smaller, carry) = match kept {
        Some(kept) => {
            let rows = layer.rows(&kept);
            (layer.with_rows(&rows), Carry::Keep(rows))
        }
        None => rebuilt(layer, channels)?,
    };
    Ok(Reduced {
        layer: smaller,
        carry,
        bound: Some(bound),
        discarded: if gone > 0.0 { gone / all } else { 0.0 },
    })
}

/// The layer that realizes the reduced systems. A channel with fewer modes than others has idle ones besides.
fn rebuilt<B: BurnBackend>(
    layer: &S4d<B>,
    channels: Vec<ReducedSystem>,
) -> Result<(S4d<B>, Carry), ReductionError> {
    let order = channels.iter().map(|c| c.system.state_dim()).max();
    let (order, device) = (order.unwrap_or(0), layer.D.device());
    let old = layer.continuous();
    let (mut re, mut im, mut c) = (Vec::new(), Vec::new(), Vec::new());
    for (channel, (_, step)) in channels.iter().zip(&old) {
        let system = &channel.system;
        for n in 0..order {
            if n >= system.state_dim() {
                // Short, and not seen.
                re.push(-(step.ln()) as f32);
                im.push(0.0);
                c.extend([0.0, 0.0]);
                continue;
            }
            let value = system.lambda()[n];
            // Any step would do for the poles; the channel has one.
            let a = Discretization::ZeroOrderHold.scaled(value) / *step;
            let gain = system.input_matrix()[(n, 0)] * system.output_matrix()[(0, n)];
            let output = gain / (held(a, *step).gain * 2.0);
            let rounded = [(-a.re).ln(), a.im, output.re, output.im].map(|x| x as f32);
            if rounded[..2].iter().any(|x| !x.is_finite()) {
                let modulus = value.norm();
                return Err(ReductionError::NotRepresentable { index: n, modulus });
            }
            if rounded[2..].iter().any(|x| !x.is_finite()) {
                return Err(ReductionError::OutOfRange);
            }
            re.push(rounded[0]);
            im.push(rounded[1]);
            c.extend([rounded[2], rounded[3]]);
        }
    }
    let feedthrough: Vec<f32> = values(&layer.D)
        .into_iter()
        .zip(&channels)
        .map(|(d, channel)| {
            let direct = channel.system.feedthrough().map_or(0.0, |d| d[(0, 0)].re);
            (d + direct) as f32
        })
        .collect();
    if feedthrough.iter().any(|d| !d.is_finite()) {
        return Err(ReductionError::OutOfRange);
    }
    let hidden = channels.len();
    let smaller = S4d {
        log_dt: layer.log_dt.clone(),
        log_A_real: parameter(re, [hidden, order], &device),
        A_imag: parameter(im, [hidden, order], &device),
        C: parameter(c, [hidden, order, 2], &device),
        D: match channels.iter().any(|c| c.system.feedthrough().is_some()) {
            true => parameter(feedthrough, [hidden], &device),
            false => layer.D.clone(),
        },
    };
    let slice: Vec<usize> = (0..order).collect();
    let first: Vec<KeptRows> = layer.rows(&vec![slice; hidden]);
    let map = gradient_map(layer, &smaller, channels);
    Ok((smaller, Carry::Change(BasisChange { first, map })))
}

/// What gradients of a channel go over by.
struct Channel {
    old: Vec<DiscreteMode>,
    new: Vec<DiscreteMode>,
    old_c: Vec<c64>,
    new_c: Vec<c64>,
    old_re: Vec<f64>,
    new_re: Vec<f64>,
    /// To the states that are driven by one, and back.
    maps: StateMaps,
}

fn modes<B: BurnBackend>(layer: &S4d<B>) -> Vec<(Vec<DiscreteMode>, Vec<c64>, Vec<f64>)> {
    let state = layer.A_imag.dims()[1];
    let parts = values(&layer.C);
    let channels = layer
        .continuous()
        .into_iter()
        .zip(parts.chunks_exact(2 * state));
    channels
        .map(|((a, step), c)| {
            let (c, _) = c.as_chunks::<2>();
            (
                a.iter().map(|a| held(*a, step)).collect(),
                c.iter().map(|[re, im]| c64::new(*re, *im)).collect(),
                a.iter().map(|a| a.re).collect(),
            )
        })
        .collect()
}

/// `None` where the new states of a channel are no linear function of the old ones.
fn gradient_map<B: BurnBackend>(
    layer: &S4d<B>,
    smaller: &S4d<B>,
    channels: Vec<ReducedSystem>,
) -> Option<GradientMap> {
    let [hidden, n] = layer.A_imag.dims();
    let r = smaller.A_imag.dims()[1];
    let (old, new) = (modes(layer), modes(smaller));
    let channels = channels
        .into_iter()
        .zip(old.into_iter().zip(new))
        .map(|(channel, ((old, old_c, old_re), (new, new_c, new_re)))| {
            let States::New(Some(mut maps)) = channel.states else {
                return None;
            };
            // z = b z', so that z' is driven by one.
            let drive = |i: usize| channel.system.input_matrix()[(i, 0)];
            let scale = |right: &Mat<c64>, left: &Mat<c64>, conjugate: bool| {
                let of = |i: usize| if conjugate { drive(i).conj() } else { drive(i) };
                // A mode that nothing drives has no such scale, and no gradient that counts.
                let back = |i: usize| match drive(i).norm() > 0.0 {
                    true => drive(i).inv(),
                    false => c64::new(0.0, 0.0),
                };
                (
                    Mat::from_fn(n, right.ncols(), |j, i| right[(j, i)] * of(i)),
                    Mat::from_fn(left.nrows(), n, |i, j| left[(i, j)] * back(i)),
                )
            };
            let (right, left) = scale(&maps.linear.right, &maps.linear.left, false);
            (maps.linear.right, maps.linear.left) = (right, left);
            if let Some(pair) = &mut maps.conjugate {
                let (right, left) = scale(&pair.right, &pair.left, true);
                (pair.right, pair.left) = (right, left);
            }
            Some(Channel {
                old,
                new,
                old_c,
                new_c,
                old_re,
                new_re,
                maps,
            })
        })
        .collect::<Option<Vec<Channel>>>()?;
    Some(Box::new(move |kind, values| {
        let [of_re, of_im, of_c]: [Vec<f64>; 3] =
            values.try_into().expect("one list for every parameter");
        let mut all = [const { Vec::new() }; 3];
        for (h, channel) in channels.iter().enumerate() {
            let states = h * n..(h + 1) * n;
            let [re, im, c] = channel.carry(
                kind,
                &of_re[states.clone()],
                &of_im[states],
                &of_c[2 * h * n..2 * (h + 1) * n],
                r,
            );
            for (all, part) in all.iter_mut().zip([re, im, c]) {
                all.extend(part);
            }
        }
        debug_assert_eq!(all[0].len(), hidden * r);
        all.into()
    }))
}

impl Channel {
    fn carry(
        &self,
        kind: GradientKind,
        of_log: &[f64],
        of_im: &[f64],
        of_c: &[f64],
        order: usize,
    ) -> [Vec<f64>; 3] {
        let exact = kind == GradientKind::Gradient;
        let (n, r) = (self.old.len(), self.maps.linear.left.nrows());
        let zero = c64::new(0.0, 0.0);
        let (right, left) = (&self.maps.linear.right, &self.maps.linear.left);
        let pair = self.maps.conjugate.as_ref();
        let right_conjugate = |j, i| pair.map_or(zero, |pair| pair.right[(j, i)]);
        let left_conjugate = |i, j| pair.map_or(zero, |pair| pair.left[(i, j)]);

        // The system's output is 2 g C, so its gradient is that of C over conj(g), twice in both.
        let output = kind.matrix([r, n], |i, j| {
            let (from, to) = (self.old[j].gain.conj(), self.new[i].gain.conj());
            (
                left[(i, j)].conj() / from * to,
                left_conjugate(i, j).conj() / from.conj() * to,
            )
        }) * Mat::from_fn(2 * n, 1, |j, _| of_c[2 * (j % n) + j / n]);

        // log(-Re A) to Re A, and what is not through the gain.
        let of_a: Vec<c64> = (0..n)
            .map(|j| {
                let along = match exact {
                    true => of_log[j] / self.old_re[j],
                    false => of_log[j] / self.old_re[j].powi(2),
                };
                let whole = c64::new(along, of_im[j]);
                let through = c64::new(of_c[2 * j], of_c[2 * j + 1]) / self.old[j].gain.conj();
                match exact {
                    true => whole - (self.old[j].gain_slope * self.old_c[j]).conj() * through,
                    false => whole,
                }
            })
            .collect();
        let poles = kind.matrix([r, n], |i, j| {
            let (from, to) = (
                self.old[j].value_slope.conj(),
                self.new[i].value_slope.conj(),
            );
            (
                (right[(j, i)] * left[(i, j)]).conj() / from * to,
                right_conjugate(j, i) * left_conjugate(i, j).conj() / from.conj() * to,
            )
        }) * Mat::from_fn(2 * n, 1, |j, _| match j.checked_sub(n) {
            None => of_a[j].re,
            Some(j) => of_a[j].im,
        });

        let [mut re, mut im, mut c] = [order, order, 2 * order].map(|len| vec![0.0; len]);
        for i in 0..r {
            let of_output = c64::new(output[(i, 0)], output[(r + i, 0)]);
            let mut a = c64::new(poles[(i, 0)], poles[(r + i, 0)]);
            if exact {
                let through = of_output / self.new[i].gain.conj();
                a += (self.new[i].gain_slope * self.new_c[i]).conj() * through;
            }
            re[i] = match exact {
                true => a.re * self.new_re[i],
                false => a.re * self.new_re[i].powi(2),
            };
            im[i] = a.im;
            c[2 * i..2 * i + 2].copy_from_slice(&[of_output.re, of_output.im]);
        }
        [re, im, c]
    }
}
