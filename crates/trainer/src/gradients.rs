//! Gradients by the names of their parameters: what stands between the backward pass and the update.
//!
//! They are taken out of the graph once. Whatever changes them on their way to the optimizer, such as the mean over
//! several batches, the gradient of a penalty on the parameters, or a limit on their norm, works on these. The names are
//! those of the weights in files, so that two processes mean the same parameter by one.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor};
use ssm_core::{Model, NamedVisitor, TrainingBackend};

/// Added to a norm before it divides, as PyTorch's `clip_grad_norm_` does.
const NORM_GUARD: f64 = 1e-6;

/// The gradient of every parameter that has one, on the backend without automatic differentiation.
///
/// # Example
/// ```
/// use burn::backend::Flex;
/// use burn::tensor::Tensor;
/// use trainer::gradients::NamedGradients;
///
/// let device = Default::default();
/// let mut gradients = NamedGradients::<Flex>::default();
/// gradients.add("weight", Tensor::<Flex, 2>::from_floats([[3.0, 0.0]], &device));
/// gradients.add("bias", Tensor::<Flex, 1>::from_floats([4.0], &device));
/// gradients.clip(0.5); // the norm was 5
/// let bias: f32 = gradients.get::<1>("bias").unwrap().into_scalar();
/// assert!((bias - 0.4).abs() < 1e-6);
/// ```
#[derive(Debug, Clone)]
pub struct NamedGradients<B: Backend>(BTreeMap<String, Gradient<B>>);

/// The gradient of one parameter.
#[derive(Debug, Clone)]
struct Gradient<B: Backend> {
    /// Flattened: there is one kind of tensor for parameters of every rank.
    values: Tensor<B, 1>,
    /// Of the parameter.
    shape: Vec<usize>,
}

impl<B: Backend> Default for NamedGradients<B> {
    /// Of no parameter.
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<B: Backend> NamedGradients<B> {
    /// Takes the gradients of the parameters of `model` out of what its backward pass left.
    pub fn take<A: TrainingBackend<Inner = B>>(model: &Model<A>, gradients: A::Gradients) -> Self {
        let mut taker = Taker::<A> {
            left: gradients,
            taken: Self::default(),
        };
        model.visit_named(&mut taker);
        taker.taken
    }

    /// Names of the parameters that have a gradient, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Gradient of the parameter with this name.
    ///
    /// # Panics
    /// When the parameter has not `D` dimensions.
    pub fn get<const D: usize>(&self, name: &str) -> Option<Tensor<B, D>> {
        let Gradient { values, shape } = self.0.get(name)?;
        let shape: [usize; D] = shape.as_slice().try_into().expect("the parameter's rank");
        Some(values.clone().reshape(shape))
    }

    /// Adds to the gradient of the parameter with this name, which is zero where there is none.
    ///
    /// # Panics
    /// When the parameter has another shape.
    pub fn add<const D: usize>(&mut self, name: &str, gradient: Tensor<B, D>) {
        let shape = gradient.dims().to_vec();
        let values = gradient.flatten(0, D - 1);
        self.add_gradient(name.to_owned(), Gradient { values, shape });
    }

    /// Adds the gradients of another batch.
    pub fn add_all(&mut self, others: Self) {
        for (name, gradient) in others.0 {
            self.add_gradient(name, gradient);
        }
    }

    fn add_gradient(&mut self, name: String, gradient: Gradient<B>) {
        let sum = match self.0.remove(&name) {
            None => gradient,
            Some(Gradient { values, shape }) => {
                assert_eq!(shape, gradient.shape, "the gradient of `{name}`");
                let values = values + gradient.values;
                Gradient { values, shape }
            }
        };
        self.0.insert(name, sum);
    }

    /// Multiplies all gradients by a number.
    pub fn scale(&mut self, factor: f64) {
        self.map(|values| values * factor);
    }

    /// Replaces the values of each parameter, which have one owner meanwhile.
    fn map(&mut self, change: impl Fn(Tensor<B, 1>) -> Tensor<B, 1>) {
        let all = std::mem::take(&mut self.0).into_iter();
        self.0 = all
            .map(|(name, Gradient { values, shape })| {
                let values = change(values);
                (name, Gradient { values, shape })
            })
            .collect();
    }

    /// Euclidean norm of all gradients as one vector, `[1]`, still on the device; `None` if there are none.
    ///
    /// Squares are summed over each parameter in its own precision, and over the parameters in `f64` where the device
    /// has it.
    pub fn norm(&self) -> Option<Tensor<B, 1>> {
        let squares = self.0.values().map(|gradient| &gradient.values);
        let sums: Vec<_> = squares
            .map(|values| values.clone().square().sum())
            .collect();
        let first = sums.first()?;
        let (device, own) = (first.device(), first.dtype());
        let sums = Tensor::cat(sums, 0);
        let sum = match B::supports_dtype(&device, DType::F64) {
            true => sums.cast(DType::F64).sum().cast(own),
            false => sums.sum(),
        };
        Some(sum.sqrt())
    }

    /// Multiplies all gradients by min(1, limit / (norm + 1e-6)): their direction stays, their norm is at most `limit`.
    ///
    /// Nothing waits for the device. As in PyTorch's `clip_grad_norm_`, a norm that is not a number leaves the gradients as
    /// they are, and one beyond the largest number makes them zero, or not a number where they are infinite.
    ///
    /// # Source
    /// Pascanu, Mikolov and Bengio (2013), algorithm 1: `PMB13`.
    pub fn clip(&mut self, limit: f64) {
        if let Some(norm) = self.norm() {
            let factor = ((norm + NORM_GUARD).recip() * limit).clamp_max(1.0);
            self.map(|values| values * factor.clone());
        }
    }

    /// The values by name, to compare.
    #[cfg(test)]
    pub(crate) fn flat(&self) -> BTreeMap<&str, Vec<f64>> {
        let values = |gradient: &Gradient<B>| gradient.values.to_data().iter().collect();
        let all = self.0.iter();
        all.map(|(name, gradient)| (name.as_str(), values(gradient)))
            .collect()
    }

    /// Removes the gradient of the parameter with this name: its values, flattened.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Tensor<B, 1>> {
        self.0.remove(name).map(|gradient| gradient.values)
    }
}

struct Taker<A: AutodiffBackend> {
    left: A::Gradients,
    taken: NamedGradients<A::InnerBackend>,
}

impl<A: AutodiffBackend> NamedVisitor<A> for Taker<A> {
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<A, D>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.left) {
            self.taken.add(&name, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    fn tensor<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<Flex, D> {
        let value = |i: u32| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 10_007.0 - 0.5;
        let values = (0..shape.iter().product::<usize>() as u32).map(value);
        let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
        Tensor::from_data(data, &Default::default())
    }

    fn some(seed: u32) -> NamedGradients<Flex> {
        let mut gradients = NamedGradients::default();
        gradients.add("a", tensor([40, 50], seed));
        gradients.add("b.c", tensor([3], seed + 1));
        gradients.add("b.d", tensor([2, 5, 7], seed + 2) * 30.0);
        gradients
    }

    fn values(gradients: &NamedGradients<Flex>) -> Vec<f64> {
        gradients.flat().into_values().flatten().collect()
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// Of sums of a few thousand squares in f32, added up in whatever order.
    const ROUNDING: f64 = 1e-5;

    #[test]
    fn the_norm_is_that_of_all_gradients_as_one_vector() {
        let gradients = some(1);
        let want = norm(&values(&gradients));
        let got = f64::from(gradients.norm().unwrap().into_scalar());
        assert!((got - want).abs() < ROUNDING * want, "{got} {want}");
        assert!(NamedGradients::<Flex>::default().norm().is_none());
    }

    #[test]
    fn clipping_keeps_the_direction_and_limits_the_norm() {
        for limit in [1e-6, 1e-3, 0.7, 20.0] {
            let mut gradients = some(1);
            let before = values(&gradients);
            assert!(norm(&before) > limit);
            gradients.clip(limit);
            let after = values(&gradients);
            let factor = limit / (norm(&before) + NORM_GUARD);
            for (before, after) in before.iter().zip(&after) {
                let want = before * factor;
                assert!((after - want).abs() <= ROUNDING * want.abs(), "{limit}");
            }
            assert!(norm(&after) <= limit * (1.0 + ROUNDING), "{limit}");
        }
    }

    #[test]
    fn gradients_within_the_limit_stay_as_they_are_to_the_bit() {
        let mut gradients = some(1);
        let before = values(&gradients);
        gradients.clip(1.01 * norm(&before));
        assert_eq!(values(&gradients), before);
        let mut none = NamedGradients::<Flex>::default();
        none.clip(1.0);
        assert_eq!(none.names().count(), 0);
        // Zero by zero, but for the guard.
        let mut zero = some(1);
        zero.scale(0.0);
        zero.clip(1.0);
        assert!(values(&zero).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn clipping_hides_nothing_that_is_not_a_number() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut gradients = some(1);
            gradients.add("b.c", tensor([3], 0) * 0.0 + bad);
            gradients.clip(1.0);
            assert!(values(&gradients).iter().any(|value| value.is_nan()));
        }
    }

    #[test]
    fn gradients_are_added_by_name_and_keep_their_shapes() {
        let mut sum = some(1);
        let mut others = some(7);
        others.add("only.here", tensor([2], 1));
        sum.add_all(others.clone());
        sum.scale(0.5);
        assert_eq!(
            sum.names().collect::<Vec<_>>(),
            ["a", "b.c", "b.d", "only.here"]
        );
        let mean = (some(1).get::<3>("b.d").unwrap() + others.get("b.d").unwrap()) * 0.5;
        assert!(sum.get::<3>("b.d").unwrap().into_data() == mean.into_data());
        let alone = sum.get::<1>("only.here").unwrap() * 2.0;
        assert!(alone.into_data() == tensor([2], 1).into_data());
        assert!(sum.get::<1>("nowhere").is_none());
    }

    #[test]
    #[should_panic(expected = "the gradient of `b.c`")]
    fn a_gradient_of_another_shape_is_not_added() {
        some(1).add("b.c", tensor([4], 1));
    }
}
