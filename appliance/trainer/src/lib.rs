//! Training of LoRA adapters on a quantised base model, on the CPU.
//!
//! | module | duty |
//! | --- | --- |
//! | [`gguf`] | reads base models, writes adapters; bounded |
//! | [`quantised`] | ggml's ways of storing matrices |
//! | [`model`] | forward and backward pass of a model with a low-rank adapter |
//! | [`lora_file`] | reads adapters; bounded |
//! | [`merge`] | an adapter made part of its base |
//! | [`made_up`] | small random models, for tests and benches |
//! | [`learner`] | the seam: what the course of a training needs to know of the mathematics |
//! | [`training`] | the course: data set, packing, steps, measurements, checkpoints |
//! | [`adapter`] | both sides of the seam together |
//! | [`birth`] | the program under the supervisor |
//!
//! This crate is handed a base model and a data set of tokens. It knows no tokenizer, no text and no llama.cpp, and
//! opens no path.

pub mod adapter;
pub mod birth;
pub mod error;
pub mod gguf;
pub mod learner;
pub mod lora_file;
pub mod made_up;
mod matrix;
pub mod merge;
pub mod model;
pub mod quantised;
mod random;
mod threads;
pub mod training;
mod vector;

#[cfg(test)]
mod difference;

pub use error::Error;

/// A line of the log, on standard error. One that cannot be written is no reason to stop.
pub fn log(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
