//! `event-router dlq`: dead letters of a router that runs, or of one that does not.
//!
//! Looking at them reads the store beside its owner. What changes them is asked of the running router over its control socket; where none runs, this
//! process takes the data directory for itself, and delivers with the same engine that the router has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::state::{self, Located, StateArgs, time};
use super::{End, LogArgs};
use crate::admin::control::{Answer, Client, Request};
use crate::config::{self, Config};
use crate::durable::{DeadLetterFacts, DeadLetterFilter, ListedDeadLetter, Payload, Reader, Store, codec};
use crate::event::{Envelope, EnvelopeOptions};
use crate::pipeline::replay::{Ended, Replayed};
use crate::router::Router;
use crate::telemetry::log;

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    List(ListArgs),
    Show(ShowArgs),
    Replay(ReplayArgs),
    Drop(DropArgs),
}

/// List dead letters, by number.
///
/// Works beside a running router. Every filter that is given must hold.

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router dlq list --destination 'functions/*' --since 2h
  event-router dlq list --status 400 --json | jq -r .id")]
pub struct ListArgs {
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
pub struct ShowArgs {
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
/// tried once; one that fails again stays, with the new reason. Exit code 1 if one stays.
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
pub struct DropArgs {
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
}

pub(super) fn run(command: &DlqCommand) -> anyhow::Result<End> {
    let state = match command {
        DlqCommand::List(ListArgs { state, .. }) | DlqCommand::Show(ShowArgs { state, .. }) => state,
        DlqCommand::Replay(ReplayArgs { change, .. }) | DlqCommand::Drop(DropArgs { change }) => {
            &change.state
        }
    };
    let Located { dir, config } = match state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let out = io::stdout().lock();
    match command {
        DlqCommand::List(args) => list(args, &Reader::open(&dir)?, out),
        DlqCommand::Show(args) => show(args, &Reader::open(&dir)?, out),
        DlqCommand::Replay(ReplayArgs { change: args, log }) => {
            args.check()?;
            let replayed = |report: &mut Report<_>| match Client::connect(&dir)? {
                Some(_) => ask(&dir, args, Request::Replay, |answer| match answer {
                    Answer::Replayed(replayed) => report.line(&replayed),
                    _ => Ok(()),
                }),
                None => replay_here(&dir, config, args, *log, report),
            };
            let mut report = Report { json: args.json, out, delivered: 0, left: 0 };
            replayed(&mut report)?;
            report.end()
        }
        DlqCommand::Drop(DropArgs { change: args }) => {
            args.check()?;
            drop_letters(&dir, args, out)
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

/// Asks the running router, once for each dead letter that is named.
fn ask(
    dir: &Path,
    args: &ChangeArgs,
    request: fn(DeadLetterFilter) -> Request,
    mut each: impl FnMut(Answer) -> io::Result<()>,
) -> anyhow::Result<()> {
    for filter in args.filter.filters() {
        let client = Client::connect(dir)?.context("the router stopped meanwhile")?;
        let mut written = Ok(());
        client.ask(&request(filter), |answer| {
            if written.is_ok() {
                written = each(answer);
            }
        })?;
        written?;
    }
    Ok(())
}

fn drop_letters(dir: &Path, args: &ChangeArgs, mut out: impl io::Write) -> anyhow::Result<End> {
    let mut dropped = 0;
    if Client::connect(dir)?.is_some() {
        ask(dir, args, Request::Drop, |answer| {
            if let Answer::Dropped(letters) = answer {
                dropped += letters;
            }
            Ok(())
        })?;
    } else {
        // A mistyped path is not made a data directory.
        drop(Reader::open(dir)?);
        let mut store = Store::open(dir)?;
        for filter in args.filter.filters() {
            dropped += store.remove_dead_letters(&filter)?;
        }
        store.close()?;
    }
    match args.json {
        true => writeln!(out, "{}", json!({ "dropped": dropped }))?,
        false => writeln!(out, "{dropped} dropped")?,
    }
    Ok(End::Done)
}

/// Delivers with the processors of the configuration, since no router runs.
fn replay_here(
    dir: &Path,
    config: Option<Config>,
    args: &ChangeArgs,
    flags: LogArgs,
    report: &mut Report<impl io::Write>,
) -> anyhow::Result<()> {
    let Some(mut config) = config else {
        bail!(
            "no router runs on this data directory; name its configuration with `--config`, so that its processors can be reached"
        );
    };
    // What it logs is for a person who watches a command, and not on stdout.
    config.log = config::Log { level: config::LogLevel::Warn, ..flags.over(&config.log) };
    config.log.invocations = false;
    log::install(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    runtime.block_on(async {
        drop(Reader::open(dir)?);
        let router = Router::start_without_sources(Arc::new(config)).await?;
        let letters = router.dead_letters();
        let mut written = Ok(());
        for filter in args.filter.filters() {
            let replay = letters.replay(&filter, |replayed| {
                written = report.line(&replayed);
                written.is_ok()
            });
            tokio::select! {
                done = replay => done?,
                // What is on its way is delivered or stays a dead letter.
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    break;
                }
            }
        }
        drop(letters);
        router.stop().await?;
        Ok(written?)
    })
}

/// Tells of replays as they end.
struct Report<W> {
    json: bool,
    out: W,
    delivered: u64,
    /// Still dead letters.
    left: u64,
}

impl<W: io::Write> Report<W> {
    fn line(&mut self, replayed: &Replayed) -> io::Result<()> {
        match replayed.ended {
            Ended::Delivered => self.delivered += 1,
            _ => self.left += 1,
        }
        if self.json {
            return writeln!(self.out, "{}", json!(replayed));
        }
        let Replayed { letter, destination, ended } = replayed;
        let why = match ended {
            // Only what needs a look has a line.
            Ended::Delivered => return Ok(()),
            Ended::Failed { reason } => format!("failed again: {reason}"),
            Ended::PutOff => "not tried: the target takes no events now; replay it later".to_owned(),
            Ended::UnderWay => "is being replayed already".to_owned(),
            Ended::NotConfigured => {
                "its processor is not in the configuration; drop it, or name the processor as before"
                    .to_owned()
            }
            Ended::Undecodable { reason } => format!("cannot be delivered: {reason}"),
            Ended::Gone => "was dropped meanwhile".to_owned(),
        };
        writeln!(self.out, "{letter} {}: {}", shown(destination), plain(&why))
    }

    fn end(mut self) -> anyhow::Result<End> {
        if !self.json {
            writeln!(self.out, "{} delivered, {} still dead letters", self.delivered, self.left)?;
        }
        Ok(if self.left == 0 { End::Done } else { End::Failed })
    }
}

/// Every dead letter that one of the filters is for, a page at a time.
fn each(
    reader: &Reader,
    filters: Vec<DeadLetterFilter>,
    limit: Option<u64>,
    mut take: impl FnMut(&ListedDeadLetter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    for mut filter in filters {
        loop {
            filter.limit = usize::try_from(left).ok();
            let page = reader.dead_letters(&filter)?;
            let Some(last) = page.last() else { break };
            filter.after_row = last.row;
            left -= page.len() as u64;
            page.iter().try_for_each(&mut take)?;
        }
    }
    Ok(())
}

const HEAD: [&str; 8] =
    ["NUMBER", "LAST TRY", "DESTINATION", "SOURCE", "SUBJECT", "STATUS", "TRIES", "REASON"];
/// Widths of all columns but the last; what is longer moves the rest of its line.
const WIDTHS: [usize; 7] = [7, 20, 24, 12, 32, 6, 5];

fn list(args: &ListArgs, reader: &Reader, mut out: impl io::Write) -> anyhow::Result<End> {
    if !args.json {
        writeln!(out, "{}", row(HEAD.map(str::to_owned)))?;
    }
    each(reader, args.filter.filters(), args.limit, |letter| {
        let facts = &letter.facts;
        if args.json {
            writeln!(out, "{}", listed_json(letter))?;
            return Ok(());
        }
        let line = row([
            letter.row.to_string(),
            at(facts.last_us),
            shown(&facts.destination).to_owned(),
            facts.source.clone(),
            shown(&facts.subject).to_owned(),
            facts.status.map_or_else(|| "-".into(), |status| status.to_string()),
            facts.attempts.to_string(),
            plain(&facts.reason),
        ]);
        Ok(writeln!(out, "{line}")?)
    })?;
    Ok(End::Done)
}

fn row(columns: [String; 8]) -> String {
    let mut line = String::new();
    for (column, width) in columns.iter().zip(WIDTHS) {
        line += &format!("{column:width$}  ");
    }
    line + &columns[7]
}

/// What an unreadable page's events do not have.
fn shown(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// On one line, and without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Seconds are enough to look for it in a log.
fn at(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map_or_else(|_| us.to_string(), |at| at.round(jiff::Unit::Second).unwrap_or(at).to_string())
}

fn facts_json(row: i64, facts: &DeadLetterFacts) -> serde_json::Value {
    json!({
        "number": row,
        "destination": facts.destination,
        "source": facts.source,
        "id": facts.id.to_string(),
        "subject": facts.subject,
        "reason": facts.reason,
        "status": facts.status,
        "attempts": facts.attempts,
        "firstTry": state::shown(facts.first_us),
        "lastTry": state::shown(facts.last_us),
    })
}

fn listed_json(letter: &ListedDeadLetter) -> serde_json::Value {
    let mut value = facts_json(letter.row, &letter.facts);
    value["decoded"] = json!(!letter.is_raw);
    value["bytes"] = json!(letter.bytes);
    value
}

/// What a dead letter keeps of its event.
enum Kept {
    /// The CloudEvent, with the envelope's default settings.
    Event(Box<RawValue>),
    /// What could not be decoded, as far as it is text.
    Raw(String),
}

fn kept(payload: Payload) -> anyhow::Result<Kept> {
    let blob = match payload {
        Payload::Event(blob) => blob,
        Payload::Raw(bytes) => return Ok(Kept::Raw(String::from_utf8_lossy(&bytes).into_owned())),
    };
    let batch = codec::decode_blob(&blob)?;
    let envelope = Envelope::new(EnvelopeOptions::default())?;
    let mut event = Vec::new();
    if !batch.records.is_empty() {
        envelope.open(&batch).structured(0, &mut event);
    }
    Ok(Kept::Event(serde_json::from_slice(&event).context("the event is no JSON")?))
}

fn show(args: &ShowArgs, reader: &Reader, mut out: impl io::Write) -> anyhow::Result<End> {
    let mut found = Vec::new();
    // The same event may be a dead letter of several destinations.
    each(reader, vec![args.which.narrow(DeadLetterFilter::default())], None, |letter| {
        found.push(letter.row);
        Ok(())
    })?;
    if found.is_empty() {
        bail!("there is no such dead letter; `event-router dlq list` has them all");
    }
    for (at, number) in found.iter().enumerate() {
        let Some(letter) = reader.dead_letter(*number)? else { continue };
        let facts = &letter.facts;
        let payload = kept(letter.payload.clone())?;
        if args.json {
            let mut value = facts_json(*number, facts);
            if let Kept::Raw(text) = &payload {
                value["raw"] = json!(text);
            }
            let text = value.to_string();
            match &payload {
                // As it is, so that no number changes on the way.
                Kept::Event(event) => {
                    writeln!(out, "{},\"event\":{}}}", &text[..text.len() - 1], event.get())?
                }
                Kept::Raw(_) => writeln!(out, "{text}")?,
            }
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        let status = facts.status.map_or_else(|| "-".into(), |status| status.to_string());
        let tried_for = Duration::from_micros(facts.last_us.abs_diff(facts.first_us));
        for (name, value) in [
            ("number", number.to_string()),
            ("destination", shown(&facts.destination).to_owned()),
            ("source", facts.source.clone()),
            ("id", facts.id.to_string()),
            ("subject", shown(&facts.subject).to_owned()),
            ("reason", plain(&facts.reason)),
            ("status", status),
            ("tries", facts.attempts.to_string()),
            ("first try", state::shown(facts.first_us)),
            ("last try", format!("{}, {tried_for:.1?} after the first", state::shown(facts.last_us))),
        ] {
            writeln!(out, "{name:12} {value}")?;
        }
        match &payload {
            Kept::Event(event) => writeln!(out, "{:12} {}", "event", event.get())?,
            Kept::Raw(text) => writeln!(out, "{:12} {}", "undecoded", plain(text))?,
        }
    }
    Ok(End::Done)
}
