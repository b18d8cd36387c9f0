//! A stream allocates when it is made and never again. In a program of its own, for the allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use burn::backend::Flex;
use ssm_core::{
    Classifier, ClassifierConfig, Encoder, LruInit, Mamba, MambaConfig, MambaHead, MixerKind,
};

struct Counting;

thread_local! {
    /// Of this thread: the test harness may do what it likes on its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_stream_under_way_allocates_nothing() {
    let config = |encoder| ClassifierConfig {
        encoder,
        hidden_dim: 10,
        state_dims: vec![16, 5],
        classes: 4,
    };
    let init = LruInit {
        r_min: 0.9,
        r_max: 0.999,
        max_phase: 6.0,
    };
    let model = |encoder| Classifier::<Flex>::init(&config(encoder), init, 1, &Default::default());
    let layer = &model(Encoder::Linear { channels: 2 }).blocks[0].lru;
    let mut recurrence = layer.stream();
    let mut features = model(Encoder::Linear { channels: 2 }).stream();
    let mut tokens = model(Encoder::Embedding { vocabulary: 3 }).stream();
    let mamba = |mixer, encoder, head| {
        let config = MambaConfig {
            encoder,
            hidden_dim: 6,
            state_dims: vec![16, 5],
            channels: 12,
            taps: 4,
            mixer,
            head,
        };
        Mamba::<Flex>::init(&config, 1, &Default::default()).stream()
    };
    let mut selective = mamba(
        MixerKind::Selective { step_rank: 2 },
        Encoder::Embedding { vocabulary: 4 },
        MambaHead::Tokens { tied: true },
    );
    let mut dual = mamba(
        MixerKind::Dual { heads: 3 },
        Encoder::Linear { channels: 2 },
        MambaHead::Classes { classes: 4 },
    );
    let (mut output, mut logits) = ([0.0; 10], [0.0; 4]);

    // Processor features are looked up once per process, where a lookup may allocate.
    recurrence.step(&[0.5; 10], &mut output);
    let before = ALLOCATIONS.get();
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
    assert_eq!(ALLOCATIONS.get(), before);
}
