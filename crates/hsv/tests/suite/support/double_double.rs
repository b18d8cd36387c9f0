//! The slow, obvious twin: Gramians formed entry by entry, a textbook Cholesky, a textbook Jacobi SVD, all in
//! complex double-double arithmetic (32 digits).
//!
//! Forming a Gramian and factoring it loses half of the digits, which here leaves sixteen.

use std::ops::{Add, Div, Mul, Neg, Sub};

use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64};

/// An unevaluated sum of two doubles.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Dd(f64, f64);

fn two_sum(a: f64, b: f64) -> Dd {
    let s = a + b;
    let t = s - a;
    Dd(s, (a - (s - t)) + (b - t))
}

impl Dd {
    const ZERO: Self = Self(0.0, 0.0);

    fn renormalized(high: f64, low: f64) -> Self {
        let s = high + low;
        Self(s, low - (s - high))
    }

    fn sqrt(self) -> Self {
        if self.0 <= 0.0 {
            return Self::ZERO;
        }
        // One Newton step from the double root.
        let root = Self(self.0.sqrt(), 0.0);
        (root + self / root) * Self(0.5, 0.0)
    }

    fn value(self) -> f64 {
        self.0 + self.1
    }
}

impl Add for Dd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (s, t) = (two_sum(self.0, other.0), two_sum(self.1, other.1));
        let first = Self::renormalized(s.0, s.1 + t.0);
        Self::renormalized(first.0, first.1 + t.1)
    }
}

impl Neg for Dd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}

impl Sub for Dd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Dd {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let p = self.0 * other.0;
        let error = self.0.mul_add(other.0, -p);
        Self::renormalized(p, error + (self.0 * other.1 + self.1 * other.0))
    }
}

impl Div for Dd {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let first = self.0 / other.0;
        let rest = self - other * Self(first, 0.0);
        let second = rest.0 / other.0;
        let rest = rest - other * Self(second, 0.0);
        Self::renormalized(first, second) + Self(rest.0 / other.0, 0.0)
    }
}

/// A complex number of two double-doubles.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Complex {
    re: Dd,
    im: Dd,
}

impl Complex {
    const ZERO: Self = Self {
        re: Dd::ZERO,
        im: Dd::ZERO,
    };

    fn real(re: Dd) -> Self {
        Self { re, im: Dd::ZERO }
    }

    fn conj(self) -> Self {
        Self {
            re: self.re,
            im: -self.im,
        }
    }

    fn norm_sqr(self) -> Dd {
        self.re * self.re + self.im * self.im
    }

    fn times(self, factor: Dd) -> Self {
        Self {
            re: self.re * factor,
            im: self.im * factor,
        }
    }

    fn over(self, divisor: Dd) -> Self {
        Self {
            re: self.re / divisor,
            im: self.im / divisor,
        }
    }

    pub(crate) fn value(self) -> c64 {
        c64::new(self.re.value(), self.im.value())
    }
}

impl From<c64> for Complex {
    fn from(z: c64) -> Self {
        Self {
            re: Dd(z.re, 0.0),
            im: Dd(z.im, 0.0),
        }
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

impl Div for Complex {
    type Output = Self;
    #[allow(
        clippy::suspicious_arithmetic_impl,
        reason = "the product with the conjugate is the division"
    )]
    fn div(self, other: Self) -> Self {
        (self * other.conj()).over(other.norm_sqr())
    }
}

/// A matrix as its columns.
type Columns = Vec<Vec<Complex>>;

fn dot(left: &[Complex], right: &[Complex]) -> Complex {
    left.iter()
        .zip(right)
        .fold(Complex::ZERO, |sum, (&a, &b)| sum + a.conj() * b)
}

/// `leftᴴ right`
fn inner(left: &Columns, right: &Columns) -> Columns {
    right
        .iter()
        .map(|r| left.iter().map(|l| dot(l, r)).collect())
        .collect()
}

/// `matrix · right`
fn product(matrix: &Columns, right: &Columns) -> Columns {
    let combine = |column: &Vec<Complex>| {
        let mut sum = vec![Complex::ZERO; matrix[0].len()];
        for (m, &weight) in matrix.iter().zip(column) {
            sum.iter_mut()
                .zip(m)
                .for_each(|(s, &entry)| *s = *s + entry * weight);
        }
        sum
    };
    right.iter().map(combine).collect()
}

/// Columns of a Gramian factor by Cholesky with diagonal pivoting, down to 1e-32 of the largest diagonal entry.
fn gramian_factor(lambda: &[c64], rows: &[Vec<c64>]) -> Columns {
    let states = lambda.len();
    let one = Complex::real(Dd(1.0, 0.0));
    let mut gramian: Columns = (0..states)
        .map(|j| {
            (0..states)
                .map(|i| {
                    let products = rows[i].iter().zip(&rows[j]);
                    let numerator = products.fold(Complex::ZERO, |sum, (&a, &b)| {
                        sum + Complex::from(a) * Complex::from(b).conj()
                    });
                    numerator / (one - Complex::from(lambda[i]) * Complex::from(lambda[j]).conj())
                })
                .collect()
        })
        .collect();
    let largest = |gramian: &Columns| {
        (0..states)
            .map(|p| (p, gramian[p][p].re.value()))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap()
    };
    let stop = 1e-32 * largest(&gramian).1;
    let mut factor = Columns::new();
    while factor.len() < states {
        let (p, pivot) = largest(&gramian);
        if pivot <= stop {
            break;
        }
        let root = gramian[p][p].re.sqrt();
        let column: Vec<Complex> = gramian[p].iter().map(|z| z.over(root)).collect();
        for j in 0..states {
            for i in 0..states {
                gramian[j][i] = gramian[j][i] - column[i] * column[j].conj();
            }
        }
        (0..states).for_each(|i| {
            gramian[p][i] = Complex::ZERO;
            gramian[i][p] = Complex::ZERO;
        });
        factor.push(column);
    }
    factor
}

/// `U S` (in the columns of the first), S and V of a matrix by one-sided Jacobi rotations, largest value first.
fn svd(matrix: Columns) -> (Columns, Vec<Dd>, Columns) {
    let count = matrix.len();
    let unit = |k: usize| {
        (0..count)
            .map(|i| Complex::real(Dd(f64::from(i == k), 0.0)))
            .collect()
    };
    let (mut left, mut right): (Columns, Columns) = (matrix, (0..count).map(unit).collect());
    // Columns this small beside the largest are rounding of the factors; turning them only underflows.
    let floor = 1e-60
        * left
            .iter()
            .map(|column| dot(column, column).re.value())
            .fold(0.0, f64::max);
    for _sweep in 0..60 {
        let mut rotated = false;
        for q in 1..count {
            for p in 0..q {
                let (pp, qq) = (dot(&left[p], &left[p]).re, dot(&left[q], &left[q]).re);
                let pq = dot(&left[p], &left[q]);
                let modulus = pq.norm_sqr().sqrt();
                if modulus.value() <= floor.max(1e-29 * (pp.value() * qq.value()).sqrt()) {
                    continue;
                }
                rotated = true;
                // tan of the angle that makes the pair orthogonal, the small root.
                let zeta = (qq - pp) / (modulus + modulus);
                let magnitude = if zeta.0 < 0.0 { -zeta } else { zeta };
                let root = (Dd(1.0, 0.0) + zeta * zeta).sqrt();
                let t = Dd(1.0, 0.0) / (magnitude + root);
                let t = if zeta.0 < 0.0 { -t } else { t };
                let c = Dd(1.0, 0.0) / (Dd(1.0, 0.0) + t * t).sqrt();
                let s = c * t;
                let phase = pq.over(modulus);
                for columns in [&mut left, &mut right] {
                    for i in 0..columns[p].len() {
                        let (a, b) = (columns[p][i], columns[q][i] * phase.conj());
                        columns[p][i] = a.times(c) - b.times(s);
                        columns[q][i] = a.times(s) + b.times(c);
                    }
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let lengths: Vec<Dd> = left
        .iter()
        .map(|column| dot(column, column).re.sqrt())
        .collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| lengths[b].value().total_cmp(&lengths[a].value()));
    let sorted = |columns: &Columns| order.iter().map(|&k| columns[k].clone()).collect();
    (
        sorted(&left),
        order.iter().map(|&k| lengths[k]).collect(),
        sorted(&right),
    )
}

/// Solution of `matrix x = right` by Gaussian elimination with row pivoting.
fn solve(mut matrix: Columns, mut right: Columns) -> Columns {
    let order = matrix.len();
    for k in 0..order {
        let size = |i: &usize| matrix[k][*i].norm_sqr().value();
        let pivot = (k..order)
            .max_by(|a, b| size(a).total_cmp(&size(b)))
            .unwrap();
        for column in matrix.iter_mut().chain(&mut right) {
            column.swap(k, pivot);
        }
        for i in k + 1..order {
            let factor = matrix[k][i] / matrix[k][k];
            for column in matrix.iter_mut().chain(&mut right) {
                column[i] = column[i] - factor * column[k];
            }
        }
    }
    for column in &mut right {
        for k in (0..order).rev() {
            column[k] = column[k] / matrix[k][k];
            for i in 0..k {
                column[i] = column[i] - matrix[k][i] * column[k];
            }
        }
    }
    right
}

/// Hankel singular values and truncations of a system, in 32 digits.
pub(crate) struct Twin {
    lambda: Vec<Complex>,
    input: Columns,
    output_adjoint: Columns,
    controllability_factor: Columns,
    observability_factor: Columns,
    scaled_left_vectors: Columns,
    values: Vec<Dd>,
    right_vectors: Columns,
}

impl Twin {
    pub(crate) fn of(system: &DiscreteDiagonalSystem) -> Self {
        let states = system.state_dim();
        let (b, c) = (system.input_matrix(), system.output_matrix());
        let rows: Vec<Vec<c64>> = (0..states)
            .map(|i| (0..b.ncols()).map(|j| b[(i, j)]).collect())
            .collect();
        let columns: Vec<Vec<c64>> = (0..states)
            .map(|i| (0..c.nrows()).map(|j| c[(j, i)].conj()).collect())
            .collect();
        let dual: Vec<c64> = system.lambda().iter().map(c64::conj).collect();
        let controllability_factor = gramian_factor(system.lambda(), &rows);
        let observability_factor = gramian_factor(&dual, &columns);
        let product = inner(&observability_factor, &controllability_factor);
        let (scaled_left_vectors, values, right_vectors) = svd(product);
        let transposed = |rows: &[Vec<c64>]| -> Columns {
            (0..rows[0].len())
                .map(|j| rows.iter().map(|row| row[j].into()).collect())
                .collect()
        };
        Self {
            lambda: system.lambda().iter().map(|&z| z.into()).collect(),
            input: transposed(&rows),
            output_adjoint: transposed(&columns),
            controllability_factor,
            observability_factor,
            scaled_left_vectors,
            values,
            right_vectors,
        }
    }

    /// One per state, largest first.
    pub(crate) fn singular_values(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.values.iter().map(|sigma| sigma.value()).collect();
        values.resize(self.lambda.len(), 0.0);
        values
    }

    /// `C_r (z I - A_r)⁻¹ B_r` of the truncation to `order` states, at each `z`.
    pub(crate) fn truncated_transfer(&self, order: usize, points: &[c64]) -> Vec<Mat<c64>> {
        // A basis of each space is enough for an oblique projection: T = L_P V and W = L_Q U S, divided by S for size.
        let over_value = |columns: &Columns, power: i32| -> Columns {
            let divisor = |k: usize| {
                if power == 1 {
                    self.values[k].sqrt()
                } else {
                    self.values[k] * self.values[k].sqrt()
                }
            };
            (0..order)
                .map(|k| columns[k].iter().map(|z| z.over(divisor(k))).collect())
                .collect()
        };
        let right = over_value(
            &product(&self.controllability_factor, &self.right_vectors),
            1,
        );
        let left = over_value(
            &product(&self.observability_factor, &self.scaled_left_vectors),
            2,
        );
        let overlap = inner(&left, &right);
        let moved: Columns = right
            .iter()
            .map(|column| {
                column
                    .iter()
                    .zip(&self.lambda)
                    .map(|(&z, &lambda)| lambda * z)
                    .collect()
            })
            .collect();
        let state_matrix = inner(&left, &moved);
        let input = inner(&left, &self.input);
        let output = inner(&self.output_adjoint, &right);
        let value_at = |&z: &c64| {
            let z = Complex::from(z);
            let resolvent: Columns = (0..order)
                .map(|j| {
                    (0..order)
                        .map(|i| z * overlap[j][i] - state_matrix[j][i])
                        .collect()
                })
                .collect();
            let value = product(&output, &solve(resolvent, input.clone()));
            Mat::from_fn(value[0].len(), value.len(), |i, j| value[j][i].value())
        };
        points.iter().map(value_at).collect()
    }
}
