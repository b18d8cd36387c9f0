//! What holds of every objective. One joins by a line in its tests, `objective_laws!(MyObjective { .. });`.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Int, Tensor, TensorData};
use ssm_core::{Architecture, Encoder, Head, Model, Readout, Sequences};

use super::{Objective, StepLoss, cross_entropy};
use crate::batch::Batch;
use crate::config::{LayerKind, ModelConfig};
use crate::gradients::NamedGradients;

pub(crate) type Cpu = Autodiff<Flex>;

/// Holds an objective to the laws of all of them.
macro_rules! objective_laws {
    ($objective:expr) => {
        #[test]
        fn it_obeys_the_laws_of_objectives() {
            crate::objective::laws::hold_for(&$objective);
        }
    };
}
pub(crate) use objective_laws;

pub(crate) fn hold_for(objective: &dyn Objective<Cpu>) {
    gradients_are_central_differences(objective);
    loss_and_gradients_of_extreme_logits_are_finite(objective);
    loss_is_a_mean_over_answers(objective);
    what_all_logits_of_an_answer_have_in_common_does_not_matter(objective);
    the_order_of_the_answers_does_not_matter(objective);
    the_cross_entropy_beside_it_is_the_plain_one(objective);
    added_gradients_belong_to_parameters_and_are_added(objective);
}

const CLASSES: usize = 5;
const LABELS: [usize; 6] = [4, 0, 3, 3, 1, 2];

/// Relative error of a mean of a few answers over a few classes in `f64`.
const ROUNDING: f64 = 1e-13;

/// Logits between -3 and 3, as good as random.
pub(crate) fn some_logits(answers: usize, classes: usize) -> Vec<Vec<f64>> {
    let logit = |at: usize| 3.0 * (0.37 * (at * at) as f64 + at as f64).sin();
    let row = |answer| (0..classes).map(move |class| logit(answer * classes + class));
    (0..answers).map(|answer| row(answer).collect()).collect()
}

/// These logits in `f64`, with the batch that they answer: each example asks for one, and is of one token, its label.
pub(crate) fn some_batch(logits: &[Vec<f64>], labels: &[usize]) -> (Tensor<Cpu, 2>, Batch<Cpu>) {
    let device = Default::default();
    let dims = [logits.len(), logits[0].len()];
    let logits = Tensor::from_data(
        TensorData::new(logits.concat(), dims),
        (&device, DType::F64),
    );
    let tokens = labels.iter().map(|label| *label as i32).collect();
    let labels = TensorData::new(tokens, [labels.len()]);
    let labels = Tensor::<Cpu, 1, Int>::from_data(labels, &device);
    let batch = Batch {
        input: Sequences::Tokens(labels.clone().unsqueeze_dim(1)),
        lengths: vec![1; logits.dims()[0]],
        readout: Readout::Mean,
        labels,
    };
    (logits, batch)
}

pub(crate) fn scalar(tensor: Tensor<Flex, 1>) -> f64 {
    let values: Vec<f64> = tensor.into_data().iter().collect();
    assert_eq!(values.len(), 1, "a loss is one number");
    values[0]
}

fn loss(objective: &dyn Objective<Cpu>, logits: &[Vec<f64>], labels: &[usize]) -> f64 {
    let (logits, batch) = some_batch(logits, labels);
    scalar(objective.loss(logits, &batch).loss.inner())
}

fn gradient(objective: &dyn Objective<Cpu>, logits: &[Vec<f64>], labels: &[usize]) -> Vec<f64> {
    let (logits, batch) = some_batch(logits, labels);
    let logits = logits.require_grad();
    let gradients = objective.loss(logits.clone(), &batch).loss.backward();
    let gradient = logits.grad(&gradients).expect("a loss of the logits");
    gradient.into_data().iter().collect()
}

fn close(got: f64, want: f64, tolerance: f64, law: &str) {
    let difference = (got - want).abs();
    // False for what is not a number.
    assert!(
        difference <= tolerance * want.abs().max(1.0),
        "{law}: {got:e} against {want:e}"
    );
}

fn gradients_are_central_differences(objective: &dyn Objective<Cpu>) {
    let logits = some_logits(LABELS.len(), CLASSES);
    let gradient = gradient(objective, &logits, &LABELS);
    // About the third root of the smallest number that matters beside one.
    let step = f64::EPSILON.cbrt();
    for (at, derivative) in gradient.into_iter().enumerate() {
        let moved = |by: f64| {
            let mut logits = logits.clone();
            logits[at / CLASSES][at % CLASSES] += by;
            loss(objective, &logits, &LABELS)
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step);
        // Two thirds of the digits are left.
        close(derivative, difference, 20.0 * step * step, "gradient");
    }
}

fn loss_and_gradients_of_extreme_logits_are_finite(objective: &dyn Objective<Cpu>) {
    // Certain and right, certain and wrong, no idea; in f64 the exponential of none of these exists.
    let logits = [vec![1e4, 0.0, -1e4], vec![1e4, 0.0, -1e4], vec![-1e4; 3]];
    for labels in [[0, 2, 1], [1, 0, 2]] {
        let loss = loss(objective, &logits, &labels);
        assert!(loss.is_finite(), "{loss}");
        let gradient = gradient(objective, &logits, &labels);
        assert!(
            gradient.iter().all(|value| value.is_finite()),
            "{gradient:?}"
        );
    }
}

fn loss_is_a_mean_over_answers(objective: &dyn Objective<Cpu>) {
    let logits = some_logits(LABELS.len(), CLASSES);
    let whole = loss(objective, &logits, &LABELS);
    for size in [1, 2, 3] {
        let parts = logits.chunks(size).zip(LABELS.chunks(size));
        let losses: Vec<f64> = parts
            .map(|(logits, labels)| loss(objective, logits, labels))
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        close(mean, whole, ROUNDING, "mean of parts");
    }
}

fn what_all_logits_of_an_answer_have_in_common_does_not_matter(objective: &dyn Objective<Cpu>) {
    let mut logits = some_logits(LABELS.len(), CLASSES);
    let before = loss(objective, &logits, &LABELS);
    for (answer, row) in logits.iter_mut().enumerate() {
        row.iter_mut()
            .for_each(|logit| *logit += 2.0 * answer as f64 - 3.0);
    }
    // What is added takes digits off the logits.
    close(
        loss(objective, &logits, &LABELS),
        before,
        10.0 * ROUNDING,
        "shift",
    );
}

fn the_order_of_the_answers_does_not_matter(objective: &dyn Objective<Cpu>) {
    let (mut logits, mut labels) = (some_logits(LABELS.len(), CLASSES), LABELS);
    let before = loss(objective, &logits, &labels);
    logits.rotate_left(2);
    labels.rotate_left(2);
    close(loss(objective, &logits, &labels), before, ROUNDING, "order");
}

fn the_cross_entropy_beside_it_is_the_plain_one(objective: &dyn Objective<Cpu>) {
    let (logits, batch) = some_batch(&some_logits(LABELS.len(), CLASSES), &LABELS);
    let plain = cross_entropy(logits.clone().inner(), batch.labels.clone().inner());
    let StepLoss { cross_entropy, .. } = objective.loss(logits, &batch);
    close(
        scalar(cross_entropy),
        scalar(plain),
        ROUNDING,
        "cross-entropy",
    );
}

fn added_gradients_belong_to_parameters_and_are_added(objective: &dyn Objective<Cpu>) {
    for model in models() {
        let (logits, _) = model.forward_train(tokens(), Readout::Mean, None);
        let before = NamedGradients::take(&model, logits.sum().backward());
        let mut after = before.clone();
        objective.add_gradients(&model, &mut after);
        assert!(
            after.names().eq(before.names()),
            "{:?}",
            after.names().collect::<Vec<_>>()
        );
        let mut added = before.clone();
        added.scale(0.0);
        objective.add_gradients(&model, &mut added);
        added.add_all(before);
        for ((name, got), want) in after.flat().into_iter().zip(added.flat().into_values()) {
            for (got, want) in got.into_iter().zip(want) {
                // In f32, added up in another order.
                close(got, want, 1e-6, name);
            }
        }
    }
}

fn tokens() -> Sequences<Cpu> {
    let tokens = TensorData::new(vec![0, 3, 1, 2, 4, 4, 0, 1], [2, 4]);
    Sequences::Tokens(Tensor::from_data(tokens, &Default::default()))
}

/// One with every kind of layer.
fn models() -> impl Iterator<Item = Model<Cpu>> {
    LayerKind::ALL.iter().map(|kind| {
        let of_kind = ModelConfig {
            kind: *kind,
            ..ModelConfig::default()
        };
        let architecture = Architecture {
            encoder: Encoder::Embedding { vocabulary: 5 },
            hidden_dim: 32,
            state_dims: vec![4, 2],
            layer: of_kind.layer(),
            head: Head::Classes { classes: 3 },
        };
        Model::init(&architecture, 1, &Default::default())
    })
}
