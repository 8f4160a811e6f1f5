//! `event-router dlq`: works on dead letters, with or without a running router.
//!
//! `list` and `show` read the store beside its owner. `replay` and `drop` ask the running router
//! over its control socket. If none runs, this process takes ownership of the data directory, and
//! delivers with the same engine as the router.

mod change;
mod look;
mod selection;

use std::io;

use anyhow::bail;
use clap::{Args, Subcommand};
use uuid::Uuid;

use self::change::{Report, ask, drop_letters, replay_here};
use self::look::{list, show};
use self::selection::LetterSelection;
use super::state::{Located, StateArgs, time};
use super::{Exit, LogArgs, Stdout, allow_closed_pipe};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::state::{DeadLetterFilter, StoreReader};

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    List(DlqListArgs),
    Show(DlqShowArgs),
    Replay(ReplayArgs),
    Drop(DlqDropArgs),
}

/// List dead letters: first their number by destination and reason, then each by its number.
///
/// Works while the router runs. A dead letter is listed if all given filters match it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router dlq list --destination 'functions/*' --since 2h
  event-router dlq list --status 400 --json | jq -r .id")]
pub struct DlqListArgs {
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    filter: Filter,
    /// List at most N dead letters
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Show one dead letter with its event.
///
/// Works while the router runs. An event that could not be decoded is shown as vCenter sent it.
#[derive(Debug, Args)]
pub struct DlqShowArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Its number, or the id of its event
    which: Which,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Deliver dead letters again, and remove those that are delivered.
///
/// The running router delivers them along with other events. If no router runs, this command
/// delivers them itself, and needs the configuration. Each event keeps its id, and is tried
/// `retry.attempts` times. A letter that fails again stays, with the new reason; the exit code is
/// then 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router dlq replay 17 18
  event-router dlq replay --destination functions/tag-vm --since 1d
  event-router dlq replay --destination old-name --to new-name
  event-router dlq replay --all")]
pub struct ReplayArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Deliver to this destination instead of the one that refused the event, such as one that was
    /// renamed
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Drop dead letters; their events are lost.
///
/// A dead letter is dropped if all given filters match it. `dlq list` with the same filters shows
/// which ones.
#[derive(Debug, Args)]
pub struct DlqDropArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    filter: Filter,
    /// Select every dead letter; required if there is no filter
    #[arg(long)]
    all: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Filters of dead letters. All given ones must match.
#[derive(Debug, Args)]
pub struct Filter {
    /// Numbers of dead letters, or ids of their events
    which: Vec<Which>,
    /// Destination: `PROCESSOR`, `PROCESSOR/FUNCTION` or `PROCESSOR/BUS`; the namespace of a
    /// function may be left out; `*` matches any characters, `?` one
    #[arg(long, short, value_name = "GLOB")]
    destination: Option<String>,
    /// Name of the source
    #[arg(long, value_name = "GLOB")]
    source: Option<String>,
    /// Subject of the event, such as `VmPoweredOnEvent`
    #[arg(long, value_name = "GLOB")]
    subject: Option<String>,
    /// Text that the reason contains
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// HTTP status of the last attempt
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// Last tried at or after this time: `2025-11-22T06:00:00Z`, a local time such as `2025-11-22
    /// 06:00`, or an age such as `2h`
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Last tried before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
}

/// The number or the event id that names a dead letter on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Row(i64),
    Id(Uuid),
}

impl std::str::FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let row = text.parse().ok().filter(|row| *row > 0).map(Which::Row);
        row.or_else(|| Uuid::parse_str(text).ok().map(Which::Id))
            .ok_or("it is neither a number from `dlq list` nor an event id")
    }
}

impl Which {
    fn narrow(self, filter: DeadLetterFilter) -> DeadLetterFilter {
        match self {
            Which::Row(row) => DeadLetterFilter { row: Some(row), ..filter },
            Which::Id(id) => DeadLetterFilter { id: Some(id), ..filter },
        }
    }
}

impl Filter {
    /// One filter for each named dead letter, or a single one if none is named.
    fn filters(&self) -> Vec<DeadLetterFilter> {
        let filter = DeadLetterFilter {
            destination: self.destination.clone(),
            source: self.source.clone(),
            subject: self.subject.clone(),
            reason: self.reason.clone(),
            status: self.status,
            since_us: self.since,
            until_us: self.until,
            ..DeadLetterFilter::default()
        };
        if self.which.is_empty() {
            return vec![filter];
        }
        self.which.iter().map(|which| which.narrow(filter.clone())).collect()
    }
}

pub(super) fn run(command: &DlqCommand) -> anyhow::Result<Exit> {
    let state = match command {
        DlqCommand::List(DlqListArgs { state, .. }) | DlqCommand::Show(DlqShowArgs { state, .. }) => state,
        DlqCommand::Replay(ReplayArgs { change, .. }) | DlqCommand::Drop(DlqDropArgs { change }) => {
            &change.state
        }
    };
    let Located { dir, config } = match state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    match command {
        DlqCommand::List(args) => {
            let reader = StoreReader::open(&dir)?;
            let selection = LetterSelection::new(&args.filter, &reader, true)?;
            allow_closed_pipe(list(args, &selection, &reader, io::stdout().lock()))
        }
        DlqCommand::Show(args) => {
            allow_closed_pipe(show(args, &StoreReader::open(&dir)?, io::stdout().lock()))
        }
        DlqCommand::Replay(ReplayArgs { change: args, to, log }) => {
            args.check()?;
            let (selection, to) = {
                let reader = StoreReader::open(&dir)?;
                let to = to.as_deref().map(|to| selection::destination(to, &reader)).transpose()?;
                (LetterSelection::new(&args.filter, &reader, true)?, to)
            };
            let request = |filter| match &to {
                None => ControlRequest::Replay(filter),
                Some(to) => ControlRequest::ReplayTo { filter, destination: to.clone() },
            };
            let mut report = Report::new(args.json, Stdout::default());
            let missing = match ControlClient::connect(&dir)? {
                Some(_) => ask(&dir, &selection, request, |answer| match answer {
                    ControlAnswer::Replayed(replayed) => report.line(&replayed).map(|()| 1),
                    _ => Ok(0),
                })?,
                None => replay_here(&dir, config, &selection, to.as_deref(), *log, &mut report)?,
            };
            let was_interrupted = report.interrupted;
            let end = report.end()?;
            if !was_interrupted && !args.all {
                selection.check_found(missing, &dir)?;
            }
            Ok(end)
        }
        DlqCommand::Drop(DlqDropArgs { change: args }) => {
            args.check()?;
            let selection = LetterSelection::new(&args.filter, &StoreReader::open(&dir)?, false)?;
            drop_letters(&dir, args, &selection, Stdout::default())
        }
    }
}

impl ChangeArgs {
    /// Requires a filter or `--all`, so that a forgotten argument changes nothing.
    fn check(&self) -> anyhow::Result<()> {
        let any = self.filter.filters() == [DeadLetterFilter::default()];
        match (any, self.all) {
            (true, false) => {
                bail!("no dead letters selected; give their numbers, a filter or `--all`")
            }
            (false, true) => bail!("`--all` and a selection of dead letters exclude each other"),
            _ => Ok(()),
        }
    }
}
