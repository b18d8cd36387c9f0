//! Layers of a kind, and ways to cut them.

use burn::tensor::{DType, Tensor};
use hsv::Selection;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    CompressionError, GramianEstimate, Layer, LayerKind, LayerSettings, Method, Realization,
    Reduced, Reduction, Seen, Surroundings,
};

use crate::{
    differences::{Cpu, random},
    linear::ThroughSystem,
    parameters,
};

pub(crate) const HIDDEN: usize = 6;
pub(crate) const STATE: usize = 6;
pub(crate) const BATCH: usize = 2;
/// Not a multiple of any chunk.
pub(crate) const LENGTH: usize = 90;

/// States that [`Subject::silenced`] is asked for.
pub(crate) const IDLE: [usize; 2] = [1, 4];

/// What the way through parameters of another basis may do to an output, relative to its size: each is rounded to `f32`,
/// a state that remembers twenty steps amplifies that as much, and a basis has a condition of some tens.
pub(crate) const ROUNDING: f64 = 1e3 * f32::EPSILON as f64;

/// A kind of layer, and what the laws must be told of it.
pub(crate) struct Subject {
    pub(crate) settings: LayerSettings,
    /// Parameters that drive the states.
    inputs: &'static [&'static str],
    /// Parameters by which they are seen.
    outputs: &'static [&'static str],
    /// For a layer that is one linear system.
    pub(crate) linear: Option<fn(&Layer<Cpu>) -> ThroughSystem>,
}

/// How states come to do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Silence {
    Unreached,
    Unseen,
    Both,
}

impl Silence {
    pub(crate) const ALL: [Self; 3] = [Self::Unreached, Self::Unseen, Self::Both];
}

impl Subject {
    pub(crate) fn new(
        settings: LayerSettings,
        inputs: &'static [&'static str],
        outputs: &'static [&'static str],
    ) -> Self {
        Self {
            settings,
            inputs,
            outputs,
            linear: None,
        }
    }

    /// Ways in which states of it can come to do nothing.
    pub(crate) fn silences(&self) -> Vec<Silence> {
        let all = Silence::ALL.into_iter();
        all.filter(|how| !self.inputs.is_empty() || !matches!(how, Silence::Unreached))
            .collect()
    }

    pub(crate) fn kind(&self) -> LayerKind {
        self.settings.kind()
    }

    /// A fresh layer.
    pub(crate) fn layer(&self) -> Layer<Cpu> {
        let around = Surroundings {
            hidden: HIDDEN,
            layers: 1,
        };
        let rng = &mut ChaCha8Rng::seed_from_u64(4);
        Layer::init(around, STATE, &self.settings, rng, &Default::default())
    }

    /// The same with idle states.
    pub(crate) fn silenced(&self, idle: &[usize], how: Silence) -> Layer<Cpu> {
        let layer = self.layer();
        let lost = parameters::lost(&layer, &others(idle));
        for name in self.inputs.iter().chain(self.outputs) {
            assert!(lost.contains_key(*name), "no part of {name} is of a state");
        }
        parameters::edit(layer, |name, values| {
            let Some(of_idle) = lost.get(name) else {
                return;
            };
            let of = |names: &[&str]| names.contains(&name);
            let (driving, seeing) = match (of(self.inputs), of(self.outputs)) {
                (true, true) => of_idle.split_at(of_idle.len() / 2),
                (true, false) => (of_idle.as_slice(), &[][..]),
                (false, true) => (&[][..], of_idle.as_slice()),
                (false, false) => return,
            };
            let silent = match how {
                Silence::Unreached => [driving, &[]],
                Silence::Unseen => [&[], seeing],
                Silence::Both => [driving, seeing],
            };
            for &position in silent.into_iter().flatten() {
                values[position] = 0.0;
            }
        })
    }

    /// A fresh layer, and what becomes of it when it is cut to half of its states by every method.
    pub(crate) fn forms(&self) -> Vec<(String, Layer<Cpu>)> {
        let layer = self.layer();
        let cut = |method: Method| {
            let reduced = self.reduced(&layer, STATE / 2, method);
            (format!("{} cut by {method:?}", self.kind()), reduced.layer)
        };
        let cuts: Vec<_> = self.methods().into_iter().map(cut).collect();
        let fresh = (format!("{} as it is", self.kind()), layer.clone());
        [fresh].into_iter().chain(cuts).collect()
    }

    /// All methods that layers of this kind can tell apart, with the largest states to stay.
    pub(crate) fn methods(&self) -> Vec<Method> {
        fn choices<T: Copy>(is_read: bool, all: &[T]) -> Vec<T> {
            if is_read { all } else { &all[..1] }.to_vec()
        }
        let reads = |choice: &str| self.kind().method().contains(&choice);
        let realizations = [Realization::Complex, Realization::Real];
        let estimates = [
            GramianEstimate::Empirical,
            GramianEstimate::SecondMoment,
            GramianEstimate::Mean,
        ];
        let mut methods = Vec::new();
        for realization in choices(reads("realization"), &realizations) {
            for reduction in choices(reads("reduction"), Reduction::ALL) {
                for estimate in choices(reads("gramian"), &estimates) {
                    if realization == Realization::Real && !reduction.knows_real() {
                        continue;
                    }
                    methods.push(Method {
                        realization,
                        reduction,
                        selection: Selection::Largest,
                        estimate,
                    });
                }
            }
        }
        methods
    }

    /// The same method with other states to stay, where it knows any.
    pub(crate) fn other_selections(method: Method) -> Vec<Method> {
        let others = [Selection::Smallest, Selection::Random { seed: 3 }];
        let others = others.map(|selection| Method {
            selection,
            ..method
        });
        match method.reduction.knows_selection() {
            true => others.to_vec(),
            false => Vec::new(),
        }
    }

    /// The layer cut to this order.
    pub(crate) fn try_reduced(
        &self,
        layer: &Layer<Cpu>,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Layer<Cpu>>, CompressionError> {
        let basis = layer.rank(Some(&seen()), method)?;
        layer.reduce(&basis, order, method)
    }

    /// The layer cut to this order, which it can be.
    #[track_caller]
    pub(crate) fn reduced(
        &self,
        layer: &Layer<Cpu>,
        order: usize,
        method: Method,
    ) -> Reduced<Layer<Cpu>> {
        self.try_reduced(layer, order, method)
            .unwrap_or_else(|error| panic!("{} to {order} by {method:?}: {error}", self.kind()))
    }
}

/// All states but these.
pub(crate) fn others(states: &[usize]) -> Vec<usize> {
    (0..STATE).filter(|n| !states.contains(n)).collect()
}

/// Inputs large enough for states to do something where a skip connection passes them as well.
pub(crate) fn input(seed: u64) -> Tensor<Cpu, 3> {
    (random(seed, [BATCH, LENGTH, HIDDEN]) * 4.0).cast(DType::F32)
}

/// What the states of layers that depend on it are ranked on; the second row is padded.
pub(crate) fn seen() -> Seen<Cpu> {
    Seen {
        input: input(11),
        lengths: vec![LENGTH, LENGTH - 15],
    }
}

/// Of what comes out of a layer.
pub(crate) fn output(layer: &Layer<Cpu>, input: &Tensor<Cpu, 3>) -> Vec<f64> {
    let output = layer.forward(input.clone()).into_data();
    output.iter().collect()
}

pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Norm of the difference.
pub(crate) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let difference: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
    norm(&difference)
}
