//! `sarai-supervisor`: PID 1 of the appliance. It boots the machine, verifies models, spawns the engine and the
//! gateway with what they need and nothing more, watches them, and shuts everything down in order. With
//! `--native DIR` it does the same as an ordinary process, without mounts, modules, network or power.
//!
//! It may mount, load modules, set the clock, bind listening sockets, sign certificates, spawn and signal its own
//! children, and write below its data and run folders. It never parses GGUF, images, HTTP or anything else that
//! came from the LAN, never waits for a child outside [`reaper`] (but for the disk's programs, before that runs), and
//! never exits as PID 1.
//!
//! | module | duty |
//! | --- | --- |
//! | [`run`] | builds the pieces, starts the tasks, ends them in order |
//! | [`boot`] | what only PID 1 does before anything else: mounts, modules, disk, setup file, clock, entropy, network |
//! | [`identity`] | keys and certificates of first boot, bearer keys |
//! | [`models`], [`quarantine`] | manifest and verification of what the engines load; what is not loaded again |
//! | [`adapters`] | LoRA adapters: kept, verified, put to use and taken back |
//! | [`night`] | nights that teach: their clock, walk, gate and what is remembered of them |
//! | [`reaper`], [`spawn`], [`sandbox`] | children: started, confined, collected |
//! | [`service`] | life of each service: a pure state machine and the drivers around it |
//! | [`governor`] | the memory ladder: quality is given up in steps to stay inside the budget |
//! | [`control`], [`status`], [`logs`], [`problems`] | what an admin sees and asks |
//! | [`boot_time`] | what the way up took |
//! | [`watchdog`], [`power`], [`console`] | the machine's own edges |

pub mod adapters;
pub mod app;
pub mod audit;
pub mod boot;
pub mod boot_time;
pub mod cgroup;
pub mod config;
pub mod console;
pub mod control;
pub mod cores;
pub mod cpu;
pub mod feedback;
pub mod governor;
pub mod identity;
pub mod layout;
pub mod lock;
pub mod logs;
pub mod models;
pub mod network;
pub mod night;
pub mod power;
pub mod problems;
pub mod prompts;
pub mod quarantine;
pub mod reaper;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod sockets;
pub mod spawn;
pub mod status;
pub mod tasks;
pub mod watchdog;
