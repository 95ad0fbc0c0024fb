//! `sarai-engine`: started by the supervisor with its birth socket as descriptor 3 and its listening socket as
//! descriptor 4. It takes no arguments.

use std::process::ExitCode;

fn main() -> ExitCode {
    sarai_engine::entry::main(|| sarai_confine::seal(sarai_confine::Program::Engine))
}
