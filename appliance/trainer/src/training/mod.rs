//! The course of a training: a data set is read and packed into rows, steps are made and judged, and whatever
//! interrupts it costs a few minutes at most. Nothing here knows what a model is: that is behind [`crate::learner`].

pub mod adamw;
pub mod checkpoint;
pub mod config;
pub mod control;
pub mod data;
pub mod meter;
pub mod packing;
pub mod random;
pub mod run;
pub mod schedule;
pub mod state;

#[cfg(test)]
mod testing;
