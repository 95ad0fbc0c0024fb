//! The two sides of the seam put together: the model that learns, as the course of a training wants it.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use sarai_wire::training::TrainingConfig;

use crate::Error;
use crate::model::{Base, LoraConfig, LoraModel, read_adapter, write_adapter};
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
    Ok(Box::new(model))
}

impl Adapter for LoraModel {
    fn vocabulary(&self) -> usize {
        self.base().vocabulary()
    }

    fn write(&self, parameters: &[f32], mut to: &mut dyn Write) -> Result<(), Error> {
        write_adapter(self, parameters, &mut to)
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        read_adapter(self, bytes)
    }
}
