//! The command line: one file a subcommand.

mod compare;
mod limit;
mod options;
mod output;
mod report;
mod run;
mod server;
mod sink;
mod vcenter;
mod watch;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Finds the limit of one event router: synthetic vCenters, a target that verifies every event, and the router between them.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one workload against a router and say whether anything was lost, repeated, changed or late
    Run(Box<run::RunArgs>),
    /// Find the highest rate that holds: everything arrives, p99 stays under its bound, the lag does not grow
    Limit(Box<limit::LimitArgs>),
    /// Serve synthetic vCenters until Ctrl-C
    Vcenter(vcenter::VcenterArgs),
    /// Receive events and verify them until Ctrl-C
    Sink(sink::SinkArgs),
    /// Compare two JSON results of `run`, or of `limit`; exit code 1 if the second is worse
    Compare(compare::CompareArgs),
    /// Write the report with charts of a JSON result
    Report(report::ReportArgs),
    /// List the workloads that are built in, or print one
    Workloads(workloads::WorkloadsArgs),
}

/// How a command ended; the exit code of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done = 0,
    Failed = 1,
    Usage = 2,
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Limit(args) => limit::run(&args),
        Command::Vcenter(args) => vcenter::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Workloads(args) => workloads::run(&args),
    };
    let end = result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        End::Failed
    });
    ExitCode::from(end as u8)
}

/// Writes to stdout. A reader that has had enough (`| head`) is no error.
fn show(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Says everything that is wrong with a workload.
fn usage(errors: &crate::workload::tree::WorkloadErrors) -> anyhow::Result<End> {
    eprintln!("{errors}");
    Ok(End::Usage)
}

/// The runtime of vCenters, target and measuring.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the I/O runtime")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
