//! Mamba and Mamba-2 language models against values from independent code.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;

use burn::{
    backend::{Autodiff, Flex},
    module::{Module, ModuleMapper, Param},
    tensor::{
        DType, Int, Tensor, TensorData,
        activation::log_softmax,
        backend::{AutodiffBackend, Backend},
    },
};
use safetensors::{Dtype, SafeTensors};
use ssm_core::{Model, NamedTensor, NamedTensors, NamedVisitor, Readout, Sequences};

type Cpu = Autodiff<Flex>;

struct File(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl File {
    fn open(name: &str) -> Self {
        let path = format!("{}/oracles/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            let values: Vec<f64> = match view.dtype() {
                Dtype::F32 => {
                    let (words, _) = view.data().as_chunks::<4>();
                    words
                        .iter()
                        .map(|w| f64::from(f32::from_le_bytes(*w)))
                        .collect()
                }
                Dtype::F64 => {
                    let (words, _) = view.data().as_chunks::<8>();
                    words.iter().map(|w| f64::from_le_bytes(*w)).collect()
                }
                other => panic!("{other}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        };
        Self(file.iter().map(read).collect())
    }

    fn values(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    fn weights(&self) -> NamedTensors {
        let tensor = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f64>))| {
            let values = values.iter().map(|v| *v as f32).collect();
            let shape = shape.clone();
            (name.clone(), NamedTensor { shape, values })
        };
        NamedTensors(self.0.iter().map(tensor).collect())
    }
}

fn assert_close(name: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    let scale = want.iter().fold(1e-6_f64, |m, v| m.max(v.abs()));
    for (k, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{name}[{k}]: {a} against {b}"
        );
    }
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

/// Makes every parameter `f64`.
struct Widen;

impl<B: Backend> ModuleMapper<B> for Widen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (data, device) = (param.val().into_data(), param.val().device());
        let value = Tensor::from_data(data.convert::<f64>(), (&device, DType::F64));
        Param::initialized(param.id, value.require_grad())
    }
}

/// Gradients of every parameter by its published name.
struct Gradients<'a> {
    gradients: &'a <Cpu as AutodiffBackend>::Gradients,
    found: BTreeMap<String, Vec<f64>>,
}

impl NamedVisitor<Cpu> for Gradients<'_> {
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<Cpu, D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(name, values(gradient));
        }
    }
}

fn check(name: &str) {
    let (weights, io) = (
        File::open(&format!("{name}.safetensors")),
        File::open(&format!("{name}_io.safetensors")),
    );
    let device = Default::default();
    let model = Model::<Cpu>::from_tensors(weights.weights(), &device).unwrap();
    let model = model.map(&mut Widen);
    let (shape, ids) = &io.0["input_ids"];
    let [batch, length]: [usize; 2] = shape.as_slice().try_into().unwrap();
    let ids: Vec<i64> = ids.iter().map(|id| *id as i64).collect();
    let tokens: Tensor<Cpu, 2, Int> =
        Tensor::from_data(TensorData::new(ids.clone(), [batch, length]), &device);
    let logits = model.forward(Sequences::Tokens(tokens), Readout::EveryStep);
    // The oracle is f64 as well: sums of some hundred terms in another order.
    assert_close(
        "logits",
        &values(logits.clone()),
        io.values("logits"),
        1e-12,
    );

    // Every step but the last predicts the token after it.
    let vocabulary = logits.dims()[1];
    let predicting = logits
        .reshape([batch, length, vocabulary])
        .narrow(1, 0, length - 1);
    let next: Vec<i64> = ids
        .chunks(length)
        .flat_map(|row| row[1..].to_vec())
        .collect();
    let rows = next.len();
    let next = Tensor::<Cpu, 2, Int>::from_data(TensorData::new(next, [rows, 1]), &device);
    let rates = log_softmax(predicting.reshape([rows, vocabulary]), 1);
    let loss = rates.gather(1, next).mean().neg();
    assert_close("loss", &values(loss.clone()), io.values("loss"), 1e-12);

    let gradients = loss.backward();
    let mut visitor = Gradients {
        gradients: &gradients,
        found: BTreeMap::new(),
    };
    model.visit_named(&mut visitor);
    let wanted = io.0.keys().filter_map(|name| name.strip_prefix("grad."));
    let wanted: Vec<&str> = wanted.collect();
    assert_eq!(wanted.len(), visitor.found.len());
    for name in wanted {
        let want = io.values(&format!("grad.{name}"));
        assert_close(name, &visitor.found[name], want, 1e-10);
    }
}

/// The oracle's logits from one token after the other, in `f32`.
fn check_stream(name: &str) {
    let io = File::open(&format!("{name}_io.safetensors"));
    let weights = File::open(&format!("{name}.safetensors")).weights();
    let model = Model::<Flex>::from_tensors(weights, &Default::default()).unwrap();
    let (shape, ids) = &io.0["input_ids"];
    let want = io.values("logits");
    let (length, vocabulary) = (shape[1], want.len() / ids.len());
    let mut stream = model.stream();
    let (mut got, mut logits) = (Vec::new(), vec![0.0; vocabulary]);
    for row in ids.chunks(length) {
        stream.reset();
        for token in row {
            stream.push_token(*token as usize);
            stream.logits(&mut logits);
            got.extend(logits.iter().copied().map(f64::from));
        }
    }
    // Sums of some hundred terms, each rounded to half an epsilon.
    assert_close(name, &got, want, 100.0 * f64::from(f32::EPSILON));
}

#[test]
fn streams_agree() {
    check_stream("mamba_tiny");
    check_stream("mamba2_tiny");
}

#[test]
fn mamba_agrees() {
    check("mamba_tiny");
}

#[test]
fn mamba_2_agrees() {
    check("mamba2_tiny");
}
