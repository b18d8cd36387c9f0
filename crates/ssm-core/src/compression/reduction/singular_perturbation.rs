//! Singular perturbation.

use hsv::{LinearSystem, Mat, Selection};

use super::Reduce;
use crate::compression::{CompressionError, Ranking, ReducedSystem, States};

/// Lets the weak balanced states rest instead of cutting them.
pub(super) struct SingularPerturbation;

impl Reduce for SingularPerturbation {
    const KNOWS_REAL: bool = false;
    const KNOWS_SELECTION: bool = false;
    const HAS_MAPS: bool = false;

    fn reduce(
        ranking: &Ranking,
        order: usize,
        selection: Selection,
    ) -> Result<ReducedSystem, CompressionError> {
        let Ranking::Complex(hankel) = ranking else {
            return Err(CompressionError::OnlyComplex);
        };
        if selection != Selection::Largest {
            return Err(CompressionError::OnlyLargest);
        }
        let reduced = hankel.singular_perturbation(order.min(hankel.numerical_rank()))?;
        let form = reduced.system.diagonalize()?;
        // The layer holds the diagonal of the feed-through; what it cannot hold is an error at every frequency.
        let lost = form.system.feedthrough().map_or(0.0, |direct| {
            let off_diagonal = |i: usize, j: usize| match i == j {
                true => 0.0,
                false => direct[(i, j)].re,
            };
            Mat::from_fn(direct.nrows(), direct.ncols(), off_diagonal).norm_l2()
        });
        Ok(ReducedSystem {
            system: form.system,
            states: States::New(None),
            bound: reduced.h_infinity_bound + lost,
            discarded: reduced.discarded_share,
        })
    }
}
