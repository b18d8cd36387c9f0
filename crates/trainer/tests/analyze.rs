//! Systems in files: the singular values of public reports, formats, times, and bad input.

#![allow(
    clippy::result_large_err,
    clippy::type_complexity,
    reason = "answers and tables of cases, as the program's library has them"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::f64::consts::TAU;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{json_file, refusal, run, stdout, text};
use tempfile::TempDir;
use trainer::analyze::{
    AnalyzeError, Format, SystemReport, Truncated, analyze_system, analyze_system_bytes,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn oracle(name: &str) -> Value {
    let path = format!("{}/../hsv/tests/oracles/{name}", env!("CARGO_MANIFEST_DIR"));
    json_file(Path::new(&path))
}

/// Rows of `[re, im]` pairs from a matrix given as its parts, divided by `scale`.
fn pairs(parts: &Value, scale: f64) -> Vec<Vec<[f64; 2]>> {
    let rows = |key: &str| -> Vec<Vec<f64>> { serde_json::from_value(parts[key].clone()).unwrap() };
    rows("re")
        .into_iter()
        .zip(rows("im"))
        .map(|(re, im)| {
            re.iter()
                .zip(im)
                .map(|(re, im)| [re / scale, im / scale])
                .collect()
        })
        .collect()
}

#[test]
fn analyze_answers_a_system_file_as_the_reference_does() {
    for name in [
        "bt_random_N4_H1.json",
        "bt_random_N16_H8.json",
        "bt_random_N64_H1.json",
    ] {
        let oracle = oracle(name);
        let scale = oracle["scale"].as_f64().unwrap();
        let part = |key: &str| -> Vec<f64> {
            serde_json::from_value(oracle["lambda"][key].clone()).unwrap()
        };
        let lambda: Vec<[f64; 2]> = part("re")
            .into_iter()
            .zip(part("im"))
            .map(|(a, b)| [a, b])
            .collect();
        let truncations = oracle["truncations"].as_array().unwrap();
        let ranks: Vec<&Value> = truncations.iter().map(|t| &t["rank"]).collect();
        let system = json!({
            "lambda": lambda,
            "B": pairs(&oracle["B_times_scale"], scale),
            "C": pairs(&oracle["C_times_scale"], scale),
            "tau": [0.1, 0.05],
            "ranks": ranks,
            "omega": oracle["freqs"],
        });
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("system.json");
        fs::write(&path, system.to_string()).unwrap();
        let answer: Value =
            serde_json::from_str(&stdout(&run(&["analyze", "--system", text(&path)]))).unwrap();

        let numbers =
            |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
        let (hsv, want) = (numbers(&answer["hsv"]), numbers(&oracle["hsv"]));
        for (got, want_value) in hsv.iter().zip(&want) {
            assert!((got - want_value).abs() < 1e-13 * want[0], "{name}");
        }
        for tau in ["0.1", "0.05"] {
            assert_eq!(
                answer["rank_at_tau"][tau], oracle["rank_at_tau"][tau],
                "{name} at {tau}"
            );
        }
        for (got, want_truncation) in answer["reduced"]
            .as_array()
            .unwrap()
            .iter()
            .zip(truncations)
        {
            let order = got["rank"].as_u64().unwrap() as usize;
            let gap = (want[order - 1] - want.get(order).unwrap_or(&0.0)) / want[0];
            let tail: f64 = want[order..].iter().rev().sum();
            assert!((got["bound"].as_f64().unwrap() - 2.0 * tail).abs() < 1e-12 * want[0]);
            assert_eq!(got["lambda"].as_array().unwrap().len(), order);
            let frobenius = numbers(&want_truncation["transfer"]["frobenius"]);
            for (matrix, frobenius) in got["transfer"].as_array().unwrap().iter().zip(frobenius) {
                let rows: Vec<Vec<[f64; 2]>> = serde_json::from_value(matrix.clone()).unwrap();
                let sum: f64 = rows.iter().flatten().flatten().map(|v| v * v).sum();
                // Machine epsilon over the gap at the cut, as the reference says; a hundredfold margin.
                let tolerance = 1e-13 / gap * want[0].max(frobenius);
                assert!(
                    (sum.sqrt() - frobenius).abs() < tolerance,
                    "{name}, rank {order}"
                );
            }
        }
    }
}

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/systems");
    folder.join(name)
}

/// The report on a system in JSON.
fn answer(system: &Value) -> Result<SystemReport, AnalyzeError> {
    analyze_system_bytes(system.to_string().as_bytes(), Format::Json)
}

fn assert_close(name: &str, got: &[f64], want: &[f64], limit: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        let (error, limit) = ((got - want).abs(), limit(k));
        assert!(
            error <= limit,
            "{name} {k}: {got:e} is off {want:e} by {error:e} > {limit:e}"
        );
    }
}

/// Errors of the values of a system of these states: a decomposition of that size, and a few roundings.
fn absolute_limit(want: &[f64]) -> f64 {
    8.0 * want.len() as f64 * f64::EPSILON * want[0]
}

/// As above where strong modes cancel each other: every mode's own gain is rounded, and all of them are summed.
fn noise(system: &Value, want: &[f64]) -> f64 {
    let numbers =
        |key: &str| -> Vec<Vec<[f64; 2]>> { serde_json::from_value(system[key].clone()).unwrap() };
    let length = |parts: &mut dyn Iterator<Item = [f64; 2]>| -> f64 {
        parts.map(|[re, im]| re * re + im * im).sum::<f64>().sqrt()
    };
    let lambda: Vec<[f64; 2]> = serde_json::from_value(system["lambda"].clone()).unwrap();
    let (input, output) = (numbers("B"), numbers("C"));
    let gain = |i: usize| {
        let [b, c] = [
            length(&mut input[i].iter().copied()),
            length(&mut output.iter().map(|row| row[i])),
        ];
        b * c / (1.0 - length(&mut [lambda[i]].into_iter()).powi(2))
    };
    let gains: f64 = (0..lambda.len()).map(gain).sum();
    absolute_limit(want).max(f64::EPSILON * gains)
}

/// Public reports of systems that a program answered wrongly, or not at all; the values are exact for the numbers in the
/// files.
#[test]
fn systems_of_public_reports_have_their_singular_values() {
    let expected = json_file(&fixture("expected.json"));
    for (name, about) in expected.as_object().unwrap() {
        let system = json_file(&fixture(&format!("{name}.json")));
        let outcome = analyze_system(&fixture(&format!("{name}.json")));
        let Ok(want) = serde_json::from_value::<Vec<f64>>(about["expected_hsv"].clone()) else {
            // On the boundary of stability there are none.
            let line = outcome.unwrap_err().to_string();
            assert!(
                line.contains("eigenvalue 0") && line.contains("margin of 0"),
                "{line}"
            );
            continue;
        };
        let report = outcome.unwrap();
        let noise = noise(&system, &want);
        assert_close(name, &report.hsv, &want, |_| noise);
        // Every rank asked for has its entry, whether it can be had or not.
        let ranks: Vec<usize> = report.reduced.iter().map(|reduced| reduced.rank).collect();
        assert_eq!(json!(ranks), system["ranks"], "{name}");
        for reduced in &report.reduced {
            let within = want[reduced.rank - 1] > noise;
            match &reduced.outcome {
                Truncated::Had {
                    bound,
                    lambda,
                    transfer,
                } => {
                    assert!(within, "{name} has no rank {}", reduced.rank);
                    let tail: f64 = want[reduced.rank..].iter().rev().sum();
                    assert!((bound - 2.0 * tail).abs() <= 32.0 * noise, "{name}");
                    assert_eq!(lambda.len(), reduced.rank);
                    assert_eq!(
                        json!(transfer.len()),
                        json!(system["omega"].as_array().unwrap().len())
                    );
                }
                Truncated::Refused { error } => {
                    assert!(!within, "{name} has rank {}: {error}", reduced.rank);
                    assert!(error.contains("numerical rank"), "{name}: {error}");
                }
            }
        }
    }
}

/// The largest five values are sums in which the clusters at 0.9975 and 0.9752 cancel: changing every entry of B and C by
/// half a unit in its last place moves them by up to 6e-13 of themselves. The others come from modes apart, and keep what
/// `hankel_with` promises for one input and one output.
#[test]
fn nineteen_decades_keep_all_their_digits_where_that_is_asked_for() {
    let name = "pc935_slycot222_16th_order";
    let expected = json_file(&fixture("expected.json"));
    let want: Vec<f64> = serde_json::from_value(expected[name]["expected_hsv"].clone()).unwrap();
    assert!(want[0] / want[15] > 1e18);
    let mut system = json_file(&fixture(&format!("{name}.json")));
    let default = answer(&system).unwrap();
    let off = (default.hsv[13] - want[13]).abs();
    assert!(off > 1e-4 * want[13], "nothing to show");
    system["accuracy"] = json!("default");
    assert_eq!(answer(&system).unwrap().hsv, default.hsv);

    system["accuracy"] = json!("relative");
    system["ranks"] = json!([4, 8, 12, 15]);
    let relative = answer(&system).unwrap();
    let limit = |k: usize| match k {
        0..5 => 4e-12 * want[k],
        _ => 16.0 * 16.0 * f64::EPSILON * want[k],
    };
    assert_close(name, &relative.hsv, &want, limit);
    for reduced in &relative.reduced {
        let Truncated::Had { bound, .. } = &reduced.outcome else {
            panic!("{:?}", reduced.outcome);
        };
        let tail: f64 = want[reduced.rank..].iter().rev().sum();
        assert!(
            (bound - 2.0 * tail).abs() <= 1e-11 * tail,
            "rank {}",
            reduced.rank
        );
    }
}

/// The root of 0.9 times a unitary matrix, with B = C = 1: no value stands out, so no rank is better than another.
#[test]
fn values_that_are_all_equal_are_told_as_they_are() {
    let states = 100;
    let modulus = 0.9_f64.sqrt();
    let lambda: Vec<[f64; 2]> = (0..states)
        .map(|k| 0.01 + TAU * f64::from(k) / f64::from(states))
        .map(|phase| [modulus * phase.cos(), modulus * phase.sin()])
        .collect();
    let identity: Vec<Vec<f64>> = (0..states)
        .map(|i| (0..states).map(|j| f64::from(u8::from(i == j))).collect())
        .collect();
    let system = |accuracy: &str| {
        json!({
            "lambda": lambda, "B": identity, "C": identity, "tau": [0.01, 0.1], "ranks": [1, 50, 99],
            "omega": [0.0, 0.1, 1.0], "accuracy": accuracy,
        })
    };
    for accuracy in ["default", "relative"] {
        let report = answer(&system(accuracy)).unwrap();
        let want = vec![10.0; 100];
        assert_close(accuracy, &report.hsv, &want, |_| absolute_limit(&want));
        assert_eq!(report.rank_at_tau["0.01"], 99);
        assert_eq!(report.rank_at_tau["0.1"], 90);
        assert_eq!(report.reduced.len(), 3);
    }
}

#[test]
fn a_system_in_continuous_time_has_the_values_of_its_bilinear_image() {
    // The system that `me34` is the bilinear image of, with steps of one.
    let expected = json_file(&fixture("expected.json"));
    let want = &expected["me34_factor_convention"]["expected_hsv"];
    let want: Vec<f64> = serde_json::from_value(want.clone()).unwrap();
    let rest = json!({
        "B": [[1, 2, 3], [2, 3, 1], [3, 1, 2]], "C": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "time": "continuous",
    });
    let with = |key: &str, value: Value| {
        let mut system = rest.clone();
        system[key] = value;
        answer(&system).unwrap().hsv
    };
    let dense = json!([[-1, 0, 0], [0, -2, 0], [0, 0, -3]]);
    for hsv in [with("lambda", json!([-1, [-2, 0], -3])), with("A", dense)] {
        assert_close("me34", &hsv, &want, |_| 2.0 * absolute_limit(&want));
    }
}

/// G at ω of `C (z - A)⁻¹ B + D` for two states, one input and one output, by Cramer's rule.
fn plain_transfer(a: [[f64; 2]; 2], b: [f64; 2], c: [f64; 2], d: f64, z: [f64; 2]) -> [f64; 2] {
    let times = |x: [f64; 2], y: [f64; 2]| [x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]];
    let minus = |x: f64| [z[0] - x, z[1]];
    let determinant = times(minus(a[0][0]), minus(a[1][1]));
    let determinant = [determinant[0] - a[0][1] * a[1][0], determinant[1]];
    // adj(z - A) b
    let first = [minus(a[1][1])[0] * b[0] + a[0][1] * b[1], z[1] * b[0]];
    let second = [a[1][0] * b[0] + minus(a[0][0])[0] * b[1], z[1] * b[1]];
    let numerator = [
        c[0] * first[0] + c[1] * second[0],
        c[0] * first[1] + c[1] * second[1],
    ];
    let norm = determinant[0].powi(2) + determinant[1].powi(2);
    let quotient = times(numerator, [determinant[0], -determinant[1]]);
    [quotient[0] / norm + d, quotient[1] / norm]
}

#[test]
fn dense_systems_in_either_time_have_their_transfer_function_with_the_feed_through() {
    let (b, c, d) = ([1.0, -2.0], [0.5, 3.0], 0.25);
    for (time, a) in [
        ("discrete", [[0.5, 0.3], [-0.2, 0.4]]),
        ("continuous", [[-1.0, 2.0], [-2.0, -0.5]]),
    ] {
        let omegas = [0.0, 0.7, -2.5];
        let system = json!({
            "A": a, "B": [[b[0]], [b[1]]], "C": [c], "D": [[d]], "time": time, "ranks": [2], "omega": omegas,
        });
        let report = answer(&system).unwrap();
        let Truncated::Had {
            transfer, lambda, ..
        } = &report.reduced[0].outcome
        else {
            panic!("{:?}", report.reduced);
        };
        // Of a real matrix, a pair.
        let [[re, im], [re_other, im_other]] = [lambda[0], lambda[1]];
        assert!(
            (re - re_other).abs() < 1e-14 && (im + im_other).abs() < 1e-14,
            "{lambda:?}"
        );
        for (omega, transfer) in omegas.into_iter().zip(transfer) {
            let z = match time {
                "discrete" => [f64::cos(omega), f64::sin(omega)],
                _ => [0.0, omega],
            };
            let want = plain_transfer(a, b, c, d, z);
            for (got, want) in transfer[0][0].iter().zip(want) {
                // Sums of a few terms below ten.
                assert!((got - want).abs() < 1e-13, "{time} {omega}: {got} {want}");
            }
        }
    }
}

#[test]
fn a_dense_matrix_means_what_its_eigenvalues_mean() {
    // A complex one, by a change of basis T = [[1, i], [0, 1]] of a diagonal one.
    let (p, q) = ([0.5, 0.25], [-0.5, 0.125]);
    let diagonal = json!({
        "lambda": [p, q], "B": [[1], [[0, 1]]], "C": [[2, [1, -1]]], "D": [[[0, 3]]], "omega": [0.3], "ranks": [1],
        "tau": [0.5],
    });
    // T diag(p, q) T^-1 = [[p, i (q - p)], [0, q]]; T B = [1 + i i, i]; C T^-1 = [2, -2 i + 1 - i].
    let dense = json!({
        "A": [[p, [p[1] - q[1], q[0] - p[0]]], [0, q]], "B": [[0], [[0, 1]]], "C": [[2, [1, -3]]],
        "D": [[[0, 3]]], "omega": [0.3], "ranks": [1], "tau": [0.5],
    });
    let reports = [diagonal, dense].map(|system| answer(&system).unwrap());
    assert_close("dense", &reports[1].hsv, &reports[0].hsv, |_| 1e-14);
    assert_eq!(reports[1].rank_at_tau, reports[0].rank_at_tau);
    let [one, other] = reports.map(|mut report| match report.reduced.remove(0).outcome {
        Truncated::Had { transfer, .. } => transfer[0][0][0],
        Truncated::Refused { error } => panic!("{error}"),
    });
    assert_close("transfer", &other, &one, |_| 1e-13);
}

/// What `make_npz.py` writes.
fn numpy_system() -> Value {
    json!({
        "A": [[-1, 2, 0], [-2, -1, 0.5], [0, 0, -3]], "B": [[1, 0], [0, 2], [3, 1]], "C": [[1, 0.5, 0.25]],
        "D": [[0.5, -0.5]], "tau": [0.01, 0.1], "ranks": [2, 7], "omega": [0.0, 1.5], "time": "continuous",
    })
}

#[test]
fn files_of_numpy_say_what_the_same_json_says() {
    let want = serde_json::to_value(answer(&numpy_system()).unwrap()).unwrap();
    assert!(want["rank_at_tau"]["0.01"].is_u64());
    assert!(want["reduced"][1]["error"].is_string(), "{want}");
    for name in ["numpy.npz", "numpy_compressed.npz"] {
        let report = stdout(&run(&["analyze", "--system", text(&fixture(name))]));
        assert_eq!(
            serde_json::from_str::<Value>(&report).unwrap(),
            want,
            "{name}"
        );
    }
}

/// An array as numpy writes it.
fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn doubles(shape: &str, values: &[f64]) -> Vec<u8> {
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    npy("'<f8'", "False", shape, &data)
}

fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = SimpleFileOptions::default();
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A stable system of two states, with other arrays instead of or beside its own.
fn small(others: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut arrays = vec![
        ("lambda", doubles("(2,)", &[0.5, 0.25])),
        ("B", doubles("(2, 1)", &[1.0, 1.0])),
        ("C", doubles("(1, 2)", &[1.0, 2.0])),
    ];
    arrays.retain(|(name, _)| others.iter().all(|(other, _)| other != name));
    arrays.extend_from_slice(others);
    archive(&arrays)
}

fn npz(bytes: &[u8]) -> Result<SystemReport, AnalyzeError> {
    analyze_system_bytes(bytes, Format::Npz)
}

#[test]
fn numbers_of_an_array_may_stand_alone_and_are_keyed_by_their_shortest_decimal() {
    let report = npz(&small(&[
        ("tau", doubles("()", &[1e-5])),
        ("ranks", doubles("(0,)", &[])),
    ]));
    let report = report.unwrap();
    assert_eq!(report.rank_at_tau.keys().collect::<Vec<_>>(), ["0.00001"]);
    assert!(report.reduced.is_empty());
    let single = npy("'<f4'", "False", "(1,)", &0.1_f32.to_le_bytes());
    let report = npz(&small(&[("tau", single)])).unwrap();
    assert_eq!(report.rank_at_tau.keys().collect::<Vec<_>>(), ["0.1"]);
}

#[test]
fn arrays_that_are_no_system_are_refused_by_name() {
    let empty = |shape: &str| doubles(shape, &[]);
    let word = |text: &str| {
        let data: Vec<u8> = text
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        npy(&format!("'<U{}'", text.len()), "False", "()", &data)
    };
    let integer = |value: i64| npy("'<i8'", "False", "(1,)", &value.to_le_bytes());
    assert!(npz(&small(&[("time", word("discrete"))])).is_ok());
    let huge = "(4611686018427387904, 4611686018427387904)";
    let deep = format!("({})", "(".repeat(5000));
    let cases: [(&[(&str, Vec<u8>)], &[&str]); 24] = [
        (
            &[("tua", doubles("(1,)", &[0.1]))],
            &["`tua`", "expected one of", "`tau`"],
        ),
        (
            &[("A", doubles("(1, 1)", &[0.5]))],
            &["both `lambda` and `A`"],
        ),
        (&[("lambda", empty("(0,)"))], &["no states"]),
        (
            &[("lambda", doubles("(1, 1)", &[0.5]))],
            &["`lambda`", "shape is [1, 1]"],
        ),
        (
            &[("lambda", doubles("()", &[0.5]))],
            &["`lambda`", "shape is []"],
        ),
        (
            &[("B", doubles("(2,)", &[1.0, 1.0]))],
            &["`B`", "shape is [2]", "[row, column]"],
        ),
        (
            &[("B", doubles("(1, 2)", &[1.0, 1.0]))],
            &["input matrix has 1 rows"],
        ),
        (&[("B", empty("(2, 0)"))], &["no inputs"]),
        (&[("C", empty("(0, 2)"))], &["no outputs"]),
        (
            &[("D", doubles("(1, 2)", &[1.0, 1.0]))],
            &["feed-through matrix has 2 columns"],
        ),
        (
            &[("B", npy("'|O'", "False", "(2, 1)", b"objects."))],
            &["`B`", "object"],
        ),
        (
            &[("B", npy("'|b1'", "False", "(2, 1)", &[1, 0]))],
            &["`B`", "|b1"],
        ),
        (
            &[("B", npy("'<f2'", "False", "(2, 1)", &[0; 4]))],
            &["`B`", "<f2"],
        ),
        (
            &[("B", npy("[('x', '<f8')]", "False", "(2, 1)", &[0; 16]))],
            &["`B`", "its type is"],
        ),
        (
            &[(
                "B",
                npy("'<U1'", "False", "(2, 1)", &[97, 0, 0, 0, 97, 0, 0, 0]),
            )],
            &["`B`", "<U1", "numbers"],
        ),
        (
            &[("B", npy("'<f8'", "False", huge, &[]))],
            &["`B`", "header is damaged"],
        ),
        (
            &[(
                "B",
                npy("'<f8'", "True", "(0, 4611686018427387904, 8)", &[]),
            )],
            &["`B`", "header is damaged"],
        ),
        (
            &[("B", npy("'<U0'", "False", "(1000000000000,)", &[]))],
            &["`B`", "header is damaged"],
        ),
        (
            &[("B", npy("'<f8'", "False", &deep, &[]))],
            &["`B`", "header is damaged"],
        ),
        (
            &[("B", doubles("(2, 1)", &[1.0]))],
            &["`B`", "header is damaged"],
        ),
        (
            &[("B", doubles("(2, 1)", &[1.0, f64::NAN]))],
            &["input matrix is not finite at row 1"],
        ),
        (
            &[("time", word("later"))],
            &["`time`", "`later`", "`discrete`"],
        ),
        (&[("ranks", integer(-3))], &["`ranks`", "-3 is not a rank"]),
        (
            &[("omega", doubles("(1,)", &[f64::INFINITY]))],
            &["omega = inf"],
        ),
    ];
    for (arrays, parts) in cases {
        let line = npz(&small(arrays)).unwrap_err().to_string();
        for part in parts {
            assert!(line.contains(part), "no `{part}` in: {line}");
        }
        assert!(!line.contains('\n'), "{line}");
    }
    for missing in ["B", "C", "lambda"] {
        let arrays = [
            ("lambda", doubles("(1,)", &[0.5])),
            ("B", doubles("(1, 1)", &[1.0])),
            ("C", doubles("(1, 1)", &[1.0])),
        ];
        let arrays: Vec<_> = arrays
            .into_iter()
            .filter(|(name, _)| *name != missing)
            .collect();
        let line = npz(&archive(&arrays)).unwrap_err().to_string();
        assert!(line.contains(&format!("`{missing}`")), "{line}");
    }
}

/// A file that tears or rots is refused, or says something else; nothing else happens.
#[test]
fn no_file_is_a_panic() {
    let json = numpy_system().to_string().into_bytes();
    let files = ["numpy.npz", "numpy_compressed.npz"].map(|name| fs::read(fixture(name)).unwrap());
    let [plain, compressed] = files;
    for (format, bytes) in [
        (Format::Json, json),
        (Format::Npz, plain),
        (Format::Npz, compressed),
    ] {
        assert!(analyze_system_bytes(&bytes, format).is_ok());
        for length in 0..bytes.len() {
            let _ = analyze_system_bytes(&bytes[..length], format);
        }
        for place in 0..bytes.len() {
            for change in [1, 0x20, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] ^= change;
                let _ = analyze_system_bytes(&bytes, format);
            }
        }
    }
}

#[test]
fn a_rank_that_cannot_be_had_stands_beside_the_others() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("system.json");
    let system = json!({
        "lambda": [[0.5, 0.1], [0.2, 0.0]], "B": [[[1, 0]], [[1, 0]]], "C": [[[1, 0], [2, 0]]], "ranks": [3, 1, 0, 2],
    });
    fs::write(&path, system.to_string()).unwrap();
    let report = stdout(&run(&["analyze", "--system", text(&path)]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let entries = report["reduced"].as_array().unwrap();
    let ranks: Vec<u64> = entries
        .iter()
        .map(|entry| entry["rank"].as_u64().unwrap())
        .collect();
    assert_eq!(ranks, [3, 1, 0, 2]);
    for (entry, refused) in entries.iter().zip([true, false, true, false]) {
        assert_eq!(entry["error"].is_string(), refused, "{entry}");
        let keys: Vec<&String> = entry.as_object().unwrap().keys().collect();
        match refused {
            true => assert_eq!(keys, ["error", "rank"]),
            false => assert_eq!(keys, ["bound", "lambda", "rank", "transfer"]),
        }
    }
}

#[test]
fn bad_systems_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("system.json");
    let good = json!({"lambda": [[0.5, 0.1], [0.2, 0.0]], "B": [[[1, 0]], [[1, 0]]], "C": [[[1, 0], [2, 0]]]});
    let with = |key: &str, value: Value| {
        let mut system = good.clone();
        system[key] = value;
        system.to_string()
    };
    for (content, part) in [
        ("{".to_owned(), "not a system"),
        (with("lambda", json!([[1.0, 0.1], [0.2, 0.0]])), "0"),
        (
            with("B", json!([[[1, 0]], [[1, 0], [2, 0]]])),
            "row 1 of `B`",
        ),
        (with("C", json!([[[1, 0]]])), "row 0 of `C`"),
        (with("tau", json!([1.5])), "1.5"),
        (with("ranks", json!([-1])), "-1"),
        (with("ranks", json!([1.5])), "1.5"),
        (with("extra", json!(1)), "extra"),
        (
            with("lambda", json!([])),
            "row 0 of `C` has 2 entries, expected 0",
        ),
        (
            json!({"lambda": [], "B": [], "C": [[]]}).to_string(),
            "no states",
        ),
        (with("B", json!([])), "input matrix has 0 rows"),
        (with("B", json!([[], []])), "no inputs"),
        (with("C", json!([])), "no outputs"),
        (with("D", json!([])), "feed-through matrix has 0 rows"),
        (with("D", json!([[1, 2]])), "row 0 of `D`"),
        (with("A", json!([[0.5]])), "both `lambda` and `A`"),
        (with("lambda", Value::Null), "neither `lambda` nor `A`"),
        (with("lambda", json!([0.5, [0.1]])), "a pair [re, im]"),
        (
            with("lambda", json!([0.5, [0.1, 0.2, 0.3]])),
            "a pair [re, im]",
        ),
        (with("lambda", json!([0.5, "0.1"])), "a pair [re, im]"),
        (with("time", json!("later")), "`discrete` or `continuous`"),
        (with("accuracy", json!("best")), "`default` or `relative`"),
        (with("time", json!("continuous")), "eigenvalue 0"),
        ("PK".to_owned(), "not an npz file"),
        (String::new(), "not a system"),
        ("[]".to_owned(), "not a system"),
        (
            json!({"A": [[0.5], [0.1]], "B": [[1]], "C": [[1]]}).to_string(),
            "row 0 of `A`",
        ),
        (json!({"A": [], "B": [], "C": []}).to_string(), "no states"),
        (
            json!({"A": [[2]], "B": [[1]], "C": [[1]]}).to_string(),
            "the eigenvalue 2+0i",
        ),
        (
            json!({"A": [[0.5]], "C": [[1]]}).to_string(),
            "missing field `B`",
        ),
    ] {
        fs::write(&path, &content).unwrap();
        let line = refusal(&["analyze", "--system", text(&path)], 2);
        assert!(line.contains(part), "{content}: {line}");
        assert!(line.contains("system.json"), "{line}");
    }
}
