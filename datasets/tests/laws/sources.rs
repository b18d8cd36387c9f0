//! Data sets that prove what can be stored.

use std::path::Path;

use datasets::{
    Content, DatasetError, OptionFault, Options, Published, SequenceSet, Shape, Source, Target,
};
use serde::{Deserialize, Serialize};

/// Pairs of sequences of unequal length, of tokens that no byte holds; whether both start with the same one.
pub(crate) struct Pairs;

/// Sequences of two channels of any value, and whether the first value is above 0.
pub(crate) struct Signals;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PairsOptions {
    pub(crate) examples: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SignalsOptions {
    pub(crate) examples: usize,
}

impl Default for PairsOptions {
    fn default() -> Self {
        Self { examples: 10 }
    }
}

impl Default for SignalsOptions {
    fn default() -> Self {
        Self { examples: 10 }
    }
}

impl Options for PairsOptions {
    fn check(&self) -> Result<(), OptionFault> {
        at_least_one(self.examples)
    }
}

impl Options for SignalsOptions {
    fn check(&self) -> Result<(), OptionFault> {
        at_least_one(self.examples)
    }
}

fn at_least_one(examples: usize) -> Result<(), OptionFault> {
    if examples > 0 {
        return Ok(());
    }
    Err(OptionFault {
        key: "examples",
        value: examples.to_string(),
        expected: "it must be at least 1".to_owned(),
    })
}

/// Digits of an irrational number: no two of the first few thousand are alike, and none is special.
fn draw(index: usize) -> f64 {
    (index as f64 * 0.754_877_666_246_692_7).fract()
}

impl Source for Pairs {
    const NAME: &'static str = "pairs";
    type Options = PairsOptions;

    fn shape(_: &PairsOptions) -> Shape {
        Shape {
            sequences: 2,
            length: 9,
            channels: 1,
            classes: 2,
            content: Content::Tokens { vocabulary: 1000 },
            target: Target::Class,
        }
    }

    fn read(options: &PairsOptions, _: Option<&Path>) -> Result<Published, DatasetError> {
        let part = |start: usize| {
            let (mut tokens, mut lengths, mut labels) = (Vec::new(), Vec::new(), Vec::new());
            for example in start..start + options.examples {
                let token = |step: usize| (1000.0 * draw(100 * example + step)) as u16;
                let same = example.is_multiple_of(2);
                let (first, second) = (1 + example % 9, 1 + example % 4);
                tokens.extend((0..first).map(token));
                tokens.push(if same { token(0) } else { 999 - token(0) });
                tokens.extend((50..49 + second).map(token));
                lengths.extend([first, second]);
                labels.push(u16::from(same));
            }
            SequenceSet::with_lengths(Self::shape(options), tokens, &lengths, labels)
        };
        Ok(Published {
            train: part(0)?,
            test: part(options.examples)?,
        })
    }
}

impl Source for Signals {
    const NAME: &'static str = "signals";
    type Options = SignalsOptions;

    fn shape(_: &SignalsOptions) -> Shape {
        Shape {
            sequences: 1,
            length: 5,
            channels: 2,
            classes: 2,
            content: Content::Values,
            target: Target::Class,
        }
    }

    fn read(options: &SignalsOptions, _: Option<&Path>) -> Result<Published, DatasetError> {
        let part = |start: usize| {
            let values = |example: usize| {
                (0..10).map(move |at| (1e3 * (draw(10 * example + at) - 0.5)) as f32)
            };
            let examples = start..start + options.examples;
            let steps: Vec<f32> = examples.clone().flat_map(values).collect();
            let labels = steps.chunks(10).map(|example| u16::from(example[0] > 0.0));
            let labels = labels.collect();
            SequenceSet::new(Self::shape(options), steps, labels)
        };
        Ok(Published {
            train: part(0)?,
            test: part(options.examples)?,
        })
    }
}
