//! The `event-router` binary: parses arguments, runs a command, returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    event_router::cli::main()
}
