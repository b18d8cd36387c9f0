//! Weights of a layer in a model, by name.

use burn::module::Module;
use ssm_core::{Architecture, Encoder, Head, Layer, Model, NamedTensor, NamedTensors};

use crate::{
    differences::Cpu,
    parameters,
    subject::{HIDDEN, STATE, Subject, others},
};

/// Models of two layers, the first of them in every form.
fn models(subject: &Subject) -> impl Iterator<Item = (String, Model<Cpu>)> {
    let architecture = Architecture {
        encoder: Encoder::Linear { channels: 2 },
        hidden_dim: HIDDEN,
        state_dims: vec![STATE, STATE - 2],
        layer: subject.settings.clone(),
        head: Head::Classes { classes: 3 },
    };
    let model = Model::<Cpu>::init(&architecture, 1, &Default::default());
    assert_eq!(model.sizes(), architecture.sizes());
    subject.forms().into_iter().map(move |(name, layer)| {
        let mut model = model.clone();
        model.blocks[0].layer = layer;
        (name, model)
    })
}

fn loaded(tensors: NamedTensors) -> Result<Model<Cpu>, String> {
    let model = Model::from_tensors(tensors, &Default::default());
    model.map_err(|error| error.to_string())
}

pub(crate) fn a_model_comes_back_from_its_tensors(subject: &Subject) {
    for (name, model) in models(subject) {
        let tensors = model.to_tensors();
        let again = loaded(tensors.clone()).unwrap();
        assert_eq!(again.to_tensors(), tensors, "{name}");
        assert_eq!(again.sizes(), model.sizes(), "{name}");
        assert_eq!(again.kind(), subject.kind());
        let layer = parameters::of(&again.blocks[0].layer);
        assert_eq!(layer, parameters::of(&model.blocks[0].layer), "{name}");
        for (parameter, tensor) in layer.0 {
            let published = format!("{}.{parameter}", model.layer_path(0));
            assert_eq!(tensors.0[&published], tensor, "{name}");
        }
    }
}

pub(crate) fn a_state_has_as_many_parameters_as_it_says(subject: &Subject) {
    for (name, layer) in subject.forms() {
        let states = layer.state_dim();
        let of = |layer: &Layer<Cpu>| layer.num_params();
        let smaller = layer.selected(&(1..states).collect::<Vec<_>>());
        let said = layer.parameters_per_state();
        assert_eq!(of(&layer) - of(&smaller), said, "{name}");
        assert_eq!(smaller.parameters_per_state(), said, "{name}");
    }
    let lost = parameters::lost(&subject.layer(), &others(&[0, 3]));
    let lost: usize = lost.values().map(Vec::len).sum();
    assert_eq!(lost, 2 * subject.layer().parameters_per_state());
}

/// A tensor in every state that no model can have.
fn damages(tensor: &NamedTensor) -> Vec<(&'static str, Option<NamedTensor>)> {
    let NamedTensor { shape, values } = tensor.clone();
    let of = |shape: Vec<usize>, values: Vec<f32>| Some(NamedTensor { shape, values });
    let mut longer = shape.clone();
    longer.push(1);
    let mut damages = vec![
        ("missing", None),
        ("of too high a rank", of(longer, values.clone())),
        ("of rank zero", of(vec![], vec![0.0])),
        (
            "without all of its values",
            of(shape.clone(), values[1..].to_vec()),
        ),
    ];
    for axis in 0..shape.len() {
        let mut empty = shape.clone();
        empty[axis] = 0;
        damages.push(("empty", of(empty, vec![])));
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut values = values.clone();
        *values.last_mut().unwrap() = wrong;
        damages.push(("not finite", of(shape.clone(), values)));
    }
    damages
}

pub(crate) fn an_error_names_the_tensor(subject: &Subject) {
    for (form, model) in models(subject) {
        let tensors = model.to_tensors();
        let prefix = format!("{}.", model.layer_path(0));
        let of_layer = tensors.0.iter();
        let of_layer = of_layer.filter(|(name, _)| name.starts_with(&prefix));
        for (name, tensor) in of_layer {
            for (damage, tensor) in damages(tensor) {
                let mut broken = tensors.clone();
                match tensor {
                    Some(tensor) => broken.0.insert(name.clone(), tensor),
                    None => broken.0.remove(name),
                };
                let error = loaded(broken).expect_err(name);
                // Without a tensor that not all models have, it is the same one of the other layer that is too much.
                let named = match damage {
                    "missing" => name[prefix.len()..].to_owned(),
                    _ => format!("`{name}`"),
                };
                assert!(error.contains(&named), "{form}, {name} {damage}: {error}");
            }
        }
        let mut foreign = tensors.clone();
        let name = format!("{prefix}unheard_of");
        foreign
            .0
            .insert(name.clone(), tensors.0["linear_layer.bias"].clone());
        let error = loaded(foreign).unwrap_err();
        assert!(error.contains(&name), "{form}: {error}");
    }
}
