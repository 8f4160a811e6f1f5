//! The command line: one file per command.
//!
//! Exit codes: 0 success, 1 failure (the message names the cause), 2 wrong arguments or
//! configuration, 3 stopped with unsettled events, which the next start reads again, 4 something
//! needs attention (only `status`).

/// Writes a line to standard output. Unlike `println!`, it does not panic if the reader is gone or
/// the disk is full.
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
mod graph;
mod health;
mod init;
mod log;
mod man;
mod old;
mod pretty;
mod reload;
mod reloads;
mod replay;
mod restore;
mod routes;
mod run;
mod schema;
mod spool;
mod state;
mod status;
mod table;
mod tap;
mod top;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::outside;
use crate::redact::redact;
use crate::settings::{self, Config};

/// The environment variable that names the configuration.
const CONFIG_VARIABLE: &str = "EVENT_ROUTER_CONFIG";

/// The configuration of the systemd unit, and the old router's default one: the first of them that
/// exists is used if no other is named.
const DEFAULT_CONFIGS: [&str; 2] = [UNIT_CONFIG, old::DEFAULT_CONFIG];
const UNIT_CONFIG: &str = "/etc/event-router/config.yaml";

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

/// Lines are at most 98 columns wide, since clap would wrap longer ones badly.
const FIRST_STEPS: &str = concat!(
    "First steps:\n",
    demo_step!(),
    "  event-router init                            write a configuration from a few questions
  event-router check --connect --config F      check the file, and connect to everything in it
  event-router run --config F                  route events
  event-router status --config F               show what runs, and what is wrong
  event-router reload --config F               apply the changed file to the running router
  event-router emit --config F --type VmPoweredOnEvent
                                               send a test event to the functions
  event-router routes test --config F --type VmPoweredOnEvent
                                               tell where an event would go, and why
  event-router dlq list --config F             list the events that targets refused for good

F is a file in the native format or in a format of the old router. The old router's command line
(`-config F`) also works. `event-router schema` prints every key of the native format.

Exit codes: 0 success; 1 failure, the message names the cause; 2 wrong arguments or configuration;
3 stopped with undelivered events, which the next start delivers; 4 something needs attention
(only `status`)."
);

/// Read the event streams of vCenters and deliver every event as a CloudEvent, at least once and
/// with a stable id.
#[derive(Debug, Parser)]
#[command(
    name = "event-router",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = FIRST_STEPS,
    after_help = "`--help` shows the first steps."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Flags of commands that log. They override the configuration.
#[derive(Clone, Copy, Debug, Args)]
pub struct LogArgs {
    /// Log lines of this level and above; overrides the configuration
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevelArg>,
    /// Format of log lines; overrides the configuration
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
    Init(init::InitArgs),
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Reload(reload::ReloadArgs),
    Replay(replay::RangeReplayArgs),
    Health(health::HealthArgs),
    Status(status::StatusArgs),
    /// List, show, replay or drop dead letters
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Convert configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List, describe or count event types
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Tell which destinations an event would go to
    #[command(subcommand)]
    Routes(routes::RoutesCommand),
    Graph(graph::GraphArgs),
    Tap(tap::TapArgs),
    Top(top::TopArgs),
    Emit(emit::EmitArgs),
    /// Show, move or forget the positions of sources
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// List or drop the events that wait on disk for a destination
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Make and inspect the streams of NATS that processors publish to
    #[command(subcommand)]
    Log(log::LogCommand),
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
    Convert(convert::ConvertArgs),
}

/// A configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration, in native YAML or a format of the old router [default: the first that
    /// exists of /etc/event-router/config.yaml and /etc/vmware-event-router/config]
    #[arg(long, short, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,
}

/// The result of a command; its value is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unsettled = 3,
    Attention = 4,
}

/// Parses a duration argument: `40s`, `1m30s`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    let parsed = crate::config::scalar::duration(text).or_else(seconds);
    parsed.ok_or_else(|| "it must be a duration, such as `40s` or `5m`".to_owned())
}

/// Parses the arguments of the process and runs the command.
pub fn main() -> ExitCode {
    // Translate the old router's command line.
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
    // Run the command.
    let result = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Dlq(command) => dlq::run(&command),
        Command::Config(ConfigCommand::Convert(args)) => convert::run(&args),
        Command::Events(command) => events::run(&command),
        Command::Routes(command) => routes::run(&command),
        Command::Graph(args) => graph::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Emit(args) => emit::run(&args),
        Command::Checkpoint(command) => checkpoint::run(&command),
        Command::Spool(command) => spool::run(&command),
        Command::Log(command) => log::run(&command),
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
        complain(&format!("event-router: {error:#}"));
        Exit::Failed
    });
    ExitCode::from(end as u8)
}

/// Writes to standard output.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    Stdout::default().write_all(bytes).context("cannot write to standard output")
}

/// Writes a message to standard error. It may quote other machines and files.
fn complain(message: &str) {
    eprintln!("{}", outside::lines(&redact(message)));
}

/// Treats a closed pipe as success, for commands that only print: their reader may be `head`.
fn allow_closed_pipe(ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match ended {
        Err(error) if error.downcast_ref().is_some_and(closed) => Ok(Exit::Done),
        ended => ended,
    }
}

/// Standard output that drops everything once its reader is gone. For commands whose work must go
/// on even if their output is piped to `head`.
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

/// The path of the configuration. Prints an error if there is none.
fn config_file(args: &ConfigArgs) -> Result<PathBuf, Exit> {
    config_or_default(args.config.as_deref(), &DEFAULT_CONFIGS).ok_or_else(|| {
        eprintln!(
            "event-router: no configuration; name a file with `--config FILE` or {CONFIG_VARIABLE}, or create one of {} (`event-router init` writes one)",
            DEFAULT_CONFIGS.join(", ")
        );
        Exit::Usage
    })
}

/// The configuration to read: the `given` one, or else the first default that exists.
fn config_or_default(given: Option<&Path>, defaults: &[impl AsRef<Path>]) -> Option<PathBuf> {
    let mut existing = defaults.iter().map(AsRef::as_ref).filter(|default| default.exists());
    given.or_else(|| existing.next()).map(Path::to_owned)
}

/// Loads the configuration and returns it with its path. Prints its warnings, or else all its
/// errors.
fn load(args: &ConfigArgs) -> Result<(PathBuf, Config), Exit> {
    let file = config_file(args)?;
    match settings::load(&file) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| complain(&warning.to_string()));
            Ok((file, config))
        }
        Err(errors) => {
            complain(&errors.to_string());
            Err(Exit::Usage)
        }
    }
}

impl LogArgs {
    /// Returns true if the flags ask for JSON.
    fn is_json(self) -> bool {
        matches!(self.log_format, Some(LogFormatArg::Json))
    }

    /// Applies the flags to the configuration's settings.
    fn over(self, log: &settings::Log) -> settings::Log {
        let level = self.log_level.map(|level| match level {
            LogLevelArg::Error => settings::LogLevel::Error,
            LogLevelArg::Warn => settings::LogLevel::Warn,
            LogLevelArg::Info => settings::LogLevel::Info,
            LogLevelArg::Debug => settings::LogLevel::Debug,
            LogLevelArg::Trace => settings::LogLevel::Trace,
        });
        let format = self.log_format.map(|format| match format {
            LogFormatArg::Human => settings::LogFormat::Human,
            LogFormatArg::Json => settings::LogFormat::Json,
        });
        settings::Log {
            level: level.unwrap_or(log.level),
            format: format.unwrap_or(log.format),
            ..log.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_default_configuration_that_exists_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let defaults = [dir.path().join("config.yaml"), dir.path().join("config")];
        assert_eq!(config_or_default(None, &defaults), None);
        std::fs::write(&defaults[1], "").unwrap();
        assert_eq!(config_or_default(None, &defaults), Some(defaults[1].clone()));
        std::fs::write(&defaults[0], "").unwrap();
        assert_eq!(config_or_default(None, &defaults), Some(defaults[0].clone()));
        assert_eq!(config_or_default(Some(Path::new("F")), &defaults), Some("F".into()));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Collects the help of a command and of its subcommands.
    #[cfg(feature = "demo")]
    fn help(command: &mut clap::Command, path: &str, all: &mut Vec<(String, String)>) {
        all.push((path.to_owned(), command.render_long_help().to_string()));
        for under in command.get_subcommands_mut().filter(|under| under.get_name() != "help") {
            help(under, &format!("{path} {}", under.get_name()), all);
        }
    }

    #[test]
    fn the_demo_exists_only_with_its_feature() {
        let command = Cli::command();
        assert_eq!(command.find_subcommand("demo").is_some(), cfg!(feature = "demo"));
        let help = Cli::command().render_long_help().to_string();
        assert_eq!(help.contains("demo"), cfg!(feature = "demo"), "{help}");
    }

    /// The snapshots contain `demo`, which is on in a clone.
    #[cfg(feature = "demo")]
    #[test]
    fn help_texts_match_their_snapshots() {
        let mut all = Vec::new();
        let mut command = Cli::command().term_width(100);
        command.build();
        help(&mut command, "event-router", &mut all);
        for (path, text) in &all {
            // Every argument has a sentence and a sensible value name.
            assert!(!text.contains("<LOG_LEVEL>") && !text.contains("  \n\n  -"), "{path}: {text}");
            let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            insta::assert_snapshot!(path.replace(' ', "_"), lines);
        }
        assert!(all.len() > 20);
    }
}
