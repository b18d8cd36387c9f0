//! Reads `tests/oracles/*.json`; the fields are explained there.

use std::collections::BTreeMap;
use std::path::Path;

use hsv::{DiscreteDiagonalSystem, Mat, c64};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Oracle {
    pub(crate) name: String,
    scale: f64,
    lambda: List,
    #[serde(rename = "B_times_scale")]
    input: Values,
    #[serde(rename = "C_times_scale")]
    output: Values,
    pub(crate) hsv: Vec<f64>,
    pub(crate) rank_at_tau: BTreeMap<String, usize>,
    pub(crate) rank_margin: BTreeMap<String, f64>,
    pub(crate) freqs: Vec<f64>,
    pub(crate) transfer_full: Transfer,
    #[serde(rename = "P")]
    pub(crate) p: Option<Values>,
    #[serde(rename = "Q")]
    pub(crate) q: Option<Values>,
    pub(crate) truncations: Vec<TruncationValues>,
}

#[derive(Deserialize)]
pub(crate) struct TruncationValues {
    pub(crate) rank: usize,
    poles_sorted_by_re_im: List,
    pub(crate) hinf_error: f64,
    pub(crate) hinf_error_at_w: f64,
    pub(crate) bound_2_sum_discarded: f64,
    pub(crate) transfer: Transfer,
}

/// Transfer values at each of the frequencies.
#[derive(Deserialize)]
pub(crate) struct Transfer {
    block: Blocks,
    frobenius: Vec<f64>,
    #[serde(rename = "ones_G_ones")]
    sums: List,
}

#[derive(Deserialize)]
struct List {
    re: Vec<f64>,
    im: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Values {
    re: Vec<Vec<f64>>,
    im: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Blocks {
    re: Vec<Vec<Vec<f64>>>,
    im: Vec<Vec<Vec<f64>>>,
}

impl List {
    fn values(&self) -> Vec<c64> {
        self.re
            .iter()
            .zip(&self.im)
            .map(|(&re, &im)| c64::new(re, im))
            .collect()
    }
}

impl Values {
    pub(crate) fn matrix(&self) -> Mat<c64> {
        Mat::from_fn(self.re.len(), self.re[0].len(), |i, j| {
            c64::new(self.re[i][j], self.im[i][j])
        })
    }
}

impl Oracle {
    pub(crate) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/oracles")
            .join(format!("{name}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub(crate) fn system(&self) -> DiscreteDiagonalSystem {
        let unit = |matrix: Mat<c64>| {
            Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
                matrix[(i, j)] / self.scale
            })
        };
        let (input, output) = (unit(self.input.matrix()), unit(self.output.matrix()));
        DiscreteDiagonalSystem::new(self.lambda.values(), input, output).unwrap()
    }
}

impl TruncationValues {
    pub(crate) fn poles(&self) -> Vec<c64> {
        self.poles_sorted_by_re_im.values()
    }
}

impl Transfer {
    fn block(&self, k: usize) -> Mat<c64> {
        let (re, im) = (&self.block.re[k], &self.block.im[k]);
        Mat::from_fn(re.len(), re[0].len(), |i, j| c64::new(re[i][j], im[i][j]))
    }

    /// Compares a value at frequency `k`, and returns the largest error of an entry. `tolerance` is for the largest
    /// entry; the norm and the sum may be off by that for each entry they take in.
    pub(crate) fn check(&self, k: usize, value: &Mat<c64>, tolerance: f64, name: &str) -> f64 {
        let block = self.block(k);
        let mut worst = 0.0f64;
        for i in 0..block.nrows() {
            for j in 0..block.ncols() {
                let error = (value[(i, j)] - block[(i, j)]).norm();
                assert!(
                    error <= tolerance,
                    "{name} ({i}, {j}) at {k}: {error:e} > {tolerance:e}"
                );
                worst = worst.max(error);
            }
        }
        let entries = (value.nrows() * value.ncols()) as f64;
        let norm_error = (value.norm_l2() - self.frobenius[k]).abs();
        assert!(
            norm_error <= entries.sqrt() * tolerance,
            "{name} norm at {k}: {norm_error:e}"
        );
        let sum_error = (value.sum() - self.sums.values()[k]).norm();
        assert!(
            sum_error <= entries * tolerance,
            "{name} sum at {k}: {sum_error:e}"
        );
        worst
    }
}
