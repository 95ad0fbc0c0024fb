//! The image in an emulated machine: power-on, PID 1, an answer over TLS, power-off, and power cuts between.
//!
//! One machine at a time: two emulated ones on two cores would only be slower each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

mod askers;
mod boot;
mod common;
mod console;
mod cuts;
mod damage;
mod debug_shell;
mod firstboot;
mod ladder;
mod memory;
mod nights;
mod sandbox;
mod ssh;
