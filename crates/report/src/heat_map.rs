//! A heat map of spectra over training, with its scale of colors.

use plotters::prelude::*;

use crate::ReportError;
use crate::axis::Axis;
use crate::chart::{Area, DrawingResult, Grid, Mark, draw, draw_marks, frame, px, scale_frame};
use crate::color::{NOTHING, viridis};

/// Shades told apart: a column of a thousand values then is at most so many rectangles.
const SHADES: f64 = 64.0;

/// Width of the scale with its labels, in pixels.
const SCALE: f64 = 70.0;

/// The values of one stretch of training, from the first state up.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) values: Vec<f64>,
}

/// A heat map. Values are shown by their logarithm.
#[derive(Debug)]
pub(crate) struct HeatMap<'a> {
    pub(crate) description: String,
    /// Pixels.
    pub(crate) size: (f64, f64),
    pub(crate) columns: Vec<Column>,
    /// Powers of ten between which the colors change.
    pub(crate) range: (f64, f64),
    pub(crate) marks: &'a [Mark],
}

/// The color of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shade {
    /// Zero.
    Nothing,
    /// From 0 to `SHADES` - 1.
    Number(u32),
}

impl Shade {
    /// None if the value is not known.
    fn of(value: f64, (low, high): (f64, f64)) -> Option<Self> {
        if !value.is_finite() {
            None
        } else if value <= 0.0 {
            Some(Self::Nothing)
        } else {
            let share = ((value.log10() - low) / (high - low)).clamp(0.0, 1.0);
            Some(Self::Number((share * SHADES).min(SHADES - 1.0) as u32))
        }
    }

    fn color(self) -> RGBColor {
        match self {
            Self::Nothing => NOTHING,
            Self::Number(number) => viridis(f64::from(number) / (SHADES - 1.0)),
        }
    }
}

impl HeatMap<'_> {
    /// The picture; none if there is no range to show.
    pub(crate) fn svg(&self) -> Result<Option<String>, ReportError> {
        let ends = |column: &Column| (column.from, column.to);
        let (Some(first), Some(last)) = (self.columns.first(), self.columns.last()) else {
            return Ok(None);
        };
        let states = self.columns.iter().map(|column| column.values.len()).max();
        let x = Axis::whole(ends(first).0, ends(last).1);
        let y = Axis::whole(0.0, states.unwrap_or(0) as f64);
        let scale = Axis::decades(self.range.0, self.range.1);
        let (Some(x), Some(y), Some(scale)) = (x, y, scale) else {
            return Ok(None);
        };
        let svg = draw(self.size, &self.description, |area| {
            let (map, bar) = area.split_horizontally(px(self.size.0 - SCALE));
            self.draw_map(&map, &x, &y)?;
            self.draw_scale(&bar, &scale)
        })?;
        Ok(Some(svg))
    }

    fn draw_map(&self, area: &Area<'_>, x: &Axis, y: &Axis) -> DrawingResult<()> {
        let mut chart = frame(area, (x, "step"), (y, "state i"), Grid::None)?;
        for (index, column) in self.columns.iter().enumerate() {
            // Cells reach under their neighbors that are drawn later: side by side, some viewers would show seams.
            let right = match self.columns.get(index + 1) {
                Some(next) if next.values.len() == column.values.len() => {
                    (column.to + next.to) / 2.0
                }
                _ => column.to,
            };
            let shades = column.values.iter().map(|v| Shade::of(*v, self.range));
            let shades: Vec<Option<Shade>> = shades.collect();
            // A spectrum falls, so equal shades lie together.
            let runs: Vec<&[Option<Shade>]> = shades.chunk_by(|a, b| a == b).collect();
            let mut cells = Vec::with_capacity(runs.len());
            let mut bottom = 0;
            for (run, above) in runs.iter().zip(runs.iter().skip(1).map(Some).chain([None])) {
                let top = bottom + run.len();
                let covered = above
                    .filter(|above| above[0].is_some())
                    .map_or(0, |a| a.len());
                if let Some(shade) = run[0] {
                    let corners = [
                        (column.from, bottom as f64),
                        (right, (top + covered) as f64),
                    ];
                    cells.push(Rectangle::new(corners, shade.color().filled()));
                }
                bottom = top;
            }
            chart.draw_series(cells)?;
        }
        draw_marks(&mut chart, self.marks, x, y)
    }

    fn draw_scale(&self, area: &Area<'_>, scale: &Axis) -> DrawingResult<()> {
        let mut chart = scale_frame(area, (scale, "σᵢ"))?;
        let (low, high) = self.range;
        let border = |index: f64| 10f64.powf(low + (high - low) * index / SHADES);
        chart.draw_series((0..SHADES as u32).map(|number| {
            let index = f64::from(number);
            let top = (index + 2.0).min(SHADES);
            let corners = [(0.0, border(index)), (1.0, border(top))];
            Rectangle::new(corners, Shade::Number(number).color().filled())
        }))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_span_the_range_and_know_nothing_from_unknown() {
        let range = (-2.0, 2.0);
        assert_eq!(Shade::of(1e-9, range), Some(Shade::Number(0)));
        assert_eq!(Shade::of(1.0, range), Some(Shade::Number(32)));
        assert_eq!(Shade::of(1e9, range), Some(Shade::Number(63)));
        assert_eq!(Shade::of(0.0, range), Some(Shade::Nothing));
        assert_eq!(Shade::of(f64::NAN, range), None);
    }

    #[test]
    fn equal_neighbors_become_one_rectangle() {
        let map = |values: Vec<f64>| HeatMap {
            description: String::new(),
            size: (300.0, 200.0),
            columns: vec![Column {
                from: 0.0,
                to: 10.0,
                values,
            }],
            range: (-1.0, 1.0),
            marks: &[],
        };
        let rectangles = |map: HeatMap<'_>| map.svg().unwrap().unwrap().matches("<rect").count();
        assert_eq!(
            rectangles(map(vec![9.0; 500])) + 1,
            rectangles(map([vec![9.0; 250], vec![0.2; 250]].concat()))
        );
    }

    #[test]
    fn no_columns_make_no_picture() {
        let map = HeatMap {
            description: String::new(),
            size: (300.0, 200.0),
            columns: Vec::new(),
            range: (-1.0, 1.0),
            marks: &[],
        };
        assert!(map.svg().unwrap().is_none());
    }
}
