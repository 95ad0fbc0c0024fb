//! `sarai-engine-unsealed`: the engine without its list of system calls, to be measured beside the real one
//! (`scripts/bench --sandbox`). No image has it.

use std::process::ExitCode;

fn main() -> ExitCode {
    sarai_engine::entry::main(|| Ok(()))
}
