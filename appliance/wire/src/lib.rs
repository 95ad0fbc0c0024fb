//! Messages between the appliance's processes, one module a socket.
//!
//! | module | socket | who talks |
//! | --- | --- | --- |
//! | [`birth`] | `AF_UNIX` `SOCK_SEQPACKET` pair, descriptor 3 of each child | supervisor ↔ engine, gateway, announcer |
//! | [`training`] | the same | supervisor ↔ trainer |
//! | [`engine`] | `AF_UNIX` stream, listening socket inherited as descriptor 4 by the engine | gateway → engine |
//! | [`control`] | `AF_UNIX` stream, JSON lines | `sarai` command → supervisor |
//!
//! [`bounds`] holds what the admin may set, for those who read it and those who are told.
//! [`memory`] is what supervisor, engine and gateway say of the memory ladder, [`adapter`] what they say of LoRA adapters,
//! [`feedback`] what they say of feedback, [`night`] what a night of learning needs of the gateway and what admins see of it,
//! [`merge`] what trainer, supervisor and admins say of adapters that become part of their base.
//! [`descriptors`] is how a line of the control socket brings files with it.
//!
//! This crate may read and write descriptors it is handed. It never opens a path, never spawns, and knows
//! nothing of GGUF, HTTP or OpenPGP. Every reader states a bound and rejects what exceeds it.

pub mod adapter;
pub mod birth;
pub mod bounds;
pub mod control;
pub mod descriptors;
pub mod engine;
pub mod feedback;
pub mod frame;
pub mod memory;
pub mod merge;
pub mod night;
pub mod quality;
pub mod training;
