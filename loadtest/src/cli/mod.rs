//! The command line: one file a subcommand.

mod compare;
mod limit;
mod options;
mod output;
mod report;
mod run;
mod server;
mod sink;
mod stop;
mod vcenter;
mod watch;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::result::Outcome;

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

// Each is described where its arguments are: a comment here would hide the longer one there.
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

/// How a command ended; the exit code of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
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
        complain(&format!("{error:#}"));
        End::Failed
    });
    ExitCode::from(end as u8)
}

impl End {
    /// How a command ended that made this result.
    fn of(outcome: &Outcome) -> End {
        match (outcome.interrupted(), outcome.passed()) {
            (true, _) => End::Interrupted,
            (false, true) => End::Done,
            (false, false) => End::Failed,
        }
    }
}

/// Writes to stdout. A reader that has had enough (`| head`) is no error.
fn show(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes a line to stderr. Whether anybody reads it changes nothing: `eprintln!` would panic when nobody does.
fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says what is wrong, or what a reader should know.
fn complain(message: &str) {
    tell(&format!("loadtest: {message}"));
}

/// Says what is wrong with the arguments.
fn usage(message: &str) -> anyhow::Result<End> {
    complain(message);
    Ok(End::Usage)
}

/// Says everything that is wrong with a workload.
fn wrong_workload(errors: &crate::workload::tree::WorkloadErrors) -> anyhow::Result<End> {
    tell(&errors.to_string());
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
