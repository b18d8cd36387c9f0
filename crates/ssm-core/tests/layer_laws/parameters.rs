//! Parameters of layers by their paths.

use std::collections::{BTreeMap, BTreeSet};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Tensor, TensorData},
};
use ssm_core::{Layer, ModulePath, NamedTensors};

use crate::differences::Cpu;

/// All of them.
pub(crate) fn of(layer: &Layer<Cpu>) -> NamedTensors {
    NamedTensors::of(layer)
}

/// The layer with other numbers in its parameters.
pub(crate) fn edit(layer: Layer<Cpu>, edit: impl FnMut(&str, &mut [f32])) -> Layer<Cpu> {
    layer.map(&mut Edit {
        path: ModulePath::default(),
        edit,
    })
}

struct Edit<F> {
    path: ModulePath,
    edit: F,
}

impl<F: FnMut(&str, &mut [f32])> ModuleMapper<Cpu> for Edit<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<Cpu, D>>) -> Param<Tensor<Cpu, D>> {
        let name = self.path.name();
        param.map(|tensor| {
            let (is_tracked, shape) = (tensor.is_require_grad(), tensor.dims());
            let mut values: Vec<f32> = tensor.into_data().iter().collect();
            (self.edit)(&name, &mut values);
            let data = TensorData::new(values, shape);
            Tensor::from_data(data, &Default::default()).set_require_grad(is_tracked)
        })
    }
}

/// Positions, in row-major order, of the numbers that a layer loses with all states but those at `kept`, for every
/// parameter that loses any. A selection moves numbers and makes none, so numbered ones tell.
pub(crate) fn lost(layer: &Layer<Cpu>, kept: &[usize]) -> BTreeMap<String, Vec<usize>> {
    let numbered = edit(layer.clone(), |_, values| {
        for (number, value) in values.iter_mut().enumerate() {
            *value = number as f32;
        }
    });
    let smaller = of(&numbered.selected(kept));
    let lost = |(name, tensor): (String, ssm_core::NamedTensor)| {
        let stay: BTreeSet<usize> = smaller.0[&name]
            .values
            .iter()
            .map(|v| *v as usize)
            .collect();
        let lost = (0..tensor.values.len()).filter(|position| !stay.contains(position));
        (name, lost.collect())
    };
    let all = of(layer).0.into_iter().map(lost);
    all.filter(|(_, lost): &(String, Vec<usize>)| !lost.is_empty())
        .collect()
}

/// The layer with zero in every parameter that a state has a part of.
pub(crate) fn silent(layer: &Layer<Cpu>) -> Layer<Cpu> {
    let of_states = lost(layer, &[0]);
    edit(layer.clone(), |name, values| {
        if of_states.contains_key(name) {
            values.fill(0.0);
        }
    })
}
