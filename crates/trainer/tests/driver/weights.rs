//! What fuzzing does with weights in safetensors files, with their configuration and with their index; the fuzz target
//! and the replay of its corpus run the same code.
//!
//! A panic is a finding, and so is an answer that is not one logit for each class or token.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::backend::Flex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use ssm_core::{
    Architecture, DualSettings, Encoder, Head, LayerSettings, LruInit, Model, NamedTensor,
    NamedTensors, SelectiveSettings,
};
use trainer::config::BackendKind;
use trainer::predict::{Passage, predict};
use trainer::weights::read_tensors;

/// Bytes of an input, read from the front; zeros follow the last one, so that every input is whole.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }
}

/// The first byte says what the others are: a file of weights, a configuration, an index, or what is to be changed about
/// the tensors of a good model.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let folder = folder.path();
    let mut bytes = Bytes(content);
    match choice % 4 {
        0 => write(&folder.join("model.safetensors"), content),
        1 => {
            let tensors = model(&mut Bytes(&[choice / 4]));
            write_weights(&folder.join("model.safetensors"), &tensors, &mut Bytes(&[]));
            write(&folder.join("config.json"), content);
        }
        2 => {
            let tensors = model(&mut Bytes(&[choice / 4]));
            write_weights(&folder.join("a.safetensors"), &tensors, &mut Bytes(&[]));
            write(&folder.join("model.safetensors.index.json"), content);
        }
        _ => {
            let mut tensors = model(&mut bytes);
            for _ in 0..1 + bytes.below(3) {
                change(&mut tensors, &mut bytes);
            }
            // As a caller of the library might hand them over: not as long as their shapes say.
            let _ = Model::<Flex>::from_tensors(tensors.clone(), &Default::default());
            write_weights(&folder.join("model.safetensors"), &tensors, &mut bytes);
        }
    }
    ask(folder, &mut bytes);
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("a writable folder");
}

/// Asks whatever model there is for its answer to tokens, and to values.
fn ask(folder: &Path, bytes: &mut Bytes<'_>) {
    let (input, output) = (folder.join("input"), folder.join("output"));
    let [batch, length, channels] = [1, 2, 2].map(|usual| match bytes.byte() {
        0..200 => usual,
        other => usize::from(other) % 4,
    });
    let tokens = vec![bytes.byte() % 4; 4 * batch * length];
    let values: Vec<u8> = (0..batch * length * channels)
        .flat_map(|i| (i as f32).to_le_bytes())
        .collect();
    let views = [
        ("input_ids", Dtype::I32, vec![batch, length], &tokens),
        ("x", Dtype::F32, vec![batch, length, channels], &values),
    ];
    let views = views.map(|(name, dtype, shape, data)| {
        (
            name,
            TensorView::new(dtype, shape, data).expect("a whole tensor"),
        )
    });
    write(&input, &serialize(views, None).expect("few tensors"));
    match predict(Passage::Parallel(BackendKind::Cpu), folder, &input, &output) {
        Ok(()) => {
            let answer = read_tensors(&output).expect("what was just written");
            let logits = &answer.0["logits"];
            assert_eq!(logits.shape[0], batch, "{:?}", logits.shape);
            assert!(logits.shape.iter().all(|size| *size > 0));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The tensors of a small model of any kind.
fn model(bytes: &mut Bytes<'_>) -> NamedTensors {
    let (kind, device) = (bytes.byte(), Default::default());
    let encoder = match kind & 1 {
        0 => Encoder::Embedding { vocabulary: 3 },
        _ => Encoder::Linear { channels: 2 },
    };
    let layer = match kind / 2 % 3 {
        0 => LayerSettings::Lru(LruInit::default()),
        1 => LayerSettings::Mamba(SelectiveSettings {
            expand: 2,
            conv_kernel: 2,
            dt_rank: Some(1),
        }),
        _ => LayerSettings::Mamba2(DualSettings {
            expand: 2,
            conv_kernel: 2,
            head_dim: 2,
        }),
    };
    let head = match (encoder, kind / 6 % 3) {
        (Encoder::Embedding { .. }, 0) => Head::Tokens { tied: true },
        (Encoder::Embedding { .. }, 1) => Head::Tokens { tied: false },
        _ => Head::Classes { classes: 3 },
    };
    let architecture = Architecture {
        encoder,
        hidden_dim: 2,
        state_dims: vec![2, 3],
        layer,
        head,
    };
    Model::<Flex>::init(&architecture, 1, &device).to_tensors()
}

/// Names that a model may have, but not every one has.
const NAMES: [&str; 12] = [
    "backbone.embedding.weight",
    "backbone.embeddings.weight",
    "backbone.linear_encoder.weight",
    "backbone.layers.0.mixer.key_map.weight",
    "backbone.layers.0.mixer.query_map.weight",
    "backbone.layers.2.norm.weight",
    "blocks.1.lru.nu_log",
    "embedding.weight",
    "linear_encoder.weight",
    "linear_layer.weight",
    "lm_head.weight",
    "",
];

/// Changes one tensor: its name, its shape, or a value.
fn change(tensors: &mut NamedTensors, bytes: &mut Bytes<'_>) {
    if tensors.0.is_empty() {
        return;
    }
    let index = bytes.below(tensors.0.len());
    let name = tensors.0.keys().nth(index).expect("below their number");
    let name = name.clone();
    let mut tensor = tensors.0.remove(&name).expect("a name of theirs");
    let mut renamed = name;
    let axis = bytes.below(tensor.shape.len().max(1));
    match bytes.below(10) {
        0 => return,
        1 => renamed = NAMES[bytes.below(NAMES.len())].to_owned(),
        2 => {
            tensors.0.insert(renamed, tensor.clone());
            renamed = NAMES[bytes.below(NAMES.len())].to_owned();
        }
        3 => tensor.shape.insert(axis, bytes.below(3)),
        4 if !tensor.shape.is_empty() => drop(tensor.shape.remove(axis)),
        5 if !tensor.shape.is_empty() => tensor.shape[axis] = bytes.below(6),
        6 if !tensor.shape.is_empty() => tensor.shape[axis] = usize::MAX >> bytes.below(64),
        7 => tensor.shape.reverse(),
        8 => tensor.shape.clear(),
        _ => {
            let value = [f32::NAN, f32::INFINITY, f32::MAX, 1e-40, -1e30][bytes.below(5)];
            tensor.values.iter_mut().for_each(|v| *v = value);
        }
    }
    tensors.0.insert(renamed, tensor);
}

/// Most values of a tensor that are written; one that is said to be larger keeps the values that it has.
const MOST_VALUES: usize = 4096;

/// Writes tensors by hand, whatever they are: the reader has to find out.
fn write_weights(path: &Path, tensors: &NamedTensors, bytes: &mut Bytes<'_>) {
    let changed = bytes.below(2 * tensors.0.len().max(1));
    let (mut header, mut data) = (BTreeMap::new(), Vec::new());
    for (index, (name, tensor)) in tensors.0.iter().enumerate() {
        let NamedTensor { shape, values } = tensor;
        let count = shape
            .iter()
            .try_fold(1, |n: usize, size| n.checked_mul(*size));
        let count = count.filter(|count| *count <= MOST_VALUES);
        let count = count.unwrap_or(values.len());
        let (dtype, width) = match index == changed {
            true => [("F64", 8), ("F16", 2), ("BF16", 2), ("I32", 4), ("BOOL", 1)][bytes.below(5)],
            false => ("F32", 4),
        };
        let start = data.len();
        data.extend(
            values
                .iter()
                .cycle()
                .take(count)
                .flat_map(|v| v.to_le_bytes()),
        );
        data.resize(start + width * count, 0);
        let tensor = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()],
        });
        header.insert(name, tensor);
    }
    let header = serde_json::to_vec(&header).expect("names and numbers");
    let length = (header.len() as u64).to_le_bytes();
    write(path, &[&length[..], &header, &data].concat());
}
