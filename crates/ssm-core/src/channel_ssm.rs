//! A diagonal state space map of every channel by itself.

mod flex;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor};
use burn_flex::FlexTensor;

use crate::{
    backend::Backend,
    cpu::Real,
    diagonal_ssm::{DiagonalSsmTensors, diagonal_ssm, diagonal_ssm_reference},
    operation::{ByHand, Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of u, Re Λ, Im Λ, Re C, Im C and D to y and, of a kernel, the states that the way back restarts from: see
/// [`channel_ssm`](crate::channel_ssm()).
#[derive(Clone, Copy, Debug)]
pub struct ChannelSsm;

impl Operation<6> for ChannelSsm {
    const NAME: &'static str = "channel_ssm";
    const BACKWARD: ByHand = ByHand::Natively;
    const LENT: bool = true;

    type Settings = ();
    type Outputs<T> = ([T; 1], Option<[T; 1]>);
    /// The inputs and the states.
    type Saved<T> = [T; 7];

    fn save<T: Clone>(
        [u, l_re, l_im, c_re, c_im, d]: [T; 6],
        (_, states): &([T; 1], Option<[T; 1]>),
    ) -> [T; 7] {
        let [states] = states.clone().expect("the kernel leaves its states");
        [u, l_re, l_im, c_re, c_im, d, states]
    }

    fn forward<B: Backend>(
        inputs: [FloatTensor<B>; 6],
        _: &(),
    ) -> ([FloatTensor<B>; 1], Option<[FloatTensor<B>; 1]>) {
        let [u, l_re, l_im, c_re, c_im, d] = inputs;
        let systems = ChannelSsmTensors::<B> {
            lambda: [tensor(l_re), tensor(l_im)],
            output: [tensor(c_re), tensor(c_im)],
            feedthrough: tensor(d),
        };
        let output = one_by_one(tensor(u), systems, diagonal_ssm::<B>);
        ([primitive(output)], None)
    }

    fn native_forward<T: Real>(
        [u, systems @ ..]: [FlexTensor; 6],
        _: &(),
    ) -> ([FlexTensor; 1], Option<[FlexTensor; 1]>) {
        let [output, states] = flex::forward::<T>(&u, &systems);
        ([output], Some([states]))
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 7], FlexTensor, 6>,
        _: &(),
    ) -> [Option<FlexTensor>; 6] {
        let [u, systems @ .., states] = back.saved;
        flex::backward::<T>(&u, &systems, &states, &back.gradient).map(Some)
    }
}

/// Systems of one input and one output, all of the same number of complex states.
#[derive(Clone, Debug)]
pub struct ChannelSsmTensors<B: BurnBackend> {
    /// Λ as real and imaginary part, `[channels, state]` each.
    pub lambda: [Tensor<B, 2>; 2],
    /// C as real and imaginary part, `[channels, state]` each.
    pub output: [Tensor<B, 2>; 2],
    /// D, `[channels]`.
    pub feedthrough: Tensor<B, 1>,
}

/// y_k = Re(C x_k) + D u_k with x_k = Λ x_{k-1} + u_k and x_{-1} = 0, in every channel.
///
/// # Shapes
/// - `input`: `[batch, length, channels]`
/// - returns the same
///
/// # Source
/// `GGGR22`, section 3.
pub fn channel_ssm<B: Backend>(input: Tensor<B, 3>, systems: ChannelSsmTensors<B>) -> Tensor<B, 3> {
    let [l_re, l_im] = systems.lambda.map(primitive);
    let [c_re, c_im] = systems.output.map(primitive);
    let feedthrough = primitive(systems.feedthrough);
    let inputs = [primitive(input), l_re, l_im, c_re, c_im, feedthrough];
    let ([output], _) = <B as Run<ChannelSsm, 6>>::run(inputs, &());
    tensor(output)
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn channel_ssm_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    systems: ChannelSsmTensors<B>,
) -> Tensor<B, 3> {
    one_by_one(input, systems, |input, system| {
        diagonal_ssm_reference(input, system, None)
    })
}

/// The map of one channel after the other, as a system with one input and one output.
fn one_by_one<B: BurnBackend>(
    input: Tensor<B, 3>,
    systems: ChannelSsmTensors<B>,
    map: impl Fn(Tensor<B, 3>, DiagonalSsmTensors<B>) -> Tensor<B, 3>,
) -> Tensor<B, 3> {
    let [channels, state] = systems.lambda[0].dims();
    let one = Tensor::ones([state, 1], (&input.device(), input.dtype()));
    let zero = one.zeros_like();
    let outputs = (0..channels).map(|channel| {
        let row = |matrix: &Tensor<B, 2>| matrix.clone().narrow(0, channel, 1);
        let system = DiagonalSsmTensors {
            lambda: systems
                .lambda
                .each_ref()
                .map(|part| row(part).reshape([state])),
            input_matrix: [one.clone(), zero.clone()],
            output_matrix: systems.output.each_ref().map(row),
            feedthrough: systems.feedthrough.clone().narrow(0, channel, 1),
        };
        map(input.clone().narrow(2, channel, 1), system)
    });
    Tensor::cat(outputs.collect(), 2)
}
