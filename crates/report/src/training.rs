//! Losses, accuracies, state dimensions and step times over training.

use crate::ReportError;
use crate::axis::Axis;
use crate::chart::{Chart, HALF, Mark, Series, Shape};
use crate::color;
use crate::html::{Key, Page};
use crate::number::{known, significant};
use crate::records::{Metrics, Run};

/// Times the smallest loss above which the largest makes a logarithmic axis worth reading.
const LOG_FROM: f64 = 20.0;

/// A vertical line for every step at which something was cut.
pub(crate) fn marks(run: &Run, layer: Option<usize>) -> Vec<Mark> {
    let mut marks: Vec<Mark> = run
        .cuts()
        .iter()
        .filter(|event| layer.is_none_or(|layer| event.cut.layer == layer))
        .map(|event| Mark {
            step: event.cut.step as f64,
            reverted: event.reverted(),
        })
        .collect();
    marks.dedup();
    marks
}

/// What the marks mean, for the kinds that are there.
pub(crate) fn mark_keys(marks: &[Mark]) -> Vec<Key> {
    [false, true]
        .into_iter()
        .filter(|reverted| marks.iter().any(|mark| mark.reverted == *reverted))
        .map(Key::mark)
        .collect()
}

/// The meaning of every series and of the marks. Of many layers the first, the middle and the last are named.
pub(crate) fn keys(series: &[Series], marks: &[Mark]) -> Vec<Key> {
    let named: Vec<&Series> = match series {
        [first, .., last] if series.len() > 8 => vec![first, &series[series.len() / 2], last],
        few => few.iter().collect(),
    };
    let mut keys: Vec<Key> = named.into_iter().map(Key::of).collect();
    keys.extend(mark_keys(marks));
    keys
}

/// The section on training.
pub(crate) fn write(page: &mut Page, run: &Run) -> Result<(), ReportError> {
    page.section("Training");
    let marks = marks(run, None);
    page.row(|page| {
        losses(page, run, &marks)?;
        accuracies(page, run, &marks)
    })?;
    page.row(|page| {
        state_dims(page, run, &marks)?;
        step_times(page, run, &marks)
    })
}

/// The steps of a run, from 0; none if there are none.
pub(crate) fn step_axis(run: &Run) -> Option<Axis> {
    Axis::whole(0.0, run.last_step() as f64)
}

fn series(run: &Run, name: &str, color: usize, value: impl Fn(&Metrics) -> Option<f64>) -> Series {
    let point = |line: &Metrics| (line.step as f64, value(line).unwrap_or(f64::NAN));
    Series {
        name: name.to_owned(),
        color: color::of(color, 2),
        shape: Shape::Dotted,
        points: run.metrics.iter().map(point).collect(),
    }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone {
    series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.1))
}

/// Why there is no curve, if there is none.
fn too_few(series: &[Series]) -> Option<String> {
    let enough = |series: &Series| {
        series
            .points
            .iter()
            .filter(|p| p.1.is_finite())
            .nth(1)
            .is_some()
    };
    if series.iter().any(enough) {
        return None;
    }
    Some(
        match values(series).filter(|value| value.is_finite()).count() {
            0 => "no evaluation tells of it.".to_owned(),
            _ => "there is one evaluation so far, and a curve needs two.".to_owned(),
        },
    )
}

fn losses(page: &mut Page, run: &Run, marks: &[Mark]) -> Result<(), ReportError> {
    const TITLE: &str = "Loss";
    let series = [
        series(run, "training", 0, |line| line.train_loss),
        series(run, "validation", 1, |line| line.val_loss),
    ];
    if let Some(why) = too_few(&series) {
        page.left_out(TITLE, &why);
        return Ok(());
    }
    let finite = || values(&series).filter(|value| value.is_finite());
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(0.0, f64::max),
    );
    let logarithmic = low > 0.0 && high > LOG_FROM * low;
    let y = if logarithmic {
        Axis::logarithmic(finite())
    } else {
        Axis::linear(finite())
    };
    let (Some(x), Some(y)) = (step_axis(run), y) else {
        page.left_out(TITLE, "its numbers do not fit on an axis.");
        return Ok(());
    };
    let svg = Chart {
        description: "Training and validation loss over the steps".to_owned(),
        size: HALF,
        x: (x, "step"),
        y: (y, "cross-entropy [nats]"),
        marks,
        series: &series,
    }
    .svg()?;
    let scale = if logarithmic {
        " The vertical axis is logarithmic."
    } else {
        ""
    };
    let caption = format!(
        "Mean cross-entropy, in training since the evaluation before, on the validation set at the evaluation; \
         vertical lines are cuts. A cut that harms shows as a jump at its line.{scale}"
    );
    page.figure(&svg, &keys(&series, marks), TITLE, &caption);
    Ok(())
}

fn accuracies(page: &mut Page, run: &Run, marks: &[Mark]) -> Result<(), ReportError> {
    const TITLE: &str = "Accuracy";
    let share = |value: Option<f64>| value.map(|share| 100.0 * share);
    let series = [
        series(run, "training", 0, |line| share(line.train_accuracy)),
        series(run, "validation", 1, |line| share(line.val_accuracy)),
    ];
    if let Some(why) = too_few(&series) {
        page.left_out(TITLE, &why);
        return Ok(());
    }
    let y = Axis::linear(values(&series)).map(|axis| axis.within(0.0, 100.0));
    let (Some(x), Some(y)) = (step_axis(run), y) else {
        page.left_out(TITLE, "its numbers do not fit on an axis.");
        return Ok(());
    };
    let svg = Chart {
        description: "Training and validation accuracy over the steps".to_owned(),
        size: HALF,
        x: (x, "step"),
        y: (y, "accuracy [%]"),
        marks,
        series: &series,
    }
    .svg()?;
    page.figure(
        &svg,
        &keys(&series, marks),
        TITLE,
        "Share of the answers that are right, at the same evaluations as the loss. Where the curves part for good, \
         the model learns its training set by heart.",
    );
    Ok(())
}

/// States of a layer from the first step to the last, as the corners of stairs.
fn stairs(run: &Run, layer: usize) -> Vec<(f64, f64)> {
    // At the same step a check sees the states before its cut, the cut leaves those after, and the evaluation
    // comes last.
    let mut known: Vec<(u64, u8, usize)> = Vec::new();
    let summary = run.summary.as_ref();
    let initial = summary.and_then(|summary| summary.initial_state_dims.get(layer));
    known.extend(initial.map(|states| (0, 0, *states)));
    for check in run.checks.iter().filter(|check| check.layer == layer) {
        known.extend(check.states().map(|states| (check.step, 0, states)));
    }
    for event in run.cuts().iter().filter(|event| event.cut.layer == layer) {
        let cut = event.cut;
        known.push((cut.step, 1, cut.from));
        if !event.reverted() {
            known.push((cut.step, 2, cut.to));
        }
    }
    for line in &run.metrics {
        let states = line.state_dims.get(layer);
        known.extend(states.map(|states| (line.step, 3, *states)));
    }
    known.sort_by_key(|(step, order, _)| (*step, *order));
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for (step, _, states) in known {
        let (step, states) = (step as f64, states as f64);
        let before = corners.last().map_or(states, |corner| corner.1);
        if corners.is_empty() {
            corners.push((0.0, states));
        }
        corners.extend([(step, before), (step, states)]);
    }
    if let Some((_, states)) = corners.last().copied() {
        corners.push((run.last_step() as f64, states));
    }
    corners.dedup();
    corners
}

fn state_dims(page: &mut Page, run: &Run, marks: &[Mark]) -> Result<(), ReportError> {
    const TITLE: &str = "State dimensions";
    let of_metrics = run.metrics.iter().map(|line| line.state_dims.len()).max();
    let of_checks = run.checks.iter().map(|check| check.layer + 1).max();
    let layers = of_metrics.max(of_checks).unwrap_or(0);
    let series: Vec<Series> = (0..layers)
        .map(|layer| Series {
            name: format!("layer {layer}"),
            color: color::of(layer, layers),
            // Equal layers lie on each other: the later ones thinner, so that all are seen.
            shape: Shape::Line(1.5 + 3.5 * (layers - layer - 1) as f64 / layers.max(2) as f64),
            points: stairs(run, layer),
        })
        .collect();
    let (Some(x), Some(y)) = (step_axis(run), Axis::from_zero(values(&series))) else {
        page.left_out(TITLE, "no file tells of a step with states yet.");
        return Ok(());
    };
    let svg = Chart {
        description: "States of every layer over the steps".to_owned(),
        size: HALF,
        x: (x, "step"),
        y: (y, "states"),
        marks,
        series: &series,
    }
    .svg()?;
    let mut caption = "States of each layer; every step down is a cut.".to_owned();
    if layers > 1 {
        caption += " Lines that lie on each other are layers of the same size, the later ones drawn thinner.";
    }
    page.figure(&svg, &keys(&series, marks), TITLE, &caption);
    Ok(())
}

fn step_times(page: &mut Page, run: &Run, marks: &[Mark]) -> Result<(), ReportError> {
    const TITLE: &str = "Step time";
    let series = [series(run, "median step", 0, |line| line.step_ms)];
    if let Some(why) = too_few(&series) {
        page.left_out(TITLE, &why);
        return Ok(());
    }
    let (Some(x), Some(y)) = (step_axis(run), Axis::from_zero(values(&series))) else {
        page.left_out(TITLE, "its numbers do not fit on an axis.");
        return Ok(());
    };
    let svg = Chart {
        description: "Milliseconds of a training step over the steps".to_owned(),
        size: HALF,
        x: (x, "step"),
        y: (y, "step time [ms]"),
        marks,
        series: &series,
    }
    .svg()?;
    let last = series[0]
        .points
        .iter()
        .rev()
        .find(|point| point.1.is_finite());
    let last = known(last.map(|point| point.1), significant);
    let caption = format!(
        "Median milliseconds of a training step since the cut before (or the start), at each evaluation; {last} ms at the \
         last. The axis begins at zero, so heights compare."
    );
    page.figure(&svg, &keys(&series, marks), TITLE, &caption);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{CutRecord, SummaryRecord};

    #[test]
    fn stairs_go_down_at_the_cut_not_at_the_next_evaluation() {
        let metrics = |step, states| {
            let text = format!(r#"{{"step":{step},"state_dims":[{states}]}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let run = Run {
            metrics: vec![metrics(100, 4), metrics(200, 4)],
            summary: Some(SummaryRecord {
                initial_state_dims: vec![9],
                cuts: vec![CutRecord {
                    step: 30,
                    layer: 0,
                    from: 9,
                    to: 4,
                    discarded: None,
                    bound: None,
                    measured: None,
                    seconds: None,
                }],
                ..SummaryRecord::default()
            }),
            ..Run::default()
        };
        let corners = [
            (0.0, 9.0),
            (30.0, 9.0),
            (30.0, 4.0),
            (100.0, 4.0),
            (200.0, 4.0),
        ];
        assert_eq!(stairs(&run, 0), corners);
    }

    #[test]
    fn a_cut_that_was_taken_back_is_no_stair() {
        let run = |reverted: bool| {
            let line = format!(
                r#"{{"step":30,"layer":0,"state_dim":9,"cut":{{"step":30,"layer":0,"from":9,"to":4}},"verdict":{{"reverted":{reverted}}}}}"#
            );
            Run {
                checks: vec![serde_json::from_str(&line).unwrap()],
                ..Run::default()
            }
        };
        assert_eq!(stairs(&run(true), 0), [(0.0, 9.0), (30.0, 9.0)]);
        assert_eq!(
            stairs(&run(false), 0),
            [(0.0, 9.0), (30.0, 9.0), (30.0, 4.0)]
        );
    }
}
