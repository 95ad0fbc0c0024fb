//! Training of LoRA adapters on a quantised base model, on the CPU.
//!
//! | module | duty |
//! | --- | --- |
//! | [`learner`] | the seam: what the course of a training needs to know of the mathematics |
//!
//! This crate is handed a base model and a data set of tokens. It knows no tokenizer, no text and no llama.cpp, and
//! opens no path.

pub mod error;
pub mod learner;

pub use error::Error;
