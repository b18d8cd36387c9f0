//! Modal truncation: the modes of a diagonal system ranked one by one.

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::arithmetic::power_of_two::scale;
use crate::arithmetic::sum::sum_from_small_end;
use crate::reduction::TruncationError;
use crate::reduction::diagonal_form::as_truncation_error;
use crate::reduction::selection::Selection;
use crate::system::LinearSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::TimeDomain;
use crate::system::units::Units;

/// What a single mode `c_i (z - λ_i)⁻¹ b_i` is ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModalNorm {
    /// Its largest gain, `‖c_i‖ ‖b_i‖ / (1 - |λ_i|)`, or over `|Re λ_i|` in continuous time: what cutting it alone
    /// costs in the worst case.
    HInfinity,
    /// Its energy, `‖c_i‖ ‖b_i‖ / √(1 - |λ_i|²)`, or over `√(-2 Re λ_i)`: what cutting it alone costs under white noise.
    H2,
}

/// A diagonal system without some of its modes. The others are as they were.
#[derive(Debug, Clone)]
pub struct ModalTruncation<D> {
    /// The modes that stay.
    pub system: DiagonalSystem<D>,
    /// Their positions in the full system, increasing.
    pub kept: Vec<usize>,
    /// `‖G - G_r‖∞` is at most the sum of the largest gains of the modes that went.
    pub h_infinity_bound: f64,
    /// Share of the sum of all scores that went, in `[0, 1)`.
    pub discarded_share: f64,
}

impl<D: TimeDomain> DiagonalSystem<D> {
    /// A norm of every mode by itself, `[state]`, in the order of [`lambda`](Self::lambda).
    ///
    /// Modes that nearly cancel each other score high and count for little together; Hankel singular values see that,
    /// these scores do not.
    ///
    /// # Source
    /// Antoulas (2005), section 9.2: `A05` in `docs/references.bib`.
    pub fn modal_scores(&self, norm: ModalNorm) -> Vec<f64> {
        let _mode = Subnormals::kept();
        let units = Units::per_mode(self.input_matrix(), self.output_matrix());
        let score = |i: usize| {
            let gain = units.input.row(i).norm_l2() * units.output.col(i).norm_l2();
            let lambda = self.lambda()[i];
            let decay = match norm {
                ModalNorm::HInfinity => D::boundary_distance(lambda),
                ModalNorm::H2 => D::margin(lambda).sqrt(),
            };
            scale(gain / decay, units.gain_exponent)
        };
        (0..self.state_dim()).map(score).collect()
    }

    /// The system with the `order` modes of the largest scores, ties to the earlier mode.
    ///
    /// # Errors
    /// [`TruncationError::OrderZero`] and [`TruncationError::OrderAboveStateDim`]; [`TruncationError::OutOfRange`] if a
    /// score is not representable.
    pub fn modal_truncation(
        &self,
        norm: ModalNorm,
        order: usize,
    ) -> Result<ModalTruncation<D>, TruncationError> {
        self.selected_modal_truncation(norm, Selection::Largest, order)
    }

    /// The same with another choice of modes, for comparison: those of the smallest scores, or any.
    ///
    /// # Errors
    /// As [`modal_truncation`](Self::modal_truncation).
    pub fn selected_modal_truncation(
        &self,
        norm: ModalNorm,
        selection: Selection,
        order: usize,
    ) -> Result<ModalTruncation<D>, TruncationError> {
        let states = self.state_dim();
        if order == 0 {
            return Err(TruncationError::OrderZero);
        }
        if order > states {
            return Err(TruncationError::OrderAboveStateDim {
                requested: order,
                states,
            });
        }
        let scores = self.modal_scores(norm);
        let mut ranking: Vec<usize> = (0..states).collect();
        ranking.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
        let sum = |scores: &[f64], modes: &[usize]| {
            let values: Vec<f64> = modes.iter().map(|&mode| scores[mode]).collect();
            sum_from_small_end(&values)
        };
        let places = selection.states(states, order);
        let mut kept: Vec<usize> = places.iter().map(|&place| ranking[place]).collect();
        let cut: Vec<usize> = (0..states)
            .filter(|place| places.binary_search(place).is_err())
            .map(|place| ranking[place])
            .collect();
        let (all, discarded) = (sum(&scores, &ranking), sum(&scores, &cut));
        if !all.is_finite() {
            return Err(TruncationError::OutOfRange {
                what: "modal scores",
            });
        }
        let gains = self.modal_scores(ModalNorm::HInfinity);
        let bound = cut.iter().map(|&mode| gains[mode]).sum();
        kept.sort_unstable();
        Ok(ModalTruncation {
            system: self.modes(&kept)?,
            kept,
            h_infinity_bound: bound,
            discarded_share: if discarded > 0.0 {
                discarded / all
            } else {
                0.0
            },
        })
    }

    /// The modes at the given positions.
    fn modes(&self, kept: &[usize]) -> Result<Self, TruncationError> {
        let (b, c) = (self.input_matrix(), self.output_matrix());
        let lambda: Vec<c64> = kept.iter().map(|&mode| self.lambda()[mode]).collect();
        let input = Mat::from_fn(kept.len(), b.ncols(), |i, j| b[(kept[i], j)]);
        let output = Mat::from_fn(c.nrows(), kept.len(), |i, j| c[(i, kept[j])]);
        Self::new(lambda, input, output)
            .and_then(|system| system.with_any_feedthrough(self.feedthrough()))
            .map_err(as_truncation_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContinuousDiagonalSystem, DiscreteDiagonalSystem};

    fn parts(gains: &[f64]) -> (Mat<c64>, Mat<c64>) {
        let input = Mat::from_fn(gains.len(), 1, |_, _| c64::new(0.6, 0.8));
        (
            input,
            Mat::from_fn(1, gains.len(), |_, i| c64::new(gains[i], 0.0)),
        )
    }

    #[test]
    fn scores_are_the_norms_of_single_modes() {
        let (input, output) = parts(&[2.0, 3.0]);
        let lambda = vec![c64::new(0.0, 0.6), c64::new(-0.8, 0.0)];
        let system = DiscreteDiagonalSystem::new(lambda, input.clone(), output.clone()).unwrap();
        for (norm, expected) in [
            (ModalNorm::HInfinity, [5.0, 15.0]),
            (ModalNorm::H2, [2.5, 5.0]),
        ] {
            for (score, expected) in system.modal_scores(norm).iter().zip(expected) {
                assert!(
                    (score - expected).abs() <= 8.0 * f64::EPSILON * expected,
                    "{score} {expected}"
                );
            }
        }
        let lambda = vec![c64::new(-2.0, 7.0), c64::new(-0.5, 0.0)];
        let system = ContinuousDiagonalSystem::new(lambda, input, output).unwrap();
        for (norm, expected) in [
            (ModalNorm::HInfinity, [1.0, 6.0]),
            (ModalNorm::H2, [1.0, 3.0]),
        ] {
            for (score, expected) in system.modal_scores(norm).iter().zip(expected) {
                assert!(
                    (score - expected).abs() <= 8.0 * f64::EPSILON * expected,
                    "{score} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_largest_modes_stay_in_their_order() {
        let (input, output) = parts(&[1.0, 9.0, 0.0, 4.0]);
        let lambda = vec![
            c64::new(0.5, 0.0),
            c64::new(0.0, 0.5),
            c64::new(-0.5, 0.0),
            c64::new(0.0, -0.5),
        ];
        let system = DiscreteDiagonalSystem::new(lambda, input, output).unwrap();
        let truncation = system.modal_truncation(ModalNorm::HInfinity, 2).unwrap();
        assert_eq!(truncation.kept, [1, 3]);
        assert_eq!(
            truncation.system.lambda(),
            [c64::new(0.0, 0.5), c64::new(0.0, -0.5)]
        );
        assert!((truncation.h_infinity_bound - 2.0).abs() <= 8.0 * f64::EPSILON);
        assert!((truncation.discarded_share - 1.0 / 14.0).abs() <= 4.0 * f64::EPSILON);
        for omega in [0.0, 0.4, 2.0, 5.0] {
            let error = (system.transfer(omega) - truncation.system.transfer(omega)).norm_max();
            assert!(error <= truncation.h_infinity_bound * (1.0 + 8.0 * f64::EPSILON));
        }
        let unchanged = system.modal_truncation(ModalNorm::H2, 4).unwrap();
        assert_eq!(unchanged.system, system);
        assert_eq!(
            (unchanged.h_infinity_bound, unchanged.discarded_share),
            (0.0, 0.0)
        );
    }

    #[test]
    fn the_smallest_selection_keeps_what_the_largest_cuts() {
        let (input, output) = parts(&[2.0, 5.0, 3.0, 1.0]);
        let lambda = vec![c64::new(0.0, 0.5); 4];
        let system = DiscreteDiagonalSystem::new(lambda, input, output).unwrap();
        let kept = |selection| {
            let truncation = system.selected_modal_truncation(ModalNorm::H2, selection, 2);
            let truncation = truncation.unwrap();
            (truncation.kept, truncation.discarded_share)
        };
        let (largest, little) = kept(Selection::Largest);
        let (smallest, much) = kept(Selection::Smallest);
        assert_eq!((largest, smallest), (vec![1, 2], vec![0, 3]));
        assert!((little + much - 1.0).abs() < 1e-15 && little < much);
        assert_eq!(kept(Selection::Random { seed: 1 }).0.len(), 2);
    }
}
