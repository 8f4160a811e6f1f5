//! `event-router init`: writes a commented configuration from flags and questions.
//!
//! ```text
//! flags ──► answers ◄── questions (only on a terminal)      a missing flag is an error without one
//!              │   ◄── handshake: is the vCenter's certificate trusted?
//!              ▼
//!            text ──► files: the configuration, the password beside it ──► check ──► next steps
//! ```
//!
//! INVARIANT: a password is written into a file of its own with mode 0600, and nowhere else.

mod answers;
mod files;
mod next;
mod questions;
mod text;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::answers::Answers;
use self::questions::Questions;
use super::check::CheckSteps;
use super::{Exit, check};

/// Write a commented configuration for one vCenter and one target.
///
/// On a terminal it asks for everything that no flag gives. Elsewhere a missing flag is an error.
/// It asks for passwords without echo, and writes each into a file of its own beside the
/// configuration, which only its owner can read.
///
/// A certificate of the vCenter that this machine does not trust is shown with its SHA-256
/// thumbprint, and trusted after a question or by a flag.
///
/// At the end it checks the file like `check --connect`, and prints the next commands. The exit
/// code is that of `check`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Address of the vCenter: its host, or its SDK URL
    #[arg(long, value_name = "HOST")]
    vcenter: Option<String>,
    /// User for the vCenter; a read-only one is sufficient
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// File with the password of the user; the configuration names it
    #[arg(long, value_name = "FILE", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// Environment variable with the password; the configuration names it as `${VARIABLE}`
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
    /// SHA-256 thumbprint of the vCenter's certificate; only this certificate is accepted
    #[arg(long, value_name = "SHA256", group = "trust")]
    thumbprint: Option<String>,
    /// PEM file with the CA of the vCenter's certificate
    #[arg(long, value_name = "FILE", group = "trust")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate of the vCenter, without protection against attackers
    #[arg(long, group = "trust")]
    insecure: bool,
    /// Kind of the target
    #[arg(long, value_name = "KIND", value_enum)]
    target: Option<TargetKind>,
    /// URL of the target, for `cloudevents`, `http` and `openfaas`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// User of the OpenFaaS gateway; empty for a gateway without authentication
    #[arg(long, value_name = "USER")]
    gateway_user: Option<String>,
    /// File with the password of the OpenFaaS gateway
    #[arg(long, value_name = "FILE")]
    gateway_password_file: Option<PathBuf>,
    /// AWS region, for `eventbridge`
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Name or ARN of the event bus, for `eventbridge` [default: default]
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// File to append events to, for `file`
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// The configuration to write
    #[arg(long, short, value_name = "FILE", default_value = "config.yaml")]
    output: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Log in to the vCenter and contact the target, which is the default
    #[arg(long, overrides_with = "no_connect")]
    connect: bool,
    /// Contact neither the vCenter nor the target
    #[arg(long, overrides_with = "connect")]
    no_connect: bool,
}

/// The kinds of targets that `init` can configure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetKind {
    /// A CloudEvents target over HTTP, such as Knative or a webhook
    Cloudevents,
    /// Any other HTTP API, with a template that you change afterwards
    Http,
    /// The functions of an OpenFaaS gateway
    Openfaas,
    /// AWS EventBridge, with the credentials of the environment
    Eventbridge,
    /// A file, one event per line
    File,
    /// Standard output, to look at events
    Console,
}

/// A flag is missing or wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InitUsageError(String);

pub(super) fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    match write(args, &mut Questions::on_terminal()) {
        Ok(answers) => finish(args, &answers),
        Err(error) if error.is::<InitUsageError>() => {
            super::complain(&format!("event-router: {error:#}"));
            Ok(Exit::Usage)
        }
        Err(error) => Err(error),
    }
}

/// Asks for what is missing, and writes the files.
fn write(args: &InitArgs, questions: &mut Questions) -> anyhow::Result<Answers> {
    // Before the questions: nobody wants to answer them for nothing.
    files::refuse_existing(&args.output, args.force)?;
    if args.password_file.is_none() && args.password_env.is_none() {
        files::refuse_existing(&answers::own_file(args, answers::SOURCE)?, args.force)?;
    }
    let answers = Answers::gather(args, questions)?;
    let output = std::path::absolute(&args.output)?;
    for (path, secret) in &answers.new_secrets {
        files::refuse_existing(path, args.force)?;
        files::write(path, &format!("{}\n", secret.read()?), args.force)?;
    }
    files::write(&output, &text::configuration(&answers, &output), args.force)?;
    Ok(answers)
}

/// Checks the file, and prints the next commands.
fn finish(args: &InitArgs, answers: &Answers) -> anyhow::Result<Exit> {
    say!("wrote {}", args.output.display())?;
    for (path, _) in &answers.new_secrets {
        say!("wrote {} (a secret, mode 0600)", path.display())?;
    }
    say!("")?;
    let steps = CheckSteps { connect: !args.no_connect, ..CheckSteps::default() };
    let checked = check::check_file(&args.output, steps)?;
    say!("")?;
    super::print(next::steps(answers, &args.output, checked == Exit::Done).as_bytes())?;
    Ok(checked)
}

#[cfg(test)]
mod tests;
