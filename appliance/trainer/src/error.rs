//! What can go wrong in the mathematics of a training.

/// Why a base model, an adapter or a sequence can't be worked on. Each text fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, mapped or written.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done, such as "map the base model".
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The base model can't be trained on.
    #[error("use the base model: {0}")]
    Base(String),
    /// The adapter's settings don't fit the base model.
    #[error("set up the adapter: {0}")]
    Adapter(String),
    /// A file is no adapter, or not one that fits.
    #[error("use the adapter: {0}")]
    AdapterFile(String),
    /// A sequence or a vector of parameters doesn't fit the model.
    #[error("compute the loss: {0}")]
    Input(String),
    /// Whoever ordered the work does not want it any more.
    #[error("go on: it was told to stop")]
    Stopped,
}
