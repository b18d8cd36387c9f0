//! Axes: what range they cover, where their ticks are, and what the ticks say.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::number::{grouped, power_of_ten, significant};

/// Ticks that a linear axis aims for.
const TICKS: f64 = 7.0;

/// Room between the data and the ends of an axis, as a share of its length.
const MARGIN: f64 = 0.04;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Tick {
    value: f64,
    label: String,
}

/// One axis of a plot. It maps the values themselves, also on a logarithmic scale.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    scale: Scale,
    /// Ends, as places on the scale.
    ends: (f64, f64),
    ticks: Vec<Tick>,
}

impl Axis {
    /// A linear axis over the finite ones of `values`; none if there are none.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = extent(values)?;
        let size = low.abs().max(high.abs());
        // Below this, rounding would show as structure.
        let flat = high - low <= 1e-9 * size;
        let room = match (flat, size > 0.0) {
            (true, true) => (0.1 * size).max(f64::MIN_POSITIVE),
            (true, false) => 1.0,
            (false, _) => MARGIN * (high - low),
        };
        // What is never negative gets no negative end.
        let bottom = if low >= 0.0 {
            (low - room).max(0.0)
        } else {
            low - room
        };
        Self::between(bottom, high + room)
    }

    /// A linear axis from zero over the finite ones of `values`; none if there are none.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (_, high) = extent(values)?;
        Self::between(0.0, if high > 0.0 { 1.05 * high } else { 1.0 })
    }

    /// This linear axis without what lies outside of `low..=high`.
    pub(crate) fn within(self, low: f64, high: f64) -> Self {
        let ends = (self.ends.0.max(low), self.ends.1.min(high));
        Self::between(ends.0, ends.1).unwrap_or(self)
    }

    /// A linear axis of exactly this range; none if it is empty or not finite.
    pub(crate) fn between(low: f64, high: f64) -> Option<Self> {
        let proper = low < high && (high - low).is_finite();
        proper.then(|| Self {
            scale: Scale::Linear,
            ends: (low, high),
            ticks: linear_ticks(low, high, 0.0),
        })
    }

    /// A linear axis of whole numbers with ticks on whole numbers; none if it is empty.
    pub(crate) fn whole(low: f64, high: f64) -> Option<Self> {
        let axis = Self::between(low, high)?;
        let mut ticks = linear_ticks(low, high, 1.0);
        ticks.retain(|tick| tick.value >= 0.0);
        Some(Self { ticks, ..axis })
    }

    /// A logarithmic axis over the positive and finite ones of `values`; none if there are none.
    pub(crate) fn logarithmic(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = extent(values.into_iter().filter(|value| *value > 0.0))?;
        let (low, high) = (low.log10(), high.log10());
        let room = if high - low < 1e-6 {
            0.3
        } else {
            MARGIN * (high - low)
        };
        Some(Self {
            scale: Scale::Logarithmic,
            ends: (low - room, high + room),
            ticks: logarithmic_ticks(low - room, high + room),
        })
    }

    /// A logarithmic axis of exactly this range of powers of ten; none if it is empty.
    pub(crate) fn decades(low: f64, high: f64) -> Option<Self> {
        (low < high).then(|| Self {
            scale: Scale::Logarithmic,
            ends: (low, high),
            ticks: logarithmic_ticks(low, high),
        })
    }

    /// Values and labels of the ticks.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks
            .iter()
            .map(|tick| (tick.value, tick.label.as_str()))
    }

    /// Characters of the longest label.
    pub(crate) fn label_width(&self) -> usize {
        let widths = self.ticks.iter().map(|tick| tick.label.chars().count());
        widths.max().unwrap_or(0)
    }

    /// The values at both ends.
    pub(crate) fn ends(&self) -> (f64, f64) {
        match self.scale {
            Scale::Linear => self.ends,
            Scale::Logarithmic => (10f64.powf(self.ends.0), 10f64.powf(self.ends.1)),
        }
    }

    /// Whether a value can be shown.
    pub(crate) fn shows(&self, value: f64) -> bool {
        let place = self.scale.place(value);
        place.is_finite() && self.ends.0 <= place && place <= self.ends.1
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (low, high) = self.ends;
        let share = ((self.scale.place(*value) - low) / (high - low)).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There is one kind of grid line here, the bold one.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|tick| tick.value).collect()
    }

    fn range(&self) -> Range<f64> {
        let (low, high) = self.ends();
        low..high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.value == *value);
        tick.map(|tick| tick.label.clone()).unwrap_or_default()
    }
}

/// Smallest and largest of the finite values.
fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten that is at least `finest`.
fn linear_ticks(low: f64, high: f64, finest: f64) -> Vec<Tick> {
    let wanted = (high - low) / TICKS;
    let decade = 10f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|step| *step >= wanted * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
        .max(finest);
    let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
    // A range that rounding keeps from having a tick at all has none, rather than too many.
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    let steps = if last - first <= 2.0 * TICKS + 1.0 {
        (last - first).max(-1.0) as i64 + 1
    } else {
        0
    };
    (0..steps)
        .map(|index| {
            let value = (first + index as f64) * step;
            let label = match decimals {
                0 if value.abs() < 1e9 => grouped(value.round() as i64),
                1..=7 => format!("{value:.decimals$}"),
                _ => significant(value),
            };
            Tick { value, label }
        })
        .collect()
}

/// Ticks at powers of ten; at their simple multiples if the range holds few of them. The ends are exponents.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<Tick> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    let decades = last - first + 1;
    if decades >= 3 {
        let stride = decades.div_euclid(8) + 1;
        return (first..=last)
            .filter(|exponent| exponent.rem_euclid(stride) == 0)
            .map(|exponent| Tick {
                value: 10f64.powi(exponent),
                label: power_of_ten(exponent),
            })
            .filter(|tick| tick.value > 0.0)
            .collect();
    }
    let inside = |value: &f64| (low..=high).contains(&value.log10());
    let multiples: Vec<f64> = (first - 1..=last + 1)
        .flat_map(|exponent| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(exponent)))
        .filter(inside)
        .collect();
    if multiples.len() < 3 {
        return linear_ticks(10f64.powf(low), 10f64.powf(high), 0.0);
    }
    let label = |value: f64| match value {
        1e-3..1e5 => {
            let decimals = (-value.log10().floor()).max(0.0) as usize;
            format!("{value:.decimals$}")
        }
        _ => significant(value),
    };
    multiples
        .into_iter()
        .map(|value| Tick {
            value,
            label: label(value),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_inside() {
        let axis = Axis::between(0.0, 600.0).unwrap();
        assert_eq!(
            labels(&axis),
            ["0", "100", "200", "300", "400", "500", "600"]
        );
        let axis = Axis::between(0.97, 1.0).unwrap();
        assert_eq!(
            labels(&axis),
            [
                "0.970", "0.975", "0.980", "0.985", "0.990", "0.995", "1.000"
            ]
        );
        let axis = Axis::between(0.0, 60_000.0).unwrap();
        assert_eq!(
            labels(&axis),
            [
                "0", "10,000", "20,000", "30,000", "40,000", "50,000", "60,000"
            ]
        );
    }

    #[test]
    fn whole_numbers_have_no_ticks_between_them() {
        let axis = Axis::whole(-0.5, 2.5).unwrap();
        assert_eq!(labels(&axis), ["0", "1", "2"]);
    }

    #[test]
    fn decades_and_their_parts_are_ticked() {
        let wide = Axis::logarithmic([1e-6, 1.0]).unwrap();
        assert_eq!(
            labels(&wide),
            ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]
        );
        let narrow = Axis::logarithmic([0.04, 2.5]).unwrap();
        assert_eq!(labels(&narrow), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        let within_one = Axis::logarithmic([2.1, 2.9]).unwrap();
        assert!(labels(&within_one).len() >= 3, "{within_one:?}");
    }

    #[test]
    fn every_axis_has_a_few_ticks_whatever_the_range() {
        let sizes = [5e-324, 1e-300, 1e-9, 0.3, 1.0, 7.0, 1e6, 1e300];
        for size in sizes {
            for (low, high) in [(size, size), (size / 3.0, size), (size * 0.9999, size)] {
                let linear = Axis::linear([low, high]).unwrap();
                let logarithmic = Axis::logarithmic([low, high]);
                for axis in [Some(linear), logarithmic].into_iter().flatten() {
                    let ticks = labels(&axis).len();
                    assert!(ticks <= 16, "{ticks} ticks for {low:e}..{high:e}");
                    assert!(
                        ticks >= 1 || size < 1e-299,
                        "no ticks for {low:e}..{high:e}: {axis:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_placed_makes_no_axis() {
        assert!(Axis::linear([f64::NAN, f64::INFINITY]).is_none());
        assert!(Axis::linear([-1e308, 1e308]).is_none());
        assert!(Axis::logarithmic([0.0, -1.0]).is_none());
        assert!(Axis::between(1.0, 1.0).is_none());
    }

    #[test]
    fn values_fall_where_their_scale_says() {
        let axis = Axis::decades(-2.0, 2.0).unwrap();
        assert_eq!(axis.map(&1.0, (0, 100)), 50);
        assert_eq!(axis.map(&1.0, (100, 0)), 50);
        assert!(!axis.shows(0.0) && !axis.shows(f64::NAN) && axis.shows(100.0));
    }
}
