//! The appliance as real processes on this machine: the supervisor with `--native`, what it starts, and clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

mod adapters;
mod audit;
mod birth;
mod chaos;
mod clients;
mod common;
mod cuts;
mod disk;
mod feedback;
mod footprint;
mod lifecycle;
mod merges;
mod mornings;
mod nights;
mod openai;
mod reach;
mod sandbox;
mod shapes;
mod soak;
mod trust;
