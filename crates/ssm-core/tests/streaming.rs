//! One step at a time against the whole sequence at once.

use burn::{
    backend::Flex,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use hsv::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    Architecture, DualSettings, Encoder, Head, Layer, LayerSettings, Lru, LruInit, Model,
    ModelStream, Readout, SelectiveSettings, Sequences,
};

const INIT: LruInit = LruInit {
    r_min: 0.9,
    r_max: 0.999,
    max_phase: 6.0,
};

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Largest difference relative to the largest value.
fn error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0_f32, |m, v| m.max(v.abs()));
    largest(&mut got.iter().zip(want).map(|(a, b)| a - b)) / largest(&mut want.iter().copied())
}

/// Both forms round every sum of `terms` products in an order of their own; errors of random sign grow like the root.
fn tolerance(terms: usize) -> f32 {
    8.0 * f32::EPSILON * (terms as f32).sqrt()
}

#[test]
fn a_recurrence_step_by_step_equals_the_whole_sequence() {
    let device = Default::default();
    for (state, hidden, length) in [(1, 1, 1), (3, 2, 50), (13, 8, 300), (64, 33, 700)] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let layer = Lru::<Flex>::init(state, hidden, INIT, &mut rng, &device);
        let input = random(&mut rng, length * hidden);
        let data = TensorData::new(input.clone(), [1, length, hidden]);
        let want = values(layer.forward(Tensor::from_data(data, &device)));

        let mut stream = layer.stream();
        assert_eq!((stream.state_dim(), stream.hidden_dim()), (state, hidden));
        let mut got = vec![0.0; length * hidden];
        for (u, y) in input.chunks_exact(hidden).zip(got.chunks_exact_mut(hidden)) {
            stream.step(u, y);
        }
        // A state remembers a thousand steps at |λ| = 0.999.
        let tolerance = tolerance(state * hidden * length.min(1000));
        assert!(
            error(&got, &want) < tolerance,
            "{state} {hidden}: {:e}",
            error(&got, &want)
        );
    }
}

#[test]
fn a_stream_goes_on_from_any_state_and_forgets_on_reset() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let layer = Lru::<Flex>::init(20, 5, INIT, &mut rng, &Default::default());
    let input = random(&mut rng, 40 * 5);
    let run = |stream: &mut ssm_core::DiagonalStream, steps: std::ops::Range<usize>| {
        let mut output = vec![0.0; 5];
        let mut all = Vec::new();
        for step in steps {
            stream.step(&input[step * 5..][..5], &mut output);
            all.extend_from_slice(&output);
        }
        all
    };
    let mut stream = layer.stream();
    let whole = run(&mut stream, 0..40);
    for cut in [0, 1, 17, 39, 40] {
        stream.reset();
        let mut parts = run(&mut stream, 0..cut);
        let mut other = layer.stream();
        other.set_state(stream.state());
        parts.extend(run(&mut other, cut..40));
        assert_eq!(parts, whole, "cut at {cut}");
    }
}

fn classifier(encoder: Encoder) -> Model<Flex> {
    let architecture = Architecture {
        encoder,
        hidden_dim: 12,
        state_dims: vec![9, 30],
        layer: LayerSettings::Lru(INIT),
        head: Head::Classes { classes: 7 },
    };
    let device = Default::default();
    let mut model = Model::<Flex>::init(&architecture, 5, &device);
    // Statistics that a batch could have had, so that normalization is not the identity.
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for _ in 0..20 {
        let statistics = (0..2)
            .map(|_| {
                let mut draw = |low: f32| -> Tensor<Flex, 1> {
                    let values: Vec<f32> = (0..12).map(|_| rng.random_range(low..2.0)).collect();
                    Tensor::from_data(TensorData::new(values, [12]), &device)
                };
                Some((draw(-1.0), draw(0.5)))
            })
            .collect();
        model.update_statistics(statistics);
    }
    model
}

#[test]
fn a_classifier_fed_with_features_equals_the_whole_sequence_at_every_length() {
    let model = classifier(Encoder::Linear { channels: 3 });
    let input = random(&mut ChaCha8Rng::seed_from_u64(7), 200 * 3);
    let mut stream = model.stream();
    let mut got = vec![0.0; 7];
    for round in 0..2 {
        for (step, features) in input.chunks_exact(3).enumerate() {
            stream.push_features(features);
            let length = step + 1;
            if [1, 2, 57, 200].contains(&length) {
                let data = TensorData::new(input[..length * 3].to_vec(), [1, length, 3]);
                let whole = Sequences::Features(Tensor::from_data(data, &Default::default()));
                let want = values(model.forward(whole, Readout::Mean));
                stream.logits(&mut got);
                let error = error(&got, &want);
                assert!(
                    error < tolerance(30 * 12 * length),
                    "round {round}, {length}: {error:e}"
                );
            }
        }
        assert_eq!(stream.steps(), 200);
        stream.reset();
    }
}

#[test]
fn a_classifier_fed_with_tokens_equals_the_whole_sequence() {
    let model = classifier(Encoder::Embedding { vocabulary: 11 });
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let tokens: Vec<i32> = (0..90).map(|_| rng.random_range(0..11)).collect();
    let mut stream = model.stream();
    for token in &tokens {
        stream.push_token(*token as usize);
    }
    let mut got = vec![0.0; 7];
    stream.logits(&mut got);
    let data = TensorData::new(tokens, [1, 90]);
    let whole = Tensor::<Flex, 2, Int>::from_data(data, &Default::default());
    let want = values(model.forward(Sequences::Tokens(whole), Readout::Mean));
    let error = error(&got, &want);
    assert!(error < tolerance(30 * 12 * 90), "{error:e}");
}

#[test]
#[should_panic(expected = "the model reads tokens")]
fn features_are_refused_by_a_model_of_tokens() {
    classifier(Encoder::Embedding { vocabulary: 11 })
        .stream()
        .push_features(&[0.0; 3]);
}

/// Mixers with so many taps.
type Mixer = fn(usize) -> LayerSettings;

const MIXERS: [Mixer; 2] = [
    |conv_kernel| {
        LayerSettings::Mamba(SelectiveSettings {
            expand: 2,
            conv_kernel,
            dt_rank: Some(3),
        })
    },
    // Of three heads.
    |conv_kernel| {
        LayerSettings::Mamba2(DualSettings {
            expand: 2,
            conv_kernel,
            head_dim: 6,
        })
    },
];

/// Sizes that are no multiples of a vector.
fn mamba(mixer: Mixer, encoder: Encoder, head: Head, taps: usize) -> Model<Flex> {
    let architecture = Architecture {
        encoder,
        hidden_dim: 9,
        state_dims: vec![5, 13, 1],
        layer: mixer(taps),
        head,
    };
    Model::init(&architecture, 9, &Default::default())
}

/// Three layers of projections, a filter, a scan whose states remember up to a thousand steps, and norms.
fn mamba_tolerance(length: usize) -> f32 {
    tolerance(3 * 18 * 13 * length)
}

fn some_tokens(count: usize, vocabulary: i32) -> Vec<i32> {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    (0..count)
        .map(|_| rng.random_range(0..vocabulary))
        .collect()
}

#[test]
fn a_language_model_answers_at_every_step_as_for_the_whole_sequence() {
    for (mixer, tied) in MIXERS.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        for taps in [1, 4] {
            let encoder = Encoder::Embedding { vocabulary: 11 };
            let model = mamba(mixer, encoder, Head::Tokens { tied }, taps);
            let tokens = some_tokens(150, 11);
            let data = TensorData::new(tokens.clone(), [1, 150]);
            let whole = Tensor::<Flex, 2, Int>::from_data(data, &Default::default());
            let want = values(model.forward(Sequences::Tokens(whole), Readout::EveryStep));

            let mut stream = model.stream();
            for round in 0..2 {
                let mut got = vec![0.0; 150 * 11];
                for (token, logits) in tokens.iter().zip(got.chunks_exact_mut(11)) {
                    stream.push_token(*token as usize);
                    stream.logits(logits);
                }
                let error = error(&got, &want);
                assert!(
                    error < mamba_tolerance(150),
                    "{} tied {tied} taps {taps} round {round}: {error:e}",
                    model.kind()
                );
                assert_eq!(stream.steps(), 150);
                stream.reset();
            }
        }
    }
}

#[test]
fn heads_with_bases_of_their_own_stream_as_well() {
    let encoder = Encoder::Embedding { vocabulary: 11 };
    let mut model = mamba(MIXERS[1], encoder, Head::Tokens { tied: true }, 4);
    for block in &mut model.blocks {
        let Layer::Mamba2(mixer) = &block.layer else {
            unreachable!("the model was made of this kind");
        };
        let (states, order) = (mixer.state_dim(), mixer.state_dim().div_ceil(2));
        let entry = |i: usize, j: usize| (1.0 + 2.3 * i as f64 + 0.7 * (i * j) as f64).sin();
        let pair = |head: usize| {
            let right = Mat::from_fn(states, order, |i, j| entry(i + head, j));
            (
                right,
                Mat::from_fn(order, states, |i, j| entry(j, i + head)),
            )
        };
        block.layer = Layer::Mamba2(mixer.balanced(&[pair(0), pair(1), pair(2)]));
    }
    let tokens = some_tokens(60, 11);
    let data = TensorData::new(tokens.clone(), [1, 60]);
    let whole = Tensor::<Flex, 2, Int>::from_data(data, &Default::default());
    let want = values(model.forward(Sequences::Tokens(whole), Readout::EveryStep));
    let (mut stream, mut got) = (model.stream(), vec![0.0; 60 * 11]);
    for (token, logits) in tokens.iter().zip(got.chunks_exact_mut(11)) {
        stream.push_token(*token as usize);
        stream.logits(logits);
    }
    assert!(error(&got, &want) < mamba_tolerance(60));
}

#[test]
fn a_mamba_classifier_fed_with_features_equals_the_whole_sequence_at_every_length() {
    for mixer in MIXERS {
        let head = Head::Classes { classes: 7 };
        let model = mamba(mixer, Encoder::Linear { channels: 3 }, head, 4);
        let input = random(&mut ChaCha8Rng::seed_from_u64(7), 200 * 3);
        let (mut stream, mut got) = (model.stream(), vec![0.0; 7]);
        for (step, features) in input.chunks_exact(3).enumerate() {
            stream.push_features(features);
            let length = step + 1;
            if [1, 2, 57, 200].contains(&length) {
                let data = TensorData::new(input[..length * 3].to_vec(), [1, length, 3]);
                let whole = Sequences::Features(Tensor::from_data(data, &Default::default()));
                let want = values(model.forward(whole, Readout::Mean));
                stream.logits(&mut got);
                let error = error(&got, &want);
                assert!(
                    error < mamba_tolerance(length),
                    "{} {length}: {error:e}",
                    model.kind()
                );
            }
        }
    }
}

#[test]
fn a_mamba_classifier_fed_with_tokens_equals_the_whole_sequence() {
    for mixer in MIXERS {
        let head = Head::Classes { classes: 7 };
        let model = mamba(mixer, Encoder::Embedding { vocabulary: 11 }, head, 3);
        let tokens = some_tokens(90, 11);
        let (mut stream, mut got) = (model.stream(), vec![0.0; 7]);
        for token in &tokens {
            stream.push_token(*token as usize);
        }
        stream.logits(&mut got);
        let data = TensorData::new(tokens, [1, 90]);
        let whole = Tensor::<Flex, 2, Int>::from_data(data, &Default::default());
        let want = values(model.forward(Sequences::Tokens(whole), Readout::Mean));
        let error = error(&got, &want);
        assert!(error < mamba_tolerance(90), "{}: {error:e}", model.kind());
    }
}

#[test]
fn a_clone_goes_its_own_way_from_where_it_was_made() {
    for mixer in MIXERS {
        let encoder = Encoder::Embedding { vocabulary: 11 };
        let model = mamba(mixer, encoder, Head::Tokens { tied: true }, 4);
        let after = |stream: &mut ModelStream, tokens: &[usize]| {
            tokens.iter().for_each(|token| stream.push_token(*token));
            let mut logits = vec![0.0; 11];
            stream.logits(&mut logits);
            logits
        };
        let mut first = model.stream();
        after(&mut first, &[3, 1, 4, 1, 5]);
        let mut second = first.clone();
        let [one, other] = [(&mut first, 9), (&mut second, 2)].map(|(s, t)| after(s, &[t, 6]));
        assert_eq!(one, after(&mut model.stream(), &[3, 1, 4, 1, 5, 9, 6]));
        assert_eq!(other, after(&mut model.stream(), &[3, 1, 4, 1, 5, 2, 6]));
        assert_ne!(one, other);
    }
}

#[test]
#[should_panic(expected = "token 11 of a vocabulary of 11")]
fn a_token_outside_the_vocabulary_is_refused() {
    let encoder = Encoder::Embedding { vocabulary: 11 };
    mamba(MIXERS[0], encoder, Head::Tokens { tied: true }, 4)
        .stream()
        .push_token(11);
}

#[test]
#[should_panic(expected = "an answer needs a step")]
fn an_answer_before_the_first_step_is_refused() {
    let encoder = Encoder::Embedding { vocabulary: 11 };
    mamba(MIXERS[0], encoder, Head::Tokens { tied: true }, 4)
        .stream()
        .logits(&mut [0.0; 11]);
}
