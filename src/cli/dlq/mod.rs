//! `event-router dlq`: dead letters of a router that runs, or of one that does not.
//!
//! Looking at them reads the store beside its owner. What changes them is asked of the running router over its control socket; where none runs, this
//! process takes the data directory for itself, and delivers with the same engine that the router has.

mod change;
mod look;

use std::io;

use anyhow::bail;
use clap::{Args, Subcommand};
use uuid::Uuid;

use self::change::{Report, ask, drop_letters, replay_here};
use self::look::{list, show};
use super::state::{Located, StateArgs, time};
use super::{Exit, LogArgs, Stdout, enough};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::state::{DeadLetterFilter, StoreReader};

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    List(DlqListArgs),
    Show(DlqShowArgs),
    Replay(ReplayArgs),
    Drop(DlqDropArgs),
}

/// List dead letters, by number.
///
/// Works beside a running router. Every filter that is given must hold.

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router dlq list --destination 'functions/*' --since 2h
  event-router dlq list --status 400 --json | jq -r .id")]
pub struct DlqListArgs {
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Show one dead letter with its event.
///
/// Works beside a running router. What could not be decoded is shown as vCenter sent it.
#[derive(Debug, Args)]
pub struct DlqShowArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Its number, or the id of its event
    which: Which,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Deliver dead letters once more; those that are delivered are dead letters no longer.
///
/// The running router does it, between its own deliveries; where none runs this command does, and needs the configuration for it. An event keeps its id. Each is
/// tried as often as `retry.attempts` says; one that fails again stays, with the new reason. Exit code 1 if one stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router dlq replay 17 18
  event-router dlq replay --destination functions/tag-vm --since 1d
  event-router dlq replay --all")]
pub struct ReplayArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Drop dead letters: their events are gone.
///
/// Each filter that is given must hold; `dlq list` with the same ones shows what would go.
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
    /// Every dead letter; needed where nothing else says which
    #[arg(long)]
    all: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Which dead letters: those for which everything that is given holds.
#[derive(Debug, Args)]
pub struct Filter {
    /// Their numbers, or the ids of their events
    which: Vec<Which>,
    /// `PROCESSOR`, or `PROCESSOR/FUNCTION`; `*` stands for any characters, `?` for one
    #[arg(long, short, value_name = "GLOB")]
    destination: Option<String>,
    /// The source's name
    #[arg(long, value_name = "GLOB")]
    source: Option<String>,
    /// The event's subject, `VmPoweredOnEvent`
    #[arg(long, value_name = "GLOB")]
    subject: Option<String>,
    /// Part of the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The HTTP status
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// Last tried at or after this: `2025-11-22T06:00:00Z`, or `2h` ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Last tried before this
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
}

/// One dead letter as a person names it.
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
            .ok_or("is neither a number of `dlq list` nor an event's id")
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
    /// One filter for each dead letter that is named, or one for all.
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

    /// Whoever names dead letters wants to know that one is not there: a mistyped number is no success.
    fn all_found(&self, missing: usize) -> anyhow::Result<()> {
        let named = self.which.len();
        if named > 0 && missing > 0 {
            bail!(
                "{missing} of the {named} dead letters that were named are not there; `event-router dlq list` has them all"
            );
        }
        Ok(())
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
        DlqCommand::List(args) => enough(list(args, &StoreReader::open(&dir)?, io::stdout().lock())),
        DlqCommand::Show(args) => enough(show(args, &StoreReader::open(&dir)?, io::stdout().lock())),
        DlqCommand::Replay(ReplayArgs { change: args, log }) => {
            args.check()?;
            let replayed = |report: &mut Report<_>| match ControlClient::connect(&dir)? {
                Some(_) => ask(&dir, args, ControlRequest::Replay, |answer| match answer {
                    ControlAnswer::Replayed(replayed) => report.line(&replayed).map(|()| 1),
                    _ => Ok(0),
                }),
                None => replay_here(&dir, config, args, *log, report),
            };
            let mut report = Report::new(args.json, Stdout::default());
            let missing = replayed(&mut report)?;
            let end = report.end()?;
            args.filter.all_found(missing)?;
            Ok(end)
        }
        DlqCommand::Drop(DlqDropArgs { change: args }) => {
            args.check()?;
            drop_letters(&dir, args, Stdout::default())
        }
    }
}

impl ChangeArgs {
    /// Nothing is changed by having forgotten to say what.
    fn check(&self) -> anyhow::Result<()> {
        let any = self.filter.filters() == [DeadLetterFilter::default()];
        match (any, self.all) {
            (true, false) => {
                bail!("say which dead letters (`event-router dlq list` has their numbers), or `--all`")
            }
            (false, true) => bail!("`--all` and a choice of dead letters exclude each other"),
            _ => Ok(()),
        }
    }
}
