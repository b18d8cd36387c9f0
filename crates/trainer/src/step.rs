//! One optimizer step: what a run repeats, and what `cargo xtask bench step` times.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use ssm_core::{Dropout, Model, TrainingBackend};

use crate::batch::Batch;
use crate::evaluate::correct;
use crate::gradients::NamedGradients;
use crate::objective::{CrossEntropy, Objective, StepLoss};
use crate::optimizer::{AdamW, LearningRates};

/// What a step leaves besides the new weights, still on the device.
#[derive(Debug, Clone)]
pub struct StepOutcome<B: AutodiffBackend> {
    /// Mean cross-entropy of the batches before the update, whatever the objective is, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    /// Number of answers whose largest logit was the right one, `[1]`.
    pub hits: Tensor<B::InnerBackend, 1, Int>,
}

/// How a step is made of batches.
#[derive(Debug)]
pub struct Step<'a, B: TrainingBackend> {
    /// What becomes smaller.
    pub objective: &'a dyn Objective<B>,
    /// Largest norm of the gradient, if there is one.
    pub clip: Option<f64>,
    /// Of the update.
    pub rates: LearningRates,
}

impl<B: TrainingBackend> Step<'_, B> {
    /// Forward, loss, backward and running statistics on each batch, at least one of them and all of as many answers; then
    /// one update with the mean of their gradients.
    pub fn run(
        &self,
        model: &mut Model<B>,
        optimizer: &mut AdamW<B>,
        batches: impl IntoIterator<Item = (Batch<B>, Option<Dropout>)>,
    ) -> StepOutcome<B> {
        let mut batches = batches.into_iter();
        let mut pass = |(batch, dropout)| self.pass(model, batch, dropout);
        let first = batches.next().expect("a step has a batch");
        let (mut sum, mut count) = (pass(first), 1);
        for batch in batches {
            sum.add(pass(batch));
            count += 1;
        }
        let Pass {
            mut gradients,
            outcome,
        } = sum.mean(count);
        self.objective.add_gradients(model, &mut gradients);
        if let Some(limit) = self.clip {
            gradients.clip(limit);
        }
        *model = optimizer.step(self.rates, model.clone(), gradients);
        outcome
    }

    fn pass(&self, model: &mut Model<B>, batch: Batch<B>, dropout: Option<Dropout>) -> Pass<B> {
        let (input, readout) = (batch.input.clone(), batch.readout.clone());
        let (logits, statistics) = model.forward_train(input, readout, dropout);
        let hits = correct(logits.clone().inner(), batch.labels.clone().inner());
        let StepLoss {
            loss,
            cross_entropy,
        } = self.objective.loss(logits, &batch);
        let gradients = NamedGradients::take(model, loss.backward());
        model.update_statistics(statistics);
        let outcome = StepOutcome {
            loss: cross_entropy,
            hits,
        };
        Pass { gradients, outcome }
    }
}

/// What a backward pass leaves, or the sum over several.
struct Pass<B: TrainingBackend> {
    gradients: NamedGradients<B::InnerBackend>,
    outcome: StepOutcome<B>,
}

impl<B: TrainingBackend> Pass<B> {
    fn add(&mut self, other: Self) {
        self.gradients.add_all(other.gradients);
        let sum = &mut self.outcome;
        sum.loss = sum.loss.clone() + other.outcome.loss;
        sum.hits = sum.hits.clone() + other.outcome.hits;
    }

    /// Of a sum over `count` passes: means of gradients and losses, and the number of all hits.
    fn mean(mut self, count: u64) -> Self {
        // One pass is its own mean, and costs nothing.
        if count > 1 {
            let share = 1.0 / count as f64;
            self.gradients.scale(share);
            self.outcome.loss = self.outcome.loss * share;
        }
        self
    }
}

/// A step on one batch that makes its cross-entropy smaller.
pub fn train_step<B: TrainingBackend>(
    model: &mut Model<B>,
    optimizer: &mut AdamW<B>,
    batch: Batch<B>,
    dropout: Option<Dropout>,
    rates: LearningRates,
) -> StepOutcome<B> {
    let step = Step {
        objective: &CrossEntropy {},
        clip: None,
        rates,
    };
    step.run(model, optimizer, [(batch, dropout)])
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::module::AutodiffModule;
    use datasets::digits::DigitsOptions;
    use datasets::selective_copy::SelectiveCopyOptions;
    use datasets::{
        Content, Dataset, Digits, LoadOptions, SelectiveCopy, SequenceSet, Shape, Source, Target,
    };
    use ssm_core::{
        Architecture, Encoder, Head, LayerSettings, LruInit, NamedTensors, SelectiveSettings,
    };
    use subnormals::{forget_operands, met_operand};

    use super::*;
    use crate::batch::{BatchOrder, batch};
    use crate::evaluate::evaluate;
    use crate::objective::LabelSmoothing;
    use crate::optimizer::AdamWConfig;

    type Cpu = Autodiff<Flex>;

    fn digits() -> Dataset {
        let options = DigitsOptions {
            train_examples: 400,
            test_examples: 1,
            seed: 0,
        };
        Digits::load(&options, &LoadOptions::default()).unwrap()
    }

    #[test]
    fn a_step_on_digits_meets_no_subnormal_number() {
        // Some of the states die out within a few steps of a sequence.
        let init = LruInit {
            r_min: 0.0,
            r_max: 0.999,
            max_phase: std::f64::consts::TAU,
        };
        let architecture = Architecture {
            encoder: Encoder::Linear { channels: 1 },
            hidden_dim: 8,
            state_dims: vec![64],
            layer: LayerSettings::Lru(init),
            head: Head::Classes { classes: 10 },
        };
        let device = Default::default();
        let examples = digits().train;
        let mut order = BatchOrder::new(examples.len(), 20, 1);
        let mut model = Model::<Cpu>::init(&architecture, 1, &device);
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.0 });
        let rates = LearningRates {
            main: 4e-3,
            recurrent: 4e-3,
        };
        let mut step = |number: u64| {
            let batch = batch::<Cpu>(&examples, order.step(number), &device);
            train_step(&mut model, &mut optimizer, batch, None, rates);
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        let pool = pool.build().unwrap();
        pool.install(|| (0..15).for_each(&mut step));
        pool.broadcast(|_| forget_operands());
        pool.install(|| step(15));
        assert!(!pool.broadcast(|_| met_operand()).contains(&Some(true)));
    }

    const STILL: LearningRates = LearningRates {
        main: 0.0,
        recurrent: 0.0,
    };

    fn tokens() -> SequenceSet {
        let options = SelectiveCopyOptions {
            length: 20,
            copies: 3,
            vocabulary: 7,
            train_examples: 20,
            test_examples: 1,
            seed: 0,
        };
        let set = SelectiveCopy::load(&options, &LoadOptions::default());
        set.unwrap().train
    }

    fn model(layer: LayerSettings) -> Model<Cpu> {
        let architecture = Architecture {
            encoder: Encoder::Embedding { vocabulary: 7 },
            hidden_dim: 8,
            state_dims: vec![6, 4],
            layer,
            head: Head::Tokens { tied: false },
        };
        Model::init(&architecture, 1, &Default::default())
    }

    /// Without batch statistics.
    fn mamba() -> Model<Cpu> {
        model(LayerSettings::Mamba(SelectiveSettings::default()))
    }

    /// With batch statistics.
    fn lru() -> Model<Cpu> {
        model(LayerSettings::Lru(LruInit::default()))
    }

    /// One step on batches of the examples between these bounds with a new optimizer, whose moments it returns.
    fn step(
        model: &mut Model<Cpu>,
        (objective, clip): (&dyn Objective<Cpu>, Option<f64>),
        bounds: &[usize],
    ) -> (StepOutcome<Cpu>, NamedTensors) {
        let set = tokens();
        let batches = bounds.windows(2).map(|bounds| {
            let examples = bounds[0]..bounds[1];
            (batch(&set, examples, &Default::default()), None)
        });
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.0 });
        let step = Step {
            objective,
            clip,
            rates: STILL,
        };
        let outcome = step.run(model, &mut optimizer, batches);
        (outcome, optimizer.to_tensors())
    }

    /// The gradient of a step, one vector for each parameter: ten times its first moments.
    fn gradient(
        objective: &dyn Objective<Cpu>,
        clip: Option<f64>,
        bounds: &[usize],
    ) -> Vec<(String, Vec<f64>)> {
        let (_, moments) = step(&mut mamba(), (objective, clip), bounds);
        let first = moments.0.into_iter().filter_map(|(name, moments)| {
            let values = moments
                .values
                .into_iter()
                .map(|value| 10.0 * f64::from(value));
            let name = name.strip_prefix("first.")?.to_owned();
            Some((name, values.collect()))
        });
        first.collect()
    }

    fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
        values
            .into_iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt()
    }

    /// Of sums over some hundred steps and examples in f32, of a gradient of this norm.
    fn rounding(norm: f64) -> f64 {
        200.0 * f64::from(f32::EPSILON) * norm
    }

    #[test]
    fn half_batches_have_the_gradients_of_the_whole_one() {
        let smoothing = LabelSmoothing { epsilon: 0.2 };
        let objectives: [&dyn Objective<Cpu>; 2] = [&CrossEntropy {}, &smoothing];
        for objective in objectives {
            let whole = gradient(objective, None, &[0, 12]);
            for parts in [&[0, 6, 12][..], &[0, 3, 6, 9, 12]] {
                let parts = gradient(objective, None, parts);
                for ((name, whole), (_, parts)) in whole.iter().zip(&parts) {
                    for (whole, parts) in whole.iter().zip(parts) {
                        assert!(
                            (whole - parts).abs() <= rounding(1.0),
                            "{name}: {whole} {parts}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn loss_and_hits_of_a_step_are_those_of_all_its_batches() {
        let plain: (&dyn Objective<Cpu>, _) = (&CrossEntropy {}, None);
        let (whole, _) = step(&mut mamba(), plain, &[0, 12]);
        let (parts, _) = step(&mut mamba(), plain, &[0, 4, 8, 12]);
        let [whole_loss, parts_loss] = [whole.loss, parts.loss].map(|loss| loss.into_scalar());
        assert!(
            (whole_loss - parts_loss).abs() < 1e-5,
            "{whole_loss} {parts_loss}"
        );
        assert_eq!(whole.hits.into_scalar(), parts.hits.into_scalar());
        // Of another objective, too, it is the cross-entropy.
        let smoothing = LabelSmoothing { epsilon: 0.5 };
        let (smoothed, _) = step(&mut mamba(), (&smoothing, None), &[0, 12]);
        assert_eq!(smoothed.loss.into_scalar(), whole_loss);
    }

    #[test]
    fn every_batch_moves_the_running_statistics() {
        let plain: (&dyn Objective<Cpu>, _) = (&CrossEntropy {}, None);
        let mut together = lru();
        step(&mut together, plain, &[0, 5, 9]);
        let mut one_by_one = lru();
        step(&mut one_by_one, plain, &[0, 5]);
        step(&mut one_by_one, plain, &[5, 9]);
        let [together, one_by_one] = [together, one_by_one].map(|model| model.to_tensors());
        assert_eq!(together, one_by_one);
        assert_ne!(together, lru().to_tensors());
    }

    #[test]
    fn a_limit_shortens_the_gradient_of_all_batches_together() {
        let batches = [0, 6, 12];
        let free = gradient(&CrossEntropy {}, None, &batches);
        let free_norm = norm(free.iter().flat_map(|(_, values)| values));
        for limit in [0.1 * free_norm, 2.0 * free_norm] {
            let clipped = gradient(&CrossEntropy {}, Some(limit), &batches);
            let factor = (limit / (free_norm + 1e-6)).min(1.0);
            for ((name, free), (_, clipped)) in free.iter().zip(&clipped) {
                for (free, clipped) in free.iter().zip(clipped) {
                    let difference = (factor * free - clipped).abs();
                    assert!(difference <= rounding(limit.min(free_norm)), "{name}");
                }
            }
            let clipped_norm = norm(clipped.iter().flat_map(|(_, values)| values));
            assert!(
                clipped_norm <= limit * (1.0 + 1e-5),
                "{clipped_norm} {limit}"
            );
        }
    }

    /// Pairs of texts of one or two letters each, with whether both are of the same ones.
    fn pairs() -> SequenceSet {
        let shape = Shape {
            sequences: 2,
            length: 40,
            channels: 1,
            classes: 2,
            content: Content::Tokens { vocabulary: 4 },
            target: Target::Class,
        };
        let (mut tokens, mut lengths, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for example in 0..64_usize {
            let letters = [example % 4, example / 4 % 4];
            for (letter, length) in letters
                .into_iter()
                .zip([7 + example % 30, 40 - example % 11])
            {
                tokens.extend(vec![letter as u8; length]);
                lengths.push(length);
            }
            labels.push(u16::from(letters[0] == letters[1]));
        }
        SequenceSet::with_lengths(shape, tokens, &lengths, labels).unwrap()
    }

    #[test]
    fn a_model_of_pairs_learns_what_no_sequence_tells_alone() {
        let (set, device) = (pairs(), Default::default());
        for layer in [
            LayerSettings::Lru(LruInit::default()),
            LayerSettings::Mamba(SelectiveSettings::default()),
        ] {
            let architecture = Architecture {
                encoder: Encoder::Embedding { vocabulary: 4 },
                hidden_dim: 16,
                state_dims: vec![8],
                layer,
                head: Head::Pair { classes: 2 },
            };
            let mut model = Model::<Cpu>::init(&architecture, 1, &device);
            let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.0 });
            let rates = LearningRates {
                main: 1e-2,
                recurrent: 1e-3,
            };
            let mut order = BatchOrder::new(set.len(), 32, 1);
            for number in 0..100 {
                let batch = batch(&set, order.step(number), &device);
                train_step(&mut model, &mut optimizer, batch, None, rates);
            }
            let scores = evaluate(&model.valid(), &set, 7, &device);
            // Three quarters of the pairs are of different letters.
            assert!(scores.accuracy > 0.95, "{scores:?}");
        }
    }

    /// Cross-entropy, and a pull of 3 on every entry of the bias of a convolution.
    #[derive(Debug)]
    struct Pull;

    const PULLED: &str = "backbone.layers.0.mixer.conv1d.bias";

    impl Objective<Cpu> for Pull {
        fn loss(&self, logits: Tensor<Cpu, 2>, batch: &Batch<Cpu>) -> StepLoss<Cpu> {
            CrossEntropy {}.loss(logits, batch)
        }

        fn add_gradients(&self, _: &Model<Cpu>, gradients: &mut NamedGradients<Flex>) {
            let bias = gradients.get::<1>(PULLED).unwrap();
            gradients.add(PULLED, bias.ones_like() * 3.0);
        }
    }

    #[test]
    fn what_an_objective_adds_counts_once_for_each_update_and_is_clipped_with_the_rest() {
        let batches = [0, 6, 12];
        let plain = gradient(&CrossEntropy {}, None, &batches);
        let pulled = gradient(&Pull, None, &batches);
        for ((name, plain), (_, pulled)) in plain.iter().zip(&pulled) {
            let pull = if name == PULLED { 3.0 } else { 0.0 };
            for (plain, pulled) in plain.iter().zip(pulled) {
                assert!(
                    (plain + pull - pulled).abs() < 1e-5,
                    "{name}: {plain} {pulled}"
                );
            }
        }
        let clipped = gradient(&Pull, Some(0.5), &batches);
        assert!(norm(clipped.iter().flat_map(|(_, values)| values)) <= 0.5 * (1.0 + 1e-5));
    }
}
