//! The ladder against a simulated machine, traces generated and recorded, and a loop with scripted sensors.

mod looped;
mod recorded;
mod traces;
mod world;

/// Seconds in which a rung that fits is reached: all moves one after the other, each with its time to settle.
const REACHED: u64 = 20;
/// Seconds after the end of pressure in which the first rung is reached.
const BACK: u64 = 60;
