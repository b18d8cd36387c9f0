//! The mean of a stream.

/// Mean of all vectors so far, `[hidden]` each.
#[derive(Clone, Debug)]
pub(super) struct RunningMean {
    sum: Vec<f32>,
    /// What rounding took from the sum.
    lost: Vec<f32>,
    count: u64,
}

impl RunningMean {
    pub(super) fn new(hidden: usize) -> Self {
        Self {
            sum: vec![0.0; hidden],
            lost: vec![0.0; hidden],
            count: 0,
        }
    }

    /// By Kahan's summation: a long stream must not lose what it adds to a large sum.
    #[inline(always)]
    pub(super) fn add(&mut self, vector: &[f32]) {
        for ((sum, lost), x) in self.sum.iter_mut().zip(&mut self.lost).zip(vector) {
            let term = x - *lost;
            let total = *sum + term;
            *lost = (total - *sum) - term;
            *sum = total;
        }
        self.count += 1;
    }

    /// Vectors so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// # Panics
    /// If there was no vector yet.
    pub(super) fn write(&self, mean: &mut [f32]) {
        assert!(self.count > 0, "the mean over time needs a step");
        let share = 1.0 / self.count as f32;
        for (mean, sum) in mean.iter_mut().zip(&self.sum) {
            *mean = sum * share;
        }
    }

    pub(super) fn reset(&mut self) {
        self.sum.fill(0.0);
        self.lost.fill(0.0);
        self.count = 0;
    }
}
