//! `event-router`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    event_router::cli::main()
}
