//! Gradients of layers and blocks against central differences.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod differences;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{DType, Tensor};
use hsv::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    Architecture, Block, Dropout, DualSettings, Encoder, Head, Layer, LayerSettings, Lru, LruInit,
    Model, SelectiveSettings,
};

use differences::{Cpu, check, gradients_of, random};

const HIDDEN: usize = 6;
const STATE: usize = 5;

const INIT: LruInit = LruInit {
    r_min: 0.5,
    r_max: 0.9,
    max_phase: 1.0,
};

#[test]
fn gradients_of_a_linear_recurrent_unit_are_central_differences() {
    let rng = &mut ChaCha8Rng::seed_from_u64(4);
    let layer = Lru::<Cpu>::init(STATE, HIDDEN, INIT, rng, &Default::default());
    check("lru", HIDDEN, &layer, Lru::forward);
}

/// The block of a model that has one.
fn block(layer: LayerSettings, seed: u64) -> Block<Cpu> {
    let architecture = Architecture {
        encoder: Encoder::Linear { channels: 1 },
        hidden_dim: HIDDEN,
        state_dims: vec![STATE],
        layer,
        head: Head::Classes { classes: 2 },
    };
    let mut model = Model::init(&architecture, seed, &Default::default());
    model.blocks.remove(0)
}

#[test]
fn gradients_of_a_block_are_central_differences_with_dropout_and_without() {
    let block = &block(LayerSettings::Lru(INIT), 5);
    check("block in evaluation", HIDDEN, block, Block::forward);
    let dropout = Dropout {
        probability: 0.3,
        seed: 6,
    };
    for dropout in [None, Some(dropout)] {
        let forward = |block: &Block<Cpu>, input| block.forward_train(input, dropout).0;
        check("block in training", HIDDEN, block, forward);
    }
}

fn mamba() -> Block<Cpu> {
    let settings = SelectiveSettings {
        expand: 2,
        conv_kernel: 4,
        dt_rank: Some(2),
    };
    block(LayerSettings::Mamba(settings), 7)
}

/// Of three heads.
fn mamba2() -> Block<Cpu> {
    let settings = DualSettings {
        expand: 2,
        conv_kernel: 4,
        head_dim: 2 * HIDDEN / 3,
    };
    block(LayerSettings::Mamba2(settings), 7)
}

fn lru() -> Block<Cpu> {
    block(LayerSettings::Lru(INIT), 5)
}

/// A node that nothing refers to while its child is made is lost when a backward pass ends elsewhere, and with it a part of
/// the gradient, without a word.
#[test]
fn gradients_are_whole_beside_backward_passes_of_another_thread() {
    let gradients = |block: fn() -> Block<Cpu>| {
        let block = block();
        let input = random(1, [2, 30, HIDDEN]).cast(DType::F32);
        let gradients = block.forward(input).square().sum().backward();
        gradients_of(&block, &gradients)
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let x = Tensor::<Cpu, 1>::ones([1], &Default::default()).require_grad();
                let _ = x.exp().backward();
            }
        });
        let blocks: [fn() -> Block<Cpu>; 3] = [lru, mamba, mamba2];
        let lost: Vec<usize> = blocks
            .into_iter()
            .map(|block| {
                let first = gradients(block);
                (0..100).filter(|_| gradients(block) != first).count()
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(lost, [0, 0, 0]);
    });
}

#[test]
fn gradients_of_a_mamba_layer_are_central_differences() {
    check("mamba", HIDDEN, &mamba(), Block::forward);
}

#[test]
fn gradients_of_a_mamba2_layer_are_central_differences() {
    check("mamba2", HIDDEN, &mamba2(), Block::forward);
}

#[test]
fn gradients_of_a_mamba2_layer_whose_heads_have_bases_are_central_differences() {
    let mut block = mamba2();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut matrix =
        |rows, columns| Mat::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0));
    let bases: Vec<_> = (0..3)
        .map(|_| (matrix(STATE, 2), matrix(2, STATE)))
        .collect();
    let Layer::Mamba2(mixer) = &block.layer else {
        panic!("the layer is of Mamba-2");
    };
    block.layer = Layer::Mamba2(mixer.balanced(&bases));
    check("mamba2 with bases", HIDDEN, &block, Block::forward);
}
