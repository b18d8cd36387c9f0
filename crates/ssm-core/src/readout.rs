//! Where a model's answers are read off the outputs of its last block.

use burn::tensor::{Tensor, backend::Backend as BurnBackend};

use crate::{axis_sum::sum_along, backend::Backend, mean_over_time::mean_over_time};

/// The steps that a model answers from.
#[derive(Clone, Debug)]
pub enum Readout<B: BurnBackend> {
    /// One answer per sequence, from the mean over all of its steps.
    Mean,
    /// One answer per sequence, from a weighted mean over its steps.
    ///
    /// Weights are `[batch, length]`, those of a sequence summing to one. A step of weight zero, such as padding behind
    /// the end, has no part in the answer, and no gradient comes back to it.
    WeightedMean(Tensor<B, 2>),
    /// An answer at each of this many last steps, at least 1 and at most the length.
    LastSteps(usize),
    /// An answer at every step.
    EveryStep,
}

impl<B: BurnBackend> Readout<B> {
    /// Answers of one sequence of `length` steps.
    pub fn answers(&self, length: usize) -> usize {
        match self {
            Self::Mean | Self::WeightedMean(_) => 1,
            Self::LastSteps(count) => *count,
            Self::EveryStep => length,
        }
    }
}

/// What the head makes its answers of.
///
/// # Shapes
/// - `features`: `[batch, length, hidden]`
/// - returns `[batch * answers, hidden]`: the answers of the first sequence in the order of their steps, then those of
///   the second
///
/// # Panics
/// When weights have another shape than `[batch, length]`, or more last steps are asked for than there are.
pub fn read_out<B: Backend>(features: Tensor<B, 3>, readout: Readout<B>) -> Tensor<B, 2> {
    let [batch, length, hidden] = features.dims();
    let answers = readout.answers(length);
    let answering = match readout {
        Readout::Mean => return mean_over_time(features),
        Readout::WeightedMean(weights) => {
            assert_eq!(weights.dims(), [batch, length], "one weight per step");
            sum_along(features * weights.unsqueeze_dim(2), 1)
        }
        Readout::LastSteps(count) => {
            assert!(
                (1..=length).contains(&count),
                "{count} last steps of {length}"
            );
            features.narrow(1, length - count, count)
        }
        Readout::EveryStep => features,
    };
    answering.reshape([batch * answers, hidden])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{DType, TensorData};

    type Cpu = Autodiff<Flex>;

    const DIMS: [usize; 3] = [3, 5, 2];

    /// Steps of each sequence; what comes after them is padding.
    const LENGTHS: [usize; 3] = [5, 2, 1];

    fn matrix(values: Vec<f64>, shape: [usize; 2]) -> Tensor<Cpu, 2> {
        let device = Default::default();
        Tensor::from_data(TensorData::new(values, shape), (&device, DType::F64))
    }

    fn weights() -> Vec<f64> {
        let rows = LENGTHS.into_iter().flat_map(|length| {
            (0..DIMS[1]).map(move |step| {
                if step < length {
                    1.0 / length as f64
                } else {
                    0.0
                }
            })
        });
        rows.collect()
    }

    /// For every row of the answer, the share that each step of each sequence has in it, `[rows][batch * length]`.
    fn shares(readout: &Readout<Cpu>) -> Vec<Vec<f64>> {
        let [batch, length, _] = DIMS;
        let mut rows = Vec::new();
        for sequence in 0..batch {
            for answer in 0..readout.answers(length) {
                let mut row = vec![0.0; batch * length];
                let own = sequence * length..(sequence + 1) * length;
                for (step, share) in row[own].iter_mut().enumerate() {
                    *share = match readout {
                        Readout::Mean => 1.0 / length as f64,
                        Readout::WeightedMean(_) => weights()[sequence * length + step],
                        Readout::LastSteps(count) => {
                            f64::from(u8::from(step == length - count + answer))
                        }
                        Readout::EveryStep => f64::from(u8::from(step == answer)),
                    };
                }
                rows.push(row);
            }
        }
        rows
    }

    fn readouts() -> [Readout<Cpu>; 5] {
        [
            Readout::Mean,
            Readout::WeightedMean(matrix(weights(), [DIMS[0], DIMS[1]])),
            Readout::LastSteps(1),
            Readout::LastSteps(3),
            Readout::EveryStep,
        ]
    }

    fn assert_equal(got: Vec<f64>, want: Vec<f64>, readout: &Readout<Cpu>) {
        assert_eq!(got.len(), want.len(), "{readout:?}");
        for (got, want) in got.iter().zip(&want) {
            // Sums of at most five numbers of order one.
            assert!((got - want).abs() < 1e-14, "{readout:?}: {got} {want}");
            assert!(*want != 0.0 || *got == 0.0, "{readout:?}: {got} for zero");
        }
    }

    #[test]
    fn answers_and_gradients_are_those_of_loops() {
        let [_, _, hidden] = DIMS;
        for readout in readouts() {
            let shares = shares(&readout);
            let features = random::<Cpu, 3>(1, DIMS).require_grad();
            let weight = random::<Cpu, 2>(2, [shares.len(), hidden]);
            let output = read_out(features.clone(), readout.clone());
            assert_eq!(output.dims(), [shares.len(), hidden], "{readout:?}");

            let list = |data: TensorData| -> Vec<f64> { data.iter().collect() };
            let (x, w) = (list(features.to_data()), list(weight.to_data()));
            let mut want = vec![0.0; shares.len() * hidden];
            let mut want_gradient = vec![0.0; x.len()];
            for (row, shares) in shares.iter().enumerate() {
                for (step, share) in shares.iter().enumerate() {
                    for channel in 0..hidden {
                        let (from, to) = (step * hidden + channel, row * hidden + channel);
                        want[to] += share * x[from];
                        want_gradient[from] += share * w[to];
                    }
                }
            }
            assert_equal(list(output.to_data()), want, &readout);
            let gradients = (output * weight).sum().backward();
            let gradient = features.grad(&gradients).expect("features are tracked");
            assert_equal(list(gradient.to_data()), want_gradient, &readout);
        }
    }

    #[test]
    #[should_panic(expected = "6 last steps of 5")]
    fn more_steps_than_there_are_cannot_answer() {
        read_out(random::<Cpu, 3>(1, DIMS), Readout::LastSteps(6));
    }
}
