//! The command line: one file a subcommand.
//!
//! Exit codes: 0 done, 1 failed while it ran (the message says at what), 2 wrong arguments or configuration, 3 stopped with unsettled events (they are
//! read again at the next start).

/// A line on standard output, where nobody may be reading any more or the disk may be full: `println!` would panic.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::print(format!("{}\n", format_args!($($text)*)).as_bytes())
    };
}

mod backup;
mod check;
mod checkpoint;
mod completions;
mod convert;
pub mod decode;
#[cfg(feature = "demo")]
mod demo;
mod dlq;
mod emit;
mod events;
mod man;
mod old;
mod restore;
mod run;
mod schema;
mod session;
mod spool;
mod state;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{self, Config};

/// The environment variable that names the configuration.
const CONFIG_VARIABLE: &str = "EVENT_ROUTER_CONFIG";

#[cfg(feature = "demo")]
macro_rules! demo_step {
    () => {
        "  event-router demo                            watch it work, without a vCenter\n"
    };
}
#[cfg(not(feature = "demo"))]
macro_rules! demo_step {
    () => {
        ""
    };
}

/// Lines of 98 columns at most: they are not wrapped well.
const FIRST_STEPS: &str = concat!(
    "Where to begin:\n",
    demo_step!(),
    "  event-router check --connect --config F      is the file right, and does everything in it answer?
  event-router run --config F                  route events
  event-router emit --config F --type VmPoweredOnEvent
                                               a test event to the functions, without a vCenter
  event-router dlq list --config F             what was refused for good, and why

F is a file in the native format, or one of the old router's as it is. The old router's command
line (`-config F`) starts this one, too. `event-router schema` has every key of the native format.

Exit codes: 0 done; 1 failed, and the message says at what; 2 wrong arguments or configuration;
3 stopped with events that are not delivered yet, which are read again at the next start."
);

/// Reads the event streams of vCenters and delivers every event, at least once and with a stable id, as a CloudEvent.
#[derive(Debug, Parser)]
#[command(
    name = "event-router",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = FIRST_STEPS,
    after_help = "`--help` says where to begin."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Flags of commands that log; they come before what the configuration says.
#[derive(Clone, Copy, Debug, Args)]
pub struct LogArgs {
    /// The least important lines that are logged, whatever the configuration says
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevelArg>,
    /// How log lines look, whatever the configuration says
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormatArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevelArg {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatArg {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    /// Look at dead letters, deliver them once more, or drop them
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Work on configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at what a vCenter can send
    #[command(subcommand)]
    Events(events::EventsCommand),
    Emit(emit::EmitArgs),
    /// Look at and move the positions of sources
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Look at what waits on disk for destinations, or drop it
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Schema(schema::SchemaArgs),
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    Decode(decode::DecodeArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Convert(convert::Args),
}

/// A configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration: native YAML, or either format of the old router [default: /etc/vmware-event-router/config if it is there]
    #[arg(long, short, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,
}

/// How a command ended; the exit code of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unsettled = 3,
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let command = Cli::command();
    let is_command = |word: &str| word == "help" || command.find_subcommand(word).is_some();
    let has_default =
        || std::env::var_os(CONFIG_VARIABLE).is_some() || Path::new(old::DEFAULT_CONFIG).exists();
    let cli = match old::translate(std::env::args_os().collect(), is_command, has_default) {
        Ok(args) => Cli::parse_from(args),
        Err(error) => {
            eprintln!("event-router: {error}");
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Dlq(command) => dlq::run(&command),
        Command::Config(ConfigCommand::Convert(args)) => convert::run(&args),
        Command::Events(events::EventsCommand::List(args)) => events::list(&args),
        Command::Emit(args) => emit::run(&args),
        Command::Checkpoint(command) => checkpoint::run(&command),
        Command::Spool(command) => spool::run(&command),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Schema(_) => schema::run(),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
        Command::Decode(args) => {
            decode::run(&args, io::stdin().lock(), io::stdout().lock()).map(|()| Exit::Done)
        }
    };
    let end = result.unwrap_or_else(|error| {
        eprintln!("event-router: {error:#}");
        Exit::Failed
    });
    ExitCode::from(end as u8)
}

/// Writes to standard output.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    Stdout::default().write_all(bytes).context("cannot write to standard output")
}

/// The end of a command that only looks: a reader like `head` may have had enough of what it writes.
fn enough(ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match ended {
        Err(error) if error.downcast_ref().is_some_and(closed) => Ok(Exit::Done),
        ended => ended,
    }
}

/// Standard output of a command that ends as it would otherwise where a reader like `head` has had enough: what is not read any more is let go.
#[derive(Debug, Default)]
struct Stdout {
    is_closed: bool,
}

impl Stdout {
    fn unless_closed<T>(&mut self, done: io::Result<T>, otherwise: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(otherwise)
            }
            done => done,
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let written = io::stdout().write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.unless_closed(flushed, ())
    }
}

/// Loads a configuration, and says which file it was; prints its warnings, or all its errors.
fn load(args: &ConfigArgs) -> Result<(PathBuf, Config), Exit> {
    let Some(file) = old::config_or_default(args.config.as_deref(), Path::new(old::DEFAULT_CONFIG)) else {
        eprintln!(
            "event-router: no configuration; name one with `--config FILE` or {CONFIG_VARIABLE}, or put it at {}",
            old::DEFAULT_CONFIG
        );
        return Err(Exit::Usage);
    };
    match config::load(&file) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            Ok((file, config))
        }
        Err(errors) => {
            eprintln!("{errors}");
            Err(Exit::Usage)
        }
    }
}

impl LogArgs {
    /// What the flags and the configuration together say.
    fn over(self, log: &config::Log) -> config::Log {
        let level = self.log_level.map(|level| match level {
            LogLevelArg::Error => config::LogLevel::Error,
            LogLevelArg::Warn => config::LogLevel::Warn,
            LogLevelArg::Info => config::LogLevel::Info,
            LogLevelArg::Debug => config::LogLevel::Debug,
            LogLevelArg::Trace => config::LogLevel::Trace,
        });
        let format = self.log_format.map(|format| match format {
            LogFormatArg::Human => config::LogFormat::Human,
            LogFormatArg::Json => config::LogFormat::Json,
        });
        config::Log { level: level.unwrap_or(log.level), format: format.unwrap_or(log.format), ..log.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The help of a command and all under it, as `--help` prints it in a window of 100 columns.
    #[cfg(feature = "demo")]
    fn help(command: &mut clap::Command, path: &str, all: &mut Vec<(String, String)>) {
        all.push((path.to_owned(), command.render_long_help().to_string()));
        for under in command.get_subcommands_mut().filter(|under| under.get_name() != "help") {
            help(under, &format!("{path} {}", under.get_name()), all);
        }
    }

    #[test]
    fn the_demo_is_there_only_with_its_feature() {
        let command = Cli::command();
        assert_eq!(command.find_subcommand("demo").is_some(), cfg!(feature = "demo"));
        let help = Cli::command().render_long_help().to_string();
        assert_eq!(help.contains("demo"), cfg!(feature = "demo"), "{help}");
    }

    /// The snapshots are those of a clone, where `demo` is on.
    #[cfg(feature = "demo")]
    #[test]
    fn help_reads_as_it_should() {
        let mut all = Vec::new();
        let mut command = Cli::command().term_width(100);
        command.build();
        help(&mut command, "event-router", &mut all);
        for (path, text) in &all {
            // A word in capitals tells nothing; every argument has a sentence.
            assert!(!text.contains("<LOG_LEVEL>") && !text.contains("  \n\n  -"), "{path}: {text}");
            let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            insta::assert_snapshot!(path.replace(' ', "_"), lines);
        }
        assert!(all.len() > 20);
    }
}
