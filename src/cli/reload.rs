//! `event-router reload`: asks the running router to apply its configuration file again.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::state::StateArgs;
use super::{Exit, complain, print};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest, ReloadWhat};
use crate::settings::changes::Changes;

/// Apply the changed configuration to the running router.
///
/// The router reads its own file again and checks it. An invalid file changes nothing. Otherwise
/// the router applies the difference: parts that did not change keep their connections, positions
/// and queues. The answer lists every part, with those that need a restart. SIGHUP does the same.
///
/// Exit codes: 0 applied, 1 no running router, or the router could not apply it, 2 invalid
/// configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router reload --config F --dry-run
  event-router reload --data-dir /var/lib/event-router")]
pub struct ReloadArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Only list what would change
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReloadArgs) -> anyhow::Result<Exit> {
    let located = match args.state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let what = if args.dry_run { ReloadWhat::DryRun } else { ReloadWhat::Apply };
    let Some(changes) = ask(&located.dir, what)? else { return Ok(Exit::Usage) };
    match args.json {
        true => say!("{}", serde_json::to_string(&changes)?)?,
        false => print(changes.to_string().as_bytes())?,
    }
    Ok(Exit::Done)
}

/// Asks the router that runs on the data directory `dir`. Returns `None` after it has printed the
/// errors of the configuration.
pub(super) fn ask(dir: &Path, what: ReloadWhat) -> anyhow::Result<Option<Changes>> {
    let client = ControlClient::connect(dir)?
        .with_context(|| format!("no router runs on the data directory {}", dir.display()))?;
    let mut answered = None;
    client.ask(&ControlRequest::Reload(what), |answer| match answer {
        ControlAnswer::Reloaded(changes) => answered = Some(Ok(changes)),
        ControlAnswer::Invalid(errors) => answered = Some(Err(errors)),
        _ => {}
    })?;
    match answered.context("the router gave no answer; use the command of its own release")? {
        Ok(changes) => Ok(Some(changes)),
        Err(errors) => {
            complain(&errors);
            Ok(None)
        }
    }
}
