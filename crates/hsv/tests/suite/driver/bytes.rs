//! From bytes to the numbers, matrices and eigenvalues that numerical code is afraid of.

use hsv::{Mat, TimeDomain, c64};

/// Bytes of an input, read from the front; zeros follow the last one, so that every input is whole.
pub(crate) struct Bytes<'a>(&'a [u8]);

/// Where a `f64` stops being harmless.
const EDGES: [f64; 14] = [
    f64::NAN,
    f64::INFINITY,
    -0.0,
    5e-324,
    f64::MIN_POSITIVE,
    1e-300,
    1e-155,
    f64::EPSILON,
    1.0 - f64::EPSILON / 2.0,
    1.0 + f64::EPSILON,
    1e154,
    1e300,
    f64::MAX,
    f64::MIN,
];

impl<'a> Bytes<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn signed(&mut self) -> f64 {
        f64::from(self.byte() as i8)
    }

    fn power_of_ten(&mut self, lowest: i32, highest: i32) -> f64 {
        let steps = self.below((highest - lowest + 1) as usize);
        10f64.powi(lowest + steps as i32)
    }

    /// `2^k`, from the smallest subnormal to the largest number.
    fn any_power_of_two(&mut self) -> f64 {
        (8.0 * self.signed()).exp2()
    }

    /// A multiple of 1/32 up to 4 in modulus; one number in two is 0, 1 or -1.
    fn tame(&mut self) -> f64 {
        match self.byte() {
            byte @ 0..=2 => [0.0, 1.0, -1.0][usize::from(byte)],
            byte @ 3..=127 => f64::from(byte % 3) - 1.0,
            byte => f64::from((byte - 128) as i8 - 64) / 16.0,
        }
    }

    /// Any `f64` at all.
    pub(crate) fn wild(&mut self) -> f64 {
        match self.below(6) {
            0 | 1 => self.tame(),
            2 => self.signed() * self.any_power_of_two(),
            3 => self.signed() * self.power_of_ten(-20, 20),
            4 => EDGES[self.below(EDGES.len())],
            _ => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
        }
    }

    /// Mostly between 1e-6 and 1e6.
    pub(crate) fn step_size(&mut self) -> f64 {
        match self.below(4) {
            0 => 1.0,
            3 => self.wild(),
            _ => self.power_of_ten(-6, 6),
        }
    }

    /// A matrix of one of several families, perhaps with rows and columns of zeros.
    pub(crate) fn matrix(&mut self, rows: usize, columns: usize) -> Mat<c64> {
        let style = self.byte();
        let real = style & 0x20 == 0;
        let zero_rows = if style & 0x40 == 0 { 0 } else { self.byte() };
        let zero_columns = if style & 0x80 == 0 { 0 } else { self.byte() };
        let mut entries = |count: usize, wild: bool| -> Vec<c64> {
            let mut part = || if wild { self.wild() } else { self.tame() };
            (0..count)
                .map(|_| c64::new(part(), if real { 0.0 } else { part() }))
                .collect()
        };
        let matrix = match style % 8 {
            0 => Mat::from_fn(rows, columns, |_, _| c64::ONE),
            1 => {
                let row = entries(columns, false);
                Mat::from_fn(rows, columns, |_, j| row[j])
            }
            2 => {
                let (left, right) = (entries(rows, false), entries(columns, false));
                Mat::from_fn(rows, columns, |i, j| left[i] * right[j])
            }
            3 => {
                let all = entries(rows * columns, true);
                Mat::from_fn(rows, columns, |i, j| all[i * columns + j])
            }
            4 => {
                let all = entries(rows * columns, false);
                let factor = self.any_power_of_two();
                Mat::from_fn(rows, columns, |i, j| all[i * columns + j] * factor)
            }
            5 => {
                let all = entries(rows * columns, false);
                let factors: Vec<f64> = (0..rows).map(|_| self.any_power_of_two()).collect();
                Mat::from_fn(rows, columns, |i, j| all[i * columns + j] * factors[i])
            }
            6 => {
                let all = entries(rows * columns, false);
                let factors: Vec<f64> = (0..columns).map(|_| self.power_of_ten(-20, 20)).collect();
                Mat::from_fn(rows, columns, |i, j| all[i * columns + j] * factors[j])
            }
            _ => {
                let all = entries(rows * columns, false);
                Mat::from_fn(rows, columns, |i, j| all[i * columns + j])
            }
        };
        let zero =
            |i: usize, j: usize| zero_rows >> (i % 8) & 1 == 1 || zero_columns >> (j % 8) & 1 == 1;
        Mat::from_fn(rows, columns, |i, j| {
            if zero(i, j) {
                c64::ZERO
            } else {
                matrix[(i, j)]
            }
        })
    }

    /// Sorted, largest first, and then perhaps with one value that spoils it.
    pub(crate) fn spectrum(&mut self) -> Vec<f64> {
        let states = self.below(9);
        let spoiled = self.below(3) == 0;
        let mut hsv: Vec<f64> = (0..states).map(|_| self.wild().abs()).collect();
        hsv.sort_by(|a, b| b.total_cmp(a));
        if spoiled && states > 0 {
            let position = self.below(states);
            hsv[position] = self.wild();
        }
        hsv
    }

    pub(crate) fn eigenvalues<D: TimeDomain>(&mut self, states: usize) -> Vec<c64> {
        let mut lambda: Vec<c64> = Vec::with_capacity(states);
        for _ in 0..states {
            let before = lambda.last().copied().unwrap_or(c64::ZERO);
            let next = self.eigenvalue::<D>(before);
            lambda.push(next);
        }
        lambda
    }

    fn eigenvalue<D: TimeDomain>(&mut self, before: c64) -> c64 {
        let discrete = D::boundary_point(0.0) == c64::ONE;
        match self.below(10) {
            0 => before,
            1 => before.conj(),
            2 => before * (1.0 + self.power_of_ten(-17, -1)),
            3 => before + self.signed() * self.power_of_ten(-20, -3),
            4 => c64::new(self.wild(), self.wild()),
            5 if discrete => c64::new(self.signed() / 128.0, 0.0),
            6 if discrete => c64::new(self.signed() / 128.0, self.signed() / 160.0),
            7 | 8 if discrete => {
                let radius = 1.0 - self.power_of_ten(-16, -1);
                c64::from_polar(radius, self.signed() / 40.0)
            }
            5 => c64::new(-1.0 - f64::from(self.byte()) / 16.0, 0.0),
            6 => c64::new(self.signed() / 16.0 - 7.0, self.signed() / 4.0),
            7 => c64::new(
                -self.power_of_ten(-20, 20),
                self.signed() * self.power_of_ten(-20, 20),
            ),
            8 => c64::new(-self.power_of_ten(-16, 0), self.signed() / 8.0),
            _ => c64::ZERO,
        }
    }

    /// A matrix with eigenvalues of these families: triangular, rotated, a cycle of states, or whatever comes.
    pub(crate) fn state_matrix<D: TimeDomain>(&mut self, states: usize, real: bool) -> Mat<c64> {
        let style = self.below(6);
        if style == 5 {
            return self.matrix(states, states);
        }
        let lambda = self.eigenvalues::<D>(states);
        let coupling = self.matrix(states, states);
        let mut state = Mat::from_fn(states, states, |i, j| match (style, real) {
            (4, _) if (i + 1) % states == j => lambda[i],
            (4, _) => c64::ZERO,
            (0, true) if i / 2 == j / 2 => {
                // The block of a conjugate pair.
                let pole = lambda[i / 2 * 2];
                let part = if i == j { pole.re } else { pole.im };
                c64::new(if i > j { -part } else { part }, 0.0)
            }
            _ if i == j => lambda[i],
            _ if i < j => coupling[(i, j)],
            _ => c64::ZERO,
        });
        if (2..4).contains(&style) {
            for i in 1..states {
                self.rotate(&mut state, i);
            }
        }
        state
    }

    /// A rotation of the states `i - 1` and `i`.
    fn rotate(&mut self, state: &mut Mat<c64>, i: usize) {
        let (sine, cosine) = (self.signed() / 40.0).sin_cos();
        for k in 0..state.ncols() {
            let (x, y) = (state[(i - 1, k)], state[(i, k)]);
            state[(i - 1, k)] = x * cosine + y * sine;
            state[(i, k)] = y * cosine - x * sine;
        }
        for k in 0..state.nrows() {
            let (x, y) = (state[(k, i - 1)], state[(k, i)]);
            state[(k, i - 1)] = x * cosine + y * sine;
            state[(k, i)] = y * cosine - x * sine;
        }
    }
}
