//! The learning rate of every step.

use std::f64::consts::PI;

use crate::config::{LearningRateSchedule, TrainingConfig};

/// Where the warm-up starts and the cosine ends.
const FLOOR: f64 = 1e-7;

/// Learning rate of step `step`, counted from 0, of a parameter group whose largest one is `peak`.
pub fn learning_rate(config: &TrainingConfig, peak: f64, step: u64) -> f64 {
    match config.schedule {
        LearningRateSchedule::Constant => peak,
        LearningRateSchedule::WarmupCosine => {
            let total = config.steps as f64;
            let warmup = (config.warmup_fraction * total).floor();
            let step = step as f64;
            let floor = FLOOR.min(peak);
            let share = if step < warmup {
                step / warmup
            } else {
                let progress = ((step - warmup) / (total - warmup).max(1.0)).min(1.0);
                0.5 * (1.0 + (PI * progress).cos())
            };
            floor + (peak - floor) * share
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn warmup_is_linear_and_the_cosine_ends_at_its_floor() {
        let mut config = Config::default().training;
        (config.steps, config.lr, config.warmup_fraction) = (1000, 2e-3, 0.1);
        config.schedule = LearningRateSchedule::WarmupCosine;
        let rate = |step| learning_rate(&config, config.lr, step);
        assert_eq!(rate(0), 1e-7);
        assert!((rate(50) - 1e-3).abs() < 1e-7);
        assert!((rate(100) - 2e-3).abs() < 1e-12);
        assert!((rate(550) - 1e-3).abs() < 1e-7);
        assert!((rate(1000) - 1e-7).abs() < 1e-15);
    }

    #[test]
    fn a_constant_rate_is_constant() {
        let mut config = Config::default().training;
        config.schedule = LearningRateSchedule::Constant;
        assert_eq!(learning_rate(&config, 3e-4, 0), 3e-4);
        assert_eq!(learning_rate(&config, 3e-4, config.steps), 3e-4);
    }
}
