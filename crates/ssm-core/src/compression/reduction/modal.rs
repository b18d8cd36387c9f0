//! Modal truncation.

use hsv::{ModalNorm, Selection};

use super::Reduce;
use crate::compression::{CompressionError, Ranking, ReducedSystem, States};

/// Keeps the modes with the largest energies, exactly as they are.
pub(super) struct Modal;

impl Reduce for Modal {
    const KNOWS_REAL: bool = true;
    const KNOWS_SELECTION: bool = true;
    const HAS_MAPS: bool = true;

    fn reduce(
        ranking: &Ranking,
        order: usize,
        selection: Selection,
    ) -> Result<ReducedSystem, CompressionError> {
        let system = ranking.system();
        let truncation = system.selected_modal_truncation(ModalNorm::H2, selection, order)?;
        Ok(ReducedSystem {
            states: States::Kept(truncation.kept),
            bound: truncation.h_infinity_bound,
            // The order came from the spectrum: with the strongest modes goes what it discards.
            discarded: match selection {
                Selection::Largest => ranking.tail_share(order),
                _ => truncation.discarded_share,
            },
            system: truncation.system,
        })
    }
}
