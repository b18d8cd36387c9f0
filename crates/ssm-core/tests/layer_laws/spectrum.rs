//! Spectra of layers, and how far they come.

use ssm_core::Layer;

use crate::subject::{Subject, seen};

pub(crate) fn a_spectrum_is_sorted_and_has_a_value_for_every_state(subject: &Subject) {
    for (name, layer) in subject.forms() {
        for method in subject.methods() {
            let basis = layer.rank(Some(&seen()), method).unwrap();
            let spectrum = basis.spectrum();
            let case = format!("{name}, {method:?}: {spectrum:?}");
            assert_eq!(spectrum.len(), layer.state_dim(), "{case}");
            assert!(spectrum.is_sorted_by(|a, b| a >= b), "{case}");
            assert!(
                spectrum.iter().all(|v| v.is_finite() && *v >= 0.0),
                "{case}"
            );
            assert!(spectrum[0] > 0.0, "{case}");
        }
    }
}

pub(crate) fn a_layer_has_not_drifted_from_itself(subject: &Subject) {
    for (name, layer) in subject.forms() {
        for method in subject.methods() {
            let basis = layer.rank(Some(&seen()), method).unwrap();
            let drift = Layer::drift(&basis, &layer, Some(&seen()), method).unwrap();
            let case = format!("{name}, {method:?}: {drift:?}");
            // Of a difference that is computed, in f64.
            let largest = basis.spectrum()[0];
            assert!(drift.hankel_distance <= 1e-12 * largest, "{case}");
            let correlation = drift.rank_correlation.unwrap();
            assert!((correlation - 1.0).abs() < 1e-12, "{case}");
        }
    }
}
