//! A stream allocates when it is made and never again. In a program of its own, for the allocator that counts.

mod allocations;

use burn::backend::Flex;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    Architecture, DualSettings, Encoder, Head, LayerSettings, Lru, LruInit, Model,
    SelectiveSettings,
};

#[test]
fn a_stream_under_way_allocates_nothing() {
    let device = Default::default();
    let init = LruInit {
        r_min: 0.9,
        r_max: 0.999,
        max_phase: 6.0,
    };
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let mut recurrence = Lru::<Flex>::init(16, 10, init, rng, &device).stream();
    let stream = |layer, hidden_dim, encoder, head| {
        let architecture = Architecture {
            encoder,
            hidden_dim,
            state_dims: vec![16, 5],
            layer,
            head,
        };
        Model::<Flex>::init(&architecture, 1, &device).stream()
    };
    let classes = Head::Classes { classes: 4 };
    let channels = Encoder::Linear { channels: 2 };
    let mut features = stream(LayerSettings::Lru(init), 10, channels, classes);
    let mut tokens = stream(
        LayerSettings::Lru(init),
        10,
        Encoder::Embedding { vocabulary: 3 },
        classes,
    );
    let settings = SelectiveSettings {
        dt_rank: Some(2),
        ..Default::default()
    };
    let mut selective = stream(
        LayerSettings::Mamba(settings),
        6,
        Encoder::Embedding { vocabulary: 4 },
        Head::Tokens { tied: true },
    );
    let settings = DualSettings {
        head_dim: 4,
        ..Default::default()
    };
    let mut dual = stream(LayerSettings::Mamba2(settings), 6, channels, classes);
    let (mut output, mut logits) = ([0.0; 10], [0.0; 4]);

    // Processor features are looked up once per process, where a lookup may allocate.
    recurrence.step(&[0.5; 10], &mut output);
    let before = allocations::count();
    for step in 0..1000 {
        recurrence.step(&[0.5; 10], &mut output);
        features.push_features(&[0.1, 0.2]);
        features.logits(&mut logits);
        tokens.push_token(step % 3);
        tokens.logits(&mut logits);
        selective.push_token(step % 4);
        selective.logits(&mut logits);
        dual.push_features(&[0.1, 0.2]);
        dual.logits(&mut logits);
    }
    recurrence.reset();
    features.reset();
    selective.reset();
    dual.reset();
    assert_eq!(allocations::count(), before);
}
