//! The plain scan.

use burn::tensor::{DType, Tensor};
use ssm_core::{DecayTensor, Field, TrainingBackend, linear_scan, linear_scan_reference};

use super::sequential::{Complex, Number, Scan, complex, planes};
use super::{Cpu, Draw, Effort, Form, Placement, Results, compare, results};

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    state: usize,
    /// Largest |a|.
    radius: f64,
    field: Field,
    per_step: bool,
}

impl Case {
    fn drawn(seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        Self {
            seed,
            batch: draw.one_of(&[1, 2, 5]),
            length: draw.one_of(&[1, 2, 7, 64, 65, 150]),
            state: draw.one_of(&[1, 2, 13, 32, 70]),
            radius: draw.one_of(&[0.0, 0.9, 1.0 - 1e-6]),
            field: draw.one_of(&[Field::Real, Field::Complex]),
            per_step: draw.one_of(&[false, true]),
        }
    }

    fn width(&self) -> usize {
        match self.field {
            Field::Real => self.state,
            Field::Complex => 2 * self.state,
        }
    }
}

struct Values {
    /// `[width]` or `[batch, length, width]`.
    decay: Vec<f64>,
    input: Vec<f64>,
    initial_state: Vec<f64>,
    /// Gradient of the states.
    weights: Vec<f64>,
}

impl Values {
    fn of(case: Case) -> Self {
        let draw = &mut Draw::new(case.seed);
        let (width, steps) = (case.width(), case.batch * case.length);
        let rows = if case.per_step { steps } else { 1 };
        let decay = (0..rows)
            .flat_map(|_| match case.field {
                // Half of the real factors negative, all of them within the radius.
                Field::Real => {
                    let [real, _] = draw.disk(case.state, case.radius);
                    real
                }
                Field::Complex => draw.disk(case.state, case.radius).concat(),
            })
            .collect();
        Self {
            decay,
            input: draw.values(steps * width),
            initial_state: draw.values(case.batch * width),
            weights: draw.values(steps * width),
        }
    }
}

/// All states, and gradients of decay, input and initial state.
fn run<B: TrainingBackend>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    form: Form,
) -> Results {
    let shape = [case.batch, case.length, case.width()];
    match case.per_step {
        true => {
            let decay = placement.place::<B, 3>(&v.decay, shape);
            run_with(case, v, placement, form, decay, DecayTensor::PerStep)
        }
        false => {
            let decay = placement.place::<B, 1>(&v.decay, [case.width()]);
            run_with(case, v, placement, form, decay, DecayTensor::Constant)
        }
    }
}

fn run_with<B: TrainingBackend, const D: usize>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    form: Form,
    decay: Tensor<B, D>,
    kind: impl Fn(Tensor<B, D>) -> DecayTensor<B>,
) -> Results {
    let input = placement.place::<B, 3>(&v.input, [case.batch, case.length, case.width()]);
    let before = placement.place::<B, 2>(&v.initial_state, [case.batch, case.width()]);
    let scan = match form {
        Form::Kernel => linear_scan,
        Form::Twin => linear_scan_reference,
    };
    let states = scan(
        kind(decay.clone()),
        input.clone(),
        Some(before.clone()),
        case.field,
    );
    results!(states, &v.weights, placement, [decay, input, before])
}

/// The same in loops, for one batch row.
fn in_loops<T: Number>(case: Case, v: &Values) -> Results {
    assert_eq!(case.batch, 1);
    let read = |values: &[f64]| -> Vec<Complex<T>> {
        let rows = values.chunks_exact(case.width());
        match case.field {
            Field::Real => values.iter().map(|re| Complex::of(*re, 0.0)).collect(),
            Field::Complex => rows.flat_map(complex).collect(),
        }
    };
    let write = |values: &[Complex<T>]| -> Vec<f64> {
        let rows = values.chunks_exact(case.state);
        match case.field {
            Field::Real => values.iter().map(|z| z.re.get()).collect(),
            Field::Complex => rows.flat_map(planes).collect(),
        }
    };
    let (decay, input) = (read(&v.decay), read(&v.input));
    let initial_state = read(&v.initial_state);
    let scan = Scan {
        states: case.state,
        decay: &decay,
        input: &input,
        initial_state: &initial_state,
    };
    let states = scan.forward();
    let gradients = scan.backward(&states, &read(&v.weights));
    [
        &states,
        &gradients.decay,
        &gradients.input,
        &gradients.initial_state,
    ]
    .map(|values| Some(write(values)))
    .into()
}

pub fn a_scan_is_as_exact_as_its_twin<B: TrainingBackend>(effort: Effort) {
    for case in (0..effort.cases).map(Case::drawn) {
        let v = Values::of(case);
        let twin = |dtype| run::<Cpu>(case, &v, Placement::plain(dtype), Form::Twin);
        let (truth, plain) = (twin(DType::F64), twin(DType::F32));
        for &dtype in effort.dtypes {
            let placement = Placement::drawn(dtype, &mut Draw::new(case.seed ^ 1));
            let got = run::<B>(case, &v, placement, Form::Kernel);
            let terms = case.batch * case.length;
            compare(
                &got,
                &plain,
                &truth,
                terms,
                effort,
                dtype,
                &(case, placement),
            );
        }
    }
}

pub fn a_scan_neither_drifts_nor_overflows_on_long_sequences<B: TrainingBackend>(effort: Effort) {
    for field in [Field::Real, Field::Complex] {
        for per_step in [false, true] {
            // Nothing is forgotten; and λ^-length is beyond every float.
            for radius in [1.0 - 1e-6, 0.5] {
                let case = Case {
                    seed: 5,
                    batch: 1,
                    length: 65_536,
                    state: 2,
                    radius,
                    field,
                    per_step,
                };
                let v = Values::of(case);
                let (truth, plain) = (in_loops::<f64>(case, &v), in_loops::<f32>(case, &v));
                for &dtype in effort.dtypes {
                    let got = run::<B>(case, &v, Placement::plain(dtype), Form::Kernel);
                    compare(&got, &plain, &truth, case.length, effort, dtype, &case);
                }
            }
        }
    }
}
