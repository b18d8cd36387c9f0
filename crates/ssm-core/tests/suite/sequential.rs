//! Recurrences in loops over numbers, forward and backward: the twin where the others would need too much memory.

use std::ops::{Add, AddAssign, Mul, Sub};

/// `f32` or `f64`.
pub trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + AddAssign
{
    fn of(value: f64) -> Self;
    fn get(self) -> f64;
}

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn get(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn get(self) -> f64 {
        self
    }
}

#[derive(Clone, Copy)]
pub struct Complex<T> {
    pub re: T,
    pub im: T,
}

impl<T: Number> Complex<T> {
    pub fn of(re: f64, im: f64) -> Self {
        let (re, im) = (T::of(re), T::of(im));
        Self { re, im }
    }

    pub fn zero() -> Self {
        Self::of(0.0, 0.0)
    }

    fn conjugate(self) -> Self {
        Self {
            re: self.re,
            im: T::of(0.0) - self.im,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

/// h_k = a_k h_{k-1} + b_k of one batch row, `[length, state]`.
pub struct Scan<'a, T> {
    pub states: usize,
    /// `[state]`, the same at every step, or `[length, state]`.
    pub decay: &'a [Complex<T>],
    pub input: &'a [Complex<T>],
    /// `[state]`.
    pub initial_state: &'a [Complex<T>],
}

/// Gradients of a scan, in the shapes of what goes into it.
pub struct ScanGradients<T> {
    pub decay: Vec<Complex<T>>,
    pub input: Vec<Complex<T>>,
    pub initial_state: Vec<Complex<T>>,
}

impl<T: Number> Scan<'_, T> {
    /// All states, `[length, state]`.
    pub fn forward(&self) -> Vec<Complex<T>> {
        let mut state = self.initial_state.to_vec();
        let mut all = Vec::with_capacity(self.input.len());
        for (k, input) in self.input.chunks_exact(self.states).enumerate() {
            for (i, (h, b)) in state.iter_mut().zip(input).enumerate() {
                *h = self.decay[self.decay_index(k, i)].times(*h).plus(*b);
            }
            all.extend_from_slice(&state);
        }
        all
    }

    /// s_k = g_k + conj(a_{k+1}) s_{k+1}.
    pub fn backward(&self, states: &[Complex<T>], gradient: &[Complex<T>]) -> ScanGradients<T> {
        let n = self.states;
        let mut carried = vec![Complex::zero(); n];
        let mut decay = vec![Complex::zero(); self.decay.len()];
        let mut input = vec![Complex::zero(); gradient.len()];
        for k in (0..gradient.len() / n).rev() {
            let before = match k {
                0 => self.initial_state,
                _ => &states[(k - 1) * n..k * n],
            };
            for i in 0..n {
                let (at, s) = (self.decay_index(k, i), gradient[k * n + i].plus(carried[i]));
                input[k * n + i] = s;
                decay[at] = decay[at].plus(s.times(before[i].conjugate()));
                carried[i] = self.decay[at].conjugate().times(s);
            }
        }
        ScanGradients {
            decay,
            input,
            initial_state: carried,
        }
    }

    fn decay_index(&self, step: usize, state: usize) -> usize {
        (step * self.states + state) % self.decay.len()
    }
}

/// Real parts, then imaginary parts.
pub fn planes<T: Number>(values: &[Complex<T>]) -> Vec<f64> {
    let re = values.iter().map(|z| z.re.get());
    re.chain(values.iter().map(|z| z.im.get())).collect()
}

/// The inverse of [`planes`].
pub fn complex<T: Number>(planes: &[f64]) -> Vec<Complex<T>> {
    let (re, im) = planes.split_at(planes.len() / 2);
    re.iter()
        .zip(im)
        .map(|(re, im)| Complex::of(*re, *im))
        .collect()
}
