//! `loadtest`: measures the highest load that one event router handles, and verifies that it loses
//! nothing under that load.
//!
//! ```text
//! cli ─► run ─► stand (vCenters, target, router child) ─► measure (samples) ─► result (verdict)
//!   └─► limit (many runs at rates that search picks) ─► report (JSON, HTML)
//! ```
//!
//! Exit codes: 0 passed, 1 a verdict failed or the run broke off, 2 wrong arguments or workload,
//! 130 interrupted.

mod bottleneck;
mod cause;
mod cli;
mod compare;
mod interrupts;
mod limit;
mod measure;
mod report;
mod result;
mod run;
mod search;
mod stand;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
