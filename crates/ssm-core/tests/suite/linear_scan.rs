//! The plain scan.

use burn::tensor::Tensor;
use ssm_core::{DecayTensor, Field, TrainingBackend, linear_scan, linear_scan_reference};

use super::sequential::{Complex, Number, Scan, complex, planes};
use super::{Draw, Effort, Form, Known, Placement, Problem, Results, results};

#[derive(Clone, Copy, Debug)]
pub struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    state: usize,
    /// Largest |a|.
    radius: f64,
    field: Field,
    per_step: bool,
}

impl Problem for Case {
    fn drawn(seed: u64) -> Option<Self> {
        let draw = &mut Draw::new(seed);
        Some(Self {
            seed,
            batch: draw.one_of(&[1, 2, 5]),
            length: draw.one_of(&[1, 2, 7, 64, 65, 150]),
            state: draw.one_of(&[1, 2, 13, 32, 70]),
            radius: draw.one_of(&[0.0, 0.9, 1.0 - 1e-6]),
            field: draw.one_of(&[Field::Real, Field::Complex]),
            per_step: draw.one_of(&[false, true]),
        })
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn terms(&self) -> usize {
        self.batch * self.length
    }

    fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results {
        run::<B>(*self, &Values::of(*self), placement, form)
    }
}

impl Case {
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
                let known = Known {
                    truth: in_loops::<f64>(case, &v),
                    plain: in_loops::<f32>(case, &v),
                };
                known.compare(case.length, effort, &case, |dtype| {
                    run::<B>(case, &v, Placement::plain(dtype), Form::Kernel)
                });
            }
        }
    }
}
