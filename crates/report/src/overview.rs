//! The head of the page: what was run, and what it has gained.

use std::convert::Infallible;

use maud::html;

use crate::html::{Cell, Page, Table};
use crate::number::{UNKNOWN, count, duration, known, per_layer, percent, plural, significant};
use crate::records::{Run, SummaryRecord};

/// Title, settings and gains.
pub(crate) fn write(page: &mut Page, run: &Run) {
    let (data, training) = (&run.config.data, &run.config.training);
    let summary = run.summary.clone().unwrap_or_default();
    let word = |word: Option<String>| word.unwrap_or_else(|| UNKNOWN.to_owned());
    let dataset = word(summary.dataset.clone().or(data.dataset.clone()));
    let seed = summary.seed.or(training.seed);
    let seed = word(seed.map(|seed| seed.to_string()));
    let backend = summary.backend.clone().or(run.config.run.backend.clone());

    let cuts = plural(run.cuts().len(), "cut");
    page.add(html! {
        header {
            h1 { (run.name) }
            p.lead { "A run of compressm on " (dataset) ", seed " (seed) ", with " (cuts) "." }
        }
    });
    if run.summary.is_none() {
        page.notice(&unfinished(run));
    }
    for file in &run.torn {
        page.notice(&format!(
            "The last line of {file} is torn, as by a kill while it was written, and is left out."
        ));
    }

    let mut facts = vec![
        ("Data set", dataset),
        ("Seed", seed),
        ("Backend", word(backend)),
        ("Model", model(run)),
        ("Policy", word(run.config.compress.policy.clone())),
        ("Steps", steps(run)),
    ];
    facts.extend(accuracies(run, &summary));
    facts.push(("Training time", training_time(run, &summary)));
    let gains = gains(run, &summary);
    let _: Result<(), Infallible> = page.row(|page| {
        page.add(html! {
            dl { @for (name, value) in &facts { dt { (name) } dd { (value) } } }
        });
        page.group(|page| {
            page.table("The model before and after its cuts.", &gains);
            Ok(())
        })
    });
}

/// The configuration, folded.
pub(crate) fn write_config(page: &mut Page, run: &Run) {
    page.section("Configuration");
    let _: Result<(), Infallible> = page.details("config.toml, as it was resolved", |page| {
        page.add(html! { pre { code { (run.config_text) } } });
        Ok(())
    });
}

fn unfinished(run: &Run) -> String {
    let of = match run.config.training.steps {
        Some(steps) => format!(" of {}", count(steps)),
        None => String::new(),
    };
    let numbers = match run.metrics.last() {
        Some(last) => format!(
            "its numbers are those of the last evaluation, at step {}{of}",
            count(last.step)
        ),
        None => "it has not been evaluated yet".to_owned(),
    };
    format!("This run is not finished (there is no summary.json): {numbers}.")
}

fn model(run: &Run) -> String {
    let model = &run.config.model;
    let kind = model.kind.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    match model.blocks {
        Some(blocks) => format!("{kind}, {}", plural(blocks, "block")),
        None => kind,
    }
}

fn steps(run: &Run) -> String {
    let taken = count(run.last_step());
    match run.config.training.steps {
        Some(planned) if run.summary.is_none() => format!("{taken} of {}", count(planned)),
        _ => taken,
    }
}

fn accuracies(run: &Run, summary: &SummaryRecord) -> Vec<(&'static str, String)> {
    if run.summary.is_none() {
        let last = run.metrics.last();
        // The accuracies of larger models are no measure of this one.
        let as_large = run
            .metrics
            .iter()
            .filter(|line| last.is_some_and(|last| line.state_dims == last.state_dims));
        let best = as_large.filter_map(|line| line.val_accuracy);
        let last = last.and_then(|line| line.val_accuracy);
        return vec![
            ("Validation accuracy", known(last, percent)),
            (
                "Best with these states",
                known(best.max_by(f64::total_cmp), percent),
            ),
        ];
    }
    let mut best = known(summary.best_val_accuracy, percent);
    if let Some(step) = summary.best_step {
        best += &format!(" ({})", best_of(&summary.best_state_dims, step));
    }
    let mut test = known(summary.test_accuracy, percent);
    if let Some(loss) = summary.test_loss {
        test += &format!(" (with those weights; loss {})", significant(loss));
    }
    let mut accuracies = vec![("Validation accuracy", best), ("Test accuracy", test)];
    if let Some(before) = &summary.before_last_cut {
        accuracies.push((
            "Before the last cut",
            format!(
                "{} validation, {} test ({})",
                known(before.val_accuracy, percent),
                known(before.test_accuracy, percent),
                best_of(&before.state_dims, before.step.unwrap_or_default())
            ),
        ));
    }
    accuracies
}

/// Which model an accuracy is of. Summaries of earlier versions do not say its states.
fn best_of(state_dims: &[usize], step: u64) -> String {
    match state_dims {
        [] => format!("best, at step {}", count(step)),
        dims => format!(
            "best with state {}, at step {}",
            per_layer(dims),
            count(step)
        ),
    }
}

fn training_time(run: &Run, summary: &SummaryRecord) -> String {
    let seconds = run.train_seconds();
    let whole = known(seconds, duration);
    match (seconds, summary.check_seconds) {
        (Some(seconds), Some(checks)) if seconds > 0.0 => format!(
            "{whole}, of which {} ({}) in checks and cuts",
            duration(checks),
            percent(checks / seconds)
        ),
        _ => whole,
    }
}

/// State dimensions, parameters and step time at the start and at the end.
fn gains(run: &Run, summary: &SummaryRecord) -> Table {
    let (first, last) = state_dims(run, summary);
    let step_ms = step_times(run, summary);
    let change = |before: Option<f64>, after: Option<f64>| match (before, after) {
        (Some(before), Some(after)) if before > 0.0 => {
            let change = 100.0 * (after / before - 1.0);
            format!("{change:+.1} %").replace('-', "−")
        }
        _ => UNKNOWN.to_owned(),
    };
    let sum = |dims: &[usize]| (!dims.is_empty()).then(|| dims.iter().sum::<usize>() as f64);
    let parameters = |number: Option<usize>| {
        known(number.map(|number| number as f64), |_| {
            count(number.unwrap_or(0) as u64)
        })
    };
    let float = |number: Option<usize>| number.map(|number| number as f64);
    let ms = |ms: Option<f64>| known(ms, |ms| format!("{} ms", significant(ms)));
    let speedup = match step_ms {
        (Some(before), Some(after)) => format!("{} × faster", significant(before / after)),
        _ => UNKNOWN.to_owned(),
    };
    let row = |name: &str, before: String, after: String, change: String| {
        let [before, after] = [before, after].map(Cell::Numbers);
        vec![Cell::text(name), before, after, Cell::number(change)]
    };
    let (before, after) = (summary.initial_parameters, summary.final_parameters);
    Table {
        head: vec!["", "before", "after", "change"],
        rows: vec![
            row(
                "States",
                per_layer(&first),
                per_layer(&last),
                change(sum(&first), sum(&last)),
            ),
            row(
                "Parameters",
                parameters(before),
                parameters(after),
                change(float(before), float(after)),
            ),
            row("Median step", ms(step_ms.0), ms(step_ms.1), speedup),
        ],
    }
}

fn state_dims(run: &Run, summary: &SummaryRecord) -> (Vec<usize>, Vec<usize>) {
    let (mut first, mut last) = (
        summary.initial_state_dims.clone(),
        summary.final_state_dims.clone(),
    );
    if last.is_empty() {
        last = run
            .metrics
            .last()
            .map_or(Vec::new(), |line| line.state_dims.clone());
    }
    let model = &run.config.model;
    if let (true, Some(blocks), Some(states)) = (first.is_empty(), model.blocks, model.state_dim) {
        first = vec![states; blocks];
    }
    (first, last)
}

/// Milliseconds of a step before the first cut and after the last.
fn step_times(run: &Run, summary: &SummaryRecord) -> (Option<f64>, Option<f64>) {
    // The summary writes zero for a time it does not know.
    let measured = |ms: Option<f64>| ms.filter(|ms| *ms > 0.0);
    if run.summary.is_some() {
        return (
            measured(summary.median_step_ms_first),
            measured(summary.median_step_ms_last),
        );
    }
    let first_cut = run.cuts().first().map(|event| event.cut.step);
    let uncut = |step: u64| first_cut.is_none_or(|cut| step <= cut);
    let times = || run.metrics.iter().filter(|line| line.step_ms.is_some());
    let before = times().take_while(|line| uncut(line.step)).last();
    let after = times().next_back();
    let ms = |line: Option<&crate::records::Metrics>| measured(line.and_then(|line| line.step_ms));
    (ms(before), ms(after))
}
