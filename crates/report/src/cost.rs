//! What the cuts cost.

use crate::ReportError;
use crate::axis::Axis;
use crate::chart::{Chart, Series, Shape};
use crate::color;
use crate::html::Page;
use crate::number::{duration, percent, plural};
use crate::records::Run;

/// The section on cost.
pub(crate) fn write(page: &mut Page, run: &Run) -> Result<(), ReportError> {
    page.section("Cost of the cuts");
    const TITLE: &str = "Time per cut";
    let cuts = run.cuts();
    if cuts.is_empty() {
        page.left_out(TITLE, "no layer was cut.");
        return Ok(());
    }
    let times: Vec<(f64, f64)> = cuts
        .iter()
        .enumerate()
        .filter_map(|(index, event)| Some(((index + 1) as f64, event.cut.seconds?)))
        .filter(|(_, seconds)| seconds.is_finite())
        .collect();
    let axes = (
        Axis::whole(0.4, cuts.len() as f64 + 0.6),
        Axis::from_zero(times.iter().map(|time| time.1)),
    );
    let (Some(x), Some(y)) = axes else {
        page.left_out(TITLE, "no cut tells how long it took.");
        return Ok(());
    };
    let sum: f64 = times.iter().map(|time| time.1).sum();
    let bars = Series {
        name: "seconds".to_owned(),
        color: color::of(0, 1),
        shape: Shape::Bars(0.7),
        points: times,
    };
    let svg = Chart {
        description: "Seconds of every cut".to_owned(),
        size: (1100.0, 260.0),
        x: (x, "cut (number in the table of cuts)"),
        y: (y, "seconds"),
        marks: &[],
        series: &[bars],
    }
    .svg()?;
    let share = |part: f64| match run.train_seconds() {
        Some(whole) if whole > 0.0 => format!(", {} of the training time", percent(part / whole)),
        _ => String::new(),
    };
    let checks = run
        .summary
        .as_ref()
        .and_then(|summary| summary.check_seconds);
    let checks = match checks {
        Some(checks) => format!(
            " All checks together, those without a cut included, took {}{}.",
            duration(checks),
            share(checks)
        ),
        None => String::new(),
    };
    let caption = format!(
        "Seconds from a layer's parameters to those of the smaller layer, its spectrum included. {} took {}{}.{checks}",
        plural(cuts.len(), "cut"),
        duration(sum),
        share(sum)
    );
    page.figure(&svg, &[], TITLE, &caption);
    Ok(())
}
