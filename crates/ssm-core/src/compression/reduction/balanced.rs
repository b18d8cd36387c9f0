//! Balanced truncation.

use hsv::{Discrete, HankelDecomposition, RealPartSystem, Selection, TruncationError};

use super::Reduce;
use crate::{
    compression::{CompressionError, Ranking, ReducedSystem, States},
    system::StateMaps,
};

/// Truncates the balanced system and brings it back to diagonal form (`CompreSSM26`).
pub(super) struct Balanced;

impl Reduce for Balanced {
    const KNOWS_REAL: bool = true;
    const KNOWS_SELECTION: bool = true;
    const HAS_MAPS: bool = true;

    fn reduce(
        ranking: &Ranking,
        order: usize,
        selection: Selection,
    ) -> Result<ReducedSystem, CompressionError> {
        match ranking {
            Ranking::Real { hankel, .. } => real(hankel, order, selection),
            Ranking::Complex(hankel) => {
                let order = order.min(hankel.numerical_rank());
                let truncation = hankel.selected_truncation(selection, order)?;
                let form = truncation.diagonalize()?;
                Ok(ReducedSystem {
                    states: States::New(Some(StateMaps::from(&form))),
                    system: form.system,
                    bound: truncation.h_infinity_bound(),
                    discarded: truncation.discarded_share(),
                })
            }
        }
    }
}

/// Truncates the real system to as many states as make no more than `order` modes: two for a conjugate pair, and one
/// for a lone real pole.
fn real(
    hankel: &HankelDecomposition<RealPartSystem<Discrete>>,
    order: usize,
    selection: Selection,
) -> Result<ReducedSystem, CompressionError> {
    let most = (2 * order).min(hankel.numerical_rank());
    for states in (order.min(most)..=most).rev() {
        let truncation = hankel.selected_truncation(selection, states)?;
        let modes = truncation
            .poles()
            .iter()
            .filter(|pole| pole.im >= 0.0)
            .count();
        if modes > order {
            continue;
        }
        let form = truncation.diagonalize()?;
        return Ok(ReducedSystem {
            states: States::New(Some(StateMaps::from(&form))),
            system: form.system,
            bound: truncation.h_infinity_bound(),
            discarded: truncation.discarded_share(),
        });
    }
    // As many states as modes make no more modes than states, so the loop ends before; but for order 0.
    Err(TruncationError::OrderZero.into())
}
