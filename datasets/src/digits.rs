//! Drawn digits that need no download: 784 x 1 sequences in the layout of MNIST.
//!
//! Each example is a pen drawing of one digit, bent, tilted, scaled, shifted and inked at random, with some noise. It
//! depends on (seed, part, index) alone, and on arithmetic that IEEE 754 fixes to the last bit: every machine and every
//! number of threads gives the same bytes.
//!
//! The deformations are strong enough that accuracy says something about a model. On the test images, after the 20,000
//! training images of the default:
//!
//! | classifier | accuracy |
//! |---|---|
//! | softmax regression on the pixels | 0.76 |
//! | three nearest neighbors, pixels as they are | 0.89 |
//! | one hidden layer of 256 | 0.96 |
//! | three nearest neighbors, blurred, best of all shifts up to three pixels (first 600 test images) | 0.985 |
//!
//! It is a stand-in to try things on, not a benchmark: no published result refers to it. All 24,000 images take about
//! half a second on two cores.

#[rustfmt::skip] // tables of points, a stroke a line
mod glyphs;
mod pen;
mod stroke;

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, Part};
use crate::option::{OptionFault, require_examples, require_seed};
use crate::sequence_set::SequenceSet;
use crate::shape::{Content, Shape, Target};
use crate::shuffle::{Purpose, below, stream};
use crate::source::{Options, Published, Source};
use glyphs::GLYPHS;
use pen::{Canvas, Point};

/// Rows and columns of an image, in pixels.
pub const SIDE: usize = 28;

/// Most examples of a part that can be asked for: 784 MB of them.
pub const LIMIT: usize = 1_000_000;

const SHAPE: Shape = Shape {
    sequences: 1,
    length: SIDE * SIDE,
    channels: 1,
    classes: 10,
    content: Content::Values,
    target: Target::Class,
};

/// Sizes and seed of the generated set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DigitsOptions {
    /// Training examples including those held out for validation, 1 to [`LIMIT`].
    pub train_examples: usize,
    /// Test examples, 1 to [`LIMIT`].
    pub test_examples: usize,
    /// Chooses the drawings. Separate from the seed of a run, so that runs of several seeds share one data set.
    pub seed: u64,
}

impl Default for DigitsOptions {
    /// 20,000 training and 4,000 test examples of seed 0.
    fn default() -> Self {
        Self {
            train_examples: 20_000,
            test_examples: 4_000,
            seed: 0,
        }
    }
}

impl Options for DigitsOptions {
    fn check(&self) -> Result<(), OptionFault> {
        require_examples(self.train_examples, self.test_examples, LIMIT)?;
        require_seed(self.seed)
    }
}

/// The digit that example `index` of either part shows: the classes take turns.
pub fn label(index: u64) -> u8 {
    (index % 10) as u8
}

/// The image of example `index`, rows of [`SIDE`] pixels from the top, 255 being full ink.
///
/// `part` is [`Part::Test`] or, with one numbering for both, [`Part::Train`] or [`Part::Validation`]. A smaller or
/// larger set of the same seed starts with the same images.
///
/// # Examples
/// ```
/// use datasets::{Part, digits};
///
/// let seven = digits::render(0, Part::Test, 7);
/// assert_eq!(digits::label(7), 7);
/// assert_eq!(seven, digits::render(0, Part::Test, 7));
/// assert_ne!(seven, digits::render(0, Part::Test, 17));
/// ```
pub fn render(seed: u64, part: Part, index: u64) -> [u8; SIDE * SIDE] {
    let purpose = match part {
        Part::Train | Part::Validation => Purpose::DigitsTrain,
        Part::Test => Purpose::DigitsTest,
    };
    let mut rng = stream(seed, purpose, index);
    let variants = GLYPHS[usize::from(label(index))];
    let glyph = variants[below(variants.len() as u32, &mut rng) as usize];
    let hand = Hand::random(&mut rng);
    let mut canvas = Canvas::new();
    for stroke in glyph {
        let points: Vec<Point> = stroke
            .flatten()
            .into_iter()
            .map(|point| hand.place(point))
            .collect();
        canvas.draw(&points);
    }
    develop(&canvas, &mut rng)
}

/// The data set `digits`.
#[derive(Debug)]
pub struct Digits;

impl Source for Digits {
    const NAME: &'static str = "digits";
    type Options = DigitsOptions;

    fn shape(_: &DigitsOptions) -> Shape {
        SHAPE
    }

    fn read(options: &DigitsOptions, _: Option<&Path>) -> Result<Published, DatasetError> {
        Ok(Published {
            train: draw(options.seed, Part::Train, options.train_examples)?,
            test: draw(options.seed, Part::Test, options.test_examples)?,
        })
    }
}

fn draw(seed: u64, part: Part, len: usize) -> Result<SequenceSet, DatasetError> {
    let mut bytes = vec![0; len * SHAPE.values()];
    bytes
        .par_chunks_mut(SHAPE.values())
        .enumerate()
        .for_each(|(index, image)| {
            image.copy_from_slice(&render(seed, part, index as u64));
        });
    SequenceSet::new(
        SHAPE,
        bytes,
        (0..len as u64).map(|index| label(index).into()).collect(),
    )
}

/// Nodes of the bending grid to a side.
const GRID: usize = 4;
/// Glyph coordinates the grid spans, a little more than the glyphs themselves.
const REACH: f32 = 1.1;

/// Standard deviation of the offset of a grid node, in glyph units (half a digit's height).
const BEND: f32 = 0.13;
/// Largest rotation to either side: the tangent of half the angle, 18 degrees.
const HALF_TILT: f32 = 0.158;
/// Largest slant to either side, columns per row.
const SLANT: f32 = 0.35;
/// Pixels per glyph unit, across and down.
const WIDTH: [f32; 2] = [6.0, 10.5];
const HEIGHT: [f32; 2] = [7.0, 10.0];
/// Largest shift of the center to either side, in pixels.
const SHIFT: f32 = 2.5;
/// Radius of the pen in pixels.
const PEN: [f32; 2] = [0.6, 1.5];
/// Blackness of full ink.
const INK: [f32; 2] = [0.65, 1.0];
/// Largest standard deviation of the noise on every pixel.
const NOISE: f32 = 0.06;
/// Most stray specks on an image.
const SPECKS: u32 = 6;

/// How one example is written: the way from the box of the glyphs to pixels.
struct Hand {
    /// Offsets of a grid of `GRID` x `GRID` nodes over the glyph, in glyph units, interpolated in between.
    bend: [[Point; GRID]; GRID],
    /// Rows of the matrix from glyph units to pixels.
    matrix: [[f32; 2]; 2],
    /// Center of the digit, in pixels.
    center: Point,
}

impl Hand {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let mut bend = [[Point::default(); GRID]; GRID];
        for node in bend.as_flattened_mut() {
            *node = Point {
                x: bell(rng) * BEND,
                y: bell(rng) * BEND,
            };
        }
        // Rational form of sine and cosine: library versions of them differ between machines in the last bit.
        let half = uniform(rng, [-HALF_TILT, HALF_TILT]);
        let norm = 1.0 + half * half;
        let (sin, cos) = (2.0 * half / norm, (1.0 - half * half) / norm);
        let slant = uniform(rng, [-SLANT, SLANT]);
        let (width, height) = (uniform(rng, WIDTH), uniform(rng, HEIGHT));
        // rotation * slant * scale
        let matrix = [
            [cos * width, (cos * -slant - sin) * height],
            [sin * width, (sin * -slant + cos) * height],
        ];
        let middle = SIDE as f32 / 2.0;
        let center = Point {
            x: middle + uniform(rng, [-SHIFT, SHIFT]),
            y: middle + uniform(rng, [-SHIFT, SHIFT]),
        };
        Self {
            bend,
            matrix,
            center,
        }
    }

    fn place(&self, point: Point) -> Point {
        let offset = self.offset(point);
        let (x, y) = (point.x + offset.x, point.y + offset.y);
        let [[xx, xy], [yx, yy]] = self.matrix;
        Point {
            x: self.center.x + xx * x + xy * y,
            y: self.center.y + yx * x + yy * y,
        }
    }

    /// The bend at a point: its four grid neighbors, blended smoothly so that strokes get no corners.
    fn offset(&self, point: Point) -> Point {
        let (column, across) = cell(point.x);
        let (row, down) = cell(point.y);
        let blend = |a: Point, b: Point, t: f32| Point {
            x: a.x + (b.x - a.x) * t,
            y: a.y + (b.y - a.y) * t,
        };
        let along = |row: usize| blend(self.bend[row][column], self.bend[row][column + 1], across);
        blend(along(row), along(row + 1), down)
    }
}

/// The grid cell of a coordinate, and how far into it, smoothed: `3 t^2 - 2 t^3`.
fn cell(coordinate: f32) -> (usize, f32) {
    let cells = (GRID - 1) as f32;
    let position = ((coordinate + REACH) / (2.0 * REACH) * cells).clamp(0.0, cells);
    let index = (position as usize).min(GRID - 2);
    let t = position - index as f32;
    (index, t * t * (3.0 - 2.0 * t))
}

/// Ink, noise and specks: from a drawing to pixels.
fn develop(canvas: &Canvas, rng: &mut ChaCha8Rng) -> [u8; SIDE * SIDE] {
    let (radius, ink, noise) = (
        uniform(rng, PEN),
        uniform(rng, INK),
        uniform(rng, [0.0, NOISE]),
    );
    let mut values = canvas.coverage(radius);
    for value in &mut values {
        *value = *value * ink + bell(rng) * noise;
    }
    for _ in 0..below(SPECKS + 1, rng) {
        values[below((SIDE * SIDE) as u32, rng) as usize] = uniform(rng, [0.0, 1.0]);
    }
    // Rounds to nearest: the cast truncates and saturates.
    values.map(|value| (value * 255.0 + 0.5) as u8)
}

/// Uniform between two bounds, exact to the last bit.
fn uniform(rng: &mut ChaCha8Rng, [low, high]: [f32; 2]) -> f32 {
    let unit = (rng.next_u32() >> 8) as f32 / (1 << 24) as f32;
    low + (high - low) * unit
}

/// Roughly normal, mean 0 and variance 1, within 3.47 of 0: a sum of four uniforms, which needs no logarithm.
fn bell(rng: &mut ChaCha8Rng) -> f32 {
    let sum: u32 = (0..2)
        .map(|_| rng.next_u32())
        .map(|word| (word >> 16) + (word & 0xffff))
        .sum();
    // Four draws from 0..65536, each of variance 65536^2 / 12.
    const SQRT_3: f32 = 1.732_050_8;
    (sum as f32 / 65536.0 - 2.0) * SQRT_3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hexadecimal;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_default_sizes_give_the_classes_equal_shares() {
        let options = DigitsOptions::default();
        assert_eq!(
            (options.train_examples, options.test_examples),
            (20_000, 4_000)
        );
        let set = draw(0, Part::Test, 200).unwrap();
        assert_eq!((set.shape(), set.class_counts()), (SHAPE, vec![20; 10]));
    }

    #[test]
    fn an_example_depends_on_seed_part_and_index_alone() {
        let few = draw(3, Part::Train, 30).unwrap();
        let more = draw(3, Part::Train, 60).unwrap();
        for index in 0..30 {
            assert_eq!(few.bytes(index), more.bytes(index));
            assert_eq!(few.bytes(index), render(3, Part::Train, index as u64));
        }
        assert_ne!(render(3, Part::Train, 0), render(4, Part::Train, 0));
        assert_ne!(render(3, Part::Train, 0), render(3, Part::Test, 0));
        assert_ne!(render(3, Part::Train, 0), render(3, Part::Train, 10));
        assert_eq!(render(3, Part::Train, 0), render(3, Part::Validation, 0));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| draw(2, Part::Train, 200).unwrap())
        };
        let (one, five) = (on(1), on(5));
        assert!(
            (0..200).all(|index| one.bytes(index) == five.bytes(index)
                && one.label(index) == five.label(index))
        );
    }

    /// Nothing but IEEE additions, multiplications, divisions and square roots: the same on every machine.
    #[test]
    fn the_first_hundred_test_images_of_seed_0_never_change() {
        let mut hasher = Sha256::new();
        (0..100).for_each(|index| hasher.update(render(0, Part::Test, index)));
        assert_eq!(hexadecimal(&hasher.finalize()), GOLDEN);
    }
    const GOLDEN: &str = "c46ecc7d28a20fbcf0adf69a093470b40dbdb6d64fcab63ddac8278b10355e28";

    #[test]
    fn every_image_has_ink_and_keeps_it_off_the_border() {
        for index in 0..500 {
            let image = render(1, Part::Train, index);
            let dark = |pixels: &mut dyn Iterator<Item = usize>| {
                pixels.filter(|pixel| image[*pixel] > 128).count()
            };
            let total = dark(&mut (0..SIDE * SIDE));
            assert!(
                (12..300).contains(&total),
                "{total} dark pixels in image {index}"
            );
            // A speck may land there, and a far stroke may just touch it.
            let border = dark(
                &mut (0..SIDE)
                    .flat_map(|at| [at, (SIDE - 1) * SIDE + at, at * SIDE, at * SIDE + SIDE - 1]),
            );
            assert!(
                border <= 12,
                "{border} dark pixels on the border of image {index}"
            );
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for (train_examples, test_examples, wrong) in [
            (0, 10, "train_examples"),
            (10, 0, "test_examples"),
            (usize::MAX, 10, "train_examples"),
        ] {
            let options = DigitsOptions {
                train_examples,
                test_examples,
                seed: 0,
            };
            assert_eq!(options.check().unwrap_err().key, wrong);
        }
    }

    #[test]
    fn bell_has_mean_0_and_variance_1() {
        const DRAWS: usize = 40_000;
        let mut rng = stream(0, Purpose::DigitsTrain, 0);
        let draws: Vec<f64> = (0..DRAWS).map(|_| bell(&mut rng).into()).collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f64>() / DRAWS as f64;
        // Standard errors 0.005 and at most 0.0071 (light tails); five of them.
        assert!(
            mean.abs() < 0.025 && (variance - 1.0).abs() < 0.036,
            "{mean} {variance}"
        );
    }
}
