//! The Hankel singular values of every layer, over training and at a few moments.

use crate::ReportError;
use crate::axis::Axis;
use crate::chart::{Chart, HALF, Mark, Series, Shape};
use crate::color;
use crate::color::NOTHING;
use crate::heat_map::{Column, HeatMap};
use crate::html::{Key, Page};
use crate::number::{count, plural, power_of_ten};
use crate::records::{LayerRecord, Run};
use crate::training::{mark_keys, marks};

/// Layers up to which all are shown at once.
const FEW_LAYERS: usize = 8;

/// Columns of a heat map; of more snapshots every so many are shown.
const MOST_COLUMNS: usize = 120;

/// Curves of a layer.
const MOST_CURVES: usize = 6;

/// Powers of ten below the largest value at which rounding begins to tell: a spectrum in double precision says
/// nothing further down.
const DEPTH: f64 = 16.0;

/// The section on spectra.
pub(crate) fn write(page: &mut Page, run: &Run) -> Result<(), ReportError> {
    page.section("Hankel singular values");
    let layers = run.by_layer();
    if layers.is_empty() {
        page.left_out("Spectra", "there is no hsv.jsonl, or it is empty so far.");
        return Ok(());
    }
    for_layers(
        page,
        Flow::Stacked,
        layers.into_iter().collect(),
        |page, (layer, records)| {
            page.subtitle(&format!("Layer {layer}"));
            page.row(|page| {
                heat_map(page, run, *layer, records)?;
                curves(page, *layer, records)
            })
        },
    )
}

/// How the layers follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flow {
    /// Each below the one before.
    Stacked,
    /// Side by side where the screen has room.
    SideBySide,
}

impl Flow {
    fn around(
        self,
        page: &mut Page,
        content: impl FnOnce(&mut Page) -> Result<(), ReportError>,
    ) -> Result<(), ReportError> {
        match self {
            Self::Stacked => content(page),
            Self::SideBySide => page.row(content),
        }
    }
}

/// Does `show` for every layer; of many, for the first, the middle and the last, and folded for the others.
pub(crate) fn for_layers<T>(
    page: &mut Page,
    flow: Flow,
    layers: Vec<T>,
    mut show: impl FnMut(&mut Page, &T) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let number = layers.len();
    let chosen =
        |index| number <= FEW_LAYERS || index == 0 || index == number / 2 || index + 1 == number;
    let (shown, folded): (Vec<_>, Vec<_>) = layers
        .iter()
        .enumerate()
        .partition(|(index, _)| chosen(*index));
    if !folded.is_empty() {
        page.paragraph(&format!(
            "Of {}, the first, the middle and the last are shown; the others are folded below.",
            plural(number, "layer")
        ));
    }
    let mut show_all = |page: &mut Page, layers: Vec<(usize, &T)>| {
        flow.around(page, |page| {
            layers
                .into_iter()
                .try_for_each(|(_, layer)| show(page, layer))
        })
    };
    show_all(page, shown)?;
    if folded.is_empty() {
        return Ok(());
    }
    let summary = format!("The other {}", plural(folded.len(), "layer"));
    page.details(&summary, |page| show_all(page, folded))
}

/// Powers of ten of the values worth telling apart, and whether there are smaller ones.
fn range(spectra: &[Vec<f64>]) -> Option<((f64, f64), bool)> {
    let values = || spectra.iter().flatten().copied();
    let positive = || values().filter(|value| value.is_finite() && *value > 0.0);
    let high = positive().max_by(f64::total_cmp)?.log10();
    let low = positive().min_by(f64::total_cmp)?.log10();
    // A flat spectrum still needs a scale.
    let range = (low.max(high - DEPTH).min(high - 0.1), high);
    Some((range, low < high - DEPTH))
}

fn heat_map(
    page: &mut Page,
    run: &Run,
    layer: usize,
    records: &[&LayerRecord],
) -> Result<(), ReportError> {
    let title = format!("Spectrum over training, layer {layer}");
    let snapshots = records
        .iter()
        .filter(|record| record.has_spectrum())
        .count();
    if snapshots < 2 {
        page.left_out(&title, &too_few(snapshots));
        return Ok(());
    }
    let (columns, stride) = columns(records);
    let spectra: Vec<Vec<f64>> = columns.iter().map(|column| column.values.clone()).collect();
    let Some((range, deeper)) = range(&spectra) else {
        page.left_out(&title, "every Hankel singular value is zero.");
        return Ok(());
    };
    let marks = marks(run, Some(layer));
    let map = HeatMap {
        description: format!("Hankel singular values of layer {layer} over the steps, as colors"),
        size: HALF,
        columns,
        range,
        marks: &marks,
    };
    let Some(svg) = map.svg()? else {
        page.left_out(&title, "all its spectra were taken at the same step.");
        return Ok(());
    };
    let mut outcome = String::new();
    if deeper {
        outcome += &format!(
            "Values below {} of the largest are rounding and share the darkest color. ",
            power_of_ten(-(DEPTH as i32))
        );
    }
    if stride > 1 {
        outcome += &format!(
            "Of {} spectra, one in {stride} is shown, and every cut.",
            count(snapshots as u64)
        );
    }
    let mut keys = mark_keys(&marks);
    if spectra.iter().flatten().any(|value| *value == 0.0) {
        keys.push(Key::area("zero", NOTHING));
    }
    page.figure_of_kind(
        "heat map",
        &svg,
        &keys,
        &title,
        "Each column is one spectrum, the largest value at the bottom; it ends at the step it was taken at and begins at \
         the one before. Bright states carry the input to the output; the map grows shorter where states are cut.",
        &outcome,
    );
    Ok(())
}

/// A column per spectrum, or per so many.
fn columns(records: &[&LayerRecord]) -> (Vec<Column>, usize) {
    let stride = records.len().div_ceil(MOST_COLUMNS);
    let kept: Vec<&LayerRecord> = records
        .iter()
        .enumerate()
        .filter(|(index, record)| {
            index.is_multiple_of(stride) || index + 1 == records.len() || record.cut.is_some()
        })
        .map(|(_, record)| *record)
        .collect();
    let step = |index: usize| kept[index].step as f64;
    let columns = (0..kept.len()).map(|index| Column {
        from: match index {
            0 => {
                // Nothing is before it: as wide as the next, but not before the start of the training.
                let width = if kept.len() > 1 {
                    step(1) - step(0)
                } else {
                    1.0
                };
                let begin = step(0) - width;
                if step(0) > 0.0 { begin.max(0.0) } else { begin }
            }
            _ => step(index - 1),
        },
        to: step(index),
        values: kept[index].hsv(),
    });
    (columns.collect(), stride)
}

fn too_few(snapshots: usize) -> String {
    match snapshots {
        0 => "no spectrum could be had of this layer.".to_owned(),
        _ => "there is one spectrum only, and a map over training needs two.".to_owned(),
    }
}

/// A spectrum worth a curve, and what it is.
struct Moment<'a> {
    record: &'a LayerRecord,
    what: &'static str,
}

/// First, before and after the cuts, last: at most `MOST_CURVES`.
fn moments<'a>(records: &[&'a LayerRecord]) -> Vec<Moment<'a>> {
    let records: Vec<&LayerRecord> = records
        .iter()
        .copied()
        .filter(|record| record.has_spectrum())
        .collect();
    let last = records.len().saturating_sub(1);
    let is_cut = |index: usize| records[index].cut.is_some();
    let moments: Vec<Moment<'_>> = (0..records.len())
        .filter_map(|index| {
            let what = match index {
                _ if is_cut(index) => "before a cut",
                _ if index > 0 && is_cut(index - 1) => "after a cut",
                0 => "first",
                _ if index == last => "last",
                _ => return None,
            };
            let record = records[index];
            Some(Moment { record, what })
        })
        .collect();
    let number = moments.len();
    if number <= MOST_CURVES {
        return moments;
    }
    // Evenly among them, with the first and the last.
    let chosen: Vec<usize> = (0..MOST_CURVES)
        .map(|curve| curve * (number - 1) / (MOST_CURVES - 1))
        .collect();
    moments
        .into_iter()
        .enumerate()
        .filter(|(index, _)| chosen.contains(index))
        .map(|(_, moment)| moment)
        .collect()
}

fn curves(page: &mut Page, layer: usize, records: &[&LayerRecord]) -> Result<(), ReportError> {
    let title = format!("Spectra, layer {layer}");
    let moments = moments(records);
    if moments.is_empty() {
        page.left_out(&title, &too_few(0));
        return Ok(());
    }
    let spectra: Vec<Vec<f64>> = moments.iter().map(|moment| moment.record.hsv()).collect();
    let Some((range, deeper)) = range(&spectra) else {
        page.left_out(&title, "every Hankel singular value is zero.");
        return Ok(());
    };
    let number = spectra.len();
    let mut series: Vec<Series> = Vec::new();
    let mut keys = Vec::new();
    for (index, (moment, hsv)) in moments.iter().zip(&spectra).enumerate() {
        let point = |(index, value): (usize, &f64)| ((index + 1) as f64, *value);
        let curve = Series {
            name: format!("step {}, {}", count(moment.record.step), moment.what),
            color: color::in_order(index, number),
            shape: Shape::Line(1.8),
            points: hsv.iter().enumerate().map(point).collect(),
        };
        keys.push(Key::of(&curve));
        let kept = moment
            .record
            .cut
            .as_ref()
            .and_then(|cut| curve.points.get(cut.to.checked_sub(1)?));
        let dot = kept.map(|kept| Series {
            name: String::new(),
            color: curve.color,
            shape: Shape::Dots,
            points: vec![*kept],
        });
        series.push(curve);
        series.extend(dot);
    }
    let states = spectra.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let room = 0.04 * (range.1 - range.0);
    let axes = (
        Axis::whole(0.0, states.max(1.0) + 0.02 * states),
        Axis::decades(range.0 - room, range.1 + room),
    );
    let (Some(x), Some(y)) = axes else {
        page.left_out(&title, "its numbers do not fit on an axis.");
        return Ok(());
    };
    let no_marks: &[Mark] = &[];
    let svg = Chart {
        description: format!(
            "Hankel singular values of layer {layer} by their rank, at a few steps"
        ),
        size: HALF,
        x: (x, "state i"),
        y: (y, "Hankel singular value σᵢ"),
        marks: no_marks,
        series: &series,
    }
    .svg()?;
    let mut outcome = String::new();
    if spectra.iter().flatten().any(|value| *value <= 0.0) {
        outcome += "Zeros are not drawn. ";
    }
    if deeper {
        outcome += &format!(
            "Values below {} of the largest are rounding and not drawn.",
            power_of_ten(-(DEPTH as i32))
        );
    }
    page.figure_of_kind(
        "curves",
        &svg,
        &keys,
        &title,
        "Hankel singular values by rank, dark early and bright late in training; the dot on a curve is the last state \
         that its cut kept. The steeper the fall, the more states go at little cost.",
        &outcome,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, cut: Option<usize>) -> LayerRecord {
        let cut = cut.map_or(String::new(), |to| {
            format!(r#","cut":{{"step":{step},"layer":0,"from":4,"to":{to}}}"#)
        });
        let text = format!(r#"{{"step":{step},"layer":0,"hsv":[4.0,3.0,2.0,1.0]{cut}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_column_ends_at_its_step() {
        let records = [record(10, None), record(15, None), record(30, None)];
        let (columns, stride) = columns(&records.iter().collect::<Vec<_>>());
        let ends: Vec<(f64, f64)> = columns.iter().map(|c| (c.from, c.to)).collect();
        assert_eq!(ends, [(5.0, 10.0), (10.0, 15.0), (15.0, 30.0)]);
        assert_eq!(stride, 1);
    }

    #[test]
    fn a_long_run_is_thinned_but_keeps_its_cuts_and_its_end() {
        let records: Vec<LayerRecord> = (0..1000)
            .map(|step| record(step, (step == 501).then_some(2)))
            .collect();
        let (columns, stride) = columns(&records.iter().collect::<Vec<_>>());
        assert!(columns.len() <= MOST_COLUMNS + 2, "{}", columns.len());
        assert_eq!(stride, 9);
        for step in [501.0, 999.0] {
            assert!(columns.iter().any(|column| column.to == step));
        }
    }

    #[test]
    fn the_curves_are_few_and_hold_first_and_last() {
        let records: Vec<LayerRecord> = (0..40)
            .map(|step| record(step, step.is_multiple_of(4).then_some(2)))
            .collect();
        let moments = moments(&records.iter().collect::<Vec<_>>());
        let steps: Vec<u64> = moments.iter().map(|moment| moment.record.step).collect();
        assert_eq!(steps.len(), MOST_CURVES);
        assert_eq!((steps[0], steps[5]), (0, 39));
    }

    #[test]
    fn the_range_stops_where_rounding_begins() {
        assert_eq!(range(&[vec![1.0, 1e-3]]), Some(((-3.0, 0.0), false)));
        assert_eq!(range(&[vec![1.0, 1e-30]]), Some(((-16.0, 0.0), true)));
        assert_eq!(range(&[vec![1.0, 1.0]]), Some(((-0.1, 0.0), false)));
        assert_eq!(range(&[vec![0.0, f64::NAN]]), None);
    }
}
