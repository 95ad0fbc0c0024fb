//! Adapters in a test's hands.

use std::fs::File;

use sarai_wire::adapter::{Adapter, AdapterOrder, Apply};
use sarai_wire::engine::Generate;

use super::{Engine, Lora, Outcome, descriptor};

/// An adapter and its file.
pub struct Made {
    pub which: Adapter,
    pub file: File,
}

impl Made {
    /// Named by a digit.
    pub fn of(lora: &Lora, digit: &str) -> Self {
        Self {
            which: Adapter {
                digest: digit.repeat(64),
                version: format!("night-{digit}"),
            },
            file: descriptor(&lora.bytes()),
        }
    }

    pub fn load(&self, engine: &Engine) {
        let answer = engine.order(self.loading(), Some(&self.file));
        assert_eq!(answer.refused, None);
        assert!(
            answer
                .loaded
                .iter()
                .any(|l| l.adapter == self.which && l.bytes > 0)
        );
    }

    pub fn loading(&self) -> AdapterOrder {
        AdapterOrder::Load {
            adapter: self.which.clone(),
        }
    }

    pub fn exactly(&self, request: Generate) -> Generate {
        let digest = Some(self.which.digest.clone());
        Generate {
            apply: Apply::Exactly { digest },
            ..request
        }
    }
}

pub fn put_to_use(engine: &Engine, made: Option<&Made>) {
    let digest = made.map(|made| made.which.digest.clone());
    let answer = engine.order(AdapterOrder::Use { digest }, None);
    assert_eq!(answer.refused, None);
    assert_eq!(answer.used(), made.map(|made| &made.which));
    assert_eq!(engine.info().adapter, made.map(|made| made.which.clone()));
}

pub fn without(request: Generate) -> Generate {
    Generate {
        apply: Apply::Exactly { digest: None },
        ..request
    }
}

/// What was sampled, and how likely each token was, bit for bit.
pub fn exactly(outcome: &Outcome) -> Vec<(Vec<u8>, u32)> {
    let tokens = outcome.tokens.iter();
    tokens
        .map(|token| (token.bytes.clone(), token.logprob.to_bits()))
        .collect()
}
