//! The command line: one file for each subcommand.

mod compare;
mod limit;
mod options;
mod output;
mod progress;
mod report;
mod run;
mod server;
mod sink;
mod stop;
mod vcenter;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::result::Outcome;

/// Measures the limit of one event router, with synthetic vCenters and a target that verifies every
/// event
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

// The descriptions are beside the arguments. A comment here would replace them in the help.
#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Limit(Box<limit::LimitArgs>),
    Vcenter(vcenter::VcenterArgs),
    Sink(sink::SinkArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Workloads(workloads::WorkloadsArgs),
}

/// The end of a command. The value is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done = 0,
    Failed = 1,
    ProcessUsage = 2,
    /// 128 plus the number of SIGINT, as in shells.
    Interrupted = 130,
}

/// Parses the command line and runs the command.
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
        complain(&format!("{error:#}"));
        End::Failed
    });
    ExitCode::from(end as u8)
}

impl End {
    /// The exit code for a result.
    fn of(outcome: &Outcome) -> End {
        match (outcome.interrupted(), outcome.passed()) {
            (true, _) => End::Interrupted,
            (false, true) => End::Done,
            (false, false) => End::Failed,
        }
    }
}

/// Writes to stdout. A closed pipe (`| head`) is not an error.
fn show(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes a line to stderr. Unlike `eprintln!` it does not panic if nobody reads stderr.
fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error or a remark.
fn complain(message: &str) {
    tell(&format!("loadtest: {message}"));
}

/// Prints an error in the arguments.
fn usage(message: &str) -> anyhow::Result<End> {
    complain(message);
    Ok(End::ProcessUsage)
}

/// Prints all errors of a workload.
fn wrong_workload(errors: &crate::workload::tree::WorkloadErrors) -> anyhow::Result<End> {
    tell(&errors.to_string());
    Ok(End::ProcessUsage)
}

/// The async runtime for vCenters, target and measurements.
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
