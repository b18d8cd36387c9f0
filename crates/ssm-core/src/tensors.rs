//! Weights by name: what goes into a file and comes out of one, without knowing about files.

use std::collections::BTreeMap;

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

/// Weights that do not make a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightsError {
    /// A tensor that the model needs is absent.
    #[error("tensor `{name}` is missing; expected shape {expected:?}")]
    Missing {
        /// Its name.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
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
    /// A value is NaN or infinite.
    #[error(
        "tensor `{name}` holds a value that is not finite; the weights are damaged or training diverged"
    )]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// Tensors that no part of the model uses.
    #[error("tensors that this model does not have: {}; is this a file of another model?", names.join(", "))]
    Unknown {
        /// Their names.
        names: Vec<String>,
    },
    /// Neither a linear nor an embedding encoder is there.
    #[error("no encoder: expected `linear_encoder.weight` or `embedding.weight`")]
    NoEncoder,
    /// The names of the blocks leave a gap, or there is none.
    #[error("no tensors of block {index} (`blocks.{index}.lru.nu_log`)")]
    NoBlock {
        /// The first block that is missing.
        index: usize,
    },
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
                    expected: expected.to_vec(),
                });
            };
            if tensor.shape != expected {
                return Err(WeightsError::Shape {
                    name,
                    found: tensor.shape,
                    expected: expected.to_vec(),
                });
            }
            if tensor.values.iter().any(|v| !v.is_finite()) {
                return Err(WeightsError::NotFinite { name });
            }
            Ok(tensor.values)
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
        let data = param.val().into_data();
        let tensor = NamedTensor {
            shape: data.shape.as_slice().to_vec(),
            values: data.iter::<f32>().collect(),
        };
        self.tensors.0.insert(self.path.name(), tensor);
    }
}
