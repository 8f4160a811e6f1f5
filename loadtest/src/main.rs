//! `loadtest`: finds out what one event router can take, and whether it loses anything while it does.
//!
//! ```text
//! cli ──► run ──► stand (vCenters, target, router child) ──► measure (samples) ──► result (verdict)
//!   └──► search (many runs at different rates) ──► report (JSON, HTML)
//! ```
//!
//! Exit codes: 0 all is well, 1 a verdict failed or the run broke off, 2 wrong arguments or workload.

mod bottleneck;
mod cli;
mod measure;
mod result;
mod run;
mod stand;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
