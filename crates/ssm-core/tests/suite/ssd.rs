//! The map of Mamba-2.

use ssm_core::{SsdTensors, TrainingBackend, ssd, ssd_reference};

use super::{Draw, Effort, Form, Placement, Problem, Results, is_as_exact_as_the_twin, results};

#[derive(Clone, Copy, Debug)]
pub struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    heads: usize,
    width: usize,
    state: usize,
    /// Whether every head has a B and a C of its own.
    apart: bool,
    /// Largest step: how far a state looks back.
    step: f64,
}

impl Problem for Case {
    fn drawn(seed: u64) -> Option<Self> {
        let draw = &mut Draw::new(seed);
        Some(Self {
            seed,
            batch: draw.one_of(&[1, 2, 3, 9]),
            length: draw.one_of(&[1, 2, 31, 32, 33, 100]),
            heads: draw.one_of(&[1, 2, 3, 4]),
            width: draw.one_of(&[2, 3, 16, 33]),
            state: draw.one_of(&[2, 5, 16, 40]),
            apart: draw.one_of(&[false, true]),
            // From steps after which nothing is left of a state to ones after which all of it is.
            step: draw.one_of(&[20.0, 1.0, 1e-2, 1e-5]),
        })
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn terms(&self) -> usize {
        self.batch * self.length * (self.heads * self.width).max(self.state)
    }

    fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results {
        run::<B>(*self, &Values::of(*self), placement, form)
    }
}

impl Case {
    fn groups(&self) -> usize {
        if self.apart { self.heads } else { 1 }
    }
}

struct Values {
    parts: [Vec<f64>; 6],
    /// Gradient of the output.
    weights: Vec<f64>,
}

impl Values {
    fn of(case: Case) -> Self {
        let draw = &mut Draw::new(case.seed);
        let steps = case.batch * case.length;
        let vectors = steps * case.groups() * case.state;
        let wide = steps * case.heads * case.width;
        Self {
            parts: [
                draw.values(wide),
                draw.affine(steps * case.heads, case.step / 2.0, case.step / 2.0),
                draw.affine(case.heads, 4.0, -5.0),
                draw.values(vectors),
                draw.values(vectors),
                draw.values(case.heads),
            ],
            weights: draw.values(wide),
        }
    }
}

/// Output, and gradients of every input in the order of [`SsdTensors`].
fn run<B: TrainingBackend>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    form: Form,
) -> Results {
    let (heads, width, groups) = (case.heads, case.width, case.groups());
    let vectors = [case.batch, case.length, groups * case.state];
    let [x, step, a, b, c, d] = &v.parts;
    let map = SsdTensors::<B> {
        input: placement.place(x, [case.batch, case.length, heads, width]),
        step: placement.place(step, [case.batch, case.length, heads]),
        decay: placement.place(a, [heads]),
        input_vector: placement.place(b, vectors),
        output_vector: placement.place(c, vectors),
        feedthrough: placement.place(d, [heads]),
        groups,
    };
    let output = match form {
        Form::Kernel => ssd(map.clone()),
        Form::Twin => ssd_reference(map.clone()),
    };
    let output = output.reshape([case.batch, case.length, heads * width]);
    results!(
        output,
        &v.weights,
        placement,
        [
            map.input,
            map.step,
            map.decay,
            map.input_vector,
            map.output_vector,
            map.feedthrough
        ]
    )
}

/// Not for CubeCL: products of one column, in a layout that fusion gave them, are refused by burn 0.21.
pub fn one_channel_and_one_state_are_sizes_too<B: TrainingBackend>(effort: Effort) {
    for (width, state) in [(1, 3), (3, 1), (1, 1)] {
        let drawn = (0..4).filter_map(Case::drawn);
        for case in drawn {
            let case = Case {
                width,
                state,
                ..case
            };
            is_as_exact_as_the_twin::<Case, B>(case, effort);
        }
    }
}

/// Steps so small that a state hardly fades, and so large that exponents add up to thousands.
pub fn the_map_of_mamba2_neither_drifts_nor_overflows_on_long_sequences<B: TrainingBackend>(
    effort: Effort,
) {
    for step in [1e-6, 30.0] {
        let case = Case {
            seed: 7,
            batch: 1,
            length: 700,
            heads: 2,
            width: 3,
            state: 3,
            apart: false,
            step,
        };
        is_as_exact_as_the_twin::<Case, B>(case, effort);
    }
}
