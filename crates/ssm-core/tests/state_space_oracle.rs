//! Classifiers of S5 and S4D layers against values from independent code.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::{fs, path::Path};

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors};
use ssm_core::{LayerKind, Model, NamedTensor, NamedTensors, Readout, Sequences};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles");
    fs::read(folder.join(format!("{name}.safetensors"))).unwrap()
}

/// Shape and values of every tensor.
fn tensors(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f64>)> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => {
                let words = data.as_chunks::<4>().0.iter();
                words.map(|word| f32::from_le_bytes(*word).into()).collect()
            }
            Dtype::F64 => {
                let words = data.as_chunks::<8>().0.iter();
                words.map(|word| f64::from_le_bytes(*word)).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (name.to_owned(), view.shape().to_vec(), values)
    });
    tensors.collect()
}

fn model(name: &str) -> Model<Flex> {
    let weights = tensors(&file(name)).into_iter();
    let weights = weights.map(|(name, shape, values)| {
        let values = values.into_iter().map(|value| value as f32).collect();
        (name, NamedTensor { shape, values })
    });
    Model::from_tensors(NamedTensors(weights.collect()), &Default::default()).unwrap()
}

#[test]
fn logits_of_published_weights_are_those_of_a_plain_recurrence() {
    for (name, kind) in [("s5_tiny", LayerKind::S5), ("s4d_tiny", LayerKind::S4d)] {
        let model = model(name);
        assert_eq!(model.kind(), kind);
        let io = tensors(&file(&format!("{name}_io")));
        let find = |wanted: &str| io.iter().find(|(name, ..)| name == wanted).unwrap();
        let ((_, shape, x), (_, _, want)) = (find("x"), find("logits"));
        let shape: [usize; 3] = shape.as_slice().try_into().unwrap();
        let x: Vec<f32> = x.iter().map(|value| *value as f32).collect();
        let data = TensorData::new(x.clone(), shape);
        let input = Tensor::<Flex, 3>::from_data(data, &Default::default());
        let logits = model.forward(Sequences::Features(input), Readout::Mean);
        let got: Vec<f64> = logits.into_data().iter().collect();
        let scale = want
            .iter()
            .fold(0.0_f64, |most, logit| most.max(logit.abs()));
        // Forty steps of two blocks in f32.
        let allowed = 1e-5 * scale;
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < allowed, "{name}: {got} for {want}");
        }

        // One step at a time as well.
        let [batch, length, channels] = shape;
        let classes = want.len() / batch;
        let mut stream = model.stream();
        for row in 0..batch {
            let mut logits = vec![0.0; classes];
            stream.reset();
            for step in x[row * length * channels..][..length * channels].chunks_exact(channels) {
                stream.push_features(step);
            }
            stream.logits(&mut logits);
            for (got, want) in logits.iter().zip(&want[row * classes..]) {
                let error = (f64::from(*got) - want).abs();
                assert!(error < allowed, "{name}, streamed: {got} for {want}");
            }
        }
    }
}
