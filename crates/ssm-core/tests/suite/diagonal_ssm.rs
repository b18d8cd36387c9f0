//! The diagonal state space map.

use burn::tensor::{DType, Tensor};
use ssm_core::{DiagonalSsmTensors, TrainingBackend, diagonal_ssm_from, diagonal_ssm_reference};

use super::sequential::{Complex, Number, Scan, complex, planes};
use super::{Cpu, Draw, Effort, Form, Known, Placement, Problem, Results, error, results, values};

/// A length beyond every chunk, and beyond what doubling in memory could do.
const LONG: usize = 65_536;

#[derive(Clone, Copy, Debug)]
pub struct Case {
    seed: u64,
    batch: usize,
    length: usize,
    hidden: usize,
    state: usize,
    /// Largest |λ|.
    radius: f64,
    /// Whether the state before the first step is not zero.
    starts: bool,
}

/// Cases by name: the smallest there is, sizes around those that a vector or a block of a kernel may have, more rows than
/// any reduction has pieces, more states than fit one chunk of the whole sequence, a system that forgets at once, and wide
/// layers with many rows, with few and with one that is longer than all chunks that are worked on side by side.
const NAMED: &[Case] = &[
    case(1, 1, 1, 1, 0.9, true),
    case(3, 5, 2, 3, 0.99, false),
    case(2, 77, 8, 13, 0.999, true),
    case(1, 129, 16, 33, 0.999, true),
    case(1, 700, 3, 28, 1.0 - 1e-6, true),
    case(35, 130, 8, 256, 0.99, true),
    case(1, 1100, 1, 5, 0.0, true),
    case(2, 513, 65, 4, 1.0 - 1e-6, false),
    case(9, 70, 66, 20, 0.999, true),
    case(3, 700, 70, 65, 0.999, false),
    case(1, 4500, 66, 33, 0.999, true),
];

const fn case(
    batch: usize,
    length: usize,
    hidden: usize,
    state: usize,
    radius: f64,
    starts: bool,
) -> Case {
    Case {
        seed: 11,
        batch,
        length,
        hidden,
        state,
        radius,
        starts,
    }
}

impl Problem for Case {
    const NAMED: &'static [Self] = NAMED;

    fn drawn(seed: u64) -> Option<Self> {
        let draw = &mut Draw::new(seed);
        Some(Self {
            seed,
            batch: draw.one_of(&[1, 2, 3, 5]),
            length: draw.one_of(&[1, 2, 5, 16, 33, 77, 128, 300, 600]),
            hidden: draw.one_of(&[1, 2, 3, 8, 17, 40]),
            state: draw.one_of(&[1, 2, 3, 8, 13, 32, 65]),
            radius: draw.one_of(&[0.0, 0.9, 0.999, 1.0 - 1e-6]),
            starts: draw.one_of(&[false, true]),
        })
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    /// The gradients of parameters are sums over batch and time.
    fn terms(&self) -> usize {
        self.batch * self.length
    }

    fn solve<B: TrainingBackend>(&self, placement: Placement, form: Form) -> Results {
        run::<B>(*self, &Values::of(*self), placement, form).0
    }
}

/// Everything that goes into the map, in row-major order.
struct Values {
    input: Vec<f64>,
    lambda: [Vec<f64>; 2],
    input_matrix: [Vec<f64>; 2],
    output_matrix: [Vec<f64>; 2],
    feedthrough: Vec<f64>,
    initial_state: Vec<f64>,
    /// Gradient of the output.
    weights: Vec<f64>,
}

impl Values {
    fn of(case: Case) -> Self {
        let draw = &mut Draw::new(case.seed);
        let (activations, matrix) = (
            case.batch * case.length * case.hidden,
            case.state * case.hidden,
        );
        let initial_scale = f64::from(u8::from(case.starts));
        Self {
            input: draw.values(activations),
            lambda: draw.disk(case.state, case.radius),
            input_matrix: [draw.values(matrix), draw.values(matrix)],
            output_matrix: [draw.values(matrix), draw.values(matrix)],
            feedthrough: draw.values(case.hidden),
            initial_state: draw.affine(case.batch * 2 * case.state, initial_scale, 0.0),
            weights: draw.values(activations),
        }
    }
}

/// Output, and gradients of input, Λ, B, C (two planes each), D and initial state; and the final state of a kernel.
fn run<B: TrainingBackend>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    form: Form,
) -> (Results, Option<Vec<f64>>) {
    let (n, h) = (case.state, case.hidden);
    let u = placement.place::<B, 3>(&v.input, [case.batch, case.length, h]);
    let lambda = [0, 1].map(|part| placement.place::<B, 1>(&v.lambda[part], [n]));
    let b = [0, 1].map(|part| placement.place::<B, 2>(&v.input_matrix[part], [n, h]));
    let c = [0, 1].map(|part| placement.place::<B, 2>(&v.output_matrix[part], [h, n]));
    let d = placement.place::<B, 1>(&v.feedthrough, [h]);
    let before = placement.place::<B, 2>(&v.initial_state, [case.batch, 2 * n]);
    let system = DiagonalSsmTensors {
        lambda: lambda.clone(),
        input_matrix: b.clone(),
        output_matrix: c.clone(),
        feedthrough: d.clone(),
    };
    let (output, after) = match form {
        Form::Twin => {
            let output = diagonal_ssm_reference(u.clone(), system, Some(before.clone()));
            (output, None)
        }
        Form::Kernel => {
            // No initial state means zero; its gradient is asked for all the same where it is not.
            let initial = case.starts.then(|| before.clone());
            let (output, after) = diagonal_ssm_from(u.clone(), system, initial);
            (output, Some(values(after)))
        }
    };
    let mut all = results!(
        output,
        &v.weights,
        placement,
        [u, lambda[0], lambda[1], b[0], b[1], c[0], c[1], d, before]
    );
    if !case.starts {
        all.pop();
    }
    (all, after)
}

/// The same in loops, with the final state.
fn in_loops<T: Number>(case: Case, v: &Values) -> (Results, Vec<f64>) {
    let (length, h, n) = (case.length, case.hidden, case.state);
    let cast = |values: &[f64]| values.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
    let joined = |planes: &[Vec<f64>; 2]| complex::<T>(&planes.concat());
    let (lambda, b, c) = (
        joined(&v.lambda),
        joined(&v.input_matrix),
        joined(&v.output_matrix),
    );
    let (d, zero) = (cast(&v.feedthrough), T::of(0.0));
    let (mut outputs, mut inputs) = (Vec::new(), Vec::new());
    let (mut finals, mut initials) = (Vec::new(), Vec::new());
    let mut lambda_sum = vec![Complex::<T>::zero(); n];
    let (mut b_sum, mut c_sum) = (
        vec![Complex::<T>::zero(); n * h],
        vec![Complex::<T>::zero(); n * h],
    );
    let mut d_sum = vec![zero; h];
    for row in 0..case.batch {
        let part = row * length * h..(row + 1) * length * h;
        let (u, w) = (cast(&v.input[part.clone()]), cast(&v.weights[part]));
        let before = complex::<T>(&v.initial_state[row * 2 * n..][..2 * n]);
        let mut drive = vec![Complex::<T>::zero(); length * n];
        let mut read = drive.clone();
        for k in 0..length {
            for i in 0..n {
                for j in 0..h {
                    drive[k * n + i].re += b[i * h + j].re * u[k * h + j];
                    drive[k * n + i].im += b[i * h + j].im * u[k * h + j];
                    read[k * n + i].re += c[j * n + i].re * w[k * h + j];
                    read[k * n + i].im += zero - c[j * n + i].im * w[k * h + j];
                }
            }
        }
        let scan = Scan {
            states: n,
            decay: &lambda,
            input: &drive,
            initial_state: &before,
        };
        let states = scan.forward();
        let gradients = scan.backward(&states, &read);
        for k in 0..length {
            for j in 0..h {
                let (u, w) = (u[k * h + j], w[k * h + j]);
                let (mut y, mut du) = (d[j] * u, d[j] * w);
                for i in 0..n {
                    let (x, s) = (states[k * n + i], gradients.input[k * n + i]);
                    y += c[j * n + i].re * x.re - c[j * n + i].im * x.im;
                    du += b[i * h + j].re * s.re + b[i * h + j].im * s.im;
                    b_sum[i * h + j].re += s.re * u;
                    b_sum[i * h + j].im += s.im * u;
                    c_sum[j * n + i].re += w * x.re;
                    c_sum[j * n + i].im += zero - w * x.im;
                }
                outputs.push(y.get());
                inputs.push(du.get());
                d_sum[j] += w * u;
            }
        }
        for (sum, part) in lambda_sum.iter_mut().zip(&gradients.decay) {
            sum.re += part.re;
            sum.im += part.im;
        }
        finals.extend(planes(&states[(length - 1) * n..]));
        initials.extend(planes(&gradients.initial_state));
    }
    let mut all = vec![Some(outputs), Some(inputs)];
    for sum in [lambda_sum, b_sum, c_sum] {
        let planes = planes(&sum);
        let (re, im) = planes.split_at(planes.len() / 2);
        all.extend([Some(re.to_vec()), Some(im.to_vec())]);
    }
    all.push(Some(d_sum.iter().map(|d| d.get()).collect()));
    if case.starts {
        all.push(Some(initials));
    }
    (all, finals)
}

/// Sequences that go blank: after half of them, and after a few steps of 10,000, in which states pass through all numbers
/// that there are on their way to zero, in the adjoint direction as well.
pub fn states_that_die_out_are_as_exact_as_their_twin<B: TrainingBackend>(effort: Effort) {
    for (case, seen) in [
        (case(2, 900, 3, 7, 0.9, true), 450),
        (case(1, 10_000, 8, 20, 0.99, false), 5),
    ] {
        let mut v = Values::of(case);
        let per_row = case.length * case.hidden;
        for (input, weights) in v
            .input
            .chunks_exact_mut(per_row)
            .zip(v.weights.chunks_exact_mut(per_row))
        {
            input[seen * case.hidden..].fill(0.0);
            // Of the output the two ends count; in between adjoint states die out.
            weights[seen * case.hidden..per_row - seen * case.hidden].fill(0.0);
        }
        let known = Known {
            truth: in_loops::<f64>(case, &v).0,
            plain: in_loops::<f32>(case, &v).0,
        };
        known.compare(case.length, effort, &case, |dtype| {
            run::<B>(case, &v, Placement::plain(dtype), Form::Kernel).0
        });
    }
}

pub fn the_diagonal_map_neither_drifts_nor_overflows_on_long_sequences<B: TrainingBackend>(
    effort: Effort,
) {
    // Almost on the unit circle, where nothing is forgotten, and where λ^-length is beyond every float.
    for radius in [1.0 - 1e-6, 0.5] {
        let case = case(1, LONG, 2, 3, radius, true);
        let v = Values::of(case);
        // With the final state behind the rest.
        let with_final = |(mut all, after): (Results, Vec<f64>)| {
            all.push(Some(after));
            all
        };
        let known = Known {
            truth: with_final(in_loops::<f64>(case, &v)),
            plain: with_final(in_loops::<f32>(case, &v)),
        };
        known.compare(LONG, effort, &case, |dtype| {
            let (all, after) = run::<B>(case, &v, Placement::plain(dtype), Form::Kernel);
            with_final((all, after.unwrap()))
        });
    }
}

pub fn a_sequence_can_be_cut_anywhere<B: TrainingBackend>(effort: Effort) {
    let dtype = DType::F32;
    for case in [
        case(2, 300, 4, 9, 0.999, true),
        case(1, 1100, 3, 40, 1.0 - 1e-6, false),
    ] {
        let v = Values::of(case);
        let output_and_final =
            |(all, after): (Results, Vec<f64>)| vec![all[0].clone(), Some(after)];
        let known = Known {
            truth: output_and_final(in_loops::<f64>(case, &v)),
            plain: output_and_final(in_loops::<f32>(case, &v)),
        };
        let draw = &mut Draw::new(effort.cases);
        for cut in [
            1,
            case.length / 2,
            case.length - 1,
            1 + draw.bits() as usize % (case.length - 1),
        ] {
            let (output, after) = cut_at::<B>(case, &v, Placement::plain(dtype), cut);
            let got = vec![Some(output), Some(after)];
            known.compare_in(dtype, case.length, effort, &(case, cut), got);
        }
    }
}

/// Output and final state of a sequence in two parts, on the backend without automatic differentiation.
fn cut_at<B: TrainingBackend>(
    case: Case,
    v: &Values,
    mut placement: Placement,
    cut: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (n, h) = (case.state, case.hidden);
    let u = placement.place::<B, 3>(&v.input, [case.batch, case.length, h]);
    let two = |placement: &mut Placement, values: &[Vec<f64>; 2], shape: [usize; 2]| {
        [0, 1].map(|part| placement.place::<B, 2>(&values[part], shape).inner())
    };
    let system = DiagonalSsmTensors {
        lambda: [0, 1].map(|part| placement.place::<B, 1>(&v.lambda[part], [n]).inner()),
        input_matrix: two(&mut placement, &v.input_matrix, [n, h]),
        output_matrix: two(&mut placement, &v.output_matrix, [h, n]),
        feedthrough: placement.place::<B, 1>(&v.feedthrough, [h]).inner(),
    };
    let before = placement.place::<B, 2>(&v.initial_state, [case.batch, 2 * n]);
    let u = u.inner();
    // Slices along time are views of the whole sequence.
    let [first, second] = [(0, cut), (cut, case.length)]
        .map(|(start, end)| u.clone().slice([0..case.batch, start..end, 0..h]));
    let (first, carried) = diagonal_ssm_from(first, system.clone(), Some(before.inner()));
    let (second, after) = diagonal_ssm_from(second, system, Some(carried));
    (values(Tensor::cat(vec![first, second], 1)), values(after))
}

/// The loops against the twin in tensor operations: one is the truth where the other cannot be.
pub fn the_loops_equal_the_tensor_twin() {
    for case in NAMED.iter().copied().filter(|case| case.state < 100) {
        let v = Values::of(case);
        let (loops, _) = in_loops::<f64>(case, &v);
        let (tensors, _) = run::<Cpu>(case, &v, Placement::plain(DType::F64), Form::Twin);
        for (item, (loops, tensors)) in loops.iter().zip(&tensors).enumerate() {
            let error = error(loops.as_ref().unwrap(), tensors.as_ref().unwrap());
            // Sums of up to batch * length * state terms of random sign, |λ| up to 1 - 1e-6.
            assert!(error < 1e-11, "{case:?}, item {item}: {error:e}");
        }
    }
}
