//! The optimizer's moments of a layer that gets smaller: kept with the rows that stay, or brought into a new basis.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend as BurnBackend;
use ssm_core::{Carry, GradientKind, GradientMap, KeptRows, TrainingBackend};

use crate::config::OptimizerState;
use crate::optimizer::{AdamW, Moments};

/// Does to the moments of the layer at `path` what was done to its parameters.
pub(super) fn carry<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    path: &str,
    carry: Carry,
    treatment: OptimizerState,
) {
    let names = |rows: &[KeptRows]| -> Vec<String> {
        let rows = rows.iter();
        rows.map(|rows| format!("{path}.{}", rows.name)).collect()
    };
    match (carry, treatment) {
        (Carry::Keep(rows), OptimizerState::Reset) => reset(optimizer, &names(&rows)),
        // What stays keeps its basis, and with it its moments: transformed and sliced are the same here.
        (Carry::Keep(rows), _) => select(optimizer, &names(&rows), &rows),
        (Carry::Change(change), treatment) => {
            let names = names(&change.first);
            match (treatment, &change.map) {
                (OptimizerState::Slice, _) => select(optimizer, &names, &change.first),
                (OptimizerState::Transform, Some(map)) => transform(optimizer, &names, map),
                // Without a map they are forgotten even where they were to be transformed.
                (OptimizerState::Reset, _) | (OptimizerState::Transform, None) => {
                    reset(optimizer, &names);
                }
            }
        }
        (Carry::Forget(parameters), _) => {
            let parameters = parameters.into_iter();
            let names = parameters.map(|name| format!("{path}.{name}"));
            reset(optimizer, &names.collect::<Vec<_>>());
        }
    }
}

fn reset<B: TrainingBackend>(optimizer: &mut AdamW<B>, names: &[String]) {
    names.iter().for_each(|name| optimizer.reset(name));
}

fn select<B: TrainingBackend>(optimizer: &mut AdamW<B>, names: &[String], rows: &[KeptRows]) {
    for (name, rows) in names.iter().zip(rows) {
        if let Some(moments) = optimizer.moments_mut(name) {
            moments.first = rows.select(moments.first.clone());
            moments.second = rows.select(moments.second.clone());
        }
    }
}

fn transform<B: TrainingBackend>(optimizer: &mut AdamW<B>, names: &[String], map: &GradientMap) {
    for kind in [GradientKind::Gradient, GradientKind::Squared] {
        let mut read = |name: &String| -> Option<Vec<f64>> {
            let moments = optimizer.moments_mut(name)?;
            Some(slot(moments, kind).to_data().iter().collect())
        };
        let Some(old) = names.iter().map(&mut read).collect::<Option<Vec<_>>>() else {
            // No gradient has reached this layer yet (its parameters are frozen): nothing to carry.
            return;
        };
        for (name, values) in names.iter().zip(map(kind, old)) {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            if let Some(moments) = optimizer.moments_mut(name) {
                let slot = slot(moments, kind);
                *slot = Tensor::from_floats(values.as_slice(), &slot.device());
            }
        }
    }
}

fn slot<B: BurnBackend>(moments: &mut Moments<B>, kind: GradientKind) -> &mut Tensor<B, 1> {
    match kind {
        GradientKind::Gradient => &mut moments.first,
        GradientKind::Squared => &mut moments.second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::optimizer::{AdamWConfig, LearningRates};
    use crate::step::train_step;
    use burn::backend::{Autodiff, Flex};
    use burn::module::Param;
    use burn::tensor::{Int, TensorData};
    use hsv::Selection;
    use ssm_core::{
        Architecture, Encoder, GramianEstimate, Head, Layer, LayerSettings, LruInit, Method, Model,
        Readout, Realization, Reduced, Reduction, Sequences,
    };

    type Cpu = Autodiff<Flex>;

    /// Five states, two of which nothing reaches: without them the model is the same.
    fn padded() -> Model<Cpu> {
        let init = LruInit {
            r_min: 0.7,
            r_max: 0.95,
            max_phase: 6.0,
        };
        let architecture = Architecture {
            encoder: Encoder::Linear { channels: 1 },
            hidden_dim: 3,
            state_dims: vec![5],
            layer: LayerSettings::Lru(init),
            head: Head::Classes { classes: 4 },
        };
        let mut model = Model::init(&architecture, 3, &Default::default());
        let Layer::Lru(lru) = &mut model.blocks[0].layer else {
            unreachable!("it was asked for");
        };
        let mask = [1.0, 0.0, 1.0, 0.0, 1.0].map(|keep: f32| [keep; 3]);
        let mask = Tensor::<Cpu, 2>::from_floats(mask, &Default::default());
        for matrix in [&mut lru.B_re, &mut lru.B_im] {
            *matrix = Param::from_tensor((matrix.val() * mask.clone()).detach());
        }
        model
    }

    /// Its layer by balanced truncation.
    fn reduced(model: &Model<Cpu>, order: usize) -> Reduced<Layer<Cpu>> {
        let method = Method {
            realization: Realization::Complex,
            reduction: Reduction::Balanced,
            selection: Selection::Largest,
            estimate: GramianEstimate::Empirical,
        };
        let layer = &model.blocks[0].layer;
        let basis = layer.rank(None, method).unwrap();
        layer.reduce(&basis, order, method).unwrap()
    }

    /// Moments after a few batches that change nothing but them.
    fn trained(model: &Model<Cpu>) -> AdamW<Cpu> {
        let mut model = model.clone();
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
                lengths: vec![30; 6],
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
        let mut sliced = optimizer.clone();
        let path = model.layer_path(0);
        let cut = || reduced(&model, 3);
        carry(
            &mut optimizer,
            &path,
            cut().carry,
            OptimizerState::Transform,
        );
        carry(&mut sliced, &path, cut().carry, OptimizerState::Slice);

        model.blocks[0].layer = cut().layer;
        let mut own = trained(&model);
        let (mut carried, mut cut) = (0.0_f64, 0.0_f64);
        let parameters = [
            "nu_log",
            "theta_log",
            "gamma_log",
            "B_re",
            "B_im",
            "C_re",
            "C_im",
        ];
        for name in parameters.map(|name| format!("{path}.{name}")) {
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
        let cut = || reduced(&model, 2);
        let path = model.layer_path(0);
        let before = first_moment(&mut optimizer, "blocks.0.lru.C_im");
        let mut sliced = optimizer.clone();
        carry(&mut sliced, &path, cut().carry, OptimizerState::Slice);
        let after = first_moment(&mut sliced, "blocks.0.lru.C_im");
        let want: Vec<f64> = before.chunks(5).flat_map(|row| row[..2].to_vec()).collect();
        assert_eq!(after, want);
        // Nothing to transform by is nothing kept.
        for treatment in [OptimizerState::Reset, OptimizerState::Transform] {
            let mut optimizer = optimizer.clone();
            let Carry::Change(mut change) = cut().carry else {
                panic!("a balanced basis is another one");
            };
            change.map = None;
            carry(&mut optimizer, &path, Carry::Change(change), treatment);
            assert!(optimizer.moments_mut("blocks.0.lru.C_im").is_none());
            assert!(optimizer.moments_mut("blocks.0.lru.D").is_some());
        }
    }
}
