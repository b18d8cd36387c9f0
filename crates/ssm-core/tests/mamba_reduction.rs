//! What is left of a selective mixer when states are removed.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use burn::{
    backend::Flex,
    tensor::{Distribution, Int, Tensor, TensorData, backend::Backend},
};
use hsv::Mat;
use ssm_core::{
    Architecture, DualMixer, DualSettings, Encoder, GramianEstimate, Head, HeadBasis, HeadGramians,
    Layer, LayerSettings, Model, SelectiveSettings, Sequences,
};

/// T and Wᵀ.
type Projections = (Mat<f64>, Mat<f64>);

const STATE: usize = 16;
const LENGTH: usize = 80;

fn model(layer: LayerSettings) -> Model<Flex> {
    let architecture = Architecture {
        encoder: Encoder::Embedding { vocabulary: 20 },
        hidden_dim: 12,
        state_dims: vec![STATE, STATE],
        layer,
        head: Head::Tokens { tied: true },
    };
    Model::init(&architecture, 3, &Default::default())
}

const SELECTIVE: LayerSettings = LayerSettings::Mamba(SelectiveSettings {
    expand: 2,
    conv_kernel: 4,
    dt_rank: Some(2),
});

/// Of three heads.
const DUAL: LayerSettings = LayerSettings::Mamba2(DualSettings {
    expand: 2,
    conv_kernel: 4,
    head_dim: 8,
});

const KINDS: [LayerSettings; 2] = [SELECTIVE, DUAL];

fn tokens() -> Sequences<Flex> {
    let tokens: Vec<i32> = (0..4 * LENGTH)
        .map(|i| (i * i * 7 + i / 5) as i32 % 20)
        .collect();
    let data = TensorData::new(tokens, [4, LENGTH]);
    Sequences::Tokens(Tensor::<Flex, 2, Int>::from_data(data, &Default::default()))
}

fn rms(x: Tensor<Flex, 3>) -> f64 {
    f64::from(x.square().mean().into_scalar()).sqrt()
}

/// Relative distance of the outputs of two mixers.
fn distance(a: &Layer<Flex>, b: &Layer<Flex>, input: &Tensor<Flex, 3>) -> f64 {
    let (a, b) = (a.forward(input.clone()), b.forward(input.clone()));
    rms(a - b.clone()) / rms(b)
}

#[test]
fn all_states_in_any_order_are_the_same_mixer_and_none_of_them_is_idle() {
    for kind in KINDS {
        let model = model(kind.clone());
        let input = model.layer_inputs(tokens()).remove(1);
        let mixer = &model.blocks[1].layer;
        let all: Vec<usize> = (0..STATE).collect();
        assert_eq!(distance(&mixer.selected(&all), mixer, &input), 0.0);
        let backwards: Vec<usize> = (0..STATE).rev().collect();
        let turned = mixer.selected(&backwards);
        // The same sums in another order.
        assert!(distance(&turned, mixer, &input) < 1e-5, "{kind:?}");
        assert_eq!(distance(&turned.selected(&backwards), mixer, &input), 0.0);
        for without in 0..STATE {
            let kept: Vec<usize> = all.iter().copied().filter(|n| *n != without).collect();
            let smaller = mixer.selected(&kept);
            assert_eq!(smaller.state_dim(), STATE - 1);
            assert!(
                distance(&smaller, mixer, &input) > 1e-6,
                "{kind:?}, {without}"
            );
        }
    }
}

#[test]
fn a_model_of_fewer_states_goes_through_a_file() {
    for kind in KINDS {
        let mut model = model(kind);
        for (block, kept) in model.blocks.iter_mut().zip([&[0, 3, 5][..], &[1, 2]]) {
            block.layer = block.layer.selected(kept);
        }
        assert_eq!(model.state_dims(), [3, 2]);
        let again = Model::<Flex>::from_tensors(model.to_tensors(), &Default::default()).unwrap();
        assert_eq!(again.to_tensors(), model.to_tensors());
        assert_eq!(again.sizes(), model.sizes());
    }
}

/// A Mamba-2 mixer whose B and C have unlike spectra in a basis that is not that of their entries.
fn uneven() -> (DualMixer<Flex>, Tensor<Flex, 3>) {
    let mut model = model(DUAL);
    let device = Default::default();
    Flex::seed(&device, 5);
    let channels = 24;
    let Layer::Mamba2(mixer) = &mut model.blocks[1].layer else {
        unreachable!("the model was made of this kind");
    };
    // SiLU of the filters' biases drowns what the input does: without them B and C are near linear in it.
    let bias = mixer.conv1d.bias.val();
    let bias = Tensor::cat(
        vec![
            bias.clone().narrow(0, 0, channels),
            bias.narrow(0, channels, 2 * STATE) * 0.1,
        ],
        0,
    );
    mixer.conv1d.bias = burn::module::Param::from_tensor(bias);
    // Keys fall off along one turned basis, queries grow along another.
    let turn =
        || Tensor::<Flex, 2>::random([STATE, STATE], Distribution::Normal(0.0, 0.25), &device);
    let scales = |sign: f32| {
        let scales: Vec<f32> = (0..STATE).map(|i| (sign * 0.15 * i as f32).exp()).collect();
        Tensor::<Flex, 1>::from_floats(scales.as_slice(), &device).unsqueeze_dim::<2>(1)
    };
    let weight = mixer.in_proj.weight.val();
    let rows = |first: usize, count: usize| weight.clone().narrow(0, first, count);
    let (b, c) = (rows(2 * channels, STATE), rows(2 * channels + STATE, STATE));
    let weight = Tensor::cat(
        vec![
            rows(0, 2 * channels),
            turn().matmul(b * scales(-1.0) * 8.0),
            turn().matmul(c * scales(1.0)),
            rows(2 * channels + 2 * STATE, 3),
        ],
        0,
    );
    mixer.in_proj.weight = burn::module::Param::from_tensor(weight);
    let mixer = mixer.clone();
    (mixer, model.layer_inputs(tokens()).remove(1))
}

#[test]
fn a_full_basis_for_every_head_gives_the_output_back() {
    let (mixer, input) = uneven();
    let gramians = mixer.head_gramians(input.clone(), &[LENGTH; 4]);
    let projections: Vec<Projections> = gramians
        .iter()
        .map(|head| {
            let balanced = head.in_basis(HeadBasis::Balanced).unwrap();
            assert_eq!(balanced.rank(), STATE);
            balanced.projections(STATE)
        })
        .collect();
    let whole = mixer.balanced(&projections);
    let reference = Layer::Mamba2(mixer.clone());
    // f32 maps of a condition of some tens.
    let error = distance(&Layer::Mamba2(whole.clone()), &reference, &input);
    assert!(error < 1e-4, "{error:e}");

    // A basis of a basis, and states chosen in it.
    let identity = Mat::<f64>::identity(STATE, STATE);
    let again = whole.balanced(&vec![(identity.clone(), identity); 3]);
    assert_eq!(
        distance(&Layer::Mamba2(again), &Layer::Mamba2(whole.clone()), &input),
        0.0
    );
    let kept: Vec<usize> = (0..8).collect();
    let chosen = Layer::Mamba2(whole.selected(&kept));
    let projections: Vec<_> = gramians
        .iter()
        .map(|head| {
            let balanced = head.in_basis(HeadBasis::Balanced).unwrap();
            balanced.projections(8)
        })
        .collect();
    let truncated = Layer::Mamba2(mixer.balanced(&projections));
    assert_eq!(chosen.state_dim(), 8);
    assert!(distance(&chosen, &truncated, &input) < 1e-5);
}

#[test]
fn balanced_heads_lose_less_than_principal_directions_and_chosen_states() {
    let (mixer, input) = uneven();
    let reference = Layer::Mamba2(mixer.clone());
    let gramians = mixer.head_gramians(input.clone(), &[LENGTH; 4]);
    let scores = mixer.state_scores(input.clone(), &[LENGTH; 4], GramianEstimate::Empirical);
    let mut ranking: Vec<usize> = (0..STATE).collect();
    ranking.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    for order in [2, 4, 8] {
        let in_basis = |basis: HeadBasis| {
            let projections =
                |head: &HeadGramians| head.in_basis(basis).unwrap().projections(order);
            let projections: Vec<Projections> = gramians.iter().map(projections).collect();
            let smaller = Layer::Mamba2(mixer.balanced(&projections));
            distance(&smaller, &reference, &input)
        };
        let [balanced, keys, queries] =
            [HeadBasis::Balanced, HeadBasis::Keys, HeadBasis::Queries].map(in_basis);
        let axes = distance(&reference.selected(&ranking[..order]), &reference, &input);
        for (name, other) in [("keys", keys), ("queries", queries), ("axes", axes)] {
            assert!(
                balanced < other,
                "order {order}: {balanced} against {other} of {name}"
            );
        }
    }
}
