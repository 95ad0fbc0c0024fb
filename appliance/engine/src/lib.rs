//! `sarai-engine`: verified descriptors in, tokens out. The only room that knows llama.cpp.
//!
//! **For:** one process serves one model. It receives the model's descriptor and its parameters over the birth
//! socket (descriptor 3), listens on the inherited Unix socket (descriptor 4), and streams tokens with their
//! log-probabilities.
//!
//! **May touch:** those two sockets, the descriptors it was handed, the CPUs it was given, the CPU modules that lie
//! beside its own libraries, and the kernel's account of its own memory, which it opens at start.
//!
//! **Never:** opens a model by path, opens a socket of its own, forks, or cuts a prompt.
//!
//! How a request walks: [`server`] reads it on the connection's thread, [`validate`] checks it, [`template`] and
//! [`prompt`] turn it into tokens, [`constraint`] compiles what the answer must match, [`queue`] keeps it until a
//! slot is free and [`admission`] says how much of it that slot holds, [`worker`] decodes all slots together in steps planned by [`plan`] (those of one adapter in one step: [`adapters`], [`turns`]), [`generating`] has [`sampling`]
//! pick the tokens ([`speculation`] says which may be decoded ahead) and [`answer`] make text of them, [`scoring`] reads off how likely a given text is, [`mailbox`]
//! carries the events back to the connection's thread. [`encoding`] answers a trainer's question for tokens without the queue. [`entry`] is the program around it all. When memory is short, [`easing`] gives some back, which
//! [`resident`] measures. [`birth`] starts all of it, has [`probe`] measure, and talks to the supervisor.

pub mod adapters;
pub mod admission;
pub mod answer;
pub mod birth;
pub mod config;
pub mod constraint;
pub mod easing;
pub mod encoding;
pub mod entry;
pub mod generating;
pub mod llama;
pub mod log;
pub mod mailbox;
pub mod memory;
pub mod panics;
pub mod plan;
pub mod prefix;
pub mod probe;
pub mod prompt;
pub mod queue;
pub mod resident;
pub mod sampling;
pub mod scoring;
pub mod server;
pub mod shared;
pub mod slot;
pub mod softmax;
pub mod speculation;
pub mod template;
pub mod text;
pub mod turns;
pub mod validate;
pub mod worker;
