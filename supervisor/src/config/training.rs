//! Settings of the nights.

use sarai_wire::bounds::{night, training as bounds};
use sarai_wire::night::ChoiceSettings;
use sarai_wire::training::{Target, TrainingConfig};

use super::reader::Section;
use crate::night::gate::Margins;

/// What a night does.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Whether nights begin by themselves.
    pub enabled: bool,
    /// Most memory that the trainer may use, bytes.
    pub memory: u64,
    /// How is trained.
    pub how: TrainingConfig,
    /// What is learnt.
    pub choice: ChoiceSettings,
    /// What is asked of an adapter.
    pub margins: Margins,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            enabled: true,
            memory: 4 << 30,
            how: TrainingConfig::default(),
            choice: ChoiceSettings::default(),
            margins: Margins::default(),
        }
    }
}

pub(super) fn training(s: &mut Section<'_, '_>, to: &mut Training) {
    s.flag("enabled", &mut to.enabled);
    s.whole("memory", night::MEMORY, &mut to.memory);
    how(s, &mut to.how);
    s.section("choice", |s| {
        s.whole("least", night::LEAST, &mut to.choice.least);
        s.number("replay", night::REPLAY, &mut to.choice.replay);
        s.flag("emails", &mut to.choice.emails);
    });
    s.section("gate", |s| {
        s.number("gain", night::GAIN, &mut to.margins.gain);
        s.number("general", night::GENERAL, &mut to.margins.general);
        s.whole("wrong", night::WRONG, &mut to.margins.wrong);
    });
}

fn how(s: &mut Section<'_, '_>, to: &mut TrainingConfig) {
    s.whole("rank", bounds::RANK, &mut to.rank);
    alpha(s, &mut to.alpha);
    targets(s, &mut to.targets);
    s.number("learning_rate", bounds::LEARNING_RATE, &mut to.learning_rate);
    s.number("warmup", bounds::WARMUP, &mut to.warmup);
    s.number("floor", bounds::FLOOR, &mut to.floor);
    s.whole("epochs", bounds::EPOCHS, &mut to.epochs);
    s.number("clip", bounds::CLIP, &mut to.clip);
    s.number("weight_decay", bounds::WEIGHT_DECAY, &mut to.weight_decay);
    s.whole("seed", bounds::SEED, &mut to.seed);
    s.whole(
        "sequence_length",
        bounds::SEQUENCE_LENGTH,
        &mut to.sequence_length,
    );
    s.whole("rows_per_step", bounds::ROWS_PER_STEP, &mut to.rows_per_step);
    s.whole("least_steps", bounds::LEAST_STEPS, &mut to.least_steps);
    s.number("anchor", bounds::ANCHOR, &mut to.anchor);
    s.whole("held_out_every", bounds::HELD_OUT_EVERY, &mut to.held_out_every);
    s.whole("patience", bounds::PATIENCE, &mut to.patience);
    s.whole(
        "time_budget_seconds",
        bounds::TIME_BUDGET_SECONDS,
        &mut to.time_budget_seconds,
    );
    s.whole(
        "checkpoint_seconds",
        bounds::CHECKPOINT_SECONDS,
        &mut to.checkpoint_seconds,
    );
    s.whole("threads", bounds::THREADS, &mut to.threads);
}

fn alpha(s: &mut Section<'_, '_>, to: &mut f32) {
    let mut alpha = f64::from(*to);
    s.number("alpha", bounds::ALPHA, &mut alpha);
    #[expect(clippy::cast_possible_truncation, reason = "its last digits mean nothing")]
    let nearest = alpha as f32;
    // The nearest to the least may lie below it.
    *to = if f64::from(nearest) < *bounds::ALPHA.start() {
        nearest.next_up()
    } else {
        nearest
    };
}

fn named(name: &str) -> Option<Target> {
    Target::ALL.into_iter().find(|target| target.name() == name)
}

fn targets(s: &mut Section<'_, '_>, to: &mut Vec<Target>) {
    let all: Vec<&str> = Target::ALL.iter().map(|target| target.name()).collect();
    let mut names: Vec<String> = to.iter().map(|target| target.name().to_owned()).collect();
    let must = format!("names of {}", all.join(", "));
    s.texts(
        "targets",
        all.len(),
        |name| named(name).is_some(),
        &must,
        &mut names,
    );
    let mut found = Vec::new();
    for target in names.iter().filter_map(|name| named(name)) {
        if !found.contains(&target) {
            found.push(target);
        }
    }
    // A list without any leaves the default.
    if !found.is_empty() {
        *to = found;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::layout::Mode;

    fn parse(text: &str) -> (Training, Vec<String>) {
        let (config, problems) = Config::parse(text, Config::defaults(Mode::Native));
        (config.training, problems)
    }

    #[test]
    fn every_setting_of_the_nights_is_read() {
        let text = "[training]\nenabled = false\nmemory = 134217728\nrank = 4\nalpha = 8\ntargets = [\"attn_q\", \"attn_v\"]\nlearning_rate = 1e-3\nwarmup = 0.1\nfloor = 0\nepochs = 3\nclip = 2\nweight_decay = 0\nseed = 7\nsequence_length = 256\nrows_per_step = 2\nleast_steps = 9\nanchor = 0.5\nheld_out_every = 5\npatience = 0\ntime_budget_seconds = 600\ncheckpoint_seconds = 0\nthreads = 1\n[training.choice]\nleast = 20\nreplay = 0.25\nemails = true\n[training.gate]\ngain = 0.05\ngeneral = 0.02\nwrong = 0\n";
        let (read, problems) = parse(text);
        assert_eq!(problems, Vec::<String>::new());
        let how = TrainingConfig {
            rank: 4,
            alpha: 8.0,
            targets: vec![Target::AttnQ, Target::AttnV],
            learning_rate: 1e-3,
            warmup: 0.1,
            floor: 0.0,
            epochs: 3,
            clip: 2.0,
            weight_decay: 0.0,
            seed: 7,
            sequence_length: 256,
            rows_per_step: 2,
            least_steps: 9,
            anchor: 0.5,
            held_out_every: 5,
            patience: 0,
            time_budget_seconds: 600,
            checkpoint_seconds: 0,
            threads: 1,
        };
        let wanted = Training {
            enabled: false,
            memory: 128 << 20,
            how,
            choice: ChoiceSettings {
                least: 20,
                replay: 0.25,
                emails: true,
            },
            margins: Margins {
                gain: 0.05,
                general: 0.02,
                wrong: 0,
            },
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn whatever_the_settings_say_the_trainer_takes_what_is_read_of_them() {
        for wrong in [
            "memory = 67108863",
            "rank = 0",
            "rank = 65",
            "alpha = 0",
            "alpha = nan",
            "learning_rate = 1",
            "targets = []",
            "targets = [\"output\"]",
            "targets = [\"attn_q\", \"attn_q\"]",
            "epochs = 0",
            "warmup = 0.9",
            "anchor = -1",
            "least_steps = 100001",
            "seed = -1",
            "time_budget_seconds = 0",
            "threads = 1000",
            "[training.gate]\ngain = -0.1",
            "[training.gate]\nwrong = -1",
            "[training.choice]\nleast = 0",
        ] {
            let (read, _) = parse(&format!("[training]\n{wrong}\n"));
            read.how.check().unwrap();
            assert_eq!(read.memory, 4 << 30);
            assert!(read.margins == Margins::default() && read.choice == ChoiceSettings::default());
        }
        for edge in [
            "alpha = 0.01",
            "alpha = 1024",
            "learning_rate = 1e-7",
            "clip = 0.001",
        ] {
            let (read, problems) = parse(&format!("[training]\n{edge}\n"));
            assert_eq!(problems, Vec::<String>::new());
            read.how.check().unwrap();
        }
        let (read, problems) = parse("[training]\nrank = 65\n");
        assert_eq!(read, Training::default());
        assert!(
            problems[0].contains("line 2: training.rank is 65, must be 1 to 64; using 8"),
            "{problems:?}"
        );
    }
}
