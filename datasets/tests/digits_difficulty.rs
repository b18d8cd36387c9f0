//! Accuracy on `digits` must tell models apart: out of reach for a linear classifier, yet far from chance for it.

use datasets::digits::DigitsOptions;
use datasets::{Digits, LoadOptions, SequenceSet, Source};

const CLASSES: usize = 10;
const EPOCHS: u64 = 12;
const LEARNING_RATE: f32 = 0.02;

/// Softmax regression: weights `[class, pixel]` and biases `[class]`.
struct Softmax {
    weights: Vec<Vec<f32>>,
    biases: [f32; CLASSES],
}

impl Softmax {
    fn new(pixels: usize) -> Self {
        Self {
            weights: vec![vec![0.0; pixels]; CLASSES],
            biases: [0.0; CLASSES],
        }
    }

    fn logits(&self, input: &[f32]) -> [f32; CLASSES] {
        std::array::from_fn(|class| {
            let products = self.weights[class]
                .iter()
                .zip(input)
                .map(|(weight, value)| weight * value);
            self.biases[class] + products.sum::<f32>()
        })
    }

    /// One step of stochastic gradient descent on the cross-entropy of one example.
    fn learn(&mut self, input: &[f32], label: usize, rate: f32) {
        let logits = self.logits(input);
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = logits.map(|logit| (logit - largest).exp());
        let total: f32 = exponentials.iter().sum();
        for (class, exponential) in exponentials.into_iter().enumerate() {
            let gradient = exponential / total - f32::from(u8::from(class == label));
            self.biases[class] -= rate * gradient;
            for (weight, value) in self.weights[class].iter_mut().zip(input) {
                *weight -= rate * gradient * value;
            }
        }
    }

    fn accuracy(&self, set: &SequenceSet) -> f64 {
        let mut input = vec![0.0; set.shape().values()];
        let correct = (0..set.len()).filter(|index| {
            set.write_example(*index, &mut input);
            let logits = self.logits(&input);
            let best = (0..CLASSES).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            best == Some(set.label(*index))
        });
        correct.count() as f64 / set.len() as f64
    }
}

#[test]
fn a_linear_classifier_learns_something_and_stays_far_from_perfect() {
    let digits = DigitsOptions {
        train_examples: 5000,
        test_examples: 1000,
        ..DigitsOptions::default()
    };
    let set = Digits::load(&digits, &LoadOptions::default()).unwrap();
    let mut model = Softmax::new(set.shape.values());
    let mut input = vec![0.0; set.shape.values()];
    for epoch in 0..EPOCHS {
        let rate = LEARNING_RATE * (1.0 - epoch as f32 / EPOCHS as f32);
        for index in datasets::epoch_order(set.train.len(), 0, epoch) {
            set.train.write_example(index as usize, &mut input);
            model.learn(&input, set.train.label(index as usize), rate);
        }
    }
    let (train, test) = (model.accuracy(&set.train), model.accuracy(&set.test));
    println!("softmax regression on raw pixels: train {train:.3}, test {test:.3}");
    // All 20,000 examples and a converged fit give 0.76 on test; a network with one hidden layer of
    // 256 gives 0.96. The band leaves room for redrawn glyphs, not for another kind of task.
    assert!((0.55..0.85).contains(&test), "train {train}, test {test}");
}
