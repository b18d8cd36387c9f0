//! Whether the ranking of the states lasts: rank correlations, and Weyl's bound on the change of a spectrum.

use crate::ReportError;
use crate::axis::Axis;
use crate::chart::{Chart, HALF, Mark, Series, Shape};
use crate::color::{self, ALERT};
use crate::html::Page;
use crate::number::{count, plural};
use crate::records::{LayerRecord, Run};
use crate::spectra::{Flow, for_layers};
use crate::training::{keys, marks};

/// The section on stability.
pub(crate) fn write(page: &mut Page, run: &Run) -> Result<(), ReportError> {
    page.section("Stability of the ranking");
    correlations(page, run)?;
    let layers: Vec<(usize, Vec<Change>)> = run
        .by_layer()
        .into_iter()
        .map(|(layer, records)| (layer, changes(&records)))
        .collect();
    if layers.iter().all(|(_, changes)| changes.is_empty()) {
        page.left_out(
            "Weyl's bound",
            "no two successive spectra of one layer have the same size and a distance between them.",
        );
        return Ok(());
    }
    for_layers(page, Flow::SideBySide, layers, |page, (layer, changes)| {
        weyl(page, run, *layer, changes)
    })
}

fn correlations(page: &mut Page, run: &Run) -> Result<(), ReportError> {
    const TITLE: &str = "Rank correlation";
    let layers = run.by_layer();
    let number = layers.keys().max().map_or(0, |layer| layer + 1);
    let series: Vec<Series> = layers
        .iter()
        .map(|(layer, records)| Series {
            name: format!("layer {layer}"),
            color: color::of(*layer, number),
            shape: Shape::Dotted,
            points: records
                .iter()
                .filter_map(|record| Some((record.step as f64, record.rank_correlation?)))
                .filter(|point| point.1.is_finite())
                .collect(),
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let Some(lowest) = points().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        page.left_out(
            TITLE,
            "hsv.jsonl holds none; it takes two spectra of a layer to have one.",
        );
        return Ok(());
    };
    let x = Axis::linear(points().map(|point| point.0));
    let (first, last) = x.map_or((0.0, 1.0), |axis| axis.ends());
    let y =
        Axis::linear(points().map(|point| point.1).chain([1.0])).map(|axis| axis.within(-1.0, 1.0));
    let (Some(x), Some(y)) = (Axis::whole(first, last), y) else {
        page.left_out(TITLE, "its numbers do not fit on an axis.");
        return Ok(());
    };
    let marks = marks(run, None);
    let svg = Chart {
        description: "Rank correlation between successive spectra of every layer over the steps"
            .to_owned(),
        size: (1100.0, 300.0),
        x: (x, "step"),
        y: (y, "rank correlation"),
        marks: &marks,
        series: &series,
    }
    .svg()?;
    let caption = format!(
        "Spearman's rank correlation of a layer's states between one spectrum and the one before; 1 means that no two \
         states have changed places. The lowest is {:.4}, at step {}.",
        lowest.1,
        count(lowest.0 as u64)
    );
    page.figure(&svg, &keys(&series, &marks), TITLE, &caption);
    Ok(())
}

/// What happened to a spectrum between two snapshots of the same size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    step: u64,
    /// Largest |Δσᵢ|.
    spectrum: f64,
    /// Norm of the change of the Hankel operator, which bounds it.
    operator: f64,
}

impl Change {
    /// Whether the spectrum has changed by more than rounding lets it.
    fn breaks_the_bound(&self) -> bool {
        self.spectrum > self.operator * (1.0 + 1e-6)
    }
}

fn changes(records: &[&LayerRecord]) -> Vec<Change> {
    let change = |pair: &[&LayerRecord]| {
        let (old, new) = (pair[0].hsv(), pair[1].hsv());
        let operator = pair[1].hankel_distance.filter(|norm| norm.is_finite())?;
        if old.len() != new.len() || new.is_empty() {
            return None;
        }
        // One NaN makes the maximum unknown.
        let spectrum = old
            .iter()
            .zip(&new)
            .map(|(old, new)| (new - old).abs())
            .try_fold(0.0, |most: f64, change| {
                change.is_finite().then_some(most.max(change))
            })?;
        let step = pair[1].step;
        Some(Change {
            step,
            spectrum,
            operator,
        })
    };
    records.windows(2).filter_map(change).collect()
}

fn weyl(page: &mut Page, run: &Run, layer: usize, changes: &[Change]) -> Result<(), ReportError> {
    let title = format!("Weyl's bound, layer {layer}");
    let series = |name: &str, color, shape, value: fn(&Change) -> f64| Series {
        name: name.to_owned(),
        color,
        shape,
        points: changes
            .iter()
            .map(|change| (change.step as f64, value(change)))
            .collect(),
    };
    let mut all = vec![
        series(
            "‖ΔH‖, the bound",
            color::of(1, 2),
            Shape::Dotted,
            |change| change.operator,
        ),
        series("largest |Δσᵢ|", color::of(0, 2), Shape::Dots, |change| {
            change.spectrum
        }),
    ];
    let broken: Vec<&Change> = changes.iter().filter(|c| c.breaks_the_bound()).collect();
    if !broken.is_empty() {
        let points = broken.iter().map(|c| (c.step as f64, c.spectrum)).collect();
        all.push(Series {
            name: "above the bound".to_owned(),
            color: ALERT,
            shape: Shape::Dots,
            points,
        });
    }
    let steps = Axis::linear(changes.iter().map(|change| change.step as f64));
    let x = steps.and_then(|axis| Axis::whole(axis.ends().0, axis.ends().1));
    let y = Axis::logarithmic(changes.iter().flat_map(|c| [c.spectrum, c.operator]));
    let (Some(x), Some(y)) = (x, y) else {
        page.left_out(
            &title,
            match changes {
                [] => "no two successive spectra have the same size and a distance between them.",
                _ => "the spectrum has not changed at all.",
            },
        );
        return Ok(());
    };
    let marks: Vec<Mark> = marks(run, Some(layer));
    let svg = Chart {
        description: format!(
            "Change of the spectrum of layer {layer} and its bound over the steps"
        ),
        size: HALF,
        x: (x, "step"),
        y: (y, "change since the last spectrum"),
        marks: &marks,
        series: &all,
    }
    .svg()?;
    let outcome = match broken.len() {
        0 => format!("None of {} lies above it.", plural(changes.len(), "point")),
        broken => format!(
            "{} of {} above it: the distance or the spectra are at fault.",
            count(broken as u64),
            plural(changes.len(), "point")
        ),
    };
    let zeros = changes
        .iter()
        .filter(|change| change.spectrum <= 0.0)
        .count();
    let unseen = match zeros {
        0 => String::new(),
        zeros => format!(" {} of no change cannot be shown.", plural(zeros, "point")),
    };
    page.figure_of_kind(
        "weyl",
        &svg,
        &keys(&all, &marks),
        &title,
        "Largest change of a Hankel singular value between two spectra of the same size, and the norm of the change of \
         the Hankel operator. By Weyl's inequality no point may lie above the line.",
        &format!("{outcome}{unseen}"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, hsv: &str, distance: &str) -> LayerRecord {
        let text =
            format!(r#"{{"step":{step},"layer":0,"hsv":{hsv},"hankel_distance":{distance}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_change_needs_equal_sizes_known_values_and_a_distance() {
        let records = [
            record(1, "[3.0,1.0]", "null"),
            record(2, "[2.5,1.1]", "0.6"),
            record(3, "[2.5]", "0.6"),
            record(4, "[2.0]", "null"),
            record(5, "[null]", "1.0"),
            record(6, "[2.0]", "0.1"),
            record(7, "[3.0]", "0.1"),
        ];
        let changes = changes(&records.iter().collect::<Vec<_>>());
        let steps: Vec<u64> = changes.iter().map(|change| change.step).collect();
        assert_eq!(steps, [2, 7]);
        assert_eq!((changes[0].spectrum, changes[0].operator), (0.5, 0.6));
        assert!(!changes[0].breaks_the_bound());
        assert!(changes[1].breaks_the_bound());
    }
}
