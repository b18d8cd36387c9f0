//! The law of every cut: without states that do nothing, a layer's output and the next optimizer step are what they
//! would have been with them.

use burn::backend::{Autodiff, Flex};
use burn::module::Param;
use burn::tensor::{Int, Tensor, TensorData};
use compress_schedule::policy::tolerance;
use compress_schedule::{Decision, Scope};
use hsv::Selection;
use ssm_core::{
    Architecture, DualSettings, Encoder, GramianEstimate, Head, Layer, LayerSettings, LruInit,
    Method, Model, NamedTensors, Readout, Realization, Reduction, S4dSettings, S5Settings,
    SelectiveSettings, Sequences,
};

use super::{Calibration, Cut, Treatment, carry_out, examine};
use crate::batch::Batch;
use crate::config::OptimizerState;
use crate::optimizer::{AdamW, AdamWConfig, LearningRates};
use crate::step::train_step;

type Cpu = Autodiff<Flex>;

const STATE: usize = 6;
/// Neither reached by an input nor seen by the output: their parameters get no gradient, and stay as they are.
const IDLE: [usize; 2] = [1, 4];
const KEPT: [usize; 4] = [0, 2, 3, 5];
const LENGTH: usize = 30;
const EXAMPLES: usize = 6;
const RATE: f64 = 1e-2;

/// A chirp, not the backend's generator: tests beside these would draw from that too.
fn input(step: u8) -> TensorData {
    let chirp = |i: u16| (0.37 * f32::from(i).powi(2) + f32::from(step)).sin();
    let values: Vec<f32> = (0..180).map(chirp).collect();
    TensorData::new(values, [EXAMPLES, LENGTH, 1])
}

fn batch(step: u8) -> Batch<Cpu> {
    let device = Default::default();
    let labels = TensorData::new(vec![0, 1, 2, 3, i32::from(step % 4), 0], [EXAMPLES]);
    Batch {
        input: Sequences::Features(Tensor::from_data(input(step), &device)),
        readout: Readout::Mean,
        lengths: vec![LENGTH; EXAMPLES],
        labels: Tensor::<Cpu, 1, Int>::from_data(labels, &device),
    }
}

fn step(model: &mut Model<Cpu>, optimizer: &mut AdamW<Cpu>, number: u8) {
    let rates = LearningRates {
        main: RATE,
        recurrent: RATE,
    };
    train_step(model, optimizer, batch(number), None, rates);
}

/// Sets some slices of a parameter along an axis to zero.
fn silence<const D: usize>(param: &mut Param<Tensor<Cpu, D>>, axis: usize, positions: &[usize]) {
    let shape = param.dims();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut values: Vec<f32> = param.to_data().iter().collect();
    for (at, value) in values.iter_mut().enumerate() {
        if positions.contains(&(at / inner % shape[axis])) {
            *value = 0.0;
        }
    }
    let data = TensorData::new(values, shape);
    *param = Param::from_tensor(Tensor::from_data(data, &Default::default()));
}

fn model(hidden_dim: usize, layer: LayerSettings) -> Model<Cpu> {
    let architecture = Architecture {
        encoder: Encoder::Linear { channels: 1 },
        hidden_dim,
        state_dims: vec![STATE],
        layer,
        head: Head::Classes { classes: 4 },
    };
    let mut model = Model::init(&architecture, 3, &Default::default());
    make_idle(&mut model);
    model
}

/// Takes what goes into the idle states and what comes out of them.
fn make_idle(model: &mut Model<Cpu>) {
    let rows = |first: usize| -> Vec<usize> {
        let both = [first, first + STATE].into_iter();
        both.flat_map(|first| IDLE.map(|n| first + n)).collect()
    };
    match &mut model.blocks[0].layer {
        Layer::Lru(lru) => {
            silence(&mut lru.B_re, 0, &IDLE);
            silence(&mut lru.B_im, 0, &IDLE);
            silence(&mut lru.C_re, 1, &IDLE);
            silence(&mut lru.C_im, 1, &IDLE);
        }
        Layer::S5(s5) => {
            silence(&mut s5.B, 0, &IDLE);
            silence(&mut s5.C, 1, &IDLE);
        }
        Layer::S4d(s4d) => silence(&mut s4d.C, 1, &IDLE),
        Layer::Mamba(mixer) => silence(&mut mixer.x_proj.weight, 0, &rows(STEP_RANK)),
        Layer::Mamba2(mixer) => {
            silence(&mut mixer.in_proj.weight, 0, &rows(2 * CHANNELS));
            silence(&mut mixer.conv1d.bias, 0, &rows(CHANNELS));
        }
    }
}

fn lru() -> Model<Cpu> {
    let init = LruInit {
        r_min: 0.7,
        r_max: 0.95,
        max_phase: 6.0,
    };
    model(3, LayerSettings::Lru(init))
}

fn s5() -> Model<Cpu> {
    model(3, LayerSettings::S5(S5Settings::default()))
}

fn s4d() -> Model<Cpu> {
    model(3, LayerSettings::S4d(S4dSettings::default()))
}

const CHANNELS: usize = 8;
const STEP_RANK: usize = 2;
const TAPS: usize = 3;

fn mamba() -> Model<Cpu> {
    let settings = SelectiveSettings {
        expand: 2,
        conv_kernel: TAPS,
        dt_rank: Some(STEP_RANK),
    };
    model(4, LayerSettings::Mamba(settings))
}

fn mamba2() -> Model<Cpu> {
    let settings = DualSettings {
        expand: 2,
        conv_kernel: TAPS,
        head_dim: CHANNELS / 2,
    };
    model(4, LayerSettings::Mamba2(settings))
}

/// A model that has been trained for a few steps, with the moments of them.
fn trained(mut model: Model<Cpu>) -> (Model<Cpu>, AdamW<Cpu>) {
    let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.01 });
    for number in 0..5 {
        step(&mut model, &mut optimizer, number);
    }
    // Of S4D every state is driven, and so what comes out of it has a gradient; the others are as idle as they were.
    make_idle(&mut model);
    (model, optimizer)
}

fn treatment(reduction: Reduction, optimizer_state: OptimizerState) -> Treatment {
    Treatment {
        method: Method {
            realization: Realization::Complex,
            reduction,
            selection: Selection::Largest,
            estimate: GramianEstimate::Empirical,
        },
        optimizer_state,
    }
}

/// Takes the idle states out, as a check of a run would.
fn cut(model: &mut Model<Cpu>, optimizer: &mut AdamW<Cpu>, treatment: Treatment) -> Cut {
    let calibration = Calibration {
        input: Sequences::Features(Tensor::from_data(input(9), &Default::default())),
        lengths: vec![LENGTH; EXAMPLES],
    };
    let mut examined = examine(model, None, &calibration, treatment.method);
    let decision = Decision::Cut {
        from: STATE,
        to: KEPT.len(),
        discarded_share: 0.0,
        reason: tolerance::Cut {
            tau: 0.0,
            scope: Scope::Layer,
        }
        .into(),
    };
    let decided = vec![(examined.remove(0), decision)];
    let mut reports = carry_out(model, optimizer, 5, decided, calibration, treatment);
    let report = reports.remove(0);
    assert_eq!(report.refusal, None);
    assert_eq!(model.state_dims(), [KEPT.len()]);
    report.cut.expect("it was decided and not refused")
}

/// The model without its idle states, and nothing else done to it.
fn without_idle_states(model: &Model<Cpu>) -> NamedTensors {
    let mut model = model.clone();
    let layer = &mut model.blocks[0].layer;
    *layer = layer.selected(&KEPT);
    model.to_tensors()
}

/// Largest difference between values of a tensor in two models.
fn distance(a: &NamedTensors, b: &NamedTensors, name: &str) -> f64 {
    let (a, b) = (&a.0[name], &b.0[name]);
    assert_eq!(a.shape, b.shape, "{name}");
    let pairs = a.values.iter().zip(&b.values);
    pairs.fold(0.0, |most, (a, b)| most.max(f64::from((a - b).abs())))
}

fn farthest(a: &NamedTensors, b: &NamedTensors) -> f64 {
    assert!(a.0.keys().eq(b.0.keys()));
    a.0.keys()
        .fold(0.0, |most, name| most.max(distance(a, b, name)))
}

/// Gradients of both models are sums of the same `f32` terms in another order. Adam divides them by their size, so
/// parameters a thousandth of a step apart have gradients a thousandth apart.
const SAME_STEP: f64 = 1e-3 * RATE;

/// Outputs of both layers are sums of the same `f32` terms in another order.
const SAME_OUTPUT: f64 = 1e-5;

fn selections() -> [(Model<Cpu>, Reduction); 5] {
    [lru(), s5(), s4d(), mamba(), mamba2()].map(|model| (model, Reduction::Modal))
}

#[test]
fn states_that_do_nothing_go_without_a_trace_where_others_are_kept_as_they_are() {
    for (model, reduction) in selections() {
        let (mut large, mut optimizer) = trained(model);
        let before = large.to_tensors();
        let (mut small, mut small_optimizer) = (large.clone(), optimizer.clone());
        let keep = treatment(reduction, OptimizerState::Transform);
        let cut = cut(&mut small, &mut small_optimizer, keep);
        assert!(cut.measured.relative.unwrap() < SAME_OUTPUT, "{cut:?}");
        assert_eq!(cut.discarded, 0.0);
        assert_eq!(
            farthest(&small.to_tensors(), &without_idle_states(&large)),
            0.0
        );

        step(&mut large, &mut optimizer, 5);
        step(&mut small, &mut small_optimizer, 5);
        let moved = farthest(&large.to_tensors(), &before);
        assert!(moved > 0.1 * RATE, "a step was made: {moved:e}");
        let apart = farthest(&small.to_tensors(), &without_idle_states(&large));
        assert!(apart < SAME_STEP, "{apart:e}");
    }
}

#[test]
fn an_optimizer_that_forgets_makes_another_step() {
    for (model, reduction) in selections() {
        let (mut large, mut optimizer) = trained(model);
        let (mut small, mut small_optimizer) = (large.clone(), optimizer.clone());
        let forget = treatment(reduction, OptimizerState::Reset);
        cut(&mut small, &mut small_optimizer, forget);
        step(&mut large, &mut optimizer, 5);
        step(&mut small, &mut small_optimizer, 5);
        let apart = farthest(&small.to_tensors(), &without_idle_states(&large));
        assert!(apart > 0.1 * RATE, "{apart:e}");
    }
}

#[test]
fn modes_that_stay_keep_the_bits_of_their_parameters_and_moments() {
    let (mut model, mut optimizer) = trained(lru());
    if let Layer::Lru(lru) = &mut model.blocks[0].layer {
        // A phase beyond 2π, which a way through a system would bring back below.
        let theta = lru.theta_log.val();
        let far = Tensor::from_floats([2.1, 0.0, 0.0, 0.0, 0.0, 0.0], &Default::default());
        lru.theta_log = Param::from_tensor((theta + far).detach());
    }
    let (before, moments) = (model.to_tensors(), optimizer.to_tensors());
    let keep = treatment(Reduction::Modal, OptimizerState::Transform);
    cut(&mut model, &mut optimizer, keep);
    let (after, carried) = (model.to_tensors(), optimizer.to_tensors());
    for (name, is_column) in [
        ("nu_log", false),
        ("theta_log", false),
        ("gamma_log", false),
        ("B_re", false),
        ("B_im", false),
        ("C_re", true),
        ("C_im", true),
    ] {
        let name = format!("blocks.0.lru.{name}");
        let stays = |values: &[f32]| -> Vec<u32> {
            let width = values.len() / STATE;
            let state = |at: usize| if is_column { at % STATE } else { at / width };
            let kept = (0..values.len()).filter(|at| KEPT.contains(&state(*at)));
            kept.map(|at| values[at].to_bits()).collect()
        };
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&after.0[&name].values),
            stays(&before.0[&name].values),
            "{name}"
        );
        for kind in ["first", "second"] {
            let name = format!("{kind}.{name}");
            let (old, new) = (&moments.0[&name].values, &carried.0[&name].values);
            assert!(old.iter().any(|v| *v != 0.0), "{name}");
            assert_eq!(bits(new), stays(old), "{name}");
        }
        let steps = format!("steps.{name}");
        assert_eq!(carried.0[&steps], moments.0[&steps]);
    }
}

/// Balancing leaves the modes of this cut alone but for their scale and phase. Outside of B, C and γ the next step is
/// therefore the same, up to the rounding of the new parameters; on B, C and γ Adam steps by the size of their
/// entries, which the scale decides (docs/compression.md).
#[test]
fn balanced_states_without_idle_ones_step_alike_but_for_the_scale() {
    let (mut large, mut optimizer) = trained(lru());
    let (mut small, mut small_optimizer) = (large.clone(), optimizer.clone());
    let transform = treatment(Reduction::Balanced, OptimizerState::Transform);
    let cut = cut(&mut small, &mut small_optimizer, transform);
    assert!(cut.measured.relative.unwrap() < SAME_OUTPUT, "{cut:?}");
    step(&mut large, &mut optimizer, 5);
    step(&mut small, &mut small_optimizer, 5);
    let (large, small) = (without_idle_states(&large), small.to_tensors());
    let poles = |tensors: &NamedTensors| -> Vec<[f32; 2]> {
        let parameter = |name: &str| tensors.0[&format!("blocks.0.lru.{name}")].values.clone();
        let pairs = parameter("nu_log").into_iter().zip(parameter("theta_log"));
        let mut poles: Vec<[f32; 2]> = pairs.map(|(nu, theta)| [nu, theta]).collect();
        poles.sort_by(|a, b| a[1].total_cmp(&b[1]));
        poles
    };
    for (a, b) in poles(&large)
        .as_flattened()
        .iter()
        .zip(poles(&small).as_flattened())
    {
        let apart = f64::from((a - b).abs());
        assert!(apart < SAME_STEP, "{apart:e}");
    }
    let scaled = [
        "gamma_log",
        "B_re",
        "B_im",
        "C_re",
        "C_im",
        "nu_log",
        "theta_log",
    ]
    .map(|name| format!("blocks.0.lru.{name}"));
    for name in large.0.keys().filter(|name| !scaled.contains(name)) {
        let apart = distance(&large, &small, name);
        assert!(apart < SAME_STEP, "{name}: {apart:e}");
    }
}

/// The bases of the heads are new parameters, whose first step is their own. All others step as they would have.
#[test]
fn balanced_heads_without_idle_states_leave_the_step_of_everything_else_alone() {
    let (mut large, mut optimizer) = trained(mamba2());
    let (mut small, mut small_optimizer) = (large.clone(), optimizer.clone());
    let keep = treatment(Reduction::Balanced, OptimizerState::Transform);
    let cut = cut(&mut small, &mut small_optimizer, keep);
    // Maps of a condition of some tens, rounded to f32.
    assert!(
        cut.measured.relative.unwrap() < 10.0 * SAME_OUTPUT,
        "{cut:?}"
    );
    step(&mut large, &mut optimizer, 5);
    step(&mut small, &mut small_optimizer, 5);
    let (large, small) = (large.to_tensors(), small.to_tensors());
    assert_eq!(small.0.len(), large.0.len() + 2);
    for name in large.0.keys() {
        let apart = distance(&large, &small, name);
        assert!(apart < 10.0 * SAME_STEP, "{name}: {apart:e}");
    }
    let maps = ["key_map", "query_map"].map(|map| format!("backbone.layers.0.mixer.{map}.weight"));
    assert!(maps.iter().all(|map| small.0.contains_key(map)));
}
