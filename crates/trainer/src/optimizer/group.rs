//! Groups of parameters: which learning rate and which decay a parameter has.

use ssm_core::Lru;

/// What an optimizer must know of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Outside the recurrences: the main learning rate, with weight decay.
    Main,
    /// Of a recurrence: a learning rate of its own, without decay.
    Recurrent,
}

/// Of a Mamba mixer: rates, steps and feedthrough, which the authors keep from decaying.
const MAMBA_RECURRENT_PARAMETERS: [&str; 3] = ["A_log", "D", "dt_bias"];

/// The group of the parameter with this path, in the models of this project.
pub fn group_of(name: &str) -> Group {
    match is_recurrent(name) {
        true => Group::Recurrent,
        false => Group::Main,
    }
}

fn is_recurrent(name: &str) -> bool {
    let Some((layer, parameter)) = name.rsplit_once('.') else {
        return false;
    };
    let lru = Lru::<burn::backend::Flex>::RECURRENT_PARAMETERS;
    (layer.ends_with(".lru") && lru.contains(&parameter))
        || (layer.ends_with(".mixer") && MAMBA_RECURRENT_PARAMETERS.contains(&parameter))
        || name.ends_with(".mixer.dt_proj.bias")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recurrence_is_in_the_group_without_decay() {
        for name in [
            "blocks.0.lru.nu_log",
            "blocks.12.lru.B_im",
            "blocks.1.lru.gamma_log",
            "backbone.layers.0.mixer.A_log",
            "backbone.layers.0.mixer.dt_proj.bias",
        ] {
            assert_eq!(group_of(name), Group::Recurrent, "{name}");
        }
        for name in [
            "blocks.0.lru.C_re",
            "blocks.0.lru.D",
            "blocks.0.glu.w1.weight",
            "nu_log",
            "backbone.layers.0.mixer.dt_proj.weight",
            "backbone.layers.0.mixer.conv1d.bias",
        ] {
            assert_eq!(group_of(name), Group::Main, "{name}");
        }
    }
}
