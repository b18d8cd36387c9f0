//! Weights of other people: damaged ones are refused in one line with exit code 2, those that the hubs publish are read.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize, serialize_to_file};
use serde_json::{Value, json};
use ssm_core::{
    Architecture, Encoder, Head, LayerSettings, LruInit, Model, NamedTensor, NamedTensors,
};
use support::{refusal, run, stdout, text};
use tempfile::TempDir;
use trainer::weights::{read_model, read_tensors, write_tensors};

type Flex = burn::backend::Flex;

fn oracle(name: &str) -> PathBuf {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssm-core/tests/oracles");
    oracles.join(format!("{name}.safetensors"))
}

/// A folder with inputs, and what `predict` makes of them with one set of weights or another.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        let tokens = (0..12).map(|i| i % 5).collect::<Vec<i64>>();
        desk.write_tokens::<8>(Dtype::I64, [2, 6], tokens.iter().map(|t| t.to_le_bytes()));
        let values = (0..12).map(|i| i as f32 / 8.0).collect();
        write_one(&desk.path("x"), "x", &[1, 4, 3], values);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_tokens<const N: usize>(
        &self,
        dtype: Dtype,
        shape: [usize; 2],
        tokens: impl Iterator<Item = [u8; N]>,
    ) {
        let bytes: Vec<u8> = tokens.flatten().collect();
        let view = TensorView::new(dtype, shape.to_vec(), &bytes).unwrap();
        serialize_to_file([("input_ids", view)], None, &self.path("input_ids")).unwrap();
    }

    fn args<'a>(&self, weights: &'a Path, input: &'a Path, output: &'a Path) -> [&'a str; 7] {
        let [weights, input, output] = [weights, input, output].map(text);
        [
            "predict",
            "--weights",
            weights,
            "--input",
            input,
            "--output",
            output,
        ]
    }

    fn logits(&self, weights: &Path) -> NamedTensor {
        let [input, output] = ["input_ids", "logits"].map(|name| self.path(name));
        stdout(&run(&self.args(weights, &input, &output)));
        read_tensors(&output).unwrap().0.remove("logits").unwrap()
    }

    /// The line with which weights are refused, or else an input.
    fn refusal(&self, weights: &Path, input: &str) -> String {
        let [input, output] = [input, "logits"].map(|name| self.path(name));
        refusal(&self.args(weights, &input, &output), 2)
    }

    /// The same of tensors.
    fn refused(&self, tensors: &NamedTensors) -> String {
        let path = self.path("damaged.safetensors");
        write_tensors(&path, tensors, HashMap::new()).unwrap();
        let line = self.refusal(&path, "input_ids");
        assert!(line.contains("damaged.safetensors"), "{line}");
        line
    }
}

fn write_one(path: &Path, name: &str, shape: &[usize], values: Vec<f32>) {
    let tensors = NamedTensors([(name.to_owned(), tensor(shape, values))].into());
    write_tensors(path, &tensors, HashMap::new()).unwrap();
}

fn tensor(shape: &[usize], values: Vec<f32>) -> NamedTensor {
    NamedTensor {
        shape: shape.to_vec(),
        values,
    }
}

/// A tensor of this shape with good values.
fn shaped(shape: &[usize]) -> NamedTensor {
    tensor(shape, vec![0.25; shape.iter().product()])
}

/// A model of every kind: Mamba, Mamba-2, and a classifier of Linear Recurrent Units on tokens.
fn models() -> [NamedTensors; 3] {
    let architecture = Architecture {
        encoder: Encoder::Embedding { vocabulary: 5 },
        hidden_dim: 4,
        state_dims: vec![3, 2],
        layer: LayerSettings::Lru(LruInit::default()),
        head: Head::Classes { classes: 2 },
    };
    let classifier = Model::<Flex>::init(&architecture, 1, &Default::default());
    let published = ["mamba_tiny", "mamba2_tiny"].map(|name| read_tensors(&oracle(name)).unwrap());
    let [mamba, mamba2] = published;
    [mamba, mamba2, classifier.to_tensors()]
}

#[test]
fn every_tensor_with_an_axis_more_or_less_or_with_none_of_something_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("damaged.safetensors");
    let refused = |tensors: &NamedTensors| {
        write_tensors(&path, tensors, HashMap::new()).unwrap();
        read_model(&path).unwrap_err().to_string()
    };
    for model in models() {
        for (name, good) in &model.0 {
            let mut longer = vec![1];
            longer.extend(&good.shape);
            let mut shorter = good.shape.clone();
            shorter.pop();
            let mut empty = good.shape.clone();
            *empty.last_mut().unwrap() = 0;
            let mut larger = good.shape.clone();
            // One token more is a good model.
            larger[usize::from(name.contains("embedding"))] += 1;
            for shape in [longer, shorter, empty, larger, Vec::new()] {
                let mut damaged = model.clone();
                damaged.0.insert(name.clone(), shaped(&shape));
                let line = refused(&damaged);
                // Of two tensors that contradict each other, either may be the one that is named.
                let stem = name.rsplit_once('.').unwrap().0;
                let size_of_others = shape.len() == good.shape.len() && !shape.contains(&0);
                assert!(
                    line.contains(stem) || size_of_others,
                    "{name} {shape:?}: {line}"
                );
                let said = ["expected", "cannot be shared"]
                    .iter()
                    .any(|part| line.contains(part));
                assert!(said, "{name} {shape:?}: {line}");
            }
            let mut missing = model.clone();
            missing.0.remove(name);
            let line = refused(&missing);
            let said = ["missing", "no ", "does not have"]
                .iter()
                .any(|part| line.contains(part));
            assert!(said, "{name}: {line}");
        }
    }
}

#[test]
fn what_was_found_and_what_is_expected_are_said() {
    let desk = Desk::new();
    let [mamba, mamba2, lru] = models();
    let with = |model: &NamedTensors, changes: &[(&str, Option<NamedTensor>)]| {
        let mut changed = model.clone();
        for (name, tensor) in changes {
            match tensor {
                Some(tensor) => changed.0.insert((*name).to_owned(), tensor.clone()),
                None => changed.0.remove(*name),
            };
        }
        desk.refused(&changed)
    };
    let table = "backbone.embeddings.weight";
    let rates = "backbone.layers.1.mixer.A_log";
    let projection = "backbone.layers.1.mixer.x_proj.weight";
    let encoder = "backbone.linear_encoder";
    let cases = [
        (
            with(&mamba, &[(table, Some(shaped(&[])))]),
            "`backbone.embeddings.weight` has rank 0, shape []; expected rank 2, [vocabulary, hidden]",
        ),
        (
            with(&mamba, &[("lm_head.weight", Some(shaped(&[])))]),
            "`lm_head.weight` has rank 0",
        ),
        (
            with(&mamba, &[("lm_head.weight", Some(shaped(&[7, 12])))]),
            "`lm_head.weight` has shape [7, 12], expected [23, 12]",
        ),
        (
            with(
                &mamba,
                &[
                    (table, None),
                    (&format!("{encoder}.weight"), Some(shaped(&[12, 3]))),
                    (&format!("{encoder}.bias"), Some(shaped(&[12]))),
                ],
            ),
            "`linear_layer.weight` is missing: a model on values (`backbone.linear_encoder.weight`) needs a head of classes",
        ),
        (
            // Both tensors agree that there is no state.
            with(
                &mamba,
                &[
                    (rates, Some(shaped(&[24, 0]))),
                    (projection, Some(shaped(&[3, 24]))),
                ],
            ),
            "`backbone.layers.1.mixer.A_log` is empty: its shape is [24, 0]",
        ),
        (
            with(&mamba, &[(rates, Some(shaped(&[1, 24, 11])))]),
            "has rank 3, shape [1, 24, 11]; expected rank 2, [channels, state]",
        ),
        (
            with(
                &mamba,
                &[
                    ("linear_layer.weight", Some(shaped(&[2, 12]))),
                    ("lm_head.weight", Some(shaped(&[23, 12]))),
                ],
            ),
            "`linear_layer.weight` and `lm_head.weight` exclude each other",
        ),
        (
            with(
                &mamba,
                &[(&format!("{encoder}.weight"), Some(shaped(&[12, 3])))],
            ),
            "exclude each other",
        ),
        (
            with(
                &mamba,
                &[("backbone.embedding.weight", Some(shaped(&[23, 12])))],
            ),
            "tensors that this model does not have: backbone.embedding.weight",
        ),
        (
            with(
                &mamba2,
                &[("backbone.layers.0.mixer.A_log", Some(shaped(&[3])))],
            ),
            "has 8 channels, which cannot be shared by 3 heads",
        ),
        (
            with(
                &mamba2,
                &[(
                    "backbone.layers.0.mixer.conv1d.weight",
                    Some(shaped(&[8, 1, 4])),
                )],
            ),
            "has 8 filters; expected one for each of 8 channels",
        ),
        (
            with(
                &mamba2,
                &[("backbone.layers.0.mixer.key_map.weight", Some(shaped(&[])))],
            ),
            "key_map.weight` has rank 0",
        ),
        (
            with(
                &mamba2,
                &[(
                    "backbone.layers.0.mixer.key_map.weight",
                    Some(shaped(&[3, 12])),
                )],
            ),
            "has 3 rows, which cannot be shared by 2 heads",
        ),
        (
            with(
                &mamba2,
                &[(
                    "backbone.layers.0.mixer.query_map.weight",
                    Some(shaped(&[2, 12])),
                )],
            ),
            "key_map.weight` is missing",
        ),
        (
            with(&lru, &[("blocks.1.lru.nu_log", Some(shaped(&[0])))]),
            "`blocks.1.lru.nu_log` is empty: its shape is [0]; expected at least one of each of [state]",
        ),
        (
            with(&lru, &[("linear_encoder.weight", Some(shaped(&[4, 1])))]),
            "exclude each other",
        ),
        (
            with(
                &lru,
                &[(
                    "embedding.weight",
                    Some(tensor(&[5, 4], vec![f32::INFINITY; 20])),
                )],
            ),
            "`embedding.weight` holds a value that is not a finite f32",
        ),
    ];
    for (line, part) in cases {
        assert!(line.contains(part), "{part}: {line}");
    }
    let many = (0..500).map(|i| (format!("h.{i:03}.attn.weight"), shaped(&[1])));
    let mut foreign = lru;
    foreign.0.extend(many);
    let line = desk.refused(&foreign);
    assert!(line.contains("h.003.attn.weight and 496 more"), "{line}");
}

/// The file of a configuration, beside weights that it is about.
fn with_config(desk: &Desk, model: &NamedTensors, config: &Value) -> PathBuf {
    let path = desk.path("model.safetensors");
    write_tensors(&path, model, HashMap::new()).unwrap();
    fs::write(desk.path("config.json"), config.to_string()).unwrap();
    path
}

/// As `transformers` writes them and as the authors do, with the sizes of the oracles.
fn published_configs(kind: &str) -> [Value; 3] {
    match kind {
        "mamba" => [
            json!({
                "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 24,
                "d_model": 12, "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu",
                "hidden_size": 12, "initializer_range": 0.1, "intermediate_size": 24, "layer_norm_epsilon": 1e-5,
                "model_type": "mamba", "n_layer": 2, "num_hidden_layers": 2, "pad_token_id": 0,
                "pad_vocab_size_multiple": 1, "rescale_prenorm_residual": false, "residual_in_fp32": true,
                "rms_norm": true, "ssm_cfg": {}, "state_size": 11, "time_step_floor": 1e-4,
                "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 1e-3, "time_step_rank": 3,
                "time_step_scale": 1.0, "torch_dtype": "float32", "transformers_version": "4.39.0.dev0",
                "use_bias": false, "use_cache": true, "use_conv_bias": true, "use_mambapy": false, "vocab_size": 23
            }),
            json!({
                "d_model": 12, "n_layer": 2, "vocab_size": 21, "ssm_cfg": {}, "rms_norm": true,
                "residual_in_fp32": true, "fused_add_norm": true, "pad_vocab_size_multiple": 23
            }),
            json!({
                "d_model": 12, "d_intermediate": 0, "n_layer": 2, "vocab_size": 23,
                "ssm_cfg": {"layer": "Mamba1", "d_state": 11, "d_conv": 4, "expand": 2, "dt_rank": 3, "dt_min": 0.001},
                "attn_layer_idx": [], "attn_cfg": {}, "tie_embeddings": true, "quantization_config": null
            }),
        ],
        _ => [
            json!({
                "architectures": ["Mamba2ForCausalLM"], "chunk_size": 256, "conv_kernel": 4, "expand": 2,
                "head_dim": 4, "hidden_act": "silu", "hidden_size": 4, "layer_norm_epsilon": 1e-5,
                "model_type": "mamba2", "n_groups": 1, "norm_before_gate": true, "num_heads": 2,
                "num_hidden_layers": 2, "rms_norm": true, "state_size": 12, "tie_word_embeddings": true,
                "time_step_limit": [0.0, {"__float__": "Infinity"}], "time_step_rank": 256, "use_bias": false,
                "use_conv_bias": true, "vocab_size": 23
            }),
            json!({
                "d_model": 4, "d_intermediate": 0, "n_layer": 2, "vocab_size": 23, "ssm_cfg": {"layer": "Mamba2"},
                "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": true, "residual_in_fp32": true,
                "fused_add_norm": true, "pad_vocab_size_multiple": 1, "tie_embeddings": true
            }),
            json!({
                "d_model": 4, "n_layer": 2, "vocab_size": 23,
                "ssm_cfg": {
                    "layer": "Mamba2", "d_state": 12, "d_conv": 4, "headdim": 4, "ngroups": 1, "chunk_size": 64,
                    "norm_before_gate": false, "rmsnorm": true, "D_has_hdim": false, "A_init_range": [1, 16]
                }
            }),
        ],
    }
}

#[test]
fn published_configurations_are_taken_and_what_they_ask_for_besides_is_refused_by_name() {
    let desk = Desk::new();
    let [mamba, mamba2, _] = models();
    for (kind, model) in [("mamba", &mamba), ("mamba2", &mamba2)] {
        let plain = desk.logits(&oracle(&format!("{kind}_tiny")));
        for config in published_configs(kind) {
            assert_eq!(desk.logits(&with_config(&desk, model, &config)), plain);
        }
        let [mut transformers, authors, _] = published_configs(kind);
        for (key, value) in [
            ("hidden_act", json!("relu")),
            ("use_bias", json!(true)),
            ("use_conv_bias", json!(false)),
            ("bidirectional", json!(true)),
            ("model_type", json!("falcon_mamba")),
            ("layer_norm_epsilon", json!(1e-6)),
            ("n_groups", json!(8)),
            ("time_step_limit", json!([0.0, 0.1])),
            ("rms_norm", json!(false)),
            ("tie_word_embeddings", json!(false)),
            ("layer_types", json!(["attention", "linear_attention"])),
            ("quantization_config", json!({"bits": 4})),
            ("attn_layer_idx", json!([1])),
            ("d_intermediate", json!(16)),
            ("hidden_size", json!(13)),
            ("hidden_size", json!("4")),
            ("num_hidden_layers", json!(3)),
            ("state_size", json!(16)),
            ("expand", json!(3)),
            ("conv_kernel", json!(3)),
            ("vocab_size", json!(24)),
        ] {
            let good = transformers[key].take();
            transformers[key] = value.clone();
            let path = with_config(&desk, model, &transformers);
            let line = desk.refusal(&path, "input_ids");
            assert!(line.contains("config.json"), "{key}: {line}");
            let said = format!("`{key}` is {value}");
            assert!(line.contains(&said), "{said}: {line}");
            transformers[key] = good;
        }
        for (key, value) in [
            ("norm_before_gate", json!(true)),
            ("ngroups", json!(2)),
            ("D_has_hdim", json!(true)),
            ("dt_limit", json!([1e-3, 0.1])),
            ("d_conv", json!(5)),
            (
                "layer",
                json!(if kind == "mamba" { "Mamba2" } else { "Mamba1" }),
            ),
        ] {
            let mut config = authors.clone();
            config["ssm_cfg"][key] = value.clone();
            let line = desk.refusal(&with_config(&desk, model, &config), "input_ids");
            assert!(line.contains(&format!("`{key}` is {value}")), "{line}");
        }
        fs::write(desk.path("config.json"), "[]").unwrap();
        let line = desk.refusal(&desk.path("model.safetensors"), "input_ids");
        assert!(line.contains("no JSON object"), "{line}");
        fs::remove_file(desk.path("config.json")).unwrap();
    }
}

#[test]
fn what_is_exported_comes_back_with_the_configuration_that_goes_with_it() {
    let desk = Desk::new();
    for kind in ["mamba_tiny", "mamba2_tiny"] {
        let exported = desk.path("exported.safetensors");
        let source = oracle(kind);
        stdout(&run(&[
            "export",
            "--checkpoint",
            text(&source),
            "--output",
            text(&exported),
        ]));
        assert_eq!(desk.logits(&exported), desk.logits(&source));
        let bytes = fs::read(&exported).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["config"];
        assert!(config.contains("\"state_sizes\""), "{config}");
    }
}

#[test]
fn predictions_one_step_at_a_time_are_those_of_the_whole_sequence_and_both_are_right() {
    let desk = Desk::new();
    // Of S5 and S4D from independent code in f64; tensors of it are read as f32 here.
    for kind in ["s5_tiny", "s4d_tiny", "mamba_tiny", "mamba2_tiny"] {
        let (weights, io) = (oracle(kind), oracle(&format!("{kind}_io")));
        let input = match kind.starts_with("mamba") {
            true => desk.path("input_ids"),
            false => io.clone(),
        };
        let output = desk.path("logits");
        let args = desk.args(&weights, &input, &output);
        let logits = |flags: &[&str]| {
            stdout(&run(&[&args[..], flags].concat()));
            read_tensors(&output).unwrap().0.remove("logits").unwrap()
        };
        let (whole, stepwise) = (logits(&[]), logits(&["--stream"]));
        let known = match kind.starts_with("mamba") {
            true => whole.clone(),
            false => read_tensors(&io).unwrap().0.remove("logits").unwrap(),
        };
        let scale = known.values.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
        for found in [whole, stepwise] {
            assert_eq!(found.shape, known.shape, "{kind}");
            for (found, known) in found.values.iter().zip(&known.values) {
                // Tens of steps of two layers in f32.
                assert!(
                    (found - known).abs() < 1e-5 * scale,
                    "{kind}: {found} {known}"
                );
            }
        }
    }
    let both = [
        "predict",
        "--weights",
        "w",
        "--input",
        "i",
        "--output",
        "o",
        "--stream",
    ];
    let line = refusal(&[&both[..], &["--backend", "cpu"]].concat(), 2);
    assert!(line.contains("--backend"), "{line}");
}

#[test]
fn a_model_of_pairs_has_no_answer_to_one_sequence() {
    let desk = Desk::new();
    let architecture = Architecture {
        encoder: Encoder::Embedding { vocabulary: 5 },
        hidden_dim: 4,
        state_dims: vec![3],
        layer: LayerSettings::Lru(LruInit::default()),
        head: Head::Pair { classes: 2 },
    };
    let model = Model::<Flex>::init(&architecture, 1, &Default::default());
    let line = desk.refused(&model.to_tensors());
    assert!(line.contains("pairs of sequences"), "{line}");
}

/// Two halves of a model in files named `NAME-0000i-of-00002.safetensors`, and their index.
fn write_shards(folder: &Path, model: &NamedTensors) -> Value {
    let mut halves = [BTreeMap::new(), BTreeMap::new()];
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in model.0.iter().enumerate() {
        halves[index % 2].insert(name.clone(), tensor.clone());
        let file = format!("model-0000{}-of-00002.safetensors", 1 + index % 2);
        map.insert(name.clone(), file.into());
    }
    fs::create_dir_all(folder).unwrap();
    for (index, half) in halves.into_iter().enumerate() {
        let path = folder.join(format!("model-0000{}-of-00002.safetensors", 1 + index));
        write_tensors(&path, &NamedTensors(half), HashMap::new()).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    fs::write(path, index.to_string()).unwrap();
    index
}

#[test]
fn a_folder_of_several_files_is_one_model() {
    let desk = Desk::new();
    let folder = desk.path("sharded");
    let [mamba, ..] = models();
    let index = write_shards(&folder, &mamba);
    fs::write(
        folder.join("config.json"),
        published_configs("mamba")[0].to_string(),
    )
    .unwrap();
    assert_eq!(desk.logits(&folder), desk.logits(&oracle("mamba_tiny")));
    let out = desk.path("whole.safetensors");
    for command in [
        &["analyze", "--checkpoint", text(&folder)][..],
        &[
            "export",
            "--checkpoint",
            text(&folder),
            "--output",
            text(&out),
        ],
    ] {
        stdout(&run(command));
    }
    assert_eq!(read_tensors(&out).unwrap(), mamba);

    let norm = "backbone.norm_f.weight";
    let file = index["weight_map"][norm].as_str().unwrap().to_owned();
    let other = file
        .replace("-00001-", "-00009-")
        .replace("-00002-", "-00001-");
    let other = other.replace("-00009-", "-00002-");
    for (value, part) in [
        (json!(other), "has no tensor `backbone.norm_f.weight`"),
        (json!("../model.safetensors"), "no name of a file beside it"),
        (json!("/etc/passwd"), "no name of a file beside it"),
        (
            json!("model.safetensors.index.json"),
            "no name of a file beside it",
        ),
        (
            json!("absent.safetensors"),
            "absent.safetensors: No such file",
        ),
        (json!(3), "not a readable index"),
    ] {
        let mut damaged = index.clone();
        damaged["weight_map"][norm] = value;
        fs::write(
            folder.join("model.safetensors.index.json"),
            damaged.to_string(),
        )
        .unwrap();
        let line = desk.refusal(&folder, "input_ids");
        assert!(line.contains(part), "{part}: {line}");
    }
    let mut short = index.clone();
    short["weight_map"].as_object_mut().unwrap().remove(norm);
    fs::write(
        folder.join("model.safetensors.index.json"),
        short.to_string(),
    )
    .unwrap();
    let line = desk.refusal(&folder, "input_ids");
    assert!(line.contains("its index does not have there"), "{line}");
}

/// Made by `published/make_pytorch_model.py`.
fn pytorch_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published/pytorch_model.bin")
}

#[test]
fn a_folder_with_a_pytorch_file_alone_is_a_model() {
    let desk = Desk::new();
    let folder = desk.path("authors");
    fs::create_dir(&folder).unwrap();
    fs::copy(pytorch_file(), folder.join("pytorch_model.bin")).unwrap();
    let config = &published_configs("mamba2")[1];
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let out = desk.path("exported.safetensors");
    stdout(&run(&[
        "export",
        "--checkpoint",
        text(&folder),
        "--output",
        text(&out),
    ]));
    // To the bit, views and shared storages included.
    assert_eq!(
        read_tensors(&out).unwrap(),
        read_tensors(&oracle("mamba2_tiny")).unwrap()
    );
    assert_eq!(desk.logits(&folder), desk.logits(&oracle("mamba2_tiny")));
    assert_eq!(
        desk.logits(&folder.join("pytorch_model.bin")),
        desk.logits(&out)
    );
    stdout(&run(&["analyze", "--checkpoint", text(&folder)]));

    // As the only one of several files.
    let names = "backbone.layers.0.norm.weight";
    fs::rename(
        folder.join("pytorch_model.bin"),
        folder.join("pytorch_model-00001-of-00001.bin"),
    )
    .unwrap();
    let index = json!({"weight_map": {names: "pytorch_model-00001-of-00001.bin"}});
    fs::write(
        folder.join("pytorch_model.bin.index.json"),
        index.to_string(),
    )
    .unwrap();
    let line = desk.refusal(&folder, "input_ids");
    assert!(line.contains("its index does not have there"), "{line}");
}

#[test]
fn a_damaged_pytorch_file_is_refused_wherever_the_damage_is() {
    let desk = Desk::new();
    let path = desk.path("pytorch_model.bin");
    let good = fs::read(pytorch_file()).unwrap();
    for length in (4..good.len()).step_by(97) {
        fs::write(&path, &good[..length]).unwrap();
        let error = read_model(&path).unwrap_err().to_string();
        assert!(
            error.contains("pytorch_model.bin is not a readable PyTorch file"),
            "{error}"
        );
    }
    for at in (4..good.len()).step_by(31) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        // Some bytes say nothing about the content: dates, attributes.
        if let Ok(tensors) = read_model(&path) {
            assert_eq!(
                tensors,
                read_tensors(&oracle("mamba2_tiny")).unwrap(),
                "byte {at}"
            );
        }
    }
    for (content, part) in [
        (
            &b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."[..],
            "before 1.6",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "Git LFS pointer",
        ),
        (b"", "not a readable safetensors file"),
    ] {
        fs::write(&path, content).unwrap();
        let line = desk.refusal(&path, "input_ids");
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn weights_of_half_precision_are_the_numbers_that_they_stand_for() {
    let desk = Desk::new();
    let [mamba, ..] = models();
    type Narrow = fn(f32) -> ([u8; 2], f32);
    let formats: [(Dtype, Narrow); 2] = [
        (Dtype::F16, |v| {
            (f16::from_f32(v).to_le_bytes(), f16::from_f32(v).to_f32())
        }),
        (Dtype::BF16, |v| {
            (bf16::from_f32(v).to_le_bytes(), bf16::from_f32(v).to_f32())
        }),
    ];
    for (dtype, narrow) in formats {
        let mut rounded = mamba.clone();
        let mut stored = BTreeMap::new();
        for (name, tensor) in &mut rounded.0 {
            let pairs: Vec<_> = tensor.values.iter().map(|v| narrow(*v)).collect();
            tensor.values = pairs.iter().map(|(_, value)| *value).collect();
            let bytes: Vec<u8> = pairs.iter().flat_map(|(bytes, _)| *bytes).collect();
            stored.insert(name.clone(), (tensor.shape.clone(), bytes));
        }
        let views = stored.iter().map(|(name, (shape, bytes))| {
            (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        let [half, single] = ["half.safetensors", "single.safetensors"].map(|n| desk.path(n));
        fs::write(&half, serialize(views, None).unwrap()).unwrap();
        write_tensors(&single, &rounded, HashMap::new()).unwrap();
        assert_eq!(desk.logits(&half), desk.logits(&single), "{dtype}");
    }
}

#[test]
fn a_language_model_answers_as_published() {
    let desk = Desk::new();
    for kind in ["mamba_tiny", "mamba2_tiny"] {
        let io = read_tensors(&oracle(&format!("{kind}_io"))).unwrap();
        let (ids, want) = (&io.0["input_ids"], &io.0["logits"]);
        let tokens = ids.values.iter().map(|id| (*id as i32).to_le_bytes());
        desk.write_tokens(Dtype::I32, [ids.shape[0], ids.shape[1]], tokens);
        let logits = desk.logits(&oracle(kind));
        assert_eq!(logits.shape, want.shape);
        let scale = want.values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (got, want) in logits.values.iter().zip(&want.values) {
            // Sums of some hundred f32 terms, two layers deep.
            assert!((got - want).abs() < 1e-5 * scale, "{got} against {want}");
        }
    }
}

#[test]
fn tokens_may_be_of_either_width_and_inputs_that_hold_nothing_are_named() {
    let desk = Desk::new();
    let model = oracle("mamba_tiny");
    let wide = desk.logits(&model);
    let narrow = (0..12).map(|i| (i % 5_i32).to_le_bytes());
    desk.write_tokens(Dtype::I32, [2, 6], narrow);
    assert_eq!(desk.logits(&model), wide);
    desk.write_tokens(Dtype::F32, [1, 1], [[0; 4]].into_iter());
    let line = desk.refusal(&model, "input_ids");
    assert!(line.contains("has type F32, expected I64 or I32"), "{line}");
    for shape in [[0, 6], [2, 0], [0, 0]] {
        desk.write_tokens::<8>(Dtype::I64, shape, [].into_iter());
        let line = desk.refusal(&model, "input_ids");
        let part = format!("`input_ids` is empty: its shape is {shape:?}");
        assert!(line.contains(&part), "{line}");
    }

    let [_, _, mut lru] = models();
    lru.0.remove("embedding.weight");
    lru.0
        .insert("linear_encoder.weight".to_owned(), shaped(&[4, 3]));
    lru.0.insert("linear_encoder.bias".to_owned(), shaped(&[4]));
    let model = desk.path("lru.safetensors");
    write_tensors(&model, &lru, HashMap::new()).unwrap();
    for (shape, part) in [
        ([0, 4, 3], "`x` is empty: its shape is [0, 4, 3]"),
        ([1, 0, 3], "`x` is empty: its shape is [1, 0, 3]"),
        (
            [1, 4, 0],
            "`x` has shape [1, 4, 0], expected [batch, length, 3]",
        ),
    ] {
        write_one(&desk.path("x"), "x", &shape, Vec::new());
        let line = desk.refusal(&model, "x");
        assert!(line.contains(part), "{line}");
    }
    write_one(
        &desk.path("x"),
        "x",
        &[1, 1, 3],
        vec![0.0, f32::NEG_INFINITY, 1.0],
    );
    let line = desk.refusal(&model, "x");
    assert!(
        line.contains("`x` holds -inf at position 1, which is not finite"),
        "{line}"
    );
}
