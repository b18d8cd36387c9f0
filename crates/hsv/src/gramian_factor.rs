//! A factor of a Gramian, straight from the eigenvalues and the input matrix.
//!
//! The Gramian `P = Λ P Λᴴ + B Bᴴ` of a real layer is numerically singular: formed first and factored then, every
//! direction below √ε of the largest is noise. But P is Cauchy-like, `P_ij = b_i b_jᴴ / (1 - λ_i λ̄_j)`, and so is
//! each Schur complement that Gaussian elimination leaves, with the same eigenvalues and a new B, the *generator*.
//! Eliminating on the generator costs O(state² · input) and never subtracts two large numbers.

use std::marker::PhantomData;

use faer::{Mat, c64};
use pulp::{Arch, Simd, WithSimd};

use crate::domain::TimeDomain;
use crate::unit_disk::reciprocal;

/// Factor L, `[state, rank]`, of the controllability Gramian: `P = L Lᴴ`, by Cholesky elimination with complete
/// pivoting.
///
/// `rank` is where columns would be no longer than `shortest_column` times the first; a zero Gramian has no columns.
/// The rows of L belong to the states in the order given. For the observability Gramian pass `λ̄` and `Cᴴ`.
///
/// # Precision
/// Every row of L is good to a few ε of its own length, whatever the condition number of P. With one input every entry
/// is a product, good to a few state · ε of itself.
///
/// # Source
/// Gohberg, Kailath, Olshevsky (1995): `GKO95` in `docs/references.bib`, in the form for a positive definite
/// Stein equation, where each step multiplies by a Blaschke factor.
pub(crate) fn gramian_factor<D: TimeDomain>(
    lambda: &[c64],
    input: &Mat<c64>,
    shortest_column: f64,
) -> Mat<c64> {
    if input.ncols() > input.nrows() {
        // More inputs than states: B Bᴴ = Rᴴ R with Bᴴ = Q R, and Rᴴ is square.
        let triangle = input.adjoint().qr().thin_R().adjoint().to_owned();
        return gramian_factor::<D>(lambda, &triangle, shortest_column);
    }
    Arch::new().dispatch(Elimination::<D>::new(lambda, input, shortest_column))
}

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

    fn get(&self, lane: usize) -> c64 {
        c64::new(self.re[lane], self.im[lane])
    }

    fn set(&mut self, lane: usize, z: c64) {
        self.re[lane] = z.re;
        self.im[lane] = z.im;
    }
}

struct Elimination<D> {
    domain: PhantomData<D>,
    shortest_column: f64,
    states: usize,
    columns: usize,
    /// Position `p` holds the state `order[p]`; the first positions are those already eliminated.
    order: Vec<usize>,
    /// Eigenvalue and its margin at each position.
    lambda: Vec<c64>,
    margin: Vec<f64>,
    /// Rows of the generator, `columns` groups for each group of positions. Eliminated rows are zero.
    generator: Vec<Group>,
    /// Squared length of each generator row.
    row_norm: Vec<Lane>,
}

/// The reflection `I - scale · v vᴴ` that turns the pivot's generator row into `[head, 0, ..]`.
struct Reflection {
    vector: Vec<c64>,
    scale: f64,
    head: c64,
}

impl<D: TimeDomain> Elimination<D> {
    fn new(lambda: &[c64], input: &Mat<c64>, shortest_column: f64) -> Self {
        let (states, columns) = (input.nrows(), input.ncols());
        let groups = states.div_ceil(LANES);
        let mut generator = vec![Group::ZERO; groups * columns];
        let mut row_norm = vec![[0.0; LANES]; groups];
        for j in 0..columns {
            for i in 0..states {
                generator[(i / LANES) * columns + j].set(i % LANES, input[(i, j)]);
                row_norm[i / LANES][i % LANES] += input[(i, j)].norm_sqr();
            }
        }
        // The rows that fill the last group are zero, and a pole at zero is harmless.
        let mut padded = lambda.to_vec();
        padded.resize(groups * LANES, c64::ZERO);
        let margin = padded.iter().map(|&lambda| D::margin(lambda)).collect();
        Self {
            domain: PhantomData,
            shortest_column,
            states,
            columns,
            order: (0..states).collect(),
            lambda: padded,
            margin,
            generator,
            row_norm,
        }
    }

    /// Diagonal entry of the Schur complement at a position.
    #[inline(always)]
    fn diagonal(&self, position: usize) -> f64 {
        self.row_norm[position / LANES][position % LANES] / self.margin[position]
    }

    /// The remaining position with the largest diagonal entry, and that entry.
    #[inline(always)]
    fn pivot(&self, step: usize) -> (usize, f64) {
        let mut best = (step, self.diagonal(step));
        for position in step + 1..self.states {
            let diagonal = self.diagonal(position);
            if diagonal > best.1 {
                best = (position, diagonal);
            }
        }
        best
    }

    #[inline(always)]
    fn swap(&mut self, p: usize, q: usize) {
        if p == q {
            return;
        }
        self.order.swap(p, q);
        self.lambda.swap(p, q);
        self.margin.swap(p, q);
        let norm = self.row_norm[p / LANES][p % LANES];
        self.row_norm[p / LANES][p % LANES] = self.row_norm[q / LANES][q % LANES];
        self.row_norm[q / LANES][q % LANES] = norm;
        for j in 0..self.columns {
            let (at_p, at_q) = (
                (p / LANES) * self.columns + j,
                (q / LANES) * self.columns + j,
            );
            let (z_p, z_q) = (
                self.generator[at_p].get(p % LANES),
                self.generator[at_q].get(q % LANES),
            );
            self.generator[at_p].set(p % LANES, z_q);
            self.generator[at_q].set(q % LANES, z_p);
        }
    }

    #[inline(always)]
    fn reflection(&self, position: usize) -> Reflection {
        let row = &self.generator[(position / LANES) * self.columns..][..self.columns];
        let lane = position % LANES;
        let mut vector: Vec<c64> = row.iter().map(|group| group.get(lane).conj()).collect();
        let first = vector[0];
        let tail: f64 = vector[1..].iter().map(|z| z.norm_sqr()).sum();
        if tail == 0.0 {
            // Already in place; with one input always so, and the elimination is products alone.
            return Reflection {
                vector,
                scale: 0.0,
                head: first.conj(),
            };
        }
        let length = (first.norm_sqr() + tail).sqrt();
        let modulus = first.norm();
        let phase = if modulus == 0.0 {
            c64::ONE
        } else {
            first / modulus
        };
        vector[0] += phase * length; // same sign: no cancellation
        Reflection {
            vector,
            scale: 1.0 / (length * (length + modulus)),
            head: -(phase * length).conj(),
        }
    }

    /// Applies the reflection to one group of rows and returns the squared lengths of their tails, first column
    /// excluded.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn reflect(rows: &mut [Group], reflection: &Reflection) -> Lane {
        let mut tail = [0.0; LANES];
        let mut along = Group::ZERO;
        for (group, v) in rows.iter().zip(&reflection.vector) {
            for l in 0..LANES {
                along.re[l] = group.re[l].mul_add(v.re, along.re[l]);
                along.re[l] = group.im[l].mul_add(-v.im, along.re[l]);
                along.im[l] = group.re[l].mul_add(v.im, along.im[l]);
                along.im[l] = group.im[l].mul_add(v.re, along.im[l]);
            }
        }
        for l in 0..LANES {
            along.re[l] *= -reflection.scale;
            along.im[l] *= -reflection.scale;
        }
        for (j, (group, v)) in rows.iter_mut().zip(&reflection.vector).enumerate() {
            let counted = if j == 0 { 0.0 } else { 1.0 };
            for l in 0..LANES {
                // along · v̄
                group.re[l] = along.re[l].mul_add(v.re, group.re[l]);
                group.re[l] = along.im[l].mul_add(v.im, group.re[l]);
                group.im[l] = along.im[l].mul_add(v.re, group.im[l]);
                group.im[l] = along.re[l].mul_add(-v.im, group.im[l]);
                let squared = group.re[l].mul_add(group.re[l], group.im[l] * group.im[l]);
                tail[l] = squared.mul_add(counted, tail[l]);
            }
        }
        tail
    }

    /// Eliminates the row at `step`, and returns that column of L for the positions from `step` on.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn eliminate(&mut self, step: usize, column: &mut [c64]) {
        let reflection = self.reflection(step);
        let pole = self.lambda[step];
        // L_i = P_ip / √P_pp = g_i · (head̄ / |head|) · √margin_p / separation(λ_i, λ_p): no square to overflow.
        let modulus = reflection.head.norm();
        let root = self.margin[step].sqrt();
        let unit = reflection.head.conj() * (root / modulus);

        for group in step / LANES..self.row_norm.len() {
            let rows = &mut self.generator[group * self.columns..][..self.columns];
            let mut norm = Self::reflect(rows, &reflection);
            let head = &mut rows[0];
            let (mut factor, mut next) = (Group::ZERO, Group::ZERO);
            for l in 0..LANES {
                let lambda = self.lambda[group * LANES + l];
                let inverse = reciprocal(D::separation(lambda, pole));
                let cauchy = head.get(l) * inverse;
                factor.set(l, cauchy * unit);
                // The Blaschke factor: zero at the pivot's eigenvalue, below one in the stable region.
                next.set(l, (lambda - pole) * cauchy);
                norm[l] += next.re[l] * next.re[l] + next.im[l] * next.im[l];
            }
            *head = next;
            self.row_norm[group] = norm;
            for l in 0..LANES {
                let position = group * LANES + l;
                if position > step && position < self.states {
                    column[self.order[position]] = factor.get(l);
                }
            }
        }
        column[self.order[step]] = c64::new(modulus / root, 0.0);
        for j in 0..self.columns {
            self.generator[(step / LANES) * self.columns + j].set(step % LANES, c64::ZERO);
        }
        self.row_norm[step / LANES][step % LANES] = 0.0;
    }
}

impl<D: TimeDomain> WithSimd for Elimination<D> {
    type Output = Mat<c64>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Mat<c64> {
        let states = self.states;
        let mut entries: Vec<c64> = Vec::with_capacity(states * states);
        let mut rank = 0;
        let mut negligible = 0.0;
        while rank < states {
            let (position, diagonal) = self.pivot(rank);
            if rank == 0 {
                // Relative to the largest entry, so the unit of B does not matter.
                negligible = diagonal * self.shortest_column * self.shortest_column;
            }
            let remains = diagonal > negligible; // false at zero
            if !remains {
                break;
            }
            self.swap(rank, position);
            entries.resize((rank + 1) * states, c64::ZERO);
            self.eliminate(rank, &mut entries[rank * states..]);
            rank += 1;
        }
        Mat::from_fn(states, rank, |i, j| entries[j * states + i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Discrete;
    use crate::unit_disk::one_minus_product;

    fn close_to_gramian(lambda: &[c64], input: &Mat<c64>) {
        let factor = gramian_factor::<Discrete>(lambda, input, f64::EPSILON);
        let product = &factor * factor.adjoint();
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
        for (states, inputs) in [(1, 1), (2, 1), (7, 1), (9, 3), (16, 5), (20, 20), (10, 33)] {
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
            gramian_factor::<Discrete>(&lambda, &waves(12, 1), 0.0).ncols(),
            1
        );
        // Reflections round, so with three inputs there may be columns beyond the third, of that rounding alone.
        let factor = gramian_factor::<Discrete>(&lambda, &waves(12, 3), 0.0);
        let largest = (0..12).map(|i| factor[(i, 0)].norm()).fold(0.0, f64::max);
        for j in 3..factor.ncols() {
            assert!((0..12).all(|i| factor[(i, j)].norm() <= 16.0 * f64::EPSILON * largest));
        }
        close_to_gramian(&lambda, &waves(12, 3));
    }

    #[test]
    fn a_zero_gramian_has_no_columns() {
        let factor = gramian_factor::<Discrete>(&scattered(5, 0.9), &Mat::zeros(5, 2), 0.0);
        assert_eq!((factor.nrows(), factor.ncols()), (5, 0));
    }

    #[test]
    fn a_zero_row_stays_zero() {
        let mut input = waves(6, 2);
        input[(3, 0)] = c64::ZERO;
        input[(3, 1)] = c64::ZERO;
        let factor = gramian_factor::<Discrete>(&scattered(6, 0.9), &input, 0.0);
        assert!((0..factor.ncols()).all(|j| factor[(3, j)] == c64::ZERO));
    }
}
