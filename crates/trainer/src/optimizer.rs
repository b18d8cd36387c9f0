//! AdamW with parameter groups, whose state the trainer owns: a cut can carry it into the new basis, a checkpoint can
//! hold it.

mod native;

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use ssm_core::{Group, LayerKind, Model, NamedMapper, NamedTensor, NamedTensors, TrainingBackend};

use crate::gradients::NamedGradients;

/// Decay rates of the moments and the guard against division by zero, as optax has them.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Settings that do not change during a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decoupled weight decay of the parameters outside the recurrence.
    pub weight_decay: f64,
}

impl AdamWConfig {
    fn decay_of(self, group: Group) -> f64 {
        match group {
            Group::Main => self.weight_decay,
            Group::Recurrent => 0.0,
        }
    }
}

/// Learning rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Of the parameters outside the recurrence.
    pub main: f64,
    /// Of the recurrence's parameters, which do not decay.
    pub recurrent: f64,
}

impl LearningRates {
    fn of(self, group: Group) -> f64 {
        match group {
            Group::Main => self.main,
            Group::Recurrent => self.recurrent,
        }
    }
}

/// Moments of one parameter, flattened.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// Updates so far; each parameter counts for itself, so that a reset starts its bias correction anew.
    pub steps: u32,
    /// Average gradient.
    pub first: Tensor<B, 1>,
    /// Average squared gradient.
    pub second: Tensor<B, 1>,
}

/// What one step's update multiplies and adds.
#[derive(Debug, Clone, Copy)]
struct Coefficients {
    /// Shares of the moments that stay.
    betas: [f64; 2],
    /// Added to the root of the second moment.
    epsilon: f64,
    /// Of the direction.
    rate: f64,
    /// Share of the value that decay leaves.
    kept: f64,
}

impl Coefficients {
    /// Of the `step`th update. With m̂ = m / c₁ and v̂ = v / c₂, m̂ / (√v̂ + ε) is (√c₂ / c₁) m / (√v + √c₂ ε): no pass
    /// for a correction.
    fn new(lr: f64, decay: f64, step: u32) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(f64::from(step));
        let root = correction(BETA_2).sqrt();
        Self {
            betas: [BETA_1, BETA_2],
            epsilon: EPSILON * root,
            rate: lr * root / correction(BETA_1),
            kept: 1.0 - lr * decay,
        }
    }
}

/// AdamW: p ← p - lr (m̂ / (√v̂ + ε) + decay p).
///
/// # Source
/// Loshchilov and Hutter (2019), algorithm 2: `LH19`.
#[derive(Debug, Clone)]
pub struct AdamW<B: AutodiffBackend> {
    config: AdamWConfig,
    moments: BTreeMap<String, Moments<B::InnerBackend>>,
}

impl<B: AutodiffBackend> AdamW<B> {
    /// With no moments yet.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            moments: BTreeMap::new(),
        }
    }

    /// One update of every parameter that has a gradient.
    ///
    /// # Panics
    /// When there is a gradient of a parameter that the model has not.
    pub fn step(
        &mut self,
        lr: LearningRates,
        model: Model<B>,
        gradients: NamedGradients<B::InnerBackend>,
    ) -> Model<B>
    where
        B: TrainingBackend,
    {
        let mut update = Update {
            kind: model.kind(),
            optimizer: self,
            gradients,
            lr,
        };
        let model = model.map_named(&mut update);
        let left: Vec<&str> = update.gradients.names().collect();
        assert!(left.is_empty(), "gradients of no parameter: {left:?}");
        model
    }

    /// Moments of the parameter with this path.
    pub fn moments_mut(&mut self, name: &str) -> Option<&mut Moments<B::InnerBackend>> {
        self.moments.get_mut(name)
    }

    /// Forgets the moments of the parameter with this path.
    pub fn reset(&mut self, name: &str) {
        self.moments.remove(name);
    }

    /// The state as tensors `{first,second,steps}.{parameter}`.
    pub fn to_tensors(&self) -> NamedTensors {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            for (kind, tensor) in [("first", &moments.first), ("second", &moments.second)] {
                let values: Vec<f32> = tensor.to_data().iter().collect();
                let shape = vec![values.len()];
                tensors.insert(format!("{kind}.{name}"), NamedTensor { shape, values });
            }
            // Exact up to 2^24, then split: a count of steps must not lose its low bits in f32.
            let values = vec![
                (moments.steps >> 16) as f32,
                (moments.steps & 0xffff) as f32,
            ];
            let shape = vec![2];
            tensors.insert(format!("steps.{name}"), NamedTensor { shape, values });
        }
        NamedTensors(tensors)
    }

    /// With the moments that [`to_tensors`](Self::to_tensors) gave in place of its own; `None` if a part is missing.
    pub fn with_tensors(self, tensors: &NamedTensors, device: &B::Device) -> Option<Self> {
        let load = |name: String| {
            let values = tensors.0.get(&name)?.values.as_slice();
            Some(Tensor::from_floats(values, device))
        };
        let mut moments = BTreeMap::new();
        for key in tensors.0.keys() {
            let Some(name) = key.strip_prefix("steps.") else {
                continue;
            };
            let [high, low] = tensors.0[key].values[..] else {
                return None;
            };
            moments.insert(
                name.to_string(),
                Moments {
                    steps: ((high as u32) << 16) | low as u32,
                    first: load(format!("first.{name}"))?,
                    second: load(format!("second.{name}"))?,
                },
            );
        }
        (tensors.0.len() == 3 * moments.len()).then_some(Self { moments, ..self })
    }

    /// New value of one flattened parameter.
    fn update(
        &mut self,
        name: &str,
        group: Group,
        lr: LearningRates,
        value: Tensor<B::InnerBackend, 1>,
        gradient: Tensor<B::InnerBackend, 1>,
    ) -> Tensor<B::InnerBackend, 1> {
        let (lr, decay) = (lr.of(group), self.config.decay_of(group));
        // Taken out, so that their memory has one owner.
        let mut moments = self.moments.remove(name).unwrap_or_else(|| Moments {
            steps: 0,
            first: gradient.zeros_like(),
            second: gradient.zeros_like(),
        });
        moments.steps += 1;
        let coefficients = Coefficients::new(lr, decay, moments.steps);
        let mut parameter = Parameter {
            value,
            gradient,
            moments,
        };
        if !native::update(&coefficients, &mut parameter) {
            parameter = plain_update(&coefficients, parameter);
        }
        self.moments.insert(name.to_string(), parameter.moments);
        parameter.value
    }
}

/// A parameter on its way through an update, flattened.
#[derive(Debug, Clone)]
struct Parameter<B: Backend> {
    value: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    moments: Moments<B>,
}

/// The update in tensor operations.
fn plain_update<B: Backend>(coefficients: &Coefficients, parameter: Parameter<B>) -> Parameter<B> {
    let Parameter {
        value,
        gradient,
        mut moments,
    } = parameter;
    let [beta_1, beta_2] = coefficients.betas;
    moments.first = moments.first * beta_1 + gradient.clone() * (1.0 - beta_1);
    moments.second = moments.second * beta_2 + gradient.clone().square() * (1.0 - beta_2);
    let direction = moments.first.clone() / (moments.second.clone().sqrt() + coefficients.epsilon);
    Parameter {
        value: value * coefficients.kept - direction * coefficients.rate,
        gradient,
        moments,
    }
}

struct Update<'a, B: AutodiffBackend> {
    kind: LayerKind,
    optimizer: &'a mut AdamW<B>,
    gradients: NamedGradients<B::InnerBackend>,
    lr: LearningRates,
}

impl<B: AutodiffBackend> NamedMapper<B> for Update<'_, B> {
    fn map<const D: usize>(
        &mut self,
        name: String,
        param: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove(&name) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let value = tensor.inner();
        let shape = value.dims();
        let value = value.flatten(0, D - 1);
        let updated =
            self.optimizer
                .update(&name, self.kind.group_of(&name), self.lr, value, gradient);
        let tensor = Tensor::from_inner(updated.reshape(shape)).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{DType, TensorData};
    use serde_json::Value;

    type Cpu = Autodiff<Flex>;

    fn numbers(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(items) => items.iter().flat_map(numbers).collect(),
            number => vec![number.as_f64().unwrap()],
        }
    }

    fn tensor(values: Vec<f64>) -> Tensor<Flex, 1> {
        let shape = [values.len()];
        Tensor::from_data(
            TensorData::new(values, shape),
            (&Default::default(), DType::F64),
        )
    }

    #[test]
    fn every_step_matches_the_reference_in_both_groups() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../ssm-core/tests/oracles/lru_model.json"
        );
        let oracle: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let weight_decay = oracle["optimizer"]["weight_decay"].as_f64().unwrap();
        let mut optimizer = AdamW::<Cpu>::new(AdamWConfig { weight_decay });
        let mut params = oracle["params"].clone();
        for step in oracle["steps"].as_array().unwrap() {
            let rate = |key: &str| step[key].as_f64().unwrap();
            let lr = LearningRates {
                main: rate("lr_main"),
                recurrent: rate("lr_ssm"),
            };
            for (name, want) in step["params_after"].as_object().unwrap() {
                let value = tensor(numbers(&params[name]));
                let gradient = tensor(numbers(&step["grads"][name]));
                let updated =
                    optimizer.update(name, LayerKind::Lru.group_of(name), lr, value, gradient);
                let updated: Vec<f64> = updated.into_data().iter().collect();
                for (got, want) in updated.iter().zip(numbers(want)) {
                    // The reference corrects its bias in f32.
                    assert!((got - want).abs() < 5e-9, "{name}: {got} against {want}");
                }
            }
            params = step["params_after"].clone();
        }
    }

    #[test]
    fn the_native_update_is_the_plain_one_to_the_bit() {
        // More than a piece, and a rest.
        let values = |seed: u32, scale: f32| {
            let value =
                move |i: u32| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 10_007.0 - 0.5;
            let values: Vec<f32> = (0..40_003).map(|i| scale * value(i)).collect();
            Tensor::<Flex, 1>::from_floats(values.as_slice(), &Default::default())
        };
        let mut fast = Parameter {
            value: values(1, 1.0),
            gradient: values(2, 1e-3),
            moments: Moments {
                steps: 0,
                first: values(0, 0.0),
                second: values(0, 0.0),
            },
        };
        let mut plain = fast.clone();
        for step in 1..4 {
            let coefficients = Coefficients::new(1e-2, 0.1, step);
            assert!(native::update(&coefficients, &mut fast));
            plain = plain_update(&coefficients, plain);
            fast.gradient = values(step + 2, 1e-3);
            plain.gradient = fast.gradient.clone();
        }
        for (fast, plain) in [
            (fast.value, plain.value),
            (fast.moments.first, plain.moments.first),
            (fast.moments.second, plain.moments.second),
        ] {
            assert!(fast.into_data() == plain.into_data());
        }
    }

    #[test]
    fn fading_moments_end_at_zero() {
        let mut optimizer = AdamW::<Cpu>::new(AdamWConfig { weight_decay: 0.0 });
        let lr = LearningRates {
            main: 0.0,
            recurrent: 0.0,
        };
        let tiny = || Tensor::<Flex, 1>::from_floats([1e-18; 3], &Default::default());
        let zero = || tiny() * 0.0;
        let second = |optimizer: &mut AdamW<Cpu>, gradient: Tensor<Flex, 1>| -> f32 {
            optimizer.update("a.b", Group::Main, lr, zero(), gradient);
            let moments = optimizer.moments_mut("a.b").unwrap();
            moments.second.clone().max().into_scalar()
        };
        // 1e-39, a subnormal number, is what a gradient of 1e-18 adds to its average square.
        let flushed = second(&mut optimizer, tiny());
        assert_eq!(flushed > 0.0, !subnormals::CAN_FLUSH, "{flushed:e}");
    }

    #[test]
    fn the_state_survives_the_way_through_tensors() {
        let config = AdamWConfig { weight_decay: 0.0 };
        let mut optimizer = AdamW::<Cpu>::new(config);
        let lr = LearningRates {
            main: 0.1,
            recurrent: 0.1,
        };
        let one = || Tensor::<Flex, 1>::from_floats([1.0, -2.0], &Default::default());
        for _ in 0..3 {
            optimizer.update("a.b", Group::Main, lr, one(), one());
        }
        optimizer.moments_mut("a.b").unwrap().steps = 20_000_003;
        let tensors = optimizer.to_tensors();
        let load =
            |tensors: &_| AdamW::<Cpu>::new(config).with_tensors(tensors, &Default::default());
        let again = load(&tensors).unwrap();
        assert_eq!(again.to_tensors(), tensors);
        assert_eq!(again.moments["a.b"].steps, 20_000_003);
        let mut torn = tensors;
        torn.0.remove("second.a.b");
        assert!(load(&torn).is_none());
    }

    #[test]
    fn rate_and_decay_are_those_of_the_group() {
        let config = AdamWConfig { weight_decay: 0.5 };
        let mut optimizer = AdamW::<Cpu>::new(config);
        let lr = LearningRates {
            main: 0.25,
            recurrent: 0.125,
        };
        let one = || Tensor::<Flex, 1>::from_floats([1.0], &Default::default());
        for (group, want) in [
            // A first step is of the length of the rate.
            (Group::Main, 1.0 - 0.25 - 0.25 * 0.5),
            (Group::Recurrent, 1.0 - 0.125),
        ] {
            let name = format!("{group:?}");
            let updated = optimizer.update(&name, group, lr, one(), one());
            let updated = updated.into_scalar();
            assert!((updated - want).abs() < 1e-6, "{name}: {updated}");
        }
    }
}
