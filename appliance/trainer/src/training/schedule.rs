//! How the learning rate goes: up a line, down a cosine.

use sarai_wire::training::TrainingConfig;

/// The rate of the step with the number `step` (from 0) of `steps`: linear from almost zero to the highest during the
/// warm-up, then half a cosine down to the floor (Loshchilov, Hutter: *SGDR*, 2017, equation 5, without restarts).
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "far fewer steps than 2^52; the warm-up is a part of them"
)]
pub fn rate(config: &TrainingConfig, step: u64, steps: u64) -> f64 {
    let warmup = (config.warmup * steps as f64).ceil() as u64;
    let peak = config.learning_rate;
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    let way = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
    let cosine = f64::midpoint(1.0, (std::f64::consts::PI * way.min(1.0)).cos());
    peak * (config.floor + (1.0 - config.floor) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(warmup: f64, floor: f64) -> TrainingConfig {
        TrainingConfig {
            learning_rate: 0.01,
            warmup,
            floor,
            ..TrainingConfig::default()
        }
    }

    #[test]
    fn it_rises_to_the_peak_and_falls_to_the_floor() {
        let config = config(0.1, 0.2);
        let rates: Vec<f64> = (0..100).map(|step| rate(&config, step, 100)).collect();
        assert!((rates[0] - 0.001).abs() < 1e-12);
        assert!((rates[9] - 0.01).abs() < 1e-12);
        assert!((rates[10] - 0.01).abs() < 1e-12);
        // Half way down.
        assert!((rates[55] - 0.006).abs() < 1e-12);
        assert!(rates[..10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[99] > 0.002 && rates[99] < 0.0021);
        assert!((rate(&config, 100, 100) - 0.002).abs() < 1e-12);
    }

    #[test]
    fn any_number_of_steps_has_rates() {
        for steps in 1..20 {
            for warmup in [0.0, 0.05, 0.5] {
                let config = config(warmup, 0.0);
                let rates: Vec<f64> = (0..steps).map(|step| rate(&config, step, steps)).collect();
                assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= 0.01), "{rates:?}");
            }
        }
        assert!((rate(&config(0.0, 0.0), 0, 1) - 0.01).abs() < 1e-12);
    }
}
