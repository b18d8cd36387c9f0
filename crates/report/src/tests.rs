//! The whole page, from made-up runs.

use std::fs;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};
use tempfile::TempDir;

use crate::{FILE_NAME, ReportError, page};

const CONFIG: &str = r#"
[data]
dataset = "digits"
[model]
kind = "lru"
blocks = 2
state_dim = 4
[training]
steps = 400
seed = 7
[compress]
policy = "tolerance"
[run]
backend = "cpu"
"#;

const METRICS: &str = r#"{"step":100,"train_loss":2.2,"train_accuracy":0.2,"val_loss":2.1,"val_accuracy":0.25,"learning_rate":0.004,"state_dims":[4,4],"step_ms":40.0,"seconds":5.0}
{"step":200,"train_loss":1.1,"train_accuracy":0.6,"val_loss":1.2,"val_accuracy":0.55,"learning_rate":0.002,"state_dims":[2,4],"step_ms":null,"seconds":9.0}
{"step":300,"train_loss":0.05,"train_accuracy":0.9,"val_loss":0.3,"val_accuracy":0.85,"learning_rate":0.001,"state_dims":[2,3],"step_ms":25.5,"seconds":12.0}
"#;

const CUT: &str = r#"{"step":150,"layer":0,"from":4,"to":2,"discarded":0.0123,"bound":0.22,"measured":{"error":0.01,"relative":0.034,"allowed":0.3},"seconds":0.125}"#;
const REVERTED: &str = r#"{"step":250,"layer":1,"from":4,"to":3,"discarded":0.0301,"bound":0.2,"measured":{"error":0.5,"allowed":0.4},"seconds":0.25}"#;

fn hsv() -> String {
    format!(
        r#"{{"step":50,"layer":0,"state_dim":4,"hsv":[4.0,2.0,0.1,0.01],"rank_correlation":null,"hankel_distance":null}}
{{"step":50,"layer":1,"state_dim":4,"hsv":[3.0,2.0,1.0,0.1],"rank_correlation":null,"hankel_distance":null}}
{{"step":150,"layer":0,"state_dim":4,"hsv":[4.1,2.0,0.1,0.01],"rank_correlation":1.0,"hankel_distance":0.2,"decision":"cut","reason":"tolerance","tau":0.02,"explanation":"two states hold 98 %","cut":{CUT}}}
{{"step":150,"layer":1,"state_dim":4,"hsv":[3.1,2.0,1.0,0.1],"rank_correlation":0.8,"hankel_distance":0.3,"decision":"keep","reason":"below_min_drop","would_drop":0.04,"min_drop":0.05}}
{{"step":250,"layer":0,"state_dim":2,"hsv":[],"decision":"keep","reason":"spectrum_not_finite","refusal":"layer 0 is unstable"}}
{{"step":250,"layer":1,"state_dim":4,"hsv":[3.9,2.0,0.9,0.0],"rank_correlation":0.9,"hankel_distance":0.1,"decision":"cut","reason":"pragmatic","cut":{REVERTED},"verdict":{{"before":0.85,"after":0.7,"max_drop":0.02,"reverted":true}}}}
"#
    )
}

fn summary() -> String {
    format!(
        r#"{{"dataset":"digits","backend":"cpu","seed":7,"steps":400,"initial_state_dims":[4,4],"final_state_dims":[2,4],
        "initial_parameters":12345,"final_parameters":9876,"best_val_accuracy":0.85,"best_step":300,"best_state_dims":[2,4],"test_accuracy":0.8412,
        "test_loss":0.4,"before_last_cut":{{"step":100,"state_dims":[4,4],"val_accuracy":0.875,"test_accuracy":0.8614,"test_loss":0.3}},"train_seconds":20.0,"check_seconds":0.5,"median_step_ms_first":40.0,"median_step_ms_last":20.0,
        "cuts":[{CUT},{REVERTED}]}}"#
    )
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), files);
    folder
}

fn write_files(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// The report of a run with these files beside its configuration.
fn report(files: &[(&str, &str)]) -> String {
    let folder = folder(&[&[("config.toml", CONFIG)], files].concat());
    page_of(folder.path())
}

/// The report of a folder, after a look at whether it is well-formed and complete.
fn page_of(folder: &Path) -> String {
    let page = page(folder).unwrap();
    look_over(&page);
    page
}

fn look_over(page: &str) {
    let document = parse(page);
    let titles = texts(&document, "h2");
    assert_eq!(
        titles,
        [
            "Cuts",
            "Training",
            "Hankel singular values",
            "Stability of the ranking",
            "Cost of the cuts",
            "Configuration"
        ]
    );
    for text in document.descendants().filter_map(|node| node.text()) {
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).unwrap()
}

fn text_of(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    texts.filter_map(|text| text.text()).collect()
}

fn texts(document: &Document<'_>, element: &str) -> Vec<String> {
    let found = document.descendants().filter(|n| n.has_tag_name(element));
    found.map(text_of).collect()
}

/// The cells of every row of every table.
fn rows(document: &Document<'_>) -> Vec<Vec<String>> {
    let rows = document.descendants().filter(|n| n.has_tag_name("tr"));
    let cells = |row: Node<'_, '_>| {
        let cells = row.children().filter(|n| n.has_tag_name("td"));
        cells.map(text_of).collect()
    };
    rows.map(cells).collect()
}

/// What was left out, and why.
fn left_out(page: &str) -> Vec<String> {
    let document = parse(page);
    let class = |node: &Node<'_, '_>| node.attribute("class") == Some("left-out");
    document.descendants().filter(class).map(text_of).collect()
}

fn whole_run() -> [(&'static str, String); 3] {
    [
        ("metrics.jsonl", METRICS.to_owned()),
        ("hsv.jsonl", hsv()),
        ("summary.json", summary()),
    ]
}

fn whole_report() -> String {
    let files = whole_run();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    report(&files)
}

#[test]
fn a_finished_run_has_every_plot() {
    let page = whole_report();
    assert_eq!(left_out(&page), Vec::<String>::new());
    let document = parse(&page);
    // Loss, accuracy, states, step time; for each of two layers a map and curves; correlations; for each layer a
    // bound; cost.
    assert_eq!(texts(&document, "figure").len(), 4 + 2 * 2 + 1 + 2 + 1);
    for caption in texts(&document, "figcaption") {
        assert!(
            caption.len() > 40 || caption.contains("As figure"),
            "{caption}"
        );
    }
}

#[test]
fn every_cut_and_every_refusal_is_in_a_table() {
    let page = whole_report();
    let rows = rows(&parse(&page));
    let row = |cells: &[&str]| {
        let holds = |row: &&Vec<String>| cells.iter().all(|cell| row.iter().any(|c| c == cell));
        rows.iter().filter(holds).count()
    };
    let measured = ["0.0100", "3.40 %", "0.300", "0.125", "two states hold 98 %"];
    let cut = ["1", "150", "0", "4 → 2", "1.23 %", "0.220"];
    assert_eq!(row(&[&cut[..], &measured[..]].concat()), 1);
    let verdict = "reverted: 85.00\u{a0}%\u{a0}→\u{a0}70.00\u{a0}% (at most −2.00 %)";
    assert_eq!(row(&["2", "250", "1", "4 → 3", verdict, "pragmatic"]), 1);
    assert_eq!(row(&["150", "1", "4", "kept", "below min drop"]), 1);
    assert_eq!(row(&["250", "0", "2", "refused", "layer 0 is unstable"]), 1);
    assert!(page.contains("1 cut changed the output by more than the bound allows"));
    assert!(page.contains("<td class=\"alert\">0.500</td>"));
}

#[test]
fn the_head_tells_what_was_gained() {
    let page = whole_report();
    let document = parse(&page);
    let facts = texts(&document, "dd");
    for fact in [
        "digits",
        "7",
        "cpu",
        "lru, 2 blocks",
        "85.00 % (best with state 2, 4, at step 300)",
        "84.12 % (with those weights; loss 0.400)",
        "87.50 % validation, 86.14 % test (best with state 2 × 4, at step 100)",
        "20.0 s, of which 0.500 s (2.50 %) in checks and cuts",
    ] {
        assert!(facts.iter().any(|text| text == fact), "{fact}: {facts:?}");
    }
    let rows = rows(&document);
    assert!(
        rows.contains(
            &["States", "2 × 4", "2, 4", "−25.0 %"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    assert!(
        rows.contains(
            &["Parameters", "12,345", "9,876", "−20.0 %"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    assert!(
        rows.contains(
            &["Median step", "40.0 ms", "20.0 ms", "2.00 × faster"]
                .map(str::to_owned)
                .to_vec()
        )
    );
}

#[test]
fn a_point_above_weyls_bound_is_called_out() {
    // Layer 1 moves by 0.8 at step 250, and its distance says 0.1.
    let page = whole_report();
    let captions = texts(&parse(&page), "figcaption");
    let of_layer = |layer: usize| {
        let title = format!("Weyl's bound, layer {layer}");
        captions.iter().find(|text| text.contains(&title)).unwrap()
    };
    assert!(of_layer(0).contains("None of 1 point lies above it"));
    assert!(of_layer(1).contains("1 of 2 points above it"));
}

#[test]
fn the_page_needs_nothing_else() {
    let page = whole_report();
    let page = page
        .replace("http://www.w3.org/1999/xhtml", "")
        .replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http:", "https:", "<script", "src=", "href", "url(", "@import", "<link",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_report_tells_of_the_files_as_they_are_now() {
    let folder = folder(&[("config.toml", CONFIG), (FILE_NAME, "old")]);
    let first = page_of(folder.path());
    write_files(folder.path(), &[("metrics.jsonl", METRICS)]);
    assert_ne!(page_of(folder.path()), first);
}

#[test]
fn no_text_of_the_run_becomes_markup() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("<b>'&\"run");
    fs::create_dir(&folder).unwrap();
    let config = CONFIG.replace("digits", "<i>&");
    let hsv = r#"{"step":1,"layer":0,"hsv":[1.0],"decision":"keep","reason":"<u>","refusal":"a < b && \u0007 </section>"}
{"step":2,"layer":0,"hsv":[1.0],"decision":"keep","explanation":"<script>alert(1)</script>"}
"#;
    write_files(&folder, &[("config.toml", &config), ("hsv.jsonl", hsv)]);
    let page = page_of(&folder);
    let document = parse(&page);
    assert_eq!(texts(&document, "h1"), ["<b>'&\"run"]);
    assert_eq!(texts(&document, "title"), ["<b>'&\"run"]);
    assert!(texts(&document, "dd").contains(&"<i>&".to_owned()));
    let cells = rows(&document).concat();
    assert!(cells.contains(&"<script>alert(1)</script>".to_owned()));
    assert!(cells.contains(&"a < b && \u{FFFD} </section>".to_owned()));
    assert!(texts(&document, "script").is_empty());
}

#[test]
fn a_torn_last_line_is_left_out_and_said() {
    let torn = format!("{METRICS}{{\"step\":400,\"train_lo");
    let page = report(&[("metrics.jsonl", &torn)]);
    assert!(page.contains("last line of metrics.jsonl is torn"));
    assert!(page.contains("the last evaluation, at step 300 of 400"));
    let whole = report(&[("metrics.jsonl", METRICS)]);
    assert!(!whole.contains("is torn"));
    // Whole but for its end, it counts.
    let unended = report(&[("metrics.jsonl", METRICS.trim_end())]);
    assert!(unended.contains("at step 300 of 400"));
}

#[test]
fn a_damaged_line_is_named() {
    for (file, text) in [
        (
            "metrics.jsonl",
            METRICS.replace("{\"step\":200", "{\"step\":oops"),
        ),
        (
            "hsv.jsonl",
            "{\"step\":1,\"layer\":0}\n{\"layer\":0}\n".to_owned(),
        ),
        ("hsv.jsonl", "{\"step\":1,\"layer\":0}\n\n".to_owned()),
    ] {
        let folder = folder(&[("config.toml", CONFIG), (file, &text)]);
        let error = page(folder.path()).unwrap_err();
        assert!(
            matches!(error, ReportError::Line { line: 2, .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(message.contains(&format!("line 2 of {}", folder.path().join(file).display())));
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    for path in [empty.path(), &empty.path().join("missing")] {
        let error = page(path).unwrap_err();
        assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
        assert!(error.to_string().contains("pass the folder of a run"));
    }
    let broken = folder(&[("config.toml", "[data\n")]);
    let error = page(broken.path()).unwrap_err();
    assert!(matches!(error, ReportError::Config { .. }), "{error}");
    let broken = folder(&[("config.toml", CONFIG), ("summary.json", "{\"steps\":")]);
    let error = page(broken.path()).unwrap_err();
    assert!(matches!(error, ReportError::Summary { .. }), "{error}");
}

#[test]
fn a_run_that_has_just_begun_has_no_plots_but_reasons() {
    let page = report(&[]);
    assert!(page.contains("This run is not finished"));
    assert!(page.contains("it has not been evaluated yet"));
    assert!(page.contains("No layer was cut."));
    assert_eq!(texts(&parse(&page), "figure").len(), 0);
    let titles = [
        "Loss",
        "Accuracy",
        "State dimensions",
        "Step time",
        "Spectra",
    ];
    let later = ["Rank correlation", "Weyl's bound", "Time per cut"];
    let left_out = left_out(&page);
    for (text, title) in left_out.iter().zip(titles.iter().chain(&later)) {
        assert!(text.starts_with(&format!("{title} left out: ")), "{text}");
    }
    assert_eq!(left_out.len(), titles.len() + later.len());
}

#[test]
fn the_best_of_an_unfinished_run_is_that_of_its_present_states() {
    // The largest accuracy of all is that of a larger model.
    let metrics = METRICS.replacen("\"val_accuracy\":0.25", "\"val_accuracy\":0.95", 1);
    let facts = |page: &str| texts(&parse(page), "dd").join(", ");
    let shown = facts(&report(&[("metrics.jsonl", metrics.as_str())]));
    assert!(
        shown.contains("85.00 %") && !shown.contains("95.00 %"),
        "{shown}"
    );
    let first = metrics.split_inclusive('\n').next().unwrap();
    let shown = facts(&report(&[("metrics.jsonl", first)]));
    assert!(shown.contains("95.00 %"), "{shown}");
}

#[test]
fn one_evaluation_is_no_curve() {
    let first = METRICS.split_inclusive('\n').next().unwrap();
    let left_out = left_out(&report(&[("metrics.jsonl", first)]));
    assert!(
        left_out[0].contains("one evaluation so far"),
        "{left_out:?}"
    );
}

#[test]
fn one_spectrum_is_a_curve_but_no_map() {
    let hsv = "{\"step\":5,\"layer\":0,\"state_dim\":2,\"hsv\":[1.0,0.5]}\n";
    let page = report(&[("hsv.jsonl", hsv)]);
    assert!(page.contains("Spectra, layer 0"));
    let left_out = left_out(&page);
    assert!(
        left_out
            .iter()
            .any(|text| text.contains("one spectrum only")),
        "{left_out:?}"
    );
}

#[test]
fn a_layer_without_spectra_says_so() {
    let hsv = "{\"step\":5,\"layer\":0,\"state_dim\":2,\"hsv\":[]}\n{\"step\":9,\"layer\":0,\"hsv\":[null,null]}\n";
    let left_out = left_out(&report(&[("hsv.jsonl", hsv)]));
    let reason = "no spectrum could be had of this layer";
    assert_eq!(
        left_out.iter().filter(|text| text.contains(reason)).count(),
        2
    );
}

#[test]
fn numbers_at_the_edge_of_what_there_is_do_no_harm() {
    let folder = folder(&[("config.toml", CONFIG)]);
    let look_at = |file: &str, lines: [String; 2]| {
        write_files(folder.path(), &[(file, &lines.concat())]);
        page_of(folder.path());
    };
    let spectra = [
        "[0.0,0.0]",
        "[1.0,0.0]",
        "[null,1.0]",
        "[1e308,1e-308]",
        "[5e-324,5e-324]",
        "[1.0,1.0]",
        "[1.0]",
    ];
    let distances = ["null", "0.0", "1e308", "-1.0"];
    let spectrum = |step: u64, hsv: &str, distance: &str| {
        let distances = format!(r#""rank_correlation":{distance},"hankel_distance":{distance}"#);
        format!("{{\"step\":{step},\"layer\":0,\"hsv\":{hsv},{distances}}}\n")
    };
    for (first, second) in spectra
        .iter()
        .flat_map(|a| spectra.iter().map(move |b| (a, b)))
    {
        for distance in distances {
            // Also at steps that stand still.
            for steps in [(0, 3), (3, 3)] {
                let lines = [
                    spectrum(steps.0, first, distance),
                    spectrum(steps.1, second, distance),
                ];
                look_at("hsv.jsonl", lines);
            }
        }
    }
    let evaluation = |step: u64, value: &str| {
        let fields = [
            "train_loss",
            "train_accuracy",
            "val_accuracy",
            "step_ms",
            "seconds",
        ];
        let fields = fields.map(|field| format!("\"{field}\":{value}")).join(",");
        format!("{{\"step\":{step},\"val_loss\":1.0,{fields}}}\n")
    };
    for value in ["null", "0.0", "1e308", "-1e308", "5e-324"] {
        look_at(
            "metrics.jsonl",
            [evaluation(1, value), evaluation(2, "1.0")],
        );
        look_at(
            "metrics.jsonl",
            [evaluation(0, value), evaluation(0, value)],
        );
    }
}

#[test]
fn a_cut_that_only_the_summary_knows_is_shown_once() {
    let page = report(&[("summary.json", &summary())]);
    let rows = rows(&parse(&page));
    for (states, step) in [("4 → 2", "150"), ("4 → 3", "250")] {
        let found = rows.iter().filter(|row| row.contains(&states.to_owned()));
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(&step.to_owned()));
    }
}

#[test]
fn of_many_layers_most_are_folded() {
    let line = |step: u64, layer: usize| {
        format!(
            "{{\"step\":{step},\"layer\":{layer},\"hsv\":[2.0,{}]}}\n",
            1.0 / (layer + 1) as f64
        )
    };
    let lines = |layers: usize| -> String {
        let steps = [1, 2].into_iter();
        steps
            .flat_map(|step| (0..layers).map(move |layer| line(step, layer)))
            .collect()
    };
    let folded = |layers: usize| {
        let page = report(&[("hsv.jsonl", &lines(layers))]);
        let document = parse(&page);
        let details = texts(&document, "details");
        let layers: Vec<bool> = (0..layers)
            .map(|layer| {
                let title = format!("Spectra, layer {layer}.");
                assert!(page.contains(&title));
                details.iter().any(|text| text.contains(&title))
            })
            .collect();
        layers
    };
    assert_eq!(folded(8), [false; 8]);
    let nine = folded(9);
    let shown: Vec<usize> = (0..9).filter(|layer| !nine[*layer]).collect();
    assert_eq!(shown, [0, 4, 8]);
}
