//! `event-router check`: reports all errors of a configuration. With `--connect`, it also tries to
//! reach everything in it.

mod connect;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::{ConfigArgs, Exit};
use crate::admin::Listener;
use crate::admin::control::{ControlClient, ReloadWhat};
use crate::app;
use crate::cloudevents::Envelope;
use crate::settings::changes::Changes;
use crate::settings::{self, Config, Loaded, ProcessorConfig, StateLocation};
use crate::state;

/// Check a configuration, and report all errors in it.
///
/// Each error names its line. It reports everything that would keep `run` from starting: errors in
/// the file, a data directory that cannot be used, a key that does not belong to its certificate.
/// The exit code is then 2.
///
/// With `--connect`, it also logs in to each vCenter, reads from it, and measures its latency and
/// the offset of its clock. It tries each login only once, since a few wrong passwords lock an
/// account. It contacts each processor without delivering an event: it lists the functions of a
/// gateway, reads the rules of an event bus, or connects to a target. The exit code is 1 if any of
/// this fails.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration; the same as `--config FILE`
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Also log in to each vCenter and contact each processor
    #[arg(long)]
    connect: bool,
    /// Check the file alone, on a machine such as a CI runner that has neither its secrets and
    /// certificates nor its data directory
    #[arg(long, conflicts_with = "connect")]
    no_secrets: bool,
    /// Also list what a reload with this file would change in the running router
    #[arg(long, conflicts_with = "no_secrets")]
    against_running: bool,
    /// The data directory of the running router, if it is not that of this file
    #[arg(long, value_name = "DIR", requires = "against_running")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let config_args = args.file.as_ref().map(|file| ConfigArgs { config: Some(file.clone()) });
    let file = match super::config_file(config_args.as_ref().unwrap_or(&args.config)) {
        Ok(file) => file,
        Err(end) => return Ok(end),
    };
    let CheckArgs { no_secrets, connect, against_running, .. } = *args;
    check_file(&file, CheckSteps { no_secrets, connect, against_running, data_dir: args.data_dir.as_deref() })
}

/// The extent of a check.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckSteps<'a> {
    /// The file alone, without its secrets.
    pub no_secrets: bool,
    /// Also reach everything in it.
    pub connect: bool,
    /// Also list what a reload would change.
    pub against_running: bool,
    /// The data directory of the running router, if it is not that of the file.
    pub data_dir: Option<&'a Path>,
}

/// Checks one file.
pub(super) fn check_file(file: &Path, steps: CheckSteps<'_>) -> anyhow::Result<Exit> {
    // Read the file, and print what deserves attention in it.
    let Loaded { config, mut warnings, advice } = match settings::examine(file, steps.no_secrets) {
        Ok(loaded) => loaded,
        Err(errors) => {
            super::complain(&errors.to_string());
            return Ok(Exit::Usage);
        }
    };
    warnings.extend(advice);
    warnings.sort_by(|one, other| one.problem.cmp(&other.problem));
    warnings.iter().for_each(|warning| super::complain(&format!("{warning:#}")));
    // Report the parts that a router cannot make from it.
    let found = match steps.no_secrets {
        true => CheckFindings { errors: envelope_errors(&config), ..CheckFindings::default() },
        false => CheckFindings::on_this_machine(&config),
    };
    let shown = file.display();
    found.warnings.iter().for_each(|warning| super::complain(&format!("{shown}: warning: {warning}")));
    found.errors.iter().for_each(|error| super::complain(&format!("{shown}: {error}")));
    if !found.errors.is_empty() {
        return Ok(Exit::Usage);
    }
    summarize(file, &config, &found.state)?;
    if steps.against_running {
        let Some(changes) = against_running(file, &config, steps.data_dir)? else {
            return Ok(Exit::Usage);
        };
        say!("")?;
        super::print(changes.to_string().as_bytes())?;
    }
    if steps.connect { connect::run(&config) } else { Ok(Exit::Done) }
}

/// Asks the running router what a reload with this file would change. It checks the file as well,
/// with its own environment; `None` if that finds errors, which are printed.
fn against_running(file: &Path, config: &Config, dir: Option<&Path>) -> anyhow::Result<Option<Changes>> {
    let text = std::fs::read_to_string(file).context("cannot read the file again")?;
    let dir = match (dir, &config.state) {
        (Some(dir), _) => dir,
        (None, StateLocation::Dir(dir)) => dir,
        (None, StateLocation::Ephemeral) => {
            bail!("name the data directory of the running router with `--data-dir`")
        }
    };
    super::reload::ask(dir, ReloadWhat::Compare { name: file.to_owned(), text })
}

/// The findings about the parts that a configuration describes.
#[derive(Default)]
struct CheckFindings {
    errors: Vec<String>,
    warnings: Vec<String>,
    /// A description of the place of the state.
    state: String,
}

impl CheckFindings {
    /// Makes all parts that need no connection, and looks at the data directory.
    fn on_this_machine(config: &Config) -> Self {
        let mut found = CheckFindings::default();
        found.data_directory(config);
        found.errors.extend(Listener::check(&config.admin).err().map(|error| error.to_string()));
        for source in &config.sources {
            let error = source.kind.as_type().check().err();
            found.errors.extend(error.map(|error| format!("source `{}`: {error}", source.name)));
        }
        let processors = config.processors.iter();
        found.errors.extend(processors.filter_map(|of| app::build(of).err()).map(|error| error.to_string()));
        found
    }

    fn data_directory(&mut self, config: &Config) {
        let dir = match &config.state {
            StateLocation::Dir(dir) => dir,
            StateLocation::Ephemeral => {
                self.state =
                    "no data directory: positions and waiting events are kept only while the router runs"
                        .into();
                return;
            }
        };
        match state::examine(dir) {
            Ok(examined) => {
                let shown = examined.path.display();
                let is_in_use = examined.exists && matches!(ControlClient::connect(dir), Ok(Some(_)));
                let state = match (examined.exists, is_in_use) {
                    (false, _) => " (made by the first `run`)",
                    (true, true) => " (in use by a running router)",
                    (true, false) => "",
                };
                self.state = format!("data directory {shown}{state}");
                let warnings = examined.warnings.iter();
                self.warnings.extend(warnings.map(|text| format!("data directory `{shown}` {text}")));
            }
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}

/// Errors of the event envelopes, which need no file of this machine.
fn envelope_errors(config: &Config) -> Vec<String> {
    let error = |of: &ProcessorConfig| {
        let cause = Envelope::new(of.delivery.envelope.clone()).err()?;
        Some(format!("processor `{}`: {cause}", of.name))
    };
    config.processors.iter().filter_map(error).collect()
}

/// Prints what the configuration contains.
fn summarize(file: &Path, config: &Config, state: &str) -> anyhow::Result<()> {
    say!(
        "{}: {}, {}, {}",
        file.display(),
        counted(config.sources.len(), "source"),
        counted(config.processors.len(), "processor"),
        counted(config.routes.len(), "route")
    )?;
    if !state.is_empty() {
        say!("  {state}")?;
    }
    if let Some(cluster) = &config.cluster {
        let (node, bucket) = (cluster.node_name(), &cluster.bucket);
        say!("  node {node} of the cluster with the bucket {bucket}: {}", cluster.servers.join(", "))?;
    }
    for source in &config.sources {
        say!("  source {}: {}", source.name, source.kind.as_type().address())?;
    }
    for route in &config.routes {
        let pattern = if route.pattern.is_some() { " by pattern" } else { "" };
        say!(
            "  route {}: {} to {}{pattern}",
            route.name,
            route.sources.join(", "),
            route.processors.join(", ")
        )?;
    }
    Ok(())
}

/// A number of things: `1 source`, `2 sources`.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
