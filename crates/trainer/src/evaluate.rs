//! Loss and accuracy of a model on a whole set, on the backend without automatic differentiation.

use std::fmt;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{ElementConversion, Int, Tensor};
use datasets::{Dataset, DatasetError, SequenceSet};
use serde::{Deserialize, Serialize};
use ssm_core::{Backend, Model, NamedTensors, TrainingBackend, WeightsError};
use thiserror::Error;

use crate::backend::{BackendError, Job, dispatch};
use crate::batch::batch;
use crate::data;
use crate::objective::cross_entropy;
use crate::run_dir::{RunDir, RunDirError};
use crate::weights::{WeightsFileError, read_tensors};

/// Mean loss and share of correct answers, over all the answers that the examples of a set ask for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of answers whose largest logit is the right one, in `[0, 1]`.
    pub accuracy: f64,
}

/// Number of answers whose largest logit is the right one.
pub fn correct<B: BurnBackend>(
    logits: Tensor<B, 2>,
    labels: Tensor<B, 1, Int>,
) -> Tensor<B, 1, Int> {
    let [answers, _] = logits.dims();
    logits
        .argmax(1)
        .reshape([answers])
        .equal(labels)
        .int()
        .sum()
}

/// Scores of `model` on `set`, which is not empty.
pub fn evaluate<B: Backend>(
    model: &Model<B>,
    set: &SequenceSet,
    batch_size: usize,
    device: &B::Device,
) -> Scores {
    let (mut loss, mut right, mut answers) = (0.0, 0_i64, 0);
    for start in (0..set.len()).step_by(batch_size) {
        let end = (start + batch_size).min(set.len());
        let batch = batch::<B>(set, start..end, device);
        let asked = batch.answers();
        let logits = model.forward(batch.input, batch.readout);
        let mean: f64 = cross_entropy(logits.clone(), batch.labels.clone())
            .into_scalar()
            .elem();
        loss += mean * asked as f64;
        right += correct(logits, batch.labels).into_scalar().elem::<i64>();
        answers += asked;
    }
    Scores {
        loss: loss / answers as f64,
        accuracy: right as f64 / answers as f64,
    }
}

/// What `eval` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunScores {
    /// The weights that were evaluated.
    pub weights: PathBuf,
    /// State dimension of every layer.
    pub state_dims: Vec<usize>,
    /// On the validation set.
    pub validation: Scores,
    /// On the test set.
    pub test: Scores,
}

impl fmt::Display for RunScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  state dims {:?}",
            self.weights.display(),
            self.state_dims
        )?;
        for (name, scores) in [("validation", self.validation), ("test", self.test)] {
            let percent = 100.0 * scores.accuracy;
            write!(
                f,
                "\n{name:<10}  accuracy {percent:.2} %  loss {:.4}",
                scores.loss
            )?;
        }
        Ok(())
    }
}

/// Why a run was not evaluated.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The folder holds no run.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The run has not been evaluated yet, or not since its last cut.
    #[error(
        "{} has no result yet: no evaluation since it began or was last cut; go on with it by `train --resume {}`",
        run.display(), run.display()
    )]
    NoResult {
        /// The run.
        run: PathBuf,
    },
    /// The data set cannot be loaded.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The weights cannot be read.
    #[error(transparent)]
    File(#[from] WeightsFileError),
    /// The weights are not a model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The backend is not compiled in, or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Scores the result of the run in `folder`, its best weights since the last cut, on its validation and test sets.
pub fn evaluate_run(folder: &Path, data_dir: Option<PathBuf>) -> Result<RunScores, EvaluateError> {
    let (run, mut config) = RunDir::open(folder)?;
    config.data.dir = data_dir.or(config.data.dir);
    let weights = run.best_weights();
    if !weights.exists() {
        return Err(EvaluateError::NoResult {
            run: folder.to_path_buf(),
        });
    }
    let job = EvaluateRun {
        data: data::load(&config)?,
        tensors: read_tensors(&weights)?,
        batch_size: config.training.batch_size,
    };
    let (state_dims, [validation, test]) = dispatch(config.run.backend, job)??;
    Ok(RunScores {
        weights,
        state_dims,
        validation,
        test,
    })
}

struct EvaluateRun {
    data: Dataset,
    tensors: NamedTensors,
    batch_size: usize,
}

impl Job for EvaluateRun {
    type Output = Result<(Vec<usize>, [Scores; 2]), WeightsError>;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> Self::Output {
        let model = Model::<B::Inner>::from_tensors(self.tensors, device)?;
        let scores = [&self.data.validation, &self.data.test]
            .map(|set| evaluate(&model, set, self.batch_size, device));
        Ok((model.state_dims(), scores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use datasets::{Content, Shape, Target};
    use ssm_core::{Architecture, Encoder, Head, LayerSettings, LruInit};

    const TEXTS: Shape = Shape {
        sequences: 1,
        length: 100,
        channels: 1,
        classes: 3,
        content: Content::Tokens { vocabulary: 7 },
        target: Target::Class,
    };

    fn model() -> Model<Flex> {
        let architecture = Architecture {
            encoder: Encoder::Embedding { vocabulary: 7 },
            hidden_dim: 4,
            state_dims: vec![6, 3],
            layer: LayerSettings::Lru(LruInit {
                r_min: 0.5,
                r_max: 0.99,
                max_phase: 6.0,
            }),
            head: Head::Classes { classes: 3 },
        };
        Model::init(&architecture, 1, &Default::default())
    }

    /// Texts of these lengths, with labels as they come.
    fn texts(shape: Shape, lengths: &[usize]) -> SequenceSet {
        let tokens = (0..lengths.iter().sum()).map(|step: usize| (step * step % 7) as u8);
        let labels = (0..lengths.len() * shape.labels()).map(|at| (at % 3) as u16);
        let tokens: Vec<u8> = tokens.collect();
        SequenceSet::with_lengths(shape, tokens, lengths, labels.collect()).unwrap()
    }

    #[test]
    fn scores_do_not_depend_on_what_examples_are_batched_with() {
        let copies = Shape {
            target: Target::LastSteps { count: 9 },
            ..TEXTS
        };
        for set in [
            texts(TEXTS, &[1, 90, 13, 64, 65, 100, 7]),
            texts(copies, &[100; 7]),
        ] {
            let scores = |batch_size| evaluate(&model(), &set, batch_size, &Default::default());
            let alone = scores(1);
            assert!(alone.accuracy > 0.0 && alone.accuracy < 1.0, "{alone:?}");
            for batch_size in [2, 5, 7, 100] {
                let together = scores(batch_size);
                assert_eq!(together.accuracy, alone.accuracy);
                // Sums of a few hundred steps in f32.
                let difference = (together.loss - alone.loss).abs();
                assert!(difference < 1e-5 * alone.loss, "{together:?} {alone:?}");
            }
        }
    }

    #[test]
    fn an_answer_is_right_when_its_largest_logit_is() {
        let device = Default::default();
        let logits = Tensor::<Flex, 2>::from_floats([[0.0, 200.0], [0.0, 200.0]], &device);
        let labels = Tensor::<Flex, 1, Int>::from_ints([1, 0], &device);
        assert_eq!(correct(logits, labels).into_scalar().elem::<i64>(), 1);
    }
}
