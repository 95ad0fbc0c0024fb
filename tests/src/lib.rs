//! Support for the whole-appliance tests: what a test needs to have a real appliance under its hands.
//!
//! | module | gives |
//! | --- | --- |
//! | [`appliance`] | a folder with signed models, the supervisor started on it, everything ended on drop |
//! | [`born`] | a child with the supervisor's two sockets and without its sandbox |
//! | [`publisher`] | a release key in a GnuPG home of its own, signatures by the real `gpg` |
//! | [`client`] | a small HTTPS client that trusts one certificate authority and reads event streams |
//! | [`raw`] | TLS and TCP connections a byte at a time, for clients that misbehave |
//! | [`process`] | what the kernel says about processes |
//! | [`gguf`] | a writer of tiny made-up models |
//! | [`shape`] | a writer of models with the product's true shape and random weights |
//! | [`measure`] | memory, machine and tables of figures, for benches and the soak |
//! | [`model`] | models, attested and signed |
//! | [`image`] | the image for virtual machines, with the tests' own models and files laid over it |
//! | [`lan`] | two machines on one wire, as network namespaces |
//! | [`vm`] | the image in QEMU: serial console, QMP, forwarded port |
//!
//! The tests run the binaries of `target/release`; nothing here stands in for a piece of the appliance. What
//! is missing fails a test with the command that makes it: a test that skips itself proves nothing.

#![allow(clippy::missing_panics_doc)]

pub mod appliance;
pub mod born;
pub mod client;
pub mod gguf;
pub mod image;
pub mod lan;
pub mod lora;
pub mod measure;
pub mod model;
pub mod process;
pub mod publisher;
pub mod raw;
pub mod shape;
pub mod tree;
pub mod vm;
