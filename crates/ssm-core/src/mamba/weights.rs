//! A model out of its tensors: every size is read off them and checked before anything is built.

use burn::tensor::backend::Backend as BurnBackend;

use super::{
    Backbone, DualMixer, Mamba, MambaConfig, MambaHead, MambaLayer, Mixer, MixerKind, Projection,
    RmsNorm, SelectiveMixer, dual, selective,
};
use crate::{
    classifier::{Embedding, Encoder},
    linear::Linear,
    parameter::parameter,
    tensors::{NamedTensors, WeightsError},
};

const TABLE: &str = "backbone.embeddings.weight";
/// The same table in the authors' code.
const AUTHORS_TABLE: &str = "backbone.embedding.weight";
const LINEAR_ENCODER: &str = "backbone.linear_encoder.weight";
const TOKEN_HEAD: &str = "lm_head.weight";
const CLASS_HEAD: &str = "linear_layer.weight";

/// Sizes of the mixers of one kind, first layer first. They differ by their states alone.
enum Mixers {
    Selective(Vec<selective::Sizes>),
    Dual(Vec<dual::Sizes>),
}

impl Mixers {
    /// Of layers that are in a model of this width. What else differs from the first layer is found when it is loaded.
    fn sizes(tensors: &NamedTensors, layers: usize, hidden: usize) -> Result<Self, WeightsError> {
        let prefixes = (0..layers).map(|layer| format!("backbone.layers.{layer}.mixer"));
        // Either will do: with one of them missing it is still no Mamba-2.
        let selective = ["x_proj", "dt_proj"]
            .iter()
            .any(|name| tensors.has(&format!("backbone.layers.0.mixer.{name}.weight")));
        if selective {
            let sizes = prefixes
                .map(|prefix| SelectiveMixer::<burn_flex::Flex>::sizes(tensors, &prefix, hidden));
            let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
            let first = sizes[0];
            let with_state = |state| selective::Sizes { state, ..first };
            let sizes = sizes.iter().map(|sizes| with_state(sizes.state));
            Ok(Self::Selective(sizes.collect()))
        } else {
            let sizes = prefixes
                .map(|prefix| DualMixer::<burn_flex::Flex>::sizes(tensors, &prefix, hidden));
            let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
            let first = sizes[0];
            let with_states = |state, order| dual::Sizes {
                state,
                order,
                ..first
            };
            let sizes = sizes
                .iter()
                .map(|sizes| with_states(sizes.state, sizes.order));
            Ok(Self::Dual(sizes.collect()))
        }
    }

    fn state_dims(&self) -> Vec<usize> {
        match self {
            Self::Selective(sizes) => sizes.iter().map(|sizes| sizes.state).collect(),
            Self::Dual(sizes) => sizes.iter().map(dual::Sizes::state_dim).collect(),
        }
    }

    fn load<B: BurnBackend>(
        &self,
        layer: usize,
        tensors: &mut NamedTensors,
        device: &B::Device,
    ) -> Result<Mixer<B>, WeightsError> {
        let prefix = format!("backbone.layers.{layer}.mixer");
        Ok(match self {
            Self::Selective(sizes) => Mixer::Selective(SelectiveMixer::load(
                tensors,
                &prefix,
                sizes[layer],
                device,
            )?),
            Self::Dual(sizes) => {
                Mixer::Dual(DualMixer::load(tensors, &prefix, sizes[layer], device)?)
            }
        })
    }
}

/// All that tensors tell about the model they are of.
struct Described {
    encoder: Encoder,
    hidden: usize,
    mixers: Mixers,
    head: MambaHead,
}

impl Described {
    fn by(tensors: &NamedTensors) -> Result<Self, WeightsError> {
        let [hidden] = tensors.sizes("backbone.norm_f.weight", &["hidden"])?;
        let encoder = encoder(tensors)?;
        let head = head(tensors, encoder)?;
        let norms = (0..).map(|layer| format!("backbone.layers.{layer}.norm.weight"));
        let layers = norms.take_while(|name| tensors.has(name)).count();
        if layers == 0 {
            tensors.sizes("backbone.layers.0.norm.weight", &["hidden"])?;
        }
        Ok(Self {
            encoder,
            hidden,
            mixers: Mixers::sizes(tensors, layers, hidden)?,
            head,
        })
    }

    fn config(&self) -> MambaConfig {
        let (mixer, channels, taps) = match &self.mixers {
            Mixers::Selective(sizes) => {
                let step_rank = sizes[0].step_rank;
                let kind = MixerKind::Selective { step_rank };
                (kind, sizes[0].channels, sizes[0].taps)
            }
            Mixers::Dual(sizes) => {
                let heads = sizes[0].heads;
                (MixerKind::Dual { heads }, sizes[0].channels, sizes[0].taps)
            }
        };
        MambaConfig {
            encoder: self.encoder,
            hidden_dim: self.hidden,
            state_dims: self.mixers.state_dims(),
            channels,
            taps,
            mixer,
            head: self.head,
        }
    }
}

/// Name of the table of tokens.
fn table(tensors: &NamedTensors) -> Option<&'static str> {
    [TABLE, AUTHORS_TABLE]
        .into_iter()
        .find(|name| tensors.has(name))
}

fn encoder(tensors: &NamedTensors) -> Result<Encoder, WeightsError> {
    match (tensors.has(LINEAR_ENCODER), table(tensors)) {
        (true, Some(table)) => Err(WeightsError::Exclusive {
            names: [LINEAR_ENCODER, table],
        }),
        (true, None) => {
            let [_, channels] = tensors.sizes(LINEAR_ENCODER, &["hidden", "channels"])?;
            Ok(Encoder::Linear { channels })
        }
        (false, Some(table)) => {
            let [vocabulary, _] = tensors.sizes(table, &["vocabulary", "hidden"])?;
            Ok(Encoder::Embedding { vocabulary })
        }
        (false, None) => Err(WeightsError::NoEncoder {
            names: [LINEAR_ENCODER, TABLE],
        }),
    }
}

fn head(tensors: &NamedTensors, encoder: Encoder) -> Result<MambaHead, WeightsError> {
    const HEADS: [&str; 2] = [CLASS_HEAD, TOKEN_HEAD];
    match (HEADS.map(|name| tensors.has(name)), encoder) {
        ([true, true], _) => Err(WeightsError::Exclusive { names: HEADS }),
        ([true, false], _) => {
            let [classes, _] = tensors.sizes(CLASS_HEAD, &["classes", "hidden"])?;
            Ok(MambaHead::Classes { classes })
        }
        ([false, _], Encoder::Linear { .. }) => Err(WeightsError::NoClasses {
            head: CLASS_HEAD,
            encoder: LINEAR_ENCODER,
        }),
        ([false, repeated], Encoder::Embedding { .. }) => {
            if repeated {
                tensors.sizes(TOKEN_HEAD, &["vocabulary", "hidden"])?;
            }
            let table = table(tensors).and_then(|name| tensors.0.get(name));
            let tied = !repeated || tensors.0.get(TOKEN_HEAD) == table;
            Ok(MambaHead::Tokens { tied })
        }
    }
}

impl MambaConfig {
    /// Reads every size off the weights.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, empty or has the wrong rank, or when two contradict each other.
    pub fn infer(tensors: &NamedTensors) -> Result<Self, WeightsError> {
        Ok(Described::by(tensors)?.config())
    }
}

impl<B: BurnBackend> Mamba<B> {
    /// Whether tensors are those of a model of this kind.
    pub fn is_described_by(tensors: &NamedTensors) -> bool {
        tensors.0.keys().any(|name| name.starts_with("backbone."))
    }

    /// The model that `tensors` describe; every size is read off them, every tensor must be used.
    ///
    /// The embedding may have the name of the original code, `backbone.embedding.weight`; a head that repeats it is
    /// left out.
    ///
    /// # Errors
    /// [`WeightsError`] names the first tensor that is missing, misshapen, not finite or unknown.
    pub fn from_tensors(
        mut tensors: NamedTensors,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let described = Described::by(&tensors)?;
        // With both there, the second stays and is one tensor too many.
        if !tensors.has(TABLE)
            && let Some(original) = tensors.0.remove(AUTHORS_TABLE)
        {
            tensors.0.insert(TABLE.to_owned(), original);
        }
        let model = Self::load(&described, &mut tensors, device)?;
        match tensors.0.is_empty() {
            true => Ok(model),
            false => Err(WeightsError::Unknown {
                names: tensors.0.into_keys().collect(),
            }),
        }
    }

    fn load(
        described: &Described,
        tensors: &mut NamedTensors,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let hidden = described.hidden;
        let (mut embeddings, mut linear_encoder) = (None, None);
        match described.encoder {
            Encoder::Embedding { vocabulary } => {
                let shape = [vocabulary, hidden];
                let weight = tensors.prefixed("backbone.embeddings")("weight", &shape)?;
                let weight = parameter(weight, shape, device);
                embeddings = Some(Embedding { weight });
            }
            Encoder::Linear { channels } => {
                let (name, shape) = ("backbone.linear_encoder", [hidden, channels]);
                linear_encoder = Some(Linear::load(tensors, name, shape, device)?);
            }
        }
        let (mut lm_head, mut linear_layer) = (None, None);
        match (described.head, described.encoder) {
            (MambaHead::Classes { classes }, _) => {
                let shape = [classes, hidden];
                linear_layer = Some(Linear::load(tensors, "linear_layer", shape, device)?);
            }
            (MambaHead::Tokens { tied: false }, Encoder::Embedding { vocabulary }) => {
                let shape = [vocabulary, hidden];
                lm_head = Some(Projection::load(tensors, "lm_head", shape, device)?);
            }
            (MambaHead::Tokens { .. }, _) => {
                tensors.0.remove(TOKEN_HEAD);
            }
        }
        let layers = (0..described.mixers.state_dims().len()).map(|layer| {
            let norm = format!("backbone.layers.{layer}.norm");
            Ok(MambaLayer {
                norm: RmsNorm::load(tensors, &norm, hidden, device)?,
                mixer: described.mixers.load(layer, tensors, device)?,
            })
        });
        let layers = layers.collect::<Result<_, WeightsError>>()?;
        Ok(Self {
            backbone: Backbone {
                embeddings,
                linear_encoder,
                layers,
                norm_f: RmsNorm::load(tensors, "backbone.norm_f", hidden, device)?,
            },
            lm_head,
            linear_layer,
        })
    }
}
