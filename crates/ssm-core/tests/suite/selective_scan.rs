//! The selective scan.

use ssm_core::{SelectiveScanTensors, TrainingBackend, selective_scan, selective_scan_reference};

use super::{Draw, Effort, Form, Placement, Problem, Results, is_as_exact_as_the_twin, results};

#[derive(Clone, Copy, Debug)]
pub struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
    /// Added to the step before softplus: how far a state looks back.
    step_offset: f64,
}

impl Problem for Case {
    fn drawn(seed: u64) -> Option<Self> {
        let draw = &mut Draw::new(seed);
        Some(Self {
            seed,
            batch: draw.one_of(&[1, 2, 3]),
            length: draw.one_of(&[1, 2, 7, 63, 64, 65, 130]),
            channels: draw.one_of(&[1, 3, 31, 32, 33, 70]),
            state: draw.one_of(&[1, 2, 5, 16, 40]),
            // From steps of 20, after which nothing is left of a state, to ones of 1e-5, after which all of it is.
            step_offset: draw.one_of(&[20.0, 0.0, -4.0, -12.0]),
        })
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn terms(&self) -> usize {
        self.batch * self.length * self.channels.max(self.state)
    }

    fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results {
        run::<B>(*self, &Values::of(*self), placement, form)
    }
}

struct Values {
    parts: [Vec<f64>; 7],
    /// Gradient of the output.
    weights: Vec<f64>,
}

impl Values {
    fn of(case: Case) -> Self {
        let draw = &mut Draw::new(case.seed);
        let steps = case.batch * case.length;
        let (wide, narrow) = (steps * case.channels, steps * case.state);
        // As at initialization: -1, -2, ..., the slowest and the fastest of them close to nothing.
        let rates = (0..case.channels * case.state)
            .map(|i| -f64::from((i % case.state) as f32) - 1e-3)
            .collect();
        Self {
            parts: [
                draw.values(wide),
                draw.affine(wide, 2.0, case.step_offset),
                rates,
                draw.values(narrow),
                draw.values(narrow),
                draw.values(case.channels),
                draw.affine(wide, 3.0, 0.0),
            ],
            weights: draw.values(wide),
        }
    }
}

/// Output, and gradients of every input in the order of [`SelectiveScanTensors`].
fn run<B: TrainingBackend>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    form: Form,
) -> Results {
    let wide = [case.batch, case.length, case.channels];
    let narrow = [case.batch, case.length, case.state];
    let [u, step, a, b, c, d, z] = &v.parts;
    let scan = SelectiveScanTensors::<B> {
        input: placement.place(u, wide),
        step: placement.place(step, wide),
        decay: placement.place(a, [case.channels, case.state]),
        input_vector: placement.place(b, narrow),
        output_vector: placement.place(c, narrow),
        feedthrough: placement.place(d, [case.channels]),
        gate: placement.place(z, wide),
    };
    let output = match form {
        Form::Kernel => selective_scan(scan.clone()),
        Form::Twin => selective_scan_reference(scan.clone()),
    };
    results!(
        output,
        &v.weights,
        placement,
        [
            scan.input,
            scan.step,
            scan.decay,
            scan.input_vector,
            scan.output_vector,
            scan.feedthrough,
            scan.gate
        ]
    )
}

/// Steps so small that a state hardly fades: what is added up is as long as the sequence.
pub fn a_selective_scan_neither_drifts_nor_overflows_on_long_sequences<B: TrainingBackend>(
    effort: Effort,
) {
    for step_offset in [-14.0, 30.0] {
        let case = Case {
            seed: 7,
            batch: 1,
            length: 700,
            channels: 2,
            state: 3,
            step_offset,
        };
        is_as_exact_as_the_twin::<Case, B>(case, effort);
    }
}
