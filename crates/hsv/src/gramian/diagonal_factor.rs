//! A factor of a Gramian, straight from the eigenvalues and the input matrix.
//!
//! The Gramian `P = Λ P Λᴴ + B Bᴴ` of a real layer is numerically singular: formed first and factored then, every
//! direction below √ε of the largest is noise. But P is Cauchy-like, `P_ij = b_i b_jᴴ / (1 - λ_i λ̄_j)`, and so is
//! each Schur complement that Gaussian elimination leaves, with the same eigenvalues and a new B, the *generator*. So is
//! the Gramian in continuous time, with `-(λ_i + λ̄_j)` below, and every formula here holds with that for `1 - λ_i λ̄_j`.
//! Eliminating on the generator costs O(state² · input) and never subtracts two large numbers.

use std::marker::PhantomData;

use faer::linalg::matmul::matmul;
use faer::traits::Conjugate;
use faer::{Accum, Mat, MatMut, MatRef, Par, c64};
use pulp::{Arch, Simd, WithSimd};

use crate::arithmetic::unit_disk::reciprocal;
use crate::system::domain::TimeDomain;

/// Factor L, `[state, rank]`, of the controllability Gramian: `P = L Lᴴ`, by Cholesky elimination with pivoting.
///
/// `rank` is where columns would be no longer than `shortest_column` times the longest; a zero Gramian has no
/// columns. The rows of L belong to the states in the order given. For the observability Gramian pass `λ̄` and `Cᴴ`.
///
/// # Precision
/// Every row of L is good to a few ε of its own length, whatever the condition number of P.
///
/// # Source
/// Gohberg, Kailath, Olshevsky (1995): `GKO95` in `docs/references.bib`, in the form for a positive definite
/// Stein equation: with the pivot's unit vector `w = g_pᴴ / |g_p|` and the Blaschke factor
/// `β_i = (λ_i - λ_p) / (1 - λ_i λ̄_p)`, a step replaces the component of every row along w by β_i times itself,
/// `g_i += (β_i - 1) (g_i w) wᴴ`. That is a contraction of every row: rounding does not grow.
///
/// Steps are taken in blocks. Those rows that may become pivots soon, the *front*, are kept up to date; all others
/// follow at the end of the block, with two matrix products for all of its steps.
pub(crate) fn gramian_factor<D, T>(
    lambda: &[c64],
    input: MatRef<'_, T>,
    shortest_column: f64,
) -> Mat<c64>
where
    D: TimeDomain,
    T: Conjugate<Canonical = c64>,
{
    let front = (FRONT_ENTRIES / input.ncols()).max(MIN_FRONT);
    Arch::new().dispatch(Elimination::<D>::new(lambda, input, shortest_column, front))
}

/// Entries of a front that the level-2 cache holds beside whatever else is in use, and the fewest rows of one, so
/// that the products at the end of a block are of some size.
const FRONT_ENTRIES: usize = 1 << 14;
const MIN_FRONT: usize = 32;

/// A row of the front is a pivot as long as its diagonal entry is at least this share of the largest in the rest.
const PIVOT_SHARE: f64 = 0.25;

/// Rows are handled in groups as wide as a vector register.
const LANES: usize = 8;
type Lane = [f64; LANES];

/// Real and imaginary parts of one group of complex numbers.
#[derive(Debug, Clone, Copy)]
struct Group {
    re: Lane,
    im: Lane,
}

impl Group {
    const ZERO: Self = Self {
        re: [0.0; LANES],
        im: [0.0; LANES],
    };

    #[inline(always)]
    fn get(&self, lane: usize) -> c64 {
        c64::new(self.re[lane], self.im[lane])
    }

    #[inline(always)]
    fn set(&mut self, lane: usize, z: c64) {
        self.re[lane] = z.re;
        self.im[lane] = z.im;
    }

    #[inline(always)]
    fn minus(mut self, other: &Self) -> Self {
        for l in 0..LANES {
            self.re[l] -= other.re[l];
            self.im[l] -= other.im[l];
        }
        self
    }

    /// `self + other z`
    #[inline(always)]
    fn mul_add(mut self, other: &Self, z: c64) -> Self {
        for l in 0..LANES {
            self.re[l] = other.re[l].mul_add(z.re, self.re[l]);
            self.im[l] = other.re[l].mul_add(z.im, self.im[l]);
        }
        for l in 0..LANES {
            self.re[l] = other.im[l].mul_add(-z.im, self.re[l]);
            self.im[l] = other.im[l].mul_add(z.re, self.im[l]);
        }
        self
    }
}

/// The state that a step eliminates.
#[derive(Debug, Clone, Copy)]
struct Pivot {
    state: usize,
    lambda: c64,
    /// Root of the margin, `√(1 - |λ|²)` in discrete time
    root: f64,
}

impl Pivot {
    /// From the components of a group of rows along w: the column of L, `P_ip / √P_pp` or
    /// `g_i w · root / separation(λ_i, λ_p)`, and what the elimination leaves of the components.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn eliminate<D: TimeDomain>(&self, lambda: &[c64], along: &Group) -> (Group, Group) {
        let (mut factor, mut left) = (Group::ZERO, Group::ZERO);
        for l in 0..LANES {
            let cauchy = along.get(l) * reciprocal(D::separation(lambda[l], self.lambda));
            factor.set(l, cauchy * self.root);
            // The Blaschke factor: zero at the pivot's eigenvalue, below one inside the circle.
            left.set(l, (lambda[l] - self.lambda) * cauchy);
        }
        (factor, left)
    }
}

/// Rows of the generator that may become pivots in the present block, always up to date.
struct Front {
    columns: usize,
    /// State, eigenvalue and margin at each position; positions before `steps` are eliminated.
    states: Vec<usize>,
    lambda: Vec<c64>,
    margin: Vec<f64>,
    /// `columns` groups for each group of positions. Eliminated rows are zero.
    rows: Vec<Group>,
    /// Squared length of each row.
    row_norm: Vec<Lane>,
    steps: usize,
}

impl Front {
    /// The rows of the elimination from `first` on.
    #[inline(always)]
    fn new(elimination: &Elimination<'_, impl TimeDomain>, first: usize) -> Self {
        let columns = elimination.columns;
        let states = elimination.states[first..].to_vec();
        let groups = states.len().div_ceil(LANES);
        // The rows that fill the last group are zero, and a pole at zero is harmless.
        let mut lambda = vec![c64::ZERO; groups * LANES];
        let mut margin = vec![1.0; groups * LANES];
        let mut rows = vec![Group::ZERO; groups * columns];
        let mut row_norm = vec![[0.0; LANES]; groups];
        for (position, &state) in states.iter().enumerate() {
            let (group, lane) = (position / LANES, position % LANES);
            lambda[position] = elimination.lambda[state];
            margin[position] = elimination.margin[state];
            row_norm[group][lane] = elimination.row_norm[first + position];
            let row = elimination.row(first + position);
            for (group, &z) in rows[group * columns..].iter_mut().zip(row) {
                group.set(lane, z);
            }
        }
        Self {
            columns,
            states,
            lambda,
            margin,
            rows,
            row_norm,
            steps: 0,
        }
    }

    /// The remaining position with the largest diagonal entry of the Schur complement, and that entry.
    #[inline(always)]
    fn largest(&self) -> Option<(usize, f64)> {
        (self.steps..self.states.len())
            .map(|p| (p, self.row_norm[p / LANES][p % LANES] / self.margin[p]))
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    #[inline(always)]
    fn swap(&mut self, p: usize, q: usize) {
        if p == q {
            return;
        }
        self.states.swap(p, q);
        self.lambda.swap(p, q);
        self.margin.swap(p, q);
        let norm = self.row_norm[p / LANES][p % LANES];
        self.row_norm[p / LANES][p % LANES] = self.row_norm[q / LANES][q % LANES];
        self.row_norm[q / LANES][q % LANES] = norm;
        for j in 0..self.columns {
            let at_p = (p / LANES) * self.columns + j;
            let at_q = (q / LANES) * self.columns + j;
            let (z_p, z_q) = (
                self.rows[at_p].get(p % LANES),
                self.rows[at_q].get(q % LANES),
            );
            self.rows[at_p].set(p % LANES, z_q);
            self.rows[at_q].set(q % LANES, z_p);
        }
    }

    fn row(&self, position: usize) -> impl Iterator<Item = c64> {
        let groups = &self.rows[(position / LANES) * self.columns..][..self.columns];
        groups.iter().map(move |group| group.get(position % LANES))
    }

    /// Eliminates the row at `position`: writes w, and the front's part of that column of L.
    #[inline(always)]
    fn eliminate<D: TimeDomain>(
        &mut self,
        position: usize,
        direction: &mut [c64],
        column: &mut [c64],
    ) -> Pivot {
        let step = self.steps;
        self.swap(step, position);
        let length = self.row_norm[step / LANES][step % LANES].sqrt();
        for (w, z) in direction.iter_mut().zip(self.row(step)) {
            *w = z.conj() / length;
        }
        let pivot = Pivot {
            state: self.states[step],
            lambda: self.lambda[step],
            root: self.margin[step].sqrt(),
        };

        for group in step / LANES..self.row_norm.len() {
            let rows = &mut self.rows[group * self.columns..][..self.columns];
            let along = product(rows, direction);
            let (factor, mut change) =
                pivot.eliminate::<D>(&self.lambda[group * LANES..][..LANES], &along);
            if self.columns == 1 {
                // Nothing but the component along w: the elimination is products alone.
                rows[0] = Group::ZERO;
            } else {
                change = change.minus(&along);
            }
            self.row_norm[group] = update(rows, &change, direction);
            for l in 0..LANES {
                let position = group * LANES + l;
                if position > step && position < self.states.len() {
                    column[self.states[position]] = factor.get(l);
                }
            }
        }
        column[pivot.state] = c64::new(length / pivot.root, 0.0);
        for j in 0..self.columns {
            self.rows[(step / LANES) * self.columns + j].set(step % LANES, c64::ZERO);
        }
        self.row_norm[step / LANES][step % LANES] = 0.0;
        self.steps += 1;
        pivot
    }
}

/// `g w` for a group of rows g.
#[inline(always)]
fn product(rows: &[Group], w: &[c64]) -> Group {
    // Two sums, so that additions need not wait for each other.
    let (mut even, mut odd) = (Group::ZERO, Group::ZERO);
    let (row_pairs, w_pairs) = (rows.chunks_exact(2), w.chunks_exact(2));
    if let ([row], [w]) = (row_pairs.remainder(), w_pairs.remainder()) {
        even = even.mul_add(row, *w);
    }
    for (row, w) in row_pairs.zip(w_pairs) {
        even = even.mul_add(&row[0], w[0]);
        odd = odd.mul_add(&row[1], w[1]);
    }
    even.mul_add(&odd, c64::ONE)
}

/// `g += change · wᴴ` for a group of rows g; returns their squared lengths.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "the lanes of several arrays go together"
)]
fn update(rows: &mut [Group], change: &Group, w: &[c64]) -> Lane {
    let mut norm = [0.0; LANES];
    for (row, w) in rows.iter_mut().zip(w) {
        *row = row.mul_add(change, w.conj());
        for l in 0..LANES {
            norm[l] = row.re[l].mul_add(row.re[l], norm[l]);
            norm[l] = row.im[l].mul_add(row.im[l], norm[l]);
        }
    }
    norm
}

struct Elimination<'a, D> {
    domain: PhantomData<D>,
    columns: usize,
    lambda: &'a [c64],
    /// Margin of each state.
    margin: Vec<f64>,
    /// States that are left; for each its row of the generator, one after the other, and the row's squared length.
    states: Vec<usize>,
    generator: Vec<c64>,
    row_norm: Vec<f64>,
    /// Rows that a front has at most.
    front: usize,
    /// Columns of L, one after the other.
    factor: Vec<c64>,
    /// Diagonal entries of the Schur complement up to here are without effect.
    negligible: f64,
}

impl<'a, D: TimeDomain> Elimination<'a, D> {
    fn new<T>(lambda: &'a [c64], input: MatRef<'_, T>, shortest_column: f64, front: usize) -> Self
    where
        T: Conjugate<Canonical = c64>,
    {
        let (states, columns) = (input.nrows(), input.ncols());
        let mut generator = vec![c64::ZERO; states * columns];
        MatMut::from_column_major_slice_mut(&mut generator, columns, states)
            .copy_from(input.transpose());
        let margin: Vec<f64> = lambda.iter().map(|&lambda| D::margin(lambda)).collect();
        let row_norm: Vec<f64> = generator.chunks(columns).map(squared_length).collect();
        let diagonal = row_norm
            .iter()
            .zip(&margin)
            .map(|(norm, margin)| norm / margin);
        let largest = diagonal.fold(0.0, f64::max);
        Self {
            domain: PhantomData,
            columns,
            lambda,
            margin,
            states: (0..states).collect(),
            generator,
            row_norm,
            front,
            factor: Vec::with_capacity(states * states),
            // Relative to the largest entry, so the unit of B does not matter.
            negligible: largest * shortest_column * shortest_column,
        }
    }

    fn row(&self, position: usize) -> &[c64] {
        &self.generator[position * self.columns..][..self.columns]
    }

    fn swap(&mut self, p: usize, q: usize) {
        let (low, high) = (p.min(q), p.max(q));
        self.states.swap(p, q);
        self.row_norm.swap(p, q);
        let (before, from_high) = self.generator.split_at_mut(high * self.columns);
        before[low * self.columns..][..self.columns]
            .swap_with_slice(&mut from_high[..self.columns]);
    }

    /// Moves the states with the largest diagonal entries to the end. Returns how many stay before them, and the
    /// largest entry of those.
    fn split(&mut self) -> (usize, f64) {
        let rest = self.states.len().saturating_sub(self.front);
        if rest == 0 {
            return (0, 0.0);
        }
        let diagonal = |i: usize| self.row_norm[i] / self.margin[self.states[i]];
        let mut ascending: Vec<(f64, usize)> =
            (0..self.states.len()).map(|i| (diagonal(i), i)).collect();
        ascending.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let stays_behind = ascending[rest..]
            .iter()
            .map(|&(_, i)| i)
            .filter(|&i| i < rest);
        let stays_ahead = ascending[..rest]
            .iter()
            .map(|&(_, i)| i)
            .filter(|&i| i >= rest);
        let exchanges: Vec<(usize, usize)> = stays_behind.zip(stays_ahead).collect();
        let largest = ascending[rest - 1].0;
        for (p, q) in exchanges {
            self.swap(p, q);
        }
        (rest, largest)
    }

    /// One block of steps; `false` if nothing of effect is left.
    #[inline(always)]
    fn block(&mut self) -> bool {
        let (total, first) = (self.lambda.len(), self.factor.len());
        let (rest, rest_largest) = self.split();
        let mut front = Front::new(self, rest);
        let mut pivots: Vec<Pivot> = Vec::new();
        let mut directions: Vec<c64> = Vec::new();
        while let Some((position, diagonal)) = front.largest() {
            // Any order of pivots gives as accurate a factor; a good one keeps its rank low.
            let good = pivots.is_empty() || diagonal >= PIVOT_SHARE * rest_largest;
            let effective = diagonal > self.negligible; // false at zero
            if !good || !effective {
                break;
            }
            let (direction, column) = (directions.len(), self.factor.len());
            directions.resize(direction + self.columns, c64::ZERO);
            self.factor.resize(column + total, c64::ZERO);
            let (direction, column) = (&mut directions[direction..], &mut self.factor[column..]);
            pivots.push(front.eliminate::<D>(position, direction, column));
        }
        // A front without rest was all that was left.
        let more = !pivots.is_empty() && rest > 0;
        if more {
            self.follow(rest, &pivots, &directions, first);
            self.take_back(rest, &front);
        }
        more
    }

    /// Takes the rows before `rest` through all steps of a block.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn follow(&mut self, rest: usize, pivots: &[Pivot], directions: &[c64], first: usize) {
        let (total, steps, columns) = (self.lambda.len(), pivots.len(), self.columns);
        let directions = MatRef::from_column_major_slice(directions, columns, steps);
        let rows = &mut self.generator[..rest * columns];
        let mut rows = MatMut::from_column_major_slice_mut(rows, columns, rest);
        let mut along = Mat::zeros(steps, rest);
        let mut overlaps = Mat::zeros(steps, steps);
        multiply(
            along.as_mut(),
            Accum::Replace,
            directions.transpose(),
            rows.as_ref(),
        );
        multiply(
            overlaps.as_mut(),
            Accum::Replace,
            directions.adjoint(),
            directions,
        );

        // The component along each w as it is when its turn comes: that of the row at the start of the block, plus
        // what the steps in between have added.
        let mut changes = vec![Group::ZERO; steps];
        for start in (0..rest).step_by(LANES) {
            let lanes = LANES.min(rest - start);
            let mut lambda = [c64::ZERO; LANES];
            for l in 0..lanes {
                lambda[l] = self.lambda[self.states[start + l]];
                for (change, &z) in changes.iter_mut().zip(along.col(start + l).iter()) {
                    change.set(l, z);
                }
            }
            for (step, pivot) in pivots.iter().enumerate() {
                let mut component = changes[step];
                for (change, &overlap) in changes[..step].iter().zip(overlaps.col(step).iter()) {
                    component = component.mul_add(change, overlap);
                }
                let (factor, left) = pivot.eliminate::<D>(&lambda, &component);
                changes[step] = left.minus(&component);
                let column = &mut self.factor[first + step * total..][..total];
                for l in 0..lanes {
                    column[self.states[start + l]] = factor.get(l);
                }
            }
            for l in 0..lanes {
                for (change, z) in changes.iter().zip(along.col_mut(start + l).iter_mut()) {
                    *z = change.get(l);
                }
            }
        }
        multiply(
            rows.as_mut(),
            Accum::Add,
            directions.conjugate(),
            along.as_ref(),
        );
        for (norm, row) in self
            .row_norm
            .iter_mut()
            .zip(self.generator.chunks(columns))
            .take(rest)
        {
            *norm = squared_length(row);
        }
    }

    /// Puts what is left of the front behind the rest.
    fn take_back(&mut self, rest: usize, front: &Front) {
        self.states.truncate(rest);
        self.row_norm.truncate(rest);
        self.generator.truncate(rest * self.columns);
        for position in front.steps..front.states.len() {
            self.states.push(front.states[position]);
            self.row_norm
                .push(front.row_norm[position / LANES][position % LANES]);
            self.generator.extend(front.row(position));
        }
    }
}

impl<D: TimeDomain> WithSimd for Elimination<'_, D> {
    type Output = Mat<c64>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Mat<c64> {
        while self.block() {}
        let states = self.lambda.len();
        MatRef::from_column_major_slice(&self.factor, states, self.factor.len() / states).to_owned()
    }
}

/// Both factors have a thread each, and more for one of them do not pay.
fn multiply<L, R>(to: MatMut<'_, c64>, accum: Accum, left: MatRef<'_, L>, right: MatRef<'_, R>)
where
    L: Conjugate<Canonical = c64>,
    R: Conjugate<Canonical = c64>,
{
    matmul(to, accum, left, right, c64::ONE, Par::Seq);
}

fn squared_length(row: &[c64]) -> f64 {
    // Several sums, so that additions need not wait for each other.
    let mut sums = [0.0; LANES];
    for chunk in row.chunks(LANES) {
        for (sum, z) in sums.iter_mut().zip(chunk) {
            *sum += z.norm_sqr();
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::unit_disk::one_minus_product;
    use crate::system::domain::Discrete;

    fn close_to_gramian(lambda: &[c64], input: &Mat<c64>) {
        let factor = gramian_factor::<Discrete, _>(lambda, input.as_ref(), f64::EPSILON / 256.0);
        check_product(lambda, input, &factor);
        // In blocks of a few rows.
        let factor = Arch::new().dispatch(Elimination::<Discrete>::new(
            lambda,
            input.as_ref(),
            f64::EPSILON / 256.0,
            3,
        ));
        check_product(lambda, input, &factor);
    }

    fn check_product(lambda: &[c64], input: &Mat<c64>, factor: &Mat<c64>) {
        let product = factor * factor.adjoint();
        let gramian = input * input.adjoint();
        for i in 0..lambda.len() {
            for j in 0..lambda.len() {
                let exact = gramian[(i, j)] / one_minus_product(lambda[i], lambda[j]);
                let lengths = (product[(i, i)].re * product[(j, j)].re).sqrt();
                // Rows are good to a few ε of their length; an inner product of `state` terms adds that many.
                let tolerance =
                    4.0 * (lambda.len() + input.ncols()) as f64 * f64::EPSILON * lengths;
                let error = (product[(i, j)] - exact).norm();
                assert!(
                    error <= tolerance,
                    "({i}, {j}): {} is not {exact} to {tolerance:e}",
                    product[(i, j)]
                );
            }
        }
    }

    /// Points that fill the disk without a pattern.
    fn scattered(count: usize, radius: f64) -> Vec<c64> {
        (0..count)
            .map(|k| {
                c64::from_polar(
                    radius * ((k + 1) as f64 / count as f64).sqrt(),
                    2.4 * k as f64,
                )
            })
            .collect()
    }

    fn waves(rows: usize, columns: usize) -> Mat<c64> {
        Mat::from_fn(rows, columns, |i, j| {
            c64::new(
                (1.0 + 3.0 * i as f64 + 7.0 * j as f64).sin(),
                (2.0 + 5.0 * i as f64 - 3.0 * j as f64).cos(),
            )
        })
    }

    #[test]
    fn the_factor_squares_to_the_gramian() {
        for (states, inputs) in [
            (1, 1),
            (2, 1),
            (7, 1),
            (9, 3),
            (16, 5),
            (20, 20),
            (10, 33),
            (60, 7),
        ] {
            close_to_gramian(&scattered(states, 0.99), &waves(states, inputs));
        }
    }

    #[test]
    fn the_factor_squares_to_the_gramian_next_to_the_circle() {
        let lambda: Vec<c64> = scattered(12, 1.0)
            .iter()
            .map(|z| z / z.norm() * (1.0 - 1e-9))
            .collect();
        close_to_gramian(&lambda, &waves(12, 1));
        close_to_gramian(&lambda, &waves(12, 4));
    }

    #[test]
    fn copies_of_one_eigenvalue_have_the_rank_of_the_input() {
        let lambda = vec![c64::new(0.9, 0.1); 12];
        assert_eq!(
            gramian_factor::<Discrete, _>(&lambda, waves(12, 1).as_ref(), 0.0).ncols(),
            1
        );
        // Reflections round, so with three inputs there may be columns beyond the third, of that rounding alone.
        let factor = gramian_factor::<Discrete, _>(&lambda, waves(12, 3).as_ref(), 0.0);
        let largest = (0..12).map(|i| factor[(i, 0)].norm()).fold(0.0, f64::max);
        for j in 3..factor.ncols() {
            assert!((0..12).all(|i| factor[(i, j)].norm() <= 16.0 * f64::EPSILON * largest));
        }
        close_to_gramian(&lambda, &waves(12, 3));
    }

    #[test]
    fn a_zero_gramian_has_no_columns() {
        let factor = gramian_factor::<Discrete, _>(
            &scattered(5, 0.9),
            Mat::<c64>::zeros(5, 2).as_ref(),
            0.0,
        );
        assert_eq!((factor.nrows(), factor.ncols()), (5, 0));
    }

    #[test]
    fn a_zero_row_stays_zero() {
        let mut input = waves(6, 2);
        input[(3, 0)] = c64::ZERO;
        input[(3, 1)] = c64::ZERO;
        let factor = gramian_factor::<Discrete, _>(&scattered(6, 0.9), input.as_ref(), 0.0);
        assert!((0..factor.ncols()).all(|j| factor[(3, j)] == c64::ZERO));
    }
}
