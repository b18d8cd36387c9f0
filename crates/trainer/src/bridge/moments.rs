//! The optimizer's moments of a layer that gets smaller: kept with the rows that stay, or brought into a new basis.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend as BurnBackend;
use ssm_core::{GradientKind, KeptRows, Lru, LruGradient, Reducible, StateMaps, TrainingBackend};

use crate::config::OptimizerState;
use crate::optimizer::{AdamW, Moments};

/// The parameters whose shape a cut changes.
const STATE_PARAMETERS: [&str; 7] = [
    "nu_log",
    "theta_log",
    "gamma_log",
    "B_re",
    "B_im",
    "C_re",
    "C_im",
];

/// A layer and its successor.
pub(super) struct Succession<'a, B: TrainingBackend> {
    pub path: &'a str,
    pub layer: &'a Lru<B>,
    pub smaller: &'a Lru<B>,
    pub maps: Option<&'a StateMaps>,
}

impl<B: TrainingBackend> Succession<'_, B> {
    /// Carries the moments over. Without maps they are reset even where they were to be transformed.
    pub(super) fn carry(&self, optimizer: &mut AdamW<B>, treatment: OptimizerState) {
        let (layer, smaller) = (self.layer, self.smaller);
        match (treatment, self.maps) {
            (OptimizerState::Transform, Some(maps)) => self.rewrite(optimizer, |old, kind| {
                old.after_reduction(kind, layer, smaller, maps)
            }),
            (OptimizerState::Slice, _) => self.rewrite(optimizer, |old, _| {
                first_entries(old, layer.state_dim(), smaller.state_dim())
            }),
            (OptimizerState::Reset, _) | (OptimizerState::Transform, None) => {
                self.names().iter().for_each(|name| optimizer.reset(name));
            }
        }
    }

    fn names(&self) -> [String; 7] {
        STATE_PARAMETERS.map(|name| format!("{}.{name}", self.path))
    }

    /// Replaces the moments of both kinds by what `new` makes of them.
    fn rewrite(
        &self,
        optimizer: &mut AdamW<B>,
        new: impl Fn(LruGradient, GradientKind) -> LruGradient,
    ) {
        let names = self.names();
        for kind in [GradientKind::Gradient, GradientKind::Squared] {
            let Some(old) = gather(optimizer, &names, kind) else {
                // No gradient has reached this layer yet (its parameters are frozen): nothing to carry.
                return;
            };
            for (name, values) in names.iter().zip(fields(new(old, kind))) {
                let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
                if let Some(moments) = optimizer.moments_mut(name) {
                    let slot = slot(moments, kind);
                    *slot = Tensor::from_floats(values.as_slice(), &slot.device());
                }
            }
        }
    }
}

/// The moments of a layer of which some rows stay. These keep their basis, and with it their moments: transformed and
/// sliced are the same here.
pub(super) fn keep_rows<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    path: &str,
    parts: &[KeptRows],
    treatment: OptimizerState,
) {
    for part in parts {
        let name = format!("{path}.{}", part.name);
        match (treatment, optimizer.moments_mut(&name)) {
            (OptimizerState::Reset, _) => optimizer.reset(&name),
            (_, Some(moments)) => {
                moments.first = part.select(moments.first.clone());
                moments.second = part.select(moments.second.clone());
            }
            (_, None) => {}
        }
    }
}

/// What belongs to the first `order` of `states` states.
fn first_entries(moments: LruGradient, states: usize, order: usize) -> LruGradient {
    let rows = |values: Vec<f64>| values[..values.len() / states * order].to_vec();
    let columns = |values: Vec<f64>| {
        let rows = values.chunks_exact(states);
        rows.flat_map(|row| row[..order].to_vec()).collect()
    };
    LruGradient {
        nu_log: rows(moments.nu_log),
        theta_log: rows(moments.theta_log),
        gamma_log: rows(moments.gamma_log),
        B_re: rows(moments.B_re),
        B_im: rows(moments.B_im),
        C_re: columns(moments.C_re),
        C_im: columns(moments.C_im),
    }
}

fn slot<B: BurnBackend>(moments: &mut Moments<B>, kind: GradientKind) -> &mut Tensor<B, 1> {
    match kind {
        GradientKind::Gradient => &mut moments.first,
        GradientKind::Squared => &mut moments.second,
    }
}

fn gather<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    names: &[String; 7],
    kind: GradientKind,
) -> Option<LruGradient> {
    let mut read = |name: &String| -> Option<Vec<f64>> {
        let moments = optimizer.moments_mut(name)?;
        Some(slot(moments, kind).to_data().iter().collect())
    };
    let [nu_log, theta_log, gamma_log, b_re, b_im, c_re, c_im] = names;
    Some(LruGradient {
        nu_log: read(nu_log)?,
        theta_log: read(theta_log)?,
        gamma_log: read(gamma_log)?,
        B_re: read(b_re)?,
        B_im: read(b_im)?,
        C_re: read(c_re)?,
        C_im: read(c_im)?,
    })
}

/// The fields in the order of [`STATE_PARAMETERS`].
fn fields(gradient: LruGradient) -> [Vec<f64>; 7] {
    [
        gradient.nu_log,
        gradient.theta_log,
        gradient.gamma_log,
        gradient.B_re,
        gradient.B_im,
        gradient.C_re,
        gradient.C_im,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Batch;
    use crate::optimizer::{AdamWConfig, LearningRates};
    use crate::step::train_step;
    use burn::backend::{Autodiff, Flex};
    use burn::module::Param;
    use burn::tensor::{Int, TensorData};
    use hsv::LinearSystem;
    use ssm_core::{Classifier, ClassifierConfig, Encoder, LruInit, Model, Readout, Sequences};

    type Cpu = Autodiff<Flex>;

    /// Five states, two of which nothing reaches: without them the model is the same.
    fn padded() -> Classifier<Cpu> {
        let config = ClassifierConfig {
            encoder: Encoder::Linear { channels: 1 },
            hidden_dim: 3,
            state_dims: vec![5],
            classes: 4,
        };
        let init = LruInit {
            r_min: 0.7,
            r_max: 0.95,
            max_phase: 6.0,
        };
        let mut model = Classifier::init(&config, init, 3, &Default::default());
        let lru = &mut model.blocks[0].lru;
        let mask = [1.0, 0.0, 1.0, 0.0, 1.0].map(|keep: f32| [keep; 3]);
        let mask = Tensor::<Cpu, 2>::from_floats(mask, &Default::default());
        for matrix in [&mut lru.B_re, &mut lru.B_im] {
            *matrix = Param::from_tensor((matrix.val() * mask.clone()).detach());
        }
        model
    }

    /// Moments after a few batches that change nothing but them.
    fn trained(model: &Classifier<Cpu>) -> AdamW<Cpu> {
        let mut model = Model::Lru(model.clone());
        let still = LearningRates {
            main: 0.0,
            recurrent: 0.0,
        };
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.0 });
        for step in 0..4_u8 {
            let device = Default::default();
            // A chirp, not the backend's generator: tests beside this one would draw from that too.
            let chirp = |i: u16| (0.37 * f32::from(i).powi(2) + f32::from(step)).sin();
            let values = (0..180).map(chirp).collect();
            let input = Tensor::<Cpu, 3>::from_data(TensorData::new(values, [6, 30, 1]), &device);
            let labels = TensorData::new(vec![0, 1, 2, 3, i32::from(step), 0], [6]);
            let batch = Batch {
                input: Sequences::Features(input),
                readout: Readout::Mean,
                labels: Tensor::<Cpu, 1, Int>::from_data(labels, &device),
            };
            train_step(&mut model, &mut optimizer, batch, None, still);
        }
        optimizer
    }

    fn first_moment(optimizer: &mut AdamW<Cpu>, name: &str) -> Vec<f64> {
        let moments = optimizer.moments_mut(name).unwrap();
        moments.first.to_data().iter().collect()
    }

    #[test]
    fn a_transformed_moment_is_the_average_gradient_of_the_smaller_layer() {
        let mut model = padded();
        let mut optimizer = trained(&model);
        let layer = model.blocks[0].lru.clone();
        let hankel = layer.to_system().unwrap().hankel().unwrap();
        let form = hankel
            .balanced_truncation(3)
            .unwrap()
            .diagonalize()
            .unwrap();
        let smaller = layer.reduced(&form.system).unwrap();
        let path = "blocks.0.lru";
        let succession = Succession {
            path,
            layer: &layer,
            smaller: &smaller,
            maps: Some(&StateMaps::from(&form)),
        };
        let mut sliced = optimizer.clone();
        succession.carry(&mut optimizer, OptimizerState::Transform);
        succession.carry(&mut sliced, OptimizerState::Slice);

        model.blocks[0].lru = smaller;
        let mut own = trained(&model);
        let (mut carried, mut cut) = (0.0_f64, 0.0_f64);
        for name in STATE_PARAMETERS.map(|name| format!("{path}.{name}")) {
            let want = first_moment(&mut own, &name);
            let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let distance = |got: Vec<f64>| {
                let difference: Vec<f64> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
                norm(&difference) / norm(&want)
            };
            carried = carried.max(distance(first_moment(&mut optimizer, &name)));
            cut = cut.max(distance(first_moment(&mut sliced, &name)));
        }
        // Averages of f32 gradients, each a sum over thirty steps and six examples.
        assert!(carried < 1e-3, "{carried:e}");
        assert!(cut > 0.1, "a slice belongs to another basis: {cut:e}");
    }

    #[test]
    fn a_reset_forgets_and_a_slice_takes_the_first_entries() {
        let model = padded();
        let mut optimizer = trained(&model);
        let layer = model.blocks[0].lru.clone();
        let system = layer.to_system().unwrap();
        let form = system.hankel().unwrap().balanced_truncation(2).unwrap();
        let smaller = layer.reduced(&form.diagonalize().unwrap().system).unwrap();
        let succession = Succession {
            path: "blocks.0.lru",
            layer: &layer,
            smaller: &smaller,
            maps: None,
        };
        let before = first_moment(&mut optimizer, "blocks.0.lru.C_im");
        let mut sliced = optimizer.clone();
        succession.carry(&mut sliced, OptimizerState::Slice);
        let after = first_moment(&mut sliced, "blocks.0.lru.C_im");
        let want: Vec<f64> = before.chunks(5).flat_map(|row| row[..2].to_vec()).collect();
        assert_eq!(after, want);
        // Nothing to transform by is nothing kept.
        for treatment in [OptimizerState::Reset, OptimizerState::Transform] {
            let mut optimizer = optimizer.clone();
            succession.carry(&mut optimizer, treatment);
            assert!(optimizer.moments_mut("blocks.0.lru.C_im").is_none());
            assert!(optimizer.moments_mut("blocks.0.lru.D").is_some());
        }
    }
}
