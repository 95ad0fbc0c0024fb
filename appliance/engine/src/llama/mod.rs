//! A small safe layer over llama.cpp's C interface: what this engine needs and nothing more.
//!
//! All `unsafe` of the crate that concerns llama.cpp is in this folder. A failed assertion inside ggml aborts the
//! process; the supervisor sees that and starts it again.

pub mod adapter;
pub mod backend;
pub mod batch;
pub mod context;
pub mod cpu;
pub mod model;
pub mod quantise;
pub mod threadpool;
pub mod vocab;

/// A token id.
pub type Token = llama_cpp_sys_2::llama_token;

/// What can go wrong below. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// The machine lacks instructions that every shipped variant needs.
    #[error("run on this machine: its CPU lacks {}; the floor is AVX2, FMA, F16C and BMI2", .0.join(", "))]
    BelowFloor(Vec<&'static str>),
    /// No module could be used.
    #[error("load the CPU backend: {0}")]
    Backend(String),
    /// The model file is not one that llama.cpp can run.
    #[error("load the model: {0}")]
    Model(String),
    /// Bytes of the model file cannot be read: a bad sector, or content that fs-verity refuses.
    #[error(
        "load the model: reading it failed at byte {at} ({source}); the disk is damaged, or the content is not what \
         was verified"
    )]
    Unreadable {
        /// Where in the file.
        at: u64,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// A context with these parameters cannot be made.
    #[error("make a context: {0}")]
    Context(String),
    /// The compute threads could not be started.
    #[error("start the compute threads: {0}")]
    Threads(String),
    /// The file is no adapter, or none that fits the model.
    #[error("load the adapter: {0}")]
    Adapter(String),
    /// A step failed.
    #[error("decode a batch: llama.cpp returned {0}{1}")]
    Decode(i32, String),
    /// Quantisation failed.
    #[error("quantise: {0}")]
    Quantise(String),
}
