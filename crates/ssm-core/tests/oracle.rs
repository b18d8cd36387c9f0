//! Layer and model against values from independent code.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::f64::consts::TAU;

use std::collections::BTreeMap;

use burn::{
    backend::{Autodiff, Flex},
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        DType, Int, Tensor, TensorData,
        activation::{log_softmax, softmax},
        backend::AutodiffBackend,
    },
};
use serde_json::Value;
use ssm_core::{
    Architecture, Backend, Encoder, Head, LayerSettings, Lru, LruInit, Model, NamedMapper,
    NamedVisitor, Readout, Sequences,
};

type Cpu = Autodiff<Flex>;

fn file(name: &str) -> Value {
    let path = format!("{}/oracles/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Nested arrays of numbers, flattened, and their shape.
fn numbers(value: &Value) -> (Vec<f64>, Vec<usize>) {
    match value {
        Value::Array(items) => {
            let parts: Vec<_> = items.iter().map(numbers).collect();
            let mut shape = vec![items.len()];
            shape.extend(parts.first().map_or(&[][..], |(_, shape)| shape));
            (
                parts.into_iter().flat_map(|(values, _)| values).collect(),
                shape,
            )
        }
        number => (vec![number.as_f64().unwrap()], vec![]),
    }
}

fn tensor<B: Backend, const D: usize>(value: &Value) -> Tensor<B, D> {
    let (values, shape) = numbers(value);
    Tensor::from_data(
        TensorData::new(values, shape),
        (&B::Device::default(), DType::F64),
    )
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

fn assert_close(name: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    let scale = want.iter().fold(1e-3_f64, |m, v| m.max(v.abs()));
    for (k, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{name}[{k}]: {a} against {b}"
        );
    }
}

/// Sets every parameter of a layer to the value of its path, of a model to that of its published name, in `f64`.
struct Set<'a> {
    path: Vec<String>,
    source: &'a BTreeMap<String, Value>,
}

impl<B: Backend> ModuleMapper<B> for Set<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.map(self.path.join("."), param)
    }
}

impl<B: Backend> NamedMapper<B> for Set<'_> {
    fn map<const D: usize>(
        &mut self,
        name: String,
        param: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let tracked = param.is_require_grad();
        let value = tensor(&self.source[&name]);
        Param::initialized(param.id, value).set_require_grad(tracked)
    }
}

/// Gradients of every parameter by its path.
struct Gradients<'a> {
    path: Vec<String>,
    gradients: &'a <Cpu as AutodiffBackend>::Gradients,
    found: BTreeMap<String, Vec<f64>>,
}

impl ModuleVisitor<Cpu> for Gradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Cpu, D>>) {
        self.visit(self.path.join("."), param);
    }
}

impl NamedVisitor<Cpu> for Gradients<'_> {
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<Cpu, D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(name, values(gradient));
        }
    }
}

fn found(
    gradients: &<Cpu as AutodiffBackend>::Gradients,
    visit: impl FnOnce(&mut Gradients<'_>),
) -> BTreeMap<String, Vec<f64>> {
    let mut visitor = Gradients {
        path: vec![],
        gradients,
        found: BTreeMap::new(),
    };
    visit(&mut visitor);
    visitor.found
}

const INIT: LruInit = LruInit {
    r_min: 0.5,
    r_max: 0.9,
    max_phase: TAU,
};

fn seeded() -> rand_chacha::ChaCha8Rng {
    rand::SeedableRng::seed_from_u64(0)
}

#[test]
fn the_layer_and_all_its_gradients_match_the_reference() {
    for case in file("lru_layer.json")["cases"].as_array().unwrap() {
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let source: BTreeMap<String, Value> =
            case.as_object().unwrap().clone().into_iter().collect();
        let layer = Lru::<Cpu>::init(
            size("N"),
            size("H"),
            INIT,
            &mut seeded(),
            &Default::default(),
        );
        let layer = layer.map(&mut Set {
            path: vec![],
            source: &source,
        });
        let x = tensor::<Cpu, 2>(&case["x"])
            .unsqueeze_dim::<3>(0)
            .require_grad();
        let y = layer.forward(x.clone());
        // A few hundred operations in f64 on numbers of order one.
        assert_close("y", &values(y.clone()), &numbers(&case["y"]).0, 1e-12);
        let gradients = y.square().sum().backward();
        let found = found(&gradients, |visitor| layer.visit(visitor));
        for (name, want) in case["grad"].as_object().unwrap() {
            let want = numbers(want).0;
            match name.as_str() {
                "x" => assert_close("x", &values(x.grad(&gradients).unwrap()), &want, 1e-12),
                name => assert_close(name, &found[name], &want, 1e-12),
            }
        }
    }
}

/// The reference's names to the published ones.
fn published(params: &Value) -> BTreeMap<String, Value> {
    let rename = |name: &String| {
        name.replace("encoder.", "linear_encoder.")
            .replace("head.", "linear_layer.")
    };
    params
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (rename(name), value.clone()))
        .collect()
}

fn with_statistics(
    mut params: BTreeMap<String, Value>,
    statistics: &Value,
) -> BTreeMap<String, Value> {
    for (i, block) in statistics.as_array().unwrap().iter().enumerate() {
        for key in ["mean", "var"] {
            params.insert(format!("blocks.{i}.norm.{key}"), block[key].clone());
        }
    }
    params
}

fn model<B: Backend>(source: &BTreeMap<String, Value>) -> Model<B> {
    let architecture = Architecture {
        encoder: Encoder::Linear { channels: 2 },
        hidden_dim: 4,
        state_dims: vec![3, 3],
        layer: LayerSettings::Lru(INIT),
        head: Head::Classes { classes: 3 },
    };
    Model::init(&architecture, 0, &Default::default()).map_named(&mut Set {
        path: vec![],
        source,
    })
}

#[test]
fn loss_gradients_and_batch_statistics_of_the_model_match_the_reference() {
    let oracle = file("lru_model.json");
    let step = &oracle["steps"][0];
    // Statistics of the past do not enter; any will do.
    let source = with_statistics(published(&oracle["params"]), &step["batch_norm_after"]);
    let model = model::<Cpu>(&source);
    let x = Sequences::Features(tensor::<Cpu, 3>(&oracle["X"]));
    let (logits, statistics) = model.forward_train(x, Readout::Mean, None);
    let targets = tensor::<Cpu, 2>(&oracle["Y_one_hot"]);
    let batch = targets.dims()[0] as f64;
    let loss = (log_softmax(logits, 1) * targets).sum() / -batch;
    // The reference adds 1e-8 to probabilities of about 0.01 to 1 inside the logarithm.
    assert_close(
        "loss",
        &values(loss.clone()),
        &[step["loss"].as_f64().unwrap()],
        1e-6,
    );
    for (i, statistics) in statistics.into_iter().enumerate() {
        let (mean, var) = statistics.unwrap();
        let want = &step["batch_norm_after"][i];
        assert_close("mean", &values(mean), &numbers(&want["mean"]).0, 1e-12);
        assert_close("var", &values(var), &numbers(&want["var"]).0, 1e-12);
    }
    let found = found(&loss.backward(), |visitor| model.visit_named(visitor));
    for (name, want) in published(&step["grads"]) {
        assert_close(&name, &found[&name], &numbers(&want).0, 2e-6);
    }
}

#[test]
fn evaluation_matches_the_reference() {
    let oracle = file("lru_model.json");
    let last = oracle["steps"].as_array().unwrap().last().unwrap();
    let source = with_statistics(published(&last["params_after"]), &last["batch_norm_after"]);
    let model = model::<Flex>(&source);
    let x = Sequences::Features(tensor::<Flex, 3>(&oracle["X"]));
    let probabilities = softmax(model.forward(x, Readout::Mean), 1);
    let want = numbers(&oracle["inference_probabilities_after_last_step_on_X"]).0;
    assert_close("probabilities", &values(probabilities), &want, 1e-11);
}

#[test]
fn a_model_survives_the_way_through_its_tensors() {
    let architecture = Architecture {
        encoder: Encoder::Embedding { vocabulary: 11 },
        hidden_dim: 4,
        state_dims: vec![5, 2],
        layer: LayerSettings::Lru(INIT),
        head: Head::Classes { classes: 3 },
    };
    let model = Model::<Flex>::init(&architecture, 3, &Default::default());
    let tensors = model.to_tensors();
    assert_eq!(tensors.shape("blocks.1.lru.B_re"), Some(&[2, 4][..]));
    let again = Model::<Flex>::from_tensors(tensors.clone(), &Default::default()).unwrap();
    assert_eq!(
        (again.to_tensors(), again.sizes()),
        (tensors.clone(), architecture.sizes())
    );
    let tokens = || {
        let data = TensorData::from([[1, 10, 3], [0, 0, 7]]);
        Sequences::Tokens(Tensor::<Flex, 2, Int>::from_data(data, &Default::default()))
    };
    assert_eq!(
        values(model.forward(tokens(), Readout::Mean)),
        values(again.forward(tokens(), Readout::Mean))
    );

    for (damage, message) in [
        ("embedding.weight", "no encoder"),
        ("blocks.1.lru.C_im", "`blocks.1.lru.C_im` is missing"),
        ("blocks.0.lru.nu_log", "`blocks.0.lru.nu_log` is missing"),
        ("blocks.0.", "no tensors of block 0"),
    ] {
        let mut broken = tensors.clone();
        broken.0.retain(|name, _| !name.starts_with(damage));
        let error = Model::<Flex>::from_tensors(broken, &Default::default()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    let mut poisoned = tensors.clone();
    poisoned.0.get_mut("linear_layer.bias").unwrap().values[1] = f32::NAN;
    let error = Model::<Flex>::from_tensors(poisoned, &Default::default()).unwrap_err();
    assert!(error.to_string().contains("not a finite"), "{error}");
    let mut foreign = tensors;
    foreign
        .0
        .insert("rnn.weight".into(), foreign.0["linear_layer.bias"].clone());
    let error = Model::<Flex>::from_tensors(foreign, &Default::default()).unwrap_err();
    assert!(error.to_string().contains("rnn.weight"), "{error}");
}
