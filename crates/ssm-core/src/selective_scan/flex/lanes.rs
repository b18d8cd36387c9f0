//! Channels side by side: how a block of them is read, written, asked for ahead, and summed.

use std::{
    mem::MaybeUninit,
    ops::{Index, IndexMut},
};

use pulp::Simd;

use crate::cpu::{Real, prefetch};

/// Channels of a block: two of the widest vectors, so that loops over them neither need a remainder nor unroll away.
pub(super) const WIDTH: usize = 32;
pub(super) type Lanes<T> = [T; WIDTH];

/// Steps of a chunk: the eight arrays of a block that the backward pass walks for every state take 24 KiB, and leave room in
/// a first cache of 32 KiB for what else it reads. With 32 steps it takes a tenth longer, with 16 no less, but the states at
/// the chunks' starts are more.
pub(super) const CHUNK: usize = 24;

/// A block over the steps of a chunk, `[step]`. Aligned, since vectors across two cache lines take twice as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Steps<T>([Lanes<T>; CHUNK]);

impl<T: Real> Steps<T> {
    pub(super) fn zero() -> Self {
        Self([[T::ZERO; WIDTH]; CHUNK])
    }
}

impl<T> Index<usize> for Steps<T> {
    type Output = Lanes<T>;

    #[inline(always)]
    fn index(&self, k: usize) -> &Lanes<T> {
        &self.0[k]
    }
}

impl<T> IndexMut<usize> for Steps<T> {
    #[inline(always)]
    fn index_mut(&mut self, k: usize) -> &mut Lanes<T> {
        &mut self.0[k]
    }
}

/// Channels `first..` of a row, zero beyond its last one.
#[inline(always)]
pub(super) fn load<T: Real>(row: &[T], first: usize) -> Lanes<T> {
    let from = &row[first..];
    // With a length that the compiler knows: a call to copy a hundred bytes costs as much as a state does.
    match from.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut lanes = [T::ZERO; WIDTH];
            lanes[..from.len()].copy_from_slice(from);
            lanes
        }
    }
}

/// Writes channels `first..` of a row, as many as it has.
#[inline(always)]
pub(super) fn store<T: Real>(row: &mut [MaybeUninit<T>], first: usize, lanes: &Lanes<T>) {
    let to = &mut row[first..];
    match to.first_chunk_mut::<WIDTH>() {
        Some(whole) => {
            for (to, lane) in whole.iter_mut().zip(lanes) {
                to.write(*lane);
            }
        }
        None => {
            to.write_copy_of_slice(&lanes[..to.len()]);
        }
    }
}

/// Where the block after this one reads and writes: of every array the first channel at the first step.
///
/// The rows of a block lie as far apart as those of the tensors, where no processor looks for them by itself. Asked for
/// while the states of the block before are walked, they are in the second cache when their turn comes.
pub(super) struct Ahead<T, const ARRAYS: usize> {
    pub(super) arrays: [*const T; ARRAYS],
    /// Elements from one step to the next.
    pub(super) stride: usize,
}

impl<T, const ARRAYS: usize> Ahead<T, ARRAYS> {
    /// Asks for one of as many shares as there are states: some arrays, or one, or none.
    #[inline(always)]
    pub(super) fn prefetch(&self, share: usize, shares: usize) {
        const LINE: usize = 64;
        for array in (share..ARRAYS).step_by(shares) {
            for k in 0..CHUNK {
                let row = self.arrays[array].wrapping_add(k * self.stride);
                for line in 0..(WIDTH * size_of::<T>()).div_ceil(LINE) {
                    prefetch(row.wrapping_byte_add(line * LINE));
                }
            }
        }
    }
}

/// Lanes that sums over the channels are kept in.
pub(super) const SUM_LANES: usize = 8;

/// Adds the products of lanes to as few sums as are kept.
#[inline(always)]
pub(super) fn fold<S: Simd, T: Real>(a: &Lanes<T>, b: &Lanes<T>, sums: &mut [T; SUM_LANES]) {
    let mut half = [T::ZERO; WIDTH / 2];
    for i in 0..WIDTH / 2 {
        half[i] = a[i].fused::<S>(b[i], a[i + WIDTH / 2] * b[i + WIDTH / 2]);
    }
    for i in 0..SUM_LANES {
        sums[i] += half[i] + half[i + SUM_LANES];
    }
}

/// The sums of the lanes that are kept, by halves: every addition is one of vectors, of several steps at once.
#[inline(always)]
pub(super) fn totals<T: Real>(sums: &[[T; SUM_LANES]; CHUNK]) -> [T; CHUNK] {
    const { assert!(CHUNK.is_multiple_of(SUM_LANES), "every step is in a group") };
    let mut totals = [T::ZERO; CHUNK];
    let (groups, _) = sums.as_chunks::<SUM_LANES>();
    let (of_groups, _) = totals.as_chunks_mut::<SUM_LANES>();
    for (of_group, group) in of_groups.iter_mut().zip(groups) {
        let [mut quarters, mut halves] = [[[T::ZERO; SUM_LANES]; 4], [[T::ZERO; SUM_LANES]; 4]];
        for pair in 0..4 {
            for i in 0..SUM_LANES {
                let step = &group[2 * pair + i / 4];
                quarters[pair][i] = step[i % 4] + step[i % 4 + 4];
            }
        }
        for four in 0..2 {
            for i in 0..SUM_LANES {
                let pair = &quarters[2 * four + i / 4];
                let at = i % 4 / 2 * 4 + i % 2;
                halves[four][i] = pair[at] + pair[at + 2];
            }
        }
        for i in 0..SUM_LANES {
            let four = &halves[i / 4];
            of_group[i] = four[i % 4 * 2] + four[i % 4 * 2 + 1];
        }
    }
    totals
}
