//! A diagonal state space map of every channel by itself.

use burn::tensor::{Tensor, backend::Backend as BurnBackend};

use crate::{
    backend::Backend,
    diagonal_ssm::{DiagonalSsmTensors, diagonal_ssm},
};

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
pub fn channel_ssm<B: Backend>(
    input: Tensor<B, 3>,
    systems: ChannelSsmTensors<B>,
) -> Tensor<B, 3> {
    let [channels, state] = systems.lambda[0].dims();
    let device = input.device();
    let one = Tensor::ones([state, 1], (&device, input.dtype()));
    let zero = one.zeros_like();
    let outputs = (0..channels).map(|channel| {
        let row = |matrix: &Tensor<B, 2>| matrix.clone().narrow(0, channel, 1);
        let system = DiagonalSsmTensors {
            lambda: systems.lambda.each_ref().map(|part| row(part).reshape([state])),
            input_matrix: [one.clone(), zero.clone()],
            output_matrix: systems.output.each_ref().map(row),
            feedthrough: systems.feedthrough.clone().narrow(0, channel, 1),
        };
        diagonal_ssm(input.clone().narrow(2, channel, 1), system)
    });
    Tensor::cat(outputs.collect(), 2)
}
