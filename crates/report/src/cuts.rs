//! Tables of what the checks did: the cuts, and what they left alone.

use std::convert::Infallible;

use crate::html::{Cell, Page, Table};
use crate::number::{UNKNOWN, count, known, percent, plural, significant};
use crate::records::{Event, LayerRecord, Run, Verdict};

/// The table of cuts, and folded that of the layers left alone.
pub(crate) fn write(page: &mut Page, run: &Run) {
    page.section("Cuts");
    let events = run.cuts();
    if events.is_empty() {
        page.paragraph("No layer was cut.");
    } else {
        let rows = events
            .iter()
            .enumerate()
            .map(|(index, event)| row(run, index + 1, event))
            .collect();
        let head = vec![
            "#",
            "step",
            "layer",
            "states",
            "discarded",
            "bound",
            "output error",
            "share of output",
            "allowed",
            "seconds",
            "verdict",
            "reason",
        ];
        page.table(CAPTION, &Table { head, rows });
        let broken = events.iter().filter(|event| exceeds(event)).count();
        if broken > 0 {
            page.notice(&format!(
                "{} changed the output by more than the bound allows: the truncation or its measurement is at fault.",
                plural(broken, "cut")
            ));
        }
    }
    left_alone(page, run);
}

const CAPTION: &str = "Every cut. Discarded is the share of the sum of the Hankel singular values that went. Bound is \
    twice the sum of those values and bounds the H∞ error. Output error is the change of the layer's output on a \
    calibration batch, also as a share of that output, and allowed is the bound times the size of the input there (root \
    mean squares): the change must not exceed it. Verdict is the validation accuracy before and after, where the policy \
    asks for it.";

fn row(run: &Run, number: usize, event: &Event<'_>) -> Vec<Cell> {
    let cut = event.cut;
    let measured = cut.measured;
    let error = known(measured.and_then(|m| m.error), significant);
    let verdict = event.check.and_then(|check| check.verdict);
    vec![
        Cell::number(number.to_string()),
        Cell::number(count(cut.step)),
        Cell::number(cut.layer.to_string()),
        Cell::number(format!("{} → {}", cut.from, cut.to)),
        Cell::number(known(cut.discarded, percent)),
        Cell::number(known(cut.bound, significant)),
        if exceeds(event) {
            Cell::Alert(error)
        } else {
            Cell::number(error)
        },
        Cell::number(known(measured.and_then(|m| m.relative), percent)),
        Cell::number(known(measured.and_then(|m| m.allowed), significant)),
        Cell::number(known(cut.seconds, significant)),
        match verdict {
            Some(verdict) if verdict.reverted => Cell::Alert(verdict_text(&verdict)),
            Some(verdict) => Cell::text(verdict_text(&verdict)),
            None => Cell::text(UNKNOWN),
        },
        Cell::Prose(match event.check.and_then(reason) {
            Some(reason) => reason,
            // Before cuts had reasons of their own, the policy was the reason.
            None => run
                .config
                .compress
                .policy
                .clone()
                .unwrap_or_else(|| UNKNOWN.to_owned()),
        }),
    ]
}

/// Whether a cut changed the output by more than its bound allows.
fn exceeds(event: &Event<'_>) -> bool {
    let measured = event.cut.measured;
    let pair = measured.and_then(|m| Some((m.error?, m.allowed?)));
    pair.is_some_and(|(error, allowed)| error > allowed)
}

fn verdict_text(verdict: &Verdict) -> String {
    let mut text = if verdict.reverted { "reverted" } else { "kept" }.to_owned();
    if verdict.before.is_some() || verdict.after.is_some() {
        let (before, after) = (
            known(verdict.before, percent),
            known(verdict.after, percent),
        );
        // The two stay on one line.
        text += &format!(": {}", format!("{before} → {after}").replace(' ', "\u{a0}"));
    }
    if let Some(drop) = verdict.max_drop {
        text += &format!(" (at most −{})", percent(drop));
    }
    text
}

/// The reason in words.
fn reason(check: &LayerRecord) -> Option<String> {
    let code = || check.reason.as_ref().map(|code| code.replace('_', " "));
    check.explanation.clone().or_else(code)
}

fn left_alone(page: &mut Page, run: &Run) {
    let checks: Vec<&LayerRecord> = run
        .checks
        .iter()
        .filter(|check| check.cut.is_none())
        .filter(|check| check.decision.is_some() || check.refusal.is_some())
        .collect();
    if checks.is_empty() {
        return;
    }
    let refused = checks.iter().filter(|check| check.refusal.is_some());
    let summary = format!(
        "Where a check left a layer as it was: {} (refused: {})",
        count(checks.len() as u64),
        refused.count()
    );
    let table = Table {
        head: vec!["step", "layer", "states", "outcome", "why"],
        rows: checks.into_iter().map(left_alone_row).collect(),
    };
    let _: Result<(), Infallible> = page.details(&summary, |page| {
        page.table(
            "Layers that a check left alone. Kept: the policy or the gate wanted no cut. Refused: the layer had no \
             spectrum, or could not be cut without harm; it is unchanged.",
            &table,
        );
        Ok(())
    });
}

fn left_alone_row(check: &LayerRecord) -> Vec<Cell> {
    let states = check.states().map(|states| count(states as u64));
    let outcome = match &check.refusal {
        Some(_) => Cell::Alert("refused".to_owned()),
        None => Cell::text("kept"),
    };
    let mut why = check.refusal.clone().or_else(|| reason(check));
    if let Some(verdict) = &check.verdict {
        let text = verdict_text(verdict);
        why = Some(why.map_or(text.clone(), |why| format!("{why}; {text}")));
    }
    vec![
        Cell::number(count(check.step)),
        Cell::number(check.layer.to_string()),
        Cell::number(states.unwrap_or_else(|| UNKNOWN.to_owned())),
        outcome,
        Cell::Prose(why.unwrap_or_else(|| UNKNOWN.to_owned())),
    ]
}
