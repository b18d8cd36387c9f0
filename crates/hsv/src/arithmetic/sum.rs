//! Sums that keep what the large terms would swallow.

/// Sum of a spectrum, largest first, added from the small end and with the rounding errors carried along: added to
/// the large values first, a long tail would be lost.
pub(crate) fn sum_from_small_end(hsv: &[f64]) -> f64 {
    let mut tail = TailSum::default();
    hsv.iter().rev().for_each(|&sigma| tail.add(sigma));
    tail.value()
}

/// Neumaier's summation.
#[derive(Default)]
pub(crate) struct TailSum {
    sum: f64,
    compensation: f64,
}

impl TailSum {
    pub(crate) fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let (large, small) = if self.sum.abs() >= term.abs() {
            (self.sum, term)
        } else {
            (term, self.sum)
        };
        self.compensation += (large - sum) + small;
        self.sum = sum;
    }

    pub(crate) fn value(&self) -> f64 {
        self.sum + self.compensation
    }
}

/// The smallest number that is not below the exact `a + b`.
pub(crate) fn sum_rounded_up(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_rounded = sum - a;
    let error = (a - (sum - b_rounded)) + (b - b_rounded);
    if error > 0.0 { sum.next_up() } else { sum }
}
