//! Systems of every channel by itself one step at a time.

use std::sync::Arc;

use burn::tensor::backend::Backend;

use super::{LayerStream, values};
use crate::{channel_ssm::ChannelSsmTensors, cpu::vectorized};

/// Systems under way: x ← Λ x + u, y = Re(C x) + D u in every channel.
#[derive(Clone, Debug)]
pub struct ChannelStream {
    weights: Arc<Weights>,
    /// Real and imaginary parts, `[channels, state]` each.
    state: [Vec<f32>; 2],
}

#[derive(Debug)]
struct Weights {
    lambda: [Vec<f32>; 2],
    output: [Vec<f32>; 2],
    feedthrough: Vec<f32>,
}

impl ChannelStream {
    /// From a zero state.
    pub fn new<B: Backend>(systems: ChannelSsmTensors<B>) -> Self {
        let weights = Weights {
            lambda: systems.lambda.map(values),
            output: systems.output.map(values),
            feedthrough: values(systems.feedthrough),
        };
        let zero = vec![0.0; weights.lambda[0].len()];
        Self {
            state: [zero.clone(), zero],
            weights: Arc::new(weights),
        }
    }

    #[inline(always)]
    fn advance(&mut self, input: &[f32], output: &mut [f32]) {
        let weights = &*self.weights;
        let states = weights.lambda[0].len() / weights.feedthrough.len();
        let [lambda, readout] = [&weights.lambda, &weights.output]
            .map(|[re, im]| re.chunks_exact(states).zip(im.chunks_exact(states)));
        let [re, im] = &mut self.state;
        let state = re.chunks_exact_mut(states).zip(im.chunks_exact_mut(states));
        let channels = input.iter().zip(output).zip(&weights.feedthrough);
        for ((((u, y), d), (x_re, x_im)), ((l_re, l_im), (c_re, c_im))) in
            channels.zip(state).zip(lambda.zip(readout))
        {
            let mut sum = d * u;
            for n in 0..states {
                let (re, im) = (x_re[n], x_im[n]);
                x_re[n] = l_re[n] * re - l_im[n] * im + u;
                x_im[n] = l_re[n] * im + l_im[n] * re;
                sum += c_re[n] * x_re[n] - c_im[n] * x_im[n];
            }
            *y = sum;
        }
    }
}

impl LayerStream for ChannelStream {
    fn step(&mut self, input: &[f32], output: &mut [f32]) {
        let channels = self.weights.feedthrough.len();
        assert_eq!(input.len(), channels, "the input has one value per channel");
        assert_eq!(
            output.len(),
            channels,
            "the output has one value per channel"
        );
        vectorized::<f32, _>(
            #[inline(always)]
            || self.advance(input, output),
        );
    }

    fn reset(&mut self) {
        for part in &mut self.state {
            part.fill(0.0);
        }
    }

    fn boxed(&self) -> Box<dyn LayerStream> {
        Box::new(self.clone())
    }
}
