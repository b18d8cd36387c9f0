//! Charts over two axes: lines, dots and bars, as SVG.

use std::io;

use maud::html;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ReportError;
use crate::axis::Axis;
use crate::color::{ALERT, CUT, GRID, INK};

/// Drawing units per pixel: the drawing library only knows whole units, and a line drawn in whole pixels is jagged.
const UNITS: i32 = 8;

/// Height of labels in pixels.
const LABEL: f64 = 13.0;

/// What the SVG backend divides the size of a font by.
const FONT_FACTOR: f64 = 1.24;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type DrawingResult<T> = Result<T, DrawingAreaErrorKind<io::Error>>;
type Frame<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// Pixels as drawing units.
pub(crate) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(UNITS)).round() as i32
}

/// A line of this width in pixels.
pub(crate) fn stroke(color: RGBColor, pixels: f64) -> ShapeStyle {
    color.stroke_width(px(pixels).unsigned_abs())
}

fn font(pixels: f64) -> TextStyle<'static> {
    ("sans-serif", f64::from(px(pixels * FONT_FACTOR)))
        .into_font()
        .color(&INK)
}

/// Draws a picture of this size in pixels; `description` is for those who cannot see it.
pub(crate) fn draw(
    (width, height): (f64, f64),
    description: &str,
    content: impl FnOnce(&Area<'_>) -> DrawingResult<()>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    let size = (px(width).unsigned_abs(), px(height).unsigned_abs());
    let paint = || {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        content(&root)?;
        root.present()
    };
    paint().map_err(|error| ReportError::Plot(error.into()))?;
    // The page sets the size, and half of the attributes say what is so anyway.
    let fixed = format!("width=\"{}\" height=\"{}\" viewBox", size.0, size.1);
    let label = html! { (description) }.into_string();
    let free = format!("role=\"img\" aria-label=\"{label}\" viewBox");
    Ok(svg
        .replacen(&fixed, &free, 1)
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"/>", "/>"))
}

/// Which grid lines to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Grid {
    Horizontal,
    None,
}

/// Draws both axes and returns the place between them.
pub(crate) fn frame<'a, 'b>(
    area: &'b Area<'a>,
    (x, x_label): (&Axis, &str),
    (y, y_label): (&Axis, &str),
    grid: Grid,
) -> DrawingResult<Frame<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(10.0))
        // Half of the last label sticks out.
        .margin_right(px(24.0))
        .x_label_area_size(px(44.0))
        .y_label_area_size(px(36.0 + 0.58 * LABEL * y.label_width() as f64))
        .build_cartesian_2d(x.clone(), y.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .bold_line_style(stroke(GRID, 1.0))
        .axis_style(stroke(INK, 1.0))
        .set_all_tick_mark_size(px(4.0))
        .label_style(font(LABEL))
        .axis_desc_style(font(LABEL))
        .x_desc(x_label)
        .y_desc(y_label);
    if grid == Grid::None {
        mesh.disable_y_mesh();
    }
    mesh.draw()?;
    Ok(chart)
}

/// Draws a scale with its labels at the right and its title below, and returns the bar to be filled.
pub(crate) fn scale_frame<'a, 'b>(
    area: &'b Area<'a>,
    (y, title): (&Axis, &str),
) -> DrawingResult<Frame<'a, 'b>> {
    let bar = 22.0;
    let (width, height) = area.dim_in_pixel();
    let breadth = Axis::between(0.0, 1.0).expect("zero is below one");
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(10.0))
        .margin_bottom(px(44.0))
        .margin_right(width as i32 - px(bar))
        .build_cartesian_2d(breadth, y.clone())?;
    let beside = font(LABEL).pos(Pos::new(HPos::Left, VPos::Center));
    chart.draw_series(y.ticks().map(|(value, label)| {
        EmptyElement::at((1.0, value))
            + PathElement::new([(0, 0), (px(4.0), 0)], stroke(INK, 1.0))
            + Text::new(label.to_owned(), (px(8.0), 0), beside.clone())
    }))?;
    let below = font(LABEL).pos(Pos::new(HPos::Center, VPos::Top));
    area.draw_text(title, &below, (px(bar / 2.0), height as i32 - px(20.0)))?;
    Ok(chart)
}

/// A cut, as a vertical line across a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mark {
    /// Optimizer steps.
    pub(crate) step: f64,
    /// Whether it was taken back.
    pub(crate) reverted: bool,
}

/// Draws the marks that the horizontal axis shows.
pub(crate) fn draw_marks(
    chart: &mut Frame<'_, '_>,
    marks: &[Mark],
    x: &Axis,
    y: &Axis,
) -> DrawingResult<()> {
    let (low, high) = y.ends();
    let shown = marks.iter().filter(|mark| x.shows(mark.step));
    chart.draw_series(shown.map(|mark| {
        let color = if mark.reverted { ALERT } else { CUT };
        PathElement::new([(mark.step, low), (mark.step, high)], stroke(color, 1.0))
    }))?;
    Ok(())
}

/// How a series looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// A line of this width in pixels.
    Line(f64),
    /// A line with a dot at every point, where points are few.
    Dotted,
    /// Dots alone.
    Dots,
    /// A bar from zero, this wide.
    Bars(f64),
}

/// Points that belong together. A point that the axes cannot show interrupts the line.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) color: RGBColor,
    pub(crate) shape: Shape,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart over two axes.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// For those who cannot see it.
    pub(crate) description: String,
    /// Pixels.
    pub(crate) size: (f64, f64),
    pub(crate) x: (Axis, &'a str),
    pub(crate) y: (Axis, &'a str),
    pub(crate) marks: &'a [Mark],
    pub(crate) series: &'a [Series],
}

/// Half of a page's width.
pub(crate) const HALF: (f64, f64) = (540.0, 320.0);

/// Points of a line up to which each is dotted.
const FEW_POINTS: usize = 40;

impl Chart<'_> {
    pub(crate) fn svg(&self) -> Result<String, ReportError> {
        draw(self.size, &self.description, |area| {
            let (x, y) = (&self.x.0, &self.y.0);
            let mut chart = frame(area, (x, self.x.1), (y, self.y.1), Grid::Horizontal)?;
            draw_marks(&mut chart, self.marks, x, y)?;
            for series in self.series {
                self.draw_series(&mut chart, series)?;
            }
            Ok(())
        })
    }

    fn draw_series(&self, chart: &mut Frame<'_, '_>, series: &Series) -> DrawingResult<()> {
        let (x, y) = (&self.x.0, &self.y.0);
        let shown = |point: &(f64, f64)| x.shows(point.0) && y.shows(point.1);
        let dots = |points: Vec<(f64, f64)>, pixels| {
            let style = series.color.filled();
            points
                .into_iter()
                .map(move |point| Circle::new(point, px(pixels), style))
        };
        if let Shape::Line(_) | Shape::Dotted = series.shape {
            let width = match series.shape {
                Shape::Line(width) => width,
                _ => 1.8,
            };
            let pieces = || series.points.split(|point| !shown(point));
            let lines = pieces().filter(|piece| piece.len() > 1);
            chart.draw_series(
                lines.map(|piece| PathElement::new(piece, stroke(series.color, width))),
            )?;
            // A line of one point would not be seen.
            let alone = pieces().filter(|piece| piece.len() == 1).flatten();
            chart.draw_series(dots(alone.copied().collect(), 2.6))?;
        }
        let inside = || series.points.iter().copied().filter(shown);
        match series.shape {
            Shape::Dotted if series.points.len() <= FEW_POINTS => {
                chart.draw_series(dots(inside().collect(), 2.6))?;
            }
            Shape::Dots => {
                chart.draw_series(dots(inside().collect(), 2.6))?;
            }
            Shape::Bars(width) => {
                chart.draw_series(inside().map(|(at, height)| {
                    let corners = [(at - width / 2.0, 0.0), (at + width / 2.0, height)];
                    Rectangle::new(corners, series.color.filled())
                }))?;
            }
            Shape::Line(_) | Shape::Dotted => {}
        }
        Ok(())
    }
}
