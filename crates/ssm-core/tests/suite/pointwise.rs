//! Normalization, the gated unit, and what stands before and after the blocks.

use ssm_core::{
    Dropout, GatedUnitTensors, TrainingBackend, affine, affine_reference, batch_norm,
    batch_norm_reference, causal_conv, causal_conv_reference, gated_unit, gated_unit_reference,
    mean_over_time, normalize, rms_norm, rms_norm_reference,
};

use super::{Draw, Form, Placement, Problem, Results, results, values};

const EPSILON: f64 = 1e-5;

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    hidden: usize,
    dropout: Option<Dropout>,
}

impl Case {
    fn drawn(seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let dropout = Dropout {
            probability: 0.3,
            seed: 0xfeed_5eed_1234 + seed,
        };
        Self {
            seed,
            batch: draw.one_of(&[1, 2, 5]),
            length: draw.one_of(&[1, 9, 70, 300]),
            hidden: draw.one_of(&[1, 3, 8, 33, 96]),
            dropout: draw.one_of(&[None, Some(dropout)]),
        }
    }

    fn shape(&self) -> [usize; 3] {
        [self.batch, self.length, self.hidden]
    }

    fn rows(&self) -> usize {
        self.batch * self.length
    }

    fn len(&self) -> usize {
        self.rows() * self.hidden
    }
}

/// Problems of these sizes: name, which of them, and how they are solved.
macro_rules! problem {
    ($name:ident, $is_one:expr, $solve:ident) => {
        #[derive(Clone, Copy, Debug)]
        pub struct $name(Case);

        impl Problem for $name {
            fn drawn(seed: u64) -> Option<Self> {
                let is_one: fn(&Case) -> bool = $is_one;
                Some(Case::drawn(seed)).filter(is_one).map(Self)
            }

            fn seed(&self) -> u64 {
                self.0.seed
            }

            fn terms(&self) -> usize {
                self.0.rows()
            }

            fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results {
                $solve::<B>(self.0, placement, form)
            }
        }
    };
}

// Two rows would be normalized to ±1 whatever they are: a gradient of rounding errors.
problem!(BatchNorm, |case| case.rows() > 2, run_batch_norm);

/// Output, gradient of the input, mean and variance.
fn run_batch_norm<B: TrainingBackend>(case: Case, mut placement: Placement, form: Form) -> Results {
    let draw = &mut Draw::new(case.seed);
    let input = draw.affine(case.len(), 2.0, 3.0);
    let weights = draw.values(case.len());
    let x = placement.place::<B, 3>(&input, case.shape());
    let (output, mean, variance) = match form {
        Form::Kernel => batch_norm(x.clone(), EPSILON),
        Form::Twin => batch_norm_reference(x.clone(), EPSILON),
    };
    let mut all = results!(output, &weights, placement, [x]);
    all.extend([Some(values(mean)), Some(values(variance))]);
    all
}

problem!(GatedUnit, |_| true, run_gated_unit);

/// Output, and gradients of input, skip, both weights and both biases.
fn run_gated_unit<B: TrainingBackend>(case: Case, mut placement: Placement, form: Form) -> Results {
    let (draw, h) = (&mut Draw::new(case.seed), case.hidden);
    // Wide enough to reach both flat ends of the activation; but where every element is on one, the gradient is nothing
    // but what cancellation left of it, in the truth too.
    let width = if case.len() < 8 { 1.0 } else { 6.0 };
    let input = draw.affine(case.len(), width, 0.0);
    let x = placement.place::<B, 3>(&input, case.shape());
    let skip = placement.place::<B, 3>(&draw.values(case.len()), case.shape());
    let w = [(); 2].map(|()| placement.place::<B, 2>(&draw.values(h * h), [h, h]));
    let b = [(); 2].map(|()| placement.place::<B, 1>(&draw.values(h), [h]));
    let tensors = GatedUnitTensors {
        weights: w.clone(),
        biases: b.clone(),
    };
    let unit = match form {
        Form::Kernel => gated_unit,
        Form::Twin => gated_unit_reference,
    };
    let output = unit(x.clone(), skip.clone(), tensors, case.dropout);
    let weights = draw.values(case.len());
    results!(
        output,
        &weights,
        placement,
        [x, skip, w[0], w[1], b[0], b[1]]
    )
}

problem!(Normalize, |_| true, run_normalize);

/// Output, on the backend without automatic differentiation: what evaluation runs.
fn run_normalize<B: TrainingBackend>(case: Case, mut placement: Placement, form: Form) -> Results {
    let draw = &mut Draw::new(case.seed);
    let x = placement.place::<B, 3>(&draw.affine(case.len(), 2.0, 3.0), case.shape());
    let mean = placement.place::<B, 1>(&draw.values(case.hidden), [case.hidden]);
    let variance = draw.affine(case.hidden, 0.9, 1.0);
    let variance = placement.place::<B, 1>(&variance, [case.hidden]);
    let (x, mean, variance) = (x.inner(), mean.inner(), variance.inner());
    let output = match form {
        Form::Kernel => normalize(x, mean, variance, EPSILON),
        Form::Twin => (x - mean.unsqueeze()) / (variance + EPSILON).sqrt().unsqueeze(),
    };
    vec![Some(values(output))]
}

problem!(Affine, |_| true, run_affine);

/// Output, and gradients of the weight, the bias and the input, which is tracked in some cases only.
fn run_affine<B: TrainingBackend>(case: Case, mut placement: Placement, form: Form) -> Results {
    let draw = &mut Draw::new(case.seed);
    let (rows, inputs) = (case.rows(), case.hidden);
    let outputs = draw.one_of(&[1, 8, 10, 65]);
    let weight = placement.place::<B, 2>(&draw.values(outputs * inputs), [outputs, inputs]);
    let bias = placement.place::<B, 1>(&draw.values(outputs), [outputs]);
    let x = placement.place::<B, 2>(&draw.values(rows * inputs), [rows, inputs]);
    let map = match form {
        Form::Kernel => affine,
        Form::Twin => affine_reference,
    };
    let with_bias = draw.one_of(&[true, false]).then(|| bias.clone());
    let output = map(x.clone(), weight.clone(), with_bias).reshape([1, rows, outputs]);
    let weights = draw.values(rows * outputs);
    results!(output, &weights, placement, [weight, bias, x])
}

// One channel would be normalized to ±1 whatever it is: a gradient of rounding errors.
problem!(RmsNorm, |case| case.hidden > 1, run_rms_norm);

/// Output, and gradients of input, weight and gate, which some cases have.
fn run_rms_norm<B: TrainingBackend>(case: Case, mut placement: Placement, form: Form) -> Results {
    let draw = &mut Draw::new(case.seed);
    let input = placement.place::<B, 3>(&draw.affine(case.len(), 2.0, 0.5), case.shape());
    let weight = placement.place::<B, 1>(&draw.affine(case.hidden, 0.5, 1.0), [case.hidden]);
    let norm = match form {
        Form::Kernel => rms_norm,
        Form::Twin => rms_norm_reference,
    };
    let gate = placement.place::<B, 3>(&draw.affine(case.len(), 3.0, 0.0), case.shape());
    let with_gate = draw.one_of(&[true, false]).then(|| gate.clone());
    let output = norm(input.clone(), with_gate, weight.clone(), EPSILON);
    results!(
        output,
        &draw.values(case.len()),
        placement,
        [input, weight, gate]
    )
}

problem!(MeanOverTime, |_| true, run_mean_over_time);

/// Output and gradient of the input.
fn run_mean_over_time<B: TrainingBackend>(
    case: Case,
    mut placement: Placement,
    form: Form,
) -> Results {
    let draw = &mut Draw::new(case.seed);
    let x = placement.place::<B, 3>(&draw.affine(case.len(), 1.0, 0.5), case.shape());
    let mean = match form {
        Form::Kernel => mean_over_time(x.clone()),
        Form::Twin => x.clone().mean_dim(1).squeeze_dim(1),
    };
    let output = mean.reshape([1, case.batch, case.hidden]);
    let weights = draw.values(case.batch * case.hidden);
    results!(output, &weights, placement, [x])
}

problem!(CausalConv, |_| true, run_causal_conv);

/// Output, gradients of input, weight and bias.
fn run_causal_conv<B: TrainingBackend>(
    case: Case,
    mut placement: Placement,
    form: Form,
) -> Results {
    let draw = &mut Draw::new(case.seed);
    let taps = draw.one_of(&[1, 2, 4]);
    let input = placement.place::<B, 3>(&draw.affine(case.len(), 2.0, 0.0), case.shape());
    let weight = draw.values(case.hidden * taps);
    let weight = placement.place::<B, 2>(&weight, [case.hidden, taps]);
    let bias = placement.place::<B, 1>(&draw.values(case.hidden), [case.hidden]);
    let convolve = match form {
        Form::Kernel => causal_conv,
        Form::Twin => causal_conv_reference,
    };
    let output = convolve(input.clone(), weight.clone(), bias.clone());
    results!(
        output,
        &draw.values(case.len()),
        placement,
        [input, weight, bias]
    )
}
