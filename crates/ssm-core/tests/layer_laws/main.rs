//! What holds for every kind of layer. A new kind joins by an entry in the list at the end of this file.
//!
//! The laws run on layers of their own as others get them: fresh, and as every reduction that the kind knows leaves them.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../allocations/mod.rs"]
mod allocations;
mod carry;
mod cuts;
#[path = "../differences/mod.rs"]
mod differences;
mod gradients;
mod linear;
mod parameters;
mod settings;
mod spectrum;
mod stream;
mod subject;
mod weights;

use std::collections::BTreeSet;

use ssm_core::{
    Discretization, DualSettings, LayerKind, LayerSettings, LruInit, S4dInit, S4dSettings,
    S5Settings, SelectiveSettings,
};

/// A test of every law.
macro_rules! laws {
    ($subject:ident: $($module:ident::$law:ident,)+) => {
        $(
            #[test]
            fn $law() {
                crate::$module::$law(&$subject());
            }
        )+
    };
}

/// A module of tests for every kind.
///
/// A kind says with which settings it is tested, and by which parameters its states are driven and seen: with the numbers
/// in them that belong to a state at zero, it is idle. Of a parameter in both lists the first half of these numbers, in
/// row-major order, drives the states. What is driven by the input as it is has no such parameters. `linear` is for kinds
/// that implement [`LinearLayer`](ssm_core::LinearLayer).
macro_rules! layer_laws {
    ($(
        $name:ident: $Kind:ident($settings:expr),
        driven by $inputs:expr,
        seen by $outputs:expr
        $(, $linear:ident)?;
    )+) => {
        $(
            mod $name {
                use super::*;
                use crate::subject::Subject;

                fn subject() -> Subject {
                    #[allow(unused_mut, reason = "not all kinds are linear")]
                    let mut subject = Subject::new(
                        LayerSettings::$Kind($settings),
                        &$inputs,
                        &$outputs,
                    );
                    $(subject.$linear = Some(through_system);)?
                    subject
                }

                laws! { subject:
                    gradients::gradients_are_central_differences,
                    cuts::all_states_are_the_layer_and_every_one_matters,
                    cuts::a_cut_to_all_states_changes_nothing,
                    cuts::a_cut_of_idle_states_changes_nothing,
                    cuts::what_a_cut_costs_is_within_its_bound,
                    cuts::a_layer_that_does_nothing_loses_nothing,
                    carry::what_is_carried_fits_the_smaller_layer,
                    carry::gradients_go_over_where_the_lost_states_did_nothing,
                    stream::a_stream_is_the_layer,
                    stream::clones_go_their_own_ways,
                    stream::a_step_allocates_nothing,
                    weights::a_model_comes_back_from_its_tensors,
                    weights::a_state_has_as_many_parameters_as_it_says,
                    weights::an_error_names_the_tensor,
                    spectrum::a_spectrum_is_sorted_and_has_a_value_for_every_state,
                    spectrum::a_layer_has_not_drifted_from_itself,
                    settings::defaults_are_within_their_ranges,
                    settings::settings_go_through_a_table_without_unknown_keys,
                    settings::a_layer_has_about_as_many_parameters_as_its_settings_say,
                }

                $(
                    fn through_system(
                        layer: &ssm_core::Layer<crate::differences::Cpu>,
                    ) -> linear::ThroughSystem {
                        let ssm_core::Layer::$Kind($linear) = layer else {
                            unreachable!("the layer is of this kind");
                        };
                        linear::through_system($linear, ssm_core::Layer::$Kind)
                    }

                    laws! { subject:
                        linear::the_output_is_that_of_the_system,
                        linear::a_system_and_back_is_the_same_layer,
                    }
                )?
            }
        )+

        #[test]
        fn every_kind_has_its_laws() {
            let tested: BTreeSet<&str> = [$(LayerKind::$Kind.word()),+].into();
            let all: BTreeSet<&str> = LayerKind::ALL.iter().map(|kind| kind.word()).collect();
            assert_eq!(tested, all);
        }
    };
}

layer_laws! {
    lru: Lru(LruInit { r_min: 0.6, r_max: 0.95, max_phase: 3.0 }),
        driven by ["B_re", "B_im"], seen by ["C_re", "C_im"], linear;
    s5: S5(S5Settings { dt_min: 0.05, dt_max: 0.3, ..Default::default() }),
        driven by ["B"], seen by ["C"], linear;
    s5_bilinear: S5(S5Settings {
        dt_min: 0.05,
        dt_max: 0.3,
        blocks: 2,
        discretization: Discretization::Bilinear,
    }),
        driven by ["B"], seen by ["C"], linear;
    // Below half a turn a step: a cut by a change of basis does not know how often a mode went around. And no real pole, which
    // the first of `Lin` is: in the real system it has no imaginary part of C, which the gradient of its frequency is from.
    s4d: S4d(S4dSettings { init: S4dInit::Inv, dt_min: 0.01, dt_max: 0.05 }),
        driven by [], seen by ["C"];
    mamba: Mamba(SelectiveSettings { dt_rank: Some(2), ..Default::default() }),
        driven by ["x_proj.weight"], seen by ["x_proj.weight"];
    mamba2: Mamba2(DualSettings { head_dim: 4, ..Default::default() }),
        driven by ["in_proj.weight", "conv1d.weight", "conv1d.bias"],
        seen by ["in_proj.weight", "conv1d.weight", "conv1d.bias"];
}
