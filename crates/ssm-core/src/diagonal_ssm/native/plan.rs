//! How a problem is cut into pieces: decided here, from its shape alone.

use std::ops::Range;

use crate::cpu::{Products, Real, register_lanes};

/// Sizes of a problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) hidden: usize,
    pub(crate) state: usize,
}

/// States in a panel of tiled products: real and imaginary parts are two vectors each with AVX2, one with AVX-512.
pub(super) const TILED_LANES: usize = 16;

/// Steps in a chunk of tiled products. Two panels of states (128 bytes a step) and a few rows of 8 channels share a first
/// cache of 32 KiB; a multiple of 12 leaves no rest to the tiles, which are 3, 6 or 12 rows high.
const TILED_STEPS: usize = 60;

/// Steps in a chunk of blocked products: enough that packing the parameters, which happens once per chunk, is a few
/// percent of the product.
const BLOCKED_STEPS: usize = 512;

/// Steps in a chunk of blocked products that is one of several side by side, at least.
const ABREAST_STEPS: usize = 64;

/// Elements of the states of all chunks side by side, about: 8 MiB in `f32`, of which the backward pass has two. They are
/// written and read several times, and should stay in a third cache.
const ABREAST_ELEMENTS: usize = 1 << 21;

/// Fewest states in a panel of blocked products: narrower ones spend their time in packing the inputs again and again.
const BLOCKED_LANES: usize = 32;

/// What a problem is cut into at least where its shape allows: batch rows times groups, or times chunks side by side.
const UNITS: usize = 8;

/// Pieces of a problem.
///
/// States are cut into panels of `lanes`, the last one padded with states that are zero. A group of panels of one batch
/// row is what a thread works on; there is more than one group only where the batch is small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) products: Products,
    /// States in a panel.
    pub(super) lanes: usize,
    /// Panels in a group.
    pub(super) panels: usize,
    pub(super) groups: usize,
    /// Steps in a chunk.
    pub(super) steps: usize,
    /// Chunks of a batch row that are worked on side by side.
    pub(super) abreast: usize,
}

impl Plan {
    pub(super) fn new<T: Real>(shape: Shape) -> Self {
        let products = Products::for_channels(shape.hidden);
        let per_row = UNITS.div_ceil(shape.batch);
        match products {
            Products::Tiled => {
                let all = shape.state.div_ceil(TILED_LANES);
                let panels = all.div_ceil(per_row.min(all));
                Self {
                    shape,
                    products,
                    lanes: TILED_LANES,
                    panels,
                    groups: all.div_ceil(panels),
                    steps: TILED_STEPS.min(shape.length),
                    abreast: 1,
                }
            }
            Products::Blocked => {
                let panels = per_row.min(shape.state.div_ceil(BLOCKED_LANES));
                let lanes = shape
                    .state
                    .div_ceil(panels)
                    .next_multiple_of(register_lanes::<T>());
                let panels = shape.state.div_ceil(lanes);
                let steps = match per_row {
                    1 => BLOCKED_STEPS,
                    _ => (ABREAST_ELEMENTS / (per_row * panels * 2 * lanes))
                        .clamp(ABREAST_STEPS, BLOCKED_STEPS)
                        .min(shape.length.div_ceil(per_row).max(ABREAST_STEPS)),
                };
                Self {
                    shape,
                    products,
                    lanes,
                    panels,
                    groups: 1,
                    steps: steps.min(shape.length),
                    abreast: per_row,
                }
            }
        }
    }

    /// Elements of the state of one panel, both planes.
    pub(super) fn width(&self) -> usize {
        2 * self.lanes
    }

    /// Elements of the state of one group.
    pub(super) fn group_width(&self) -> usize {
        self.panels * self.width()
    }

    /// Panels of all groups.
    pub(super) fn all_panels(&self) -> usize {
        self.groups * self.panels
    }

    /// States of panel `panel`: none of one that only fills up the last group.
    pub(super) fn states(&self, panel: usize) -> Range<usize> {
        let n = self.shape.state;
        (panel * self.lanes).min(n)..((panel + 1) * self.lanes).min(n)
    }

    pub(super) fn chunks(&self) -> usize {
        self.shape.length.div_ceil(self.steps)
    }

    /// Steps of chunk `index`.
    pub(super) fn chunk(&self, index: usize) -> Range<usize> {
        let start = index * self.steps;
        start..(start + self.steps).min(self.shape.length)
    }

    /// Elements of one batch row of the input.
    pub(super) fn row(&self) -> usize {
        self.shape.length * self.shape.hidden
    }

    /// Where state `index` lies in panels of both planes: the position of its real part. The imaginary part is `lanes`
    /// behind it.
    pub(super) fn position(&self, index: usize) -> usize {
        index / self.lanes * self.width() + index % self.lanes
    }
}
