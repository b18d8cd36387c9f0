//! What the states of a selective map matter, from data: its matrices change with the input, so no equation gives its
//! Gramians.
//!
//! The states of a channel do not mix, `h_t[n] = a_t[n] h_{t-1}[n] + b_t[n]`, `y_t = Σ_n c_t[n] h_t[n]`, and both
//! Gramians are diagonal. The score of a state index is `Σ √(P[n] Q[n])` over the channels, which share B and C and so
//! keep or lose it together.

use burn::tensor::{Tensor, backend::Backend as BurnBackend};
use hsv::{BalanceError, BalancedGramians, Mat, balance_gramians, spearman};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{dual::DualMixer, selective::SelectiveMixer};
use crate::{
    backend::Backend,
    compression::{CompressionError, Drift},
    selective_scan::softplus,
};

/// How the Gramians of a selective map are estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GramianEstimate {
    /// Those of the map with Δ, B and C replaced by their means: it misses what a B or C of mean zero does.
    Mean,
    /// `P = E[b²] / (1 - E[a²])`, `Q = E[c²] / (1 - E[a²])`: exact where the steps are independent of each other.
    SecondMoment,
    /// P is the mean of h², Q that of the recursion q_t = a_{t+1}² q_{t+1} + c_t²: what the data did.
    Empirical,
}

/// Refuses scores that are no numbers.
pub(super) fn finite(scores: Vec<f64>) -> Result<Vec<f64>, CompressionError> {
    match scores.iter().all(|score| score.is_finite()) {
        true => Ok(scores),
        false => Err(CompressionError::ScoresNotFinite),
    }
}

/// How far a layer has come: each state is scored by itself, so no score can move by more than the one that moved most.
pub(super) fn drift_of_scores(before: &[f64], now: &[f64]) -> Drift {
    let moves = before.iter().zip(now).map(|(a, b)| (a - b).abs());
    Drift {
        rank_correlation: spearman(before, now),
        hankel_distance: moves.fold(0.0, f64::max),
    }
}

/// A map on calibration data, on the host.
struct Observed {
    channels: usize,
    state: usize,
    /// Steps of every row, padding included.
    length: usize,
    /// u, `[batch, length, channels]`.
    input: Vec<f64>,
    /// Δ, `[batch, length, steps]`.
    step: Vec<f64>,
    /// A, `[steps, state]` or `[steps]` for all states alike.
    rates: Vec<f64>,
    /// B and C, `[batch, length, groups · state]`: the channels of a group share them.
    vectors: [Vec<f64>; 2],
    groups: usize,
    /// Steps of every row that count.
    lengths: Vec<usize>,
}

fn host<B: BurnBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

impl Observed {
    /// Numbers of Δ at every step: one per channel, or one per head.
    fn steps(&self) -> usize {
        self.step.len() / (self.lengths.len() * self.length)
    }

    /// A of all states of a channel.
    fn rates(&self, step: usize) -> Vec<f64> {
        match self.rates.len() == self.steps() {
            true => vec![self.rates[step]; self.state],
            false => self.rates[step * self.state..][..self.state].to_vec(),
        }
    }

    /// √(P Q) of every state of a channel.
    fn scores_of_channel(&self, channel: usize, estimate: GramianEstimate) -> Vec<f64> {
        let step = channel * self.steps() / self.channels;
        let rates = self.rates(step);
        let [controllability, observability] = match estimate {
            GramianEstimate::Mean => self.of_means(channel, step, &rates),
            GramianEstimate::SecondMoment => self.of_second_moments(channel, step, &rates),
            GramianEstimate::Empirical => self.of_states(channel, step, &rates),
        };
        let pairs = controllability.iter().zip(&observability);
        pairs.map(|(p, q)| (p * q).sqrt()).collect()
    }

    /// Positions in `[batch, length]` that count, row by row.
    fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = (0..).step_by(self.length);
        starts
            .zip(&self.lengths)
            .map(|(start, len)| start..start + len)
    }

    fn count(&self) -> f64 {
        self.lengths.iter().sum::<usize>() as f64
    }

    fn step_at(&self, position: usize, step: usize) -> f64 {
        self.step[position * self.steps() + step]
    }

    /// B or C of a channel.
    fn vector_at(&self, which: usize, position: usize, channel: usize) -> &[f64] {
        let group = channel * self.groups / self.channels;
        &self.vectors[which][(position * self.groups + group) * self.state..][..self.state]
    }

    fn of_means(&self, channel: usize, step: usize, rates: &[f64]) -> [Vec<f64>; 2] {
        let positions = || self.rows().flatten();
        let mean_step = positions().map(|at| self.step_at(at, step)).sum::<f64>() / self.count();
        let mean = |which: usize, n: usize| {
            let values = positions().map(|at| self.vector_at(which, at, channel)[n]);
            values.sum::<f64>() / self.count()
        };
        let gramian = |which: usize, gain: f64| {
            let state = |(n, rate): (usize, &f64)| {
                let decay = -(2.0 * mean_step * rate).exp_m1();
                (gain * mean(which, n)).powi(2) / decay
            };
            rates.iter().enumerate().map(state).collect()
        };
        [gramian(0, mean_step), gramian(1, 1.0)]
    }

    fn of_second_moments(&self, channel: usize, step: usize, rates: &[f64]) -> [Vec<f64>; 2] {
        let n = self.state;
        let (mut of_b, mut of_c, mut lost) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        for at in self.rows().flatten() {
            let dt = self.step_at(at, step);
            let drive = dt * self.input[at * self.channels + channel];
            let (b, c) = (
                self.vector_at(0, at, channel),
                self.vector_at(1, at, channel),
            );
            for i in 0..n {
                of_b[i] += (drive * b[i]).powi(2);
                of_c[i] += c[i] * c[i];
                // 1 - E[a²] from its parts: near one the difference would have no digits.
                lost[i] -= (2.0 * dt * rates[i]).exp_m1();
            }
        }
        [of_b, of_c].map(|sums| sums.iter().zip(&lost).map(|(s, l)| s / l).collect())
    }

    fn of_states(&self, channel: usize, step: usize, rates: &[f64]) -> [Vec<f64>; 2] {
        let n = self.state;
        let mut sums = [vec![0.0; n], vec![0.0; n]];
        for row in self.rows() {
            let mut h = vec![0.0; n];
            for at in row.clone() {
                let dt = self.step_at(at, step);
                let drive = dt * self.input[at * self.channels + channel];
                let b = self.vector_at(0, at, channel);
                for i in 0..n {
                    h[i] = (dt * rates[i]).exp() * h[i] + drive * b[i];
                    sums[0][i] += h[i] * h[i];
                }
            }
            let mut q = vec![0.0; n];
            for at in row.rev() {
                let c = self.vector_at(1, at, channel);
                let dt = self.step_at(at, step);
                for i in 0..n {
                    q[i] += c[i] * c[i];
                    sums[1][i] += q[i];
                    q[i] *= (2.0 * dt * rates[i]).exp();
                }
            }
        }
        sums.map(|sums| sums.iter().map(|sum| sum / self.count()).collect())
    }

    fn scores(&self, estimate: GramianEstimate) -> Vec<f64> {
        let channels: Vec<Vec<f64>> = (0..self.channels)
            .into_par_iter()
            .map(|channel| self.scores_of_channel(channel, estimate))
            .collect();
        // In the order of the channels, whatever the number of threads.
        let mut total = vec![0.0; self.state];
        for scores in channels {
            for (total, score) in total.iter_mut().zip(scores) {
                *total += score;
            }
        }
        total
    }
}

impl<B: Backend> SelectiveMixer<B> {
    /// A score of every state index on calibration inputs, `[batch, length, hidden]`, of whose rows the first `lengths`
    /// steps count: as large as a Hankel singular value would be, summed over the channels. NaN where an input is.
    pub fn state_scores(
        &self,
        input: Tensor<B, 3>,
        lengths: &[usize],
        estimate: GramianEstimate,
    ) -> Vec<f64> {
        let scan = self.scan(input);
        let [_, length, channels] = scan.input.dims();
        let observed = Observed {
            channels,
            state: self.state_dim(),
            length,
            input: host(scan.input),
            step: host(softplus(scan.step)),
            rates: host(scan.decay),
            vectors: [host(scan.input_vector), host(scan.output_vector)],
            groups: 1,
            lengths: lengths.to_vec(),
        };
        observed.scores(estimate)
    }
}

/// Both Gramians of the states of one head, `[state, state]`.
#[derive(Clone, Debug)]
pub struct HeadGramians {
    /// Mean of hᵀ h, h being the head's `[width, state]` states: what the data drives.
    pub controllability: Mat<f64>,
    /// Mean of Q_t = a_{t+1}² Q_{t+1} + C_t C_tᵀ: what the output sees.
    pub observability: Mat<f64>,
}

/// Which directions of a head's states come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadBasis {
    /// Those that are both driven and seen most: balanced truncation.
    Balanced,
    /// Those that are driven most, whatever is seen of them: principal directions of the keys.
    Keys,
    /// Those that are seen most, whatever drives them: principal directions of the queries.
    Queries,
}

impl HeadGramians {
    /// The directions of the states in an order. One that looks at a single Gramian balances it with the identity.
    ///
    /// # Errors
    /// As [`balance_gramians`].
    pub fn in_basis(&self, basis: HeadBasis) -> Result<BalancedGramians, BalanceError> {
        let states = self.controllability.nrows();
        let identity = Mat::identity(states, states);
        match basis {
            HeadBasis::Balanced => balance_gramians(&self.controllability, &self.observability),
            HeadBasis::Keys => balance_gramians(&self.controllability, &identity),
            HeadBasis::Queries => balance_gramians(&identity, &self.observability),
        }
    }
}

impl Observed {
    /// Gramians of head `head` of `heads`.
    fn of_head(&self, head: usize, heads: usize) -> HeadGramians {
        let (n, width) = (self.state, self.channels / heads);
        let rate = self.rates[head];
        let first = head * width;
        let [mut driven, mut seen] = [(); 2].map(|()| vec![0.0; n * n]);
        for row in self.rows() {
            let mut h = vec![0.0; width * n];
            let mut weight = 0.0;
            for at in row {
                let dt = self.step_at(at, head);
                let decay = (dt * rate).exp();
                let (b, c) = (self.vector_at(0, at, first), self.vector_at(1, at, first));
                for (p, h) in h.chunks_exact_mut(n).enumerate() {
                    let drive = dt * self.input[at * self.channels + first + p];
                    for (h, b) in h.iter_mut().zip(b) {
                        *h = decay * *h + drive * b;
                    }
                }
                for h in h.chunks_exact(n) {
                    add_square(&mut driven, h, 1.0);
                }
                // C_t is seen from every step before it through the decays in between.
                weight = 1.0 + decay * decay * weight;
                add_square(&mut seen, c, weight);
            }
        }
        let mean = |sums: Vec<f64>| Mat::from_fn(n, n, |i, j| sums[i * n + j] / self.count());
        HeadGramians {
            controllability: mean(driven),
            observability: mean(seen),
        }
    }
}

/// `sums += weight · x xᵀ`, `[state, state]`.
fn add_square(sums: &mut [f64], x: &[f64], weight: f64) {
    for (row, value) in sums.chunks_exact_mut(x.len()).zip(x) {
        for (sum, other) in row.iter_mut().zip(x) {
            *sum += weight * value * other;
        }
    }
}

impl<B: Backend> DualMixer<B> {
    fn observed(&self, input: Tensor<B, 3>, lengths: &[usize]) -> Observed {
        let map = self.map(input);
        let [batch, length, heads, width] = map.input.dims();
        Observed {
            channels: heads * width,
            state: self.state_dim(),
            length,
            input: host(map.input.reshape([batch, length, heads * width])),
            step: host(map.step),
            rates: host(map.decay),
            vectors: [host(map.input_vector), host(map.output_vector)],
            groups: map.groups,
            lengths: lengths.to_vec(),
        }
    }

    /// As [`SelectiveMixer::state_scores`].
    pub fn state_scores(
        &self,
        input: Tensor<B, 3>,
        lengths: &[usize],
        estimate: GramianEstimate,
    ) -> Vec<f64> {
        self.observed(input, lengths).scores(estimate)
    }

    /// Gramians of every head on calibration inputs, as [`state_scores`](Self::state_scores) takes them: the basis in
    /// which they are equal is that of [`balanced`](Self::balanced).
    ///
    /// # Source
    /// Nazari, Rusch (2026), in the decay of the head: `NR26` in `docs/references.bib`.
    pub fn head_gramians(&self, input: Tensor<B, 3>, lengths: &[usize]) -> Vec<HeadGramians> {
        let observed = self.observed(input, lengths);
        let heads = self.A_log.dims()[0];
        (0..heads)
            .into_par_iter()
            .map(|head| observed.of_head(head, heads))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel of two states over independent steps, the second one's B of mean zero.
    fn observed(length: usize) -> Observed {
        let mut x = 0.5_f64;
        let mut draw = || {
            x = (x * 9301.0 + 0.497_11).fract();
            2.0 * x - 1.0
        };
        let input = (0..length).map(|_| draw() + 0.5).collect();
        let b = (0..length).flat_map(|_| [1.0, draw()]).collect();
        let c = (0..length).flat_map(|_| [0.5, 1.0]).collect();
        Observed {
            channels: 1,
            state: 2,
            length,
            input,
            step: vec![0.2; length],
            rates: vec![-1.0, -3.0],
            vectors: [b, c],
            groups: 1,
            lengths: vec![length],
        }
    }

    #[test]
    fn the_mean_misses_what_the_second_moment_and_the_states_see() {
        let observed = observed(20_000);
        let scores = |estimate| observed.scores(estimate);
        let (mean, moment, states) = (
            scores(GramianEstimate::Mean),
            scores(GramianEstimate::SecondMoment),
            scores(GramianEstimate::Empirical),
        );
        // B of the second state has the mean square 1/3 and no mean.
        assert!(mean[1] < 0.05 * mean[0], "{mean:?}");
        assert!(moment[1] > 0.2 * moment[0], "{moment:?}");
        // Independent zero-mean drive: the second moment is exact up to the noise of the sample.
        assert!(
            (states[1] / moment[1] - 1.0).abs() < 0.03,
            "{states:?} {moment:?}"
        );
        // The first state's drive has a mean, whose steady state the second moment does not know.
        assert!(states[0] > 1.1 * moment[0], "{states:?} {moment:?}");
    }

    #[test]
    fn steps_beyond_the_length_of_a_row_do_not_count() {
        for estimate in [
            GramianEstimate::Mean,
            GramianEstimate::SecondMoment,
            GramianEstimate::Empirical,
        ] {
            let mut padded = observed(300);
            let alone = Observed {
                length: 200,
                lengths: vec![200],
                input: padded.input[..200].to_vec(),
                step: padded.step[..200].to_vec(),
                rates: padded.rates.clone(),
                vectors: padded.vectors.each_ref().map(|v| v[..400].to_vec()),
                ..padded
            };
            padded.lengths = vec![200];
            padded.input[200..].fill(1e9);
            assert_eq!(padded.scores(estimate), alone.scores(estimate));
        }
    }

    #[test]
    fn a_head_has_one_step_for_all_of_its_channels() {
        let single = observed(100);
        let twice = |values: &[f64]| -> Vec<f64> { values.iter().flat_map(|v| [*v, *v]).collect() };
        let double = Observed {
            channels: 2,
            input: twice(&single.input),
            step: single.step.clone(),
            rates: single.rates.clone(),
            vectors: single.vectors.clone(),
            lengths: single.lengths.clone(),
            ..single
        };
        let single = observed(100).scores(GramianEstimate::Empirical);
        let double = double.scores(GramianEstimate::Empirical);
        for (double, single) in double.iter().zip(&single) {
            assert!((double / single - 2.0).abs() < 1e-12);
        }
    }
}
