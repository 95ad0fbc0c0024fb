//! The real `sarai-gateway` process, over real TLS, in front of engines that speak the real wire protocol and do
//! what each test tells them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops, with the place"
)]

mod api;
mod audit;
mod engine;
mod fallback;
mod feedback;
mod hostile;
mod http;
mod ladder;
mod life;
mod measure;
mod night;
mod prompts;
mod real;
mod reflect;
mod stream;
mod world;
