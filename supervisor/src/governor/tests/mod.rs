//! The ladder against a simulated machine, traces and a loop with scripted sensors.

mod looped;
mod traces;
mod world;
