//! The mathematics: a transformer on quantised weights, forwards and backwards, with a low-rank adapter.
//!
//! Architectures: `llama`, and `qwen2`/`qwen2vl` on text. Weights stay quantised in the mapped file; a product
//! dequantises one tile of a matrix at a time into a buffer that fits the core's cache. Frozen weights have no
//! gradients. Of the forward pass each layer's input is kept, and what the products gave of as many of the last layers
//! as fit [`lora::KEPT`]; the backward pass computes the other layers again, to the same bits.
//!
//! Memory, in f32 numbers, for a sequence of T tokens, L layers, width d, feed-forward width f, q query and v key
//! values a token, and N trainable parameters: T·d·(L + 6) for inputs and residuals, 4·T·f + 5·T·q + 4·T·v for one
//! layer, what is kept of others, up to [`head::PARTS`]·min(T, [`head::ROWS`])·d for the output, about 300 000 a thread for tiles, and
//! whatever vectors of N the caller keeps. The mapped file counts as page cache, which the kernel may drop.
//! No matrix of T × vocabulary or T × T is ever made.

mod adapter;
mod attention;
mod base;
mod head;
mod layer;
mod linear;
mod lora;
mod memory;
mod norm;
mod rope;
mod row;
#[cfg(test)]
mod tests;

pub use adapter::{read_adapter, write_adapter};
pub use base::{Architecture, Base};
pub use lora::{LoraConfig, LoraModel};
