//! One optimizer step: what a run repeats, and what `cargo xtask bench step` times.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use ssm_core::{Dropout, Model, TrainingBackend};

use crate::data::Batch;
use crate::evaluate::{correct, cross_entropy};
use crate::gradients::NamedGradients;
use crate::optimizer::{AdamW, LearningRates};

/// What a step leaves besides the new weights, still on the device.
#[derive(Debug, Clone)]
pub struct StepOutcome<B: AutodiffBackend> {
    /// Mean cross-entropy of the batch before the update, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    /// Number of answers whose largest logit was the right one, `[1]`.
    pub hits: Tensor<B::InnerBackend, 1, Int>,
}

/// Forward, loss, backward, AdamW and running statistics on one batch.
pub fn train_step<B: TrainingBackend>(
    model: &mut Model<B>,
    optimizer: &mut AdamW<B>,
    batch: Batch<B>,
    dropout: Option<Dropout>,
    rates: LearningRates,
) -> StepOutcome<B> {
    let (logits, statistics) = model.forward_train(batch.input, batch.readout, dropout);
    let hits = correct(logits.clone().inner(), batch.labels.clone().inner());
    let loss = cross_entropy(logits, batch.labels);
    let gradients = NamedGradients::take(model, loss.backward());
    *model = optimizer.step(rates, model.clone(), gradients);
    model.update_statistics(statistics);
    StepOutcome {
        loss: loss.inner(),
        hits,
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use datasets::digits::DigitsOptions;
    use datasets::{Dataset, LoadOptions};
    use ssm_core::{Architecture, Encoder, Head, LayerSettings, LruInit};
    use subnormals::{forget_operands, met_operand};

    use super::*;
    use crate::data::{BatchOrder, batch};
    use crate::optimizer::AdamWConfig;

    type Cpu = Autodiff<Flex>;

    fn digits() -> Dataset {
        let options = LoadOptions {
            digits: DigitsOptions {
                train_examples: 400,
                test_examples: 1,
                ..DigitsOptions::default()
            },
            ..LoadOptions::default()
        };
        datasets::load("digits", &options).unwrap()
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
}
