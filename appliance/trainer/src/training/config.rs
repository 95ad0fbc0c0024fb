//! The settings of a training: from a file for whoever starts it by hand, from the birth socket otherwise.

use sarai_wire::training::{BadTraining, TrainingConfig};
use sha2::{Digest, Sha256};

/// Largest file of settings, bytes.
pub const MAX_BYTES: u64 = 64 * 1024;

/// Why settings are not used. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No TOML, an unknown setting, a value of the wrong type.
    #[error("read the training's settings: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value out of its bounds.
    #[error(transparent)]
    Bounds(#[from] BadTraining),
}

/// Reads settings from TOML; what is left out has its default.
///
/// # Errors
/// What is wrong, with its line or its bounds.
pub fn parse(text: &str) -> Result<TrainingConfig, ConfigError> {
    let config: TrainingConfig = toml::from_str(text)?;
    config.check()?;
    Ok(config)
}

/// SHA-256 over everything that decides what comes out of a training of `parameters` numbers besides base and data:
/// the settings, the SHA-256 of the adapter it begins from, if any, and the version of this program. How long it may take, how often it is saved and on how many threads
/// it runs may change where it goes on.
#[must_use]
pub fn fingerprint(config: &TrainingConfig, parameters: usize, initial: Option<&[u8; 32]>) -> [u8; 32] {
    let TrainingConfig {
        rank,
        alpha,
        targets,
        learning_rate,
        warmup,
        floor,
        epochs,
        clip,
        weight_decay,
        seed,
        sequence_length,
        rows_per_step,
        held_out_every,
        patience,
        least_steps,
        anchor,
        time_budget_seconds: _,
        checkpoint_seconds: _,
        threads: _,
    } = config;
    let targets: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    let rates = [*learning_rate, *warmup, *floor, *clip, *weight_decay, *anchor].map(f64::to_bits);
    let numbers = [
        *rank,
        *epochs,
        *sequence_length,
        *rows_per_step,
        *held_out_every,
        *patience,
        *least_steps,
    ];
    let version = env!("CARGO_PKG_VERSION");
    let initial = initial.map_or_else(String::new, super::hex);
    let text = format!(
        "{version} {parameters} {seed} {} {targets:?} {rates:?} {numbers:?} {initial}",
        alpha.to_bits()
    );
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use sarai_wire::training::Target;

    use super::*;

    #[test]
    fn settings_are_read_and_held_to_their_bounds() {
        let config =
            parse("rank = 4\ntargets = [\"attn_q\", \"attn_v\"]\nlearning_rate = 1e-3\nseed = 7\n").unwrap();
        let expected = TrainingConfig {
            rank: 4,
            targets: vec![Target::AttnQ, Target::AttnV],
            learning_rate: 1e-3,
            seed: 7,
            ..TrainingConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(parse("").unwrap(), TrainingConfig::default());
        for (text, why) in [
            ("rank = 0", "rank is 0, must be 1 to 64"),
            ("rank = -1", "line 1"),
            ("rank = 4\nalpha = \"big\"", "line 2"),
            ("rnak = 4", "unknown field `rnak`"),
            ("targets = [\"token_embd\"]", "unknown variant"),
            ("learning_rate = nan", "learning_rate is NaN"),
            ("alpha = inf", "alpha is inf"),
            ("rank", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn whatever_decides_the_outcome_is_in_the_fingerprint_and_nothing_else() {
        let base = TrainingConfig::default();
        let print = |change: fn(&mut TrainingConfig)| {
            let mut config = base.clone();
            change(&mut config);
            fingerprint(&config, 10, None)
        };
        let own = fingerprint(&base, 10, None);
        assert_ne!(own, fingerprint(&base, 11, None));
        let continued = fingerprint(&base, 10, Some(&[1; 32]));
        assert_ne!(own, continued);
        assert_ne!(continued, fingerprint(&base, 10, Some(&[2; 32])));
        for change in [
            |c: &mut TrainingConfig| c.rank += 1,
            |c: &mut TrainingConfig| c.alpha += 1.0,
            |c: &mut TrainingConfig| c.targets.truncate(3),
            |c: &mut TrainingConfig| c.learning_rate *= 1.000_000_1,
            |c: &mut TrainingConfig| c.warmup += 0.1,
            |c: &mut TrainingConfig| c.floor += 0.1,
            |c: &mut TrainingConfig| c.epochs += 1,
            |c: &mut TrainingConfig| c.clip += 1.0,
            |c: &mut TrainingConfig| c.weight_decay += 0.1,
            |c: &mut TrainingConfig| c.seed += 1,
            |c: &mut TrainingConfig| c.sequence_length += 1,
            |c: &mut TrainingConfig| c.rows_per_step += 1,
            |c: &mut TrainingConfig| c.held_out_every += 1,
            |c: &mut TrainingConfig| c.patience += 1,
            |c: &mut TrainingConfig| c.least_steps += 1,
            |c: &mut TrainingConfig| c.anchor += 0.1,
        ] {
            assert_ne!(own, print(change));
        }
        assert_eq!(
            own,
            print(|c| {
                c.time_budget_seconds += 1;
                c.checkpoint_seconds += 1;
                c.threads += 1;
            })
        );
    }
}
