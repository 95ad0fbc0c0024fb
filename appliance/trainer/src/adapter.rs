//! The two sides of the seam put together: the model that learns, as the course of a training wants it.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use sarai_wire::training::TrainingConfig;

use crate::Error;
use crate::learner::{Anchor, Learner, Loss, Sequence};
use crate::model::{Base, LoraConfig, LoraModel, read_adapter, write_adapter};
use crate::threads::Hold;
use crate::training::session::Adapter;

/// Does what the products do at their first call: they look for the sizes of the machine's caches among its files, and for
/// its instructions. Called before the process gives up opening files; in the sandbox, where there are no such files,
/// usual sizes are assumed.
pub fn prepare() {
    let _sizes = *gemm_common::cache::CACHE_INFO;
    let _product = gemm_f32::gemm::f32::get_gemm_fn();
}

/// Maps the base model and puts an adapter on it.
///
/// # Errors
/// When the base cannot be trained on, or the settings do not suit it.
pub fn open(base: &File, config: &TrainingConfig) -> Result<Box<dyn Adapter>, Error> {
    let base = Arc::new(Base::map(base)?);
    let lora = LoraConfig {
        rank: config.rank as usize,
        alpha: config.alpha,
        targets: config.targets.clone(),
    };
    let model = LoraModel::new(&base, lora, config.threads as usize)?;
    Ok(Box::new(Opened { base, model }))
}

struct Opened {
    base: Arc<Base>,
    model: LoraModel,
}

impl Learner for Opened {
    fn parameters(&self) -> usize {
        self.model.parameters()
    }

    fn hold(&mut self, hold: Hold) {
        self.model.hold(hold);
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        self.model.initial(seed)
    }

    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, Error> {
        self.model.loss(parameters, sequence)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        self.model.loss_and_gradient(parameters, sequence, gradient)
    }

    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, Error> {
        self.model.anchor(sequence)
    }

    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, Error> {
        self.model
            .drift_and_gradient(parameters, sequence, anchor, weight, gradient)
    }
}

impl Adapter for Opened {
    fn vocabulary(&self) -> usize {
        self.base.vocabulary()
    }

    fn write(&self, parameters: &[f32], mut to: &mut dyn Write) -> Result<(), Error> {
        write_adapter(&self.model, parameters, &mut to)
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        read_adapter(&self.model, bytes)
    }
}
