//! Weights by name: what goes into a file and comes out of one, without knowing about files.

use std::{collections::BTreeMap, fmt};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Tensor, backend::Backend},
};

use crate::module_path::ModulePath;

/// Values of one tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

/// Weights by their published names, `blocks.0.lru.nu_log` and the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedTensors(pub BTreeMap<String, NamedTensor>);

/// What the axes of a tensor are, outermost first.
pub type Axes = &'static [&'static str];

/// What was expected of a tensor that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedShape {
    /// These sizes, which other tensors imply.
    Sizes(Vec<usize>),
    /// These axes, whose sizes it was to tell.
    Axes(Axes),
}

impl fmt::Display for ExpectedShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sizes(sizes) => write!(f, "{sizes:?}"),
            Self::Axes(axes) => write!(f, "[{}]", axes.join(", ")),
        }
    }
}

/// Weights that do not make a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightsError {
    /// A tensor that the model needs is absent.
    #[error("tensor `{name}` is missing; expected shape {expected}")]
    Missing {
        /// Its name.
        name: String,
        /// The shape it should have.
        expected: ExpectedShape,
    },
    /// A tensor has more axes than it should, or fewer.
    #[error("tensor `{name}` has rank {}, shape {found:?}; expected rank {}, [{}]", found.len(), expected.len(), expected.join(", "))]
    Rank {
        /// Its name.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The axes it should have.
        expected: Axes,
    },
    /// A tensor has an axis of size 0.
    #[error("tensor `{name}` is empty: its shape is {found:?}; expected at least one of each of [{}]", expected.join(", "))]
    Empty {
        /// Its name.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// What its axes are.
        expected: Axes,
    },
    /// A tensor has another shape than the rest of the model implies.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?} from the other tensors")]
    Shape {
        /// Its name.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor does not hold as many values as its shape says.
    #[error("tensor `{name}` holds {values} values, which do not fill its shape {shape:?}")]
    Incomplete {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of its values.
        values: usize,
    },
    /// A value is NaN or infinite.
    #[error(
        "tensor `{name}` holds a value that is not a finite f32; the weights are damaged or training diverged"
    )]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// An axis is to be shared out among heads, and does not come out even.
    #[error(
        "tensor `{name}` has {size} {axis}, which cannot be shared by {heads} heads (`A_log`) without remainder"
    )]
    Uneven {
        /// Name of the tensor.
        name: String,
        /// What the axis is.
        axis: &'static str,
        /// Its size.
        size: usize,
        /// Number of heads.
        heads: usize,
    },
    /// The filters of a Mamba-2 layer leave none for its states.
    #[error(
        "tensor `{name}` has {filters} filters; expected one for each of {channels} channels, and behind them two for each state"
    )]
    Filters {
        /// Name of the tensor.
        name: String,
        /// Filters it has.
        filters: usize,
        /// Channels, according to the other tensors.
        channels: usize,
    },
    /// Two tensors of which a model has one.
    #[error("tensors `{}` and `{}` exclude each other; a model has one of them", names[0], names[1])]
    Exclusive {
        /// Their names.
        names: [String; 2],
    },
    /// Tensors that no part of the model uses.
    #[error(
        "tensors that this model does not have: {}; is this a file of another model?",
        few(names)
    )]
    Unknown {
        /// Their names.
        names: Vec<String>,
    },
    /// Neither a linear nor an embedding encoder is there.
    #[error("no encoder: expected `{}` or `{}`", names[0], names[1])]
    NoEncoder {
        /// The names of both.
        names: [String; 2],
    },
    /// A model of real channels has no head over classes, and cannot have one over tokens.
    #[error("tensor `{head}` is missing: a model on values (`{encoder}`) needs a head of classes")]
    NoClasses {
        /// Name of the head.
        head: String,
        /// Name of the encoder.
        encoder: String,
    },
    /// There is no block.
    #[error("no tensors of block 0 (`{}`)", layers.join("`, `"))]
    NoBlock {
        /// Where its layer could be.
        layers: Vec<String>,
    },
}

/// The first of many names.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

impl NamedTensors {
    /// Every parameter and statistic of a module, by its path.
    pub fn of<B: Backend>(module: &impl Module<B>) -> Self {
        let mut collector = Collector::default();
        module.visit(&mut collector);
        collector.tensors
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|t| t.shape.as_slice())
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there is a tensor under this path.
    pub(crate) fn has_any(&self, prefix: &str) -> bool {
        let start = format!("{prefix}.");
        let mut after = self.0.range(start.clone()..);
        after
            .next()
            .is_some_and(|(name, _)| name.starts_with(&start))
    }

    /// The sizes that a tensor tells, of which none is 0: everything that is allocated by them is no larger than the file.
    pub(crate) fn sizes<const D: usize>(
        &self,
        name: &str,
        axes: &'static [&'static str; D],
    ) -> Result<[usize; D], WeightsError> {
        let Some(tensor) = self.0.get(name) else {
            return Err(WeightsError::Missing {
                name: name.to_owned(),
                expected: ExpectedShape::Axes(axes),
            });
        };
        let Ok(sizes) = <[usize; D]>::try_from(tensor.shape.as_slice()) else {
            return Err(WeightsError::Rank {
                name: name.to_owned(),
                found: tensor.shape.clone(),
                expected: axes,
            });
        };
        if sizes.contains(&0) {
            return Err(WeightsError::Empty {
                name: name.to_owned(),
                found: sizes.to_vec(),
                expected: axes,
            });
        }
        tensor.check_count(name)?;
        Ok(sizes)
    }

    /// A function that takes tensors out by their names behind `prefix`, checking shape and finiteness.
    pub(crate) fn prefixed(
        &mut self,
        prefix: &str,
    ) -> impl FnMut(&str, &[usize]) -> Result<Vec<f32>, WeightsError> {
        move |name, expected| {
            let name = format!("{prefix}.{name}");
            let Some(tensor) = self.0.remove(&name) else {
                return Err(WeightsError::Missing {
                    name,
                    expected: ExpectedShape::Sizes(expected.to_vec()),
                });
            };
            if tensor.shape != expected {
                return Err(WeightsError::Shape {
                    name,
                    found: tensor.shape,
                    expected: expected.to_vec(),
                });
            }
            tensor.check_count(&name)?;
            if tensor.values.iter().any(|v| !v.is_finite()) {
                return Err(WeightsError::NotFinite { name });
            }
            Ok(tensor.values)
        }
    }
}

impl NamedTensor {
    /// The values of a tensor.
    pub(crate) fn of<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        let data = tensor.into_data();
        Self {
            shape: data.shape.as_slice().to_vec(),
            values: data.iter::<f32>().collect(),
        }
    }

    fn check_count(&self, name: &str) -> Result<(), WeightsError> {
        let product = |product: usize, size: &usize| product.checked_mul(*size);
        match self.shape.iter().try_fold(1, product) == Some(self.values.len()) {
            true => Ok(()),
            false => Err(WeightsError::Incomplete {
                name: name.to_owned(),
                shape: self.shape.clone(),
                values: self.values.len(),
            }),
        }
    }
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    tensors: NamedTensors,
}

impl<B: Backend> ModuleVisitor<B> for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = NamedTensor::of(param.val());
        self.tensors.0.insert(self.path.name(), tensor);
    }
}
