//! Gradients against central differences, in `f64`, through a layer as others call it.
//!
//! Along a direction v the loss changes by ⟨gradient, v⟩. Every parameter is moved by itself, and the input: beside a large
//! gradient a wrong small one would not be seen.

use std::collections::BTreeMap;

use burn::{
    backend::{Autodiff, Flex},
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Tensor, TensorData, backend::AutodiffBackend},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::ModulePath;

/// What trains on a processor.
pub(crate) type Cpu = Autodiff<Flex>;

const BATCH: usize = 2;
/// Not a multiple of any chunk, and longer than one.
const LENGTH: usize = 150;

/// Differences over this step and over two of it leave h⁴ / 30 of the fifth derivative, and the rounding of a loss is ε / h of
/// its terms. For a mode that turns by 300 over the sequence both are a few 1e-11.
const STEP: f64 = 2e-5;

/// Of the terms of the loss, added without their signs: a hundred times a few 1e-11, since states of a long memory have
/// derivatives that are larger than what they contribute.
const TOLERANCE: f64 = 1e-9;

/// Numbers in [-1, 1] in `f64`.
pub(crate) fn random<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<Cpu, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0));
    let data = TensorData::new(values.collect::<Vec<f64>>(), shape);
    Tensor::from_data(data, (&Default::default(), DType::F64))
}

fn scalar<const D: usize>(tensor: Tensor<Cpu, D>) -> f64 {
    tensor.sum().into_data().iter::<f64>().next().unwrap()
}

/// Takes every parameter to `f64`, and the one of this number by `step` along its direction.
struct Moved {
    next: usize,
    which: usize,
    step: f64,
}

fn direction<const D: usize>(number: usize, shape: [usize; D]) -> Tensor<Cpu, D> {
    random(1000 + number as u64, shape)
}

impl ModuleMapper<Cpu> for Moved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<Cpu, D>>) -> Param<Tensor<Cpu, D>> {
        let number = self.next;
        self.next += 1;
        let (is_moved, step) = (number == self.which, self.step);
        param.map(|tensor| {
            let is_tracked = tensor.is_require_grad();
            let shape = tensor.dims();
            let mut value = tensor.inner().cast(DType::F64);
            if is_moved {
                value = value + direction(number, shape).inner() * step;
            }
            // Of its own, and not the outcome of what was done to make it.
            Tensor::from_inner(value).set_require_grad(is_tracked)
        })
    }
}

/// Of every trained parameter its number, its name, and its gradient along its direction.
struct Slopes<'a> {
    gradients: &'a <Cpu as AutodiffBackend>::Gradients,
    path: ModulePath,
    next: usize,
    found: Vec<(usize, String, f64)>,
}

impl ModuleVisitor<Cpu> for Slopes<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Cpu, D>>) {
        let number = self.next;
        self.next += 1;
        let tensor = param.val();
        if tensor.is_require_grad() {
            let name = self.path.name();
            let gradient = tensor.grad(self.gradients);
            let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
            let along = Tensor::from_inner(gradient) * direction(number, tensor.dims());
            self.found.push((number, name, scalar(along)));
        }
    }
}

/// Takes every parameter to `f64`.
pub(crate) fn in_f64<M: Module<Cpu>>(layer: &M) -> M {
    moved(layer, usize::MAX, 0.0)
}

fn moved<M: Module<Cpu>>(layer: &M, which: usize, step: f64) -> M {
    let next = 0;
    layer.clone().map(&mut Moved { next, which, step })
}

/// Compares gradients of Σ w ∘ `forward`(layer, input), w random, with central differences, for an input of this width.
pub(crate) fn check<M: Module<Cpu>>(
    what: &str,
    hidden: usize,
    layer: &M,
    forward: impl Fn(&M, Tensor<Cpu, 3>) -> Tensor<Cpu, 3>,
) {
    let input = random(1, [BATCH, LENGTH, hidden]);
    let along = random(2, [BATCH, LENGTH, hidden]);
    let terms = |layer: &M, input: Tensor<Cpu, 3>| {
        let output = forward(layer, input);
        let weights = random(3, output.dims());
        output * weights
    };
    let loss = |layer: &M, input: Tensor<Cpu, 3>| scalar(terms(layer, input));

    let (still, tracked) = (in_f64(layer), input.clone().require_grad());
    let weighted = terms(&still, tracked.clone());
    let size = scalar(weighted.clone().abs());
    let gradients = weighted.sum().backward();
    let agree = |name: &str, slope: f64, loss: &dyn Fn(f64) -> f64| {
        let over = |h: f64| (loss(h) - loss(-h)) / (2.0 * h);
        let difference = (4.0 * over(STEP) - over(2.0 * STEP)) / 3.0;
        let allowed = TOLERANCE * (size + slope.abs());
        assert!(
            (slope - difference).abs() <= allowed,
            "{what}, {name}: gradient {slope:e}, central difference {difference:e}, allowed {allowed:e}"
        );
    };

    let slope = scalar(Tensor::from_inner(tracked.grad(&gradients).unwrap()) * along.clone());
    agree("input", slope, &|h| {
        loss(&still, input.clone() + along.clone() * h)
    });

    let mut slopes = Slopes {
        gradients: &gradients,
        path: ModulePath::default(),
        next: 0,
        found: Vec::new(),
    };
    still.visit(&mut slopes);
    assert!(!slopes.found.is_empty());
    for (number, name, slope) in slopes.found {
        agree(&name, slope, &|h| {
            loss(&moved(layer, number, h), input.clone())
        });
    }
}

/// Gradients of every parameter by its path.
struct Gradients<'a> {
    path: ModulePath,
    gradients: &'a <Cpu as AutodiffBackend>::Gradients,
    found: BTreeMap<String, Vec<f64>>,
}

impl ModuleVisitor<Cpu> for Gradients<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Cpu, D>>) {
        // A constant has none.
        if let Some(gradient) = param.val().grad(self.gradients) {
            let gradient = gradient.into_data().iter().collect();
            self.found.insert(self.path.name(), gradient);
        }
    }
}

/// Of whatever module the backward pass went through.
pub(crate) fn gradients_of(
    module: &impl Module<Cpu>,
    gradients: &<Cpu as AutodiffBackend>::Gradients,
) -> BTreeMap<String, Vec<f64>> {
    let mut visitor = Gradients {
        path: ModulePath::default(),
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}
