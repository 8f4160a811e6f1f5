//! `dlq list` and `dlq show`: read the store, even while a router owns it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use serde_json::value::RawValue;

use super::selection::{LetterSelection, nothing_matches};
use super::{DlqListArgs, DlqShowArgs, Exit};
use crate::cli::state;
use crate::cli::table::table;
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::limits::{DLQ_GROUPS_MAX, DLQ_GROUPS_SHOWN};
use crate::outside::{cell, escaped, escaped_json};
use crate::state::{
    DeadLetterFacts, DeadLetterFilter, DeadLetterPayload, ListedDeadLetter, StoreReader, codec,
};

/// Passes every dead letter that matches a filter to `take`, at most `limit`. Reads page by page.
fn each(
    reader: &StoreReader,
    filters: &[DeadLetterFilter],
    limit: Option<u64>,
    mut take: impl FnMut(&ListedDeadLetter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    for filter in filters {
        let mut filter = filter.clone();
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

pub(super) fn list(
    args: &DlqListArgs,
    selection: &LetterSelection,
    reader: &StoreReader,
    mut out: impl io::Write,
) -> anyhow::Result<Exit> {
    let mut found = 0_u64;
    let filters = &selection.filters;
    if args.json {
        each(reader, filters, args.limit, |letter| {
            found += 1;
            Ok(writeln!(out, "{}", escaped_json(&listed_json(letter).to_string()))?)
        })?;
    } else {
        // The first pass counts and measures, so that only groups and widths are kept in memory.
        let (mut groups, mut widths) = (ReasonGroups::default(), HEAD.map(|word| word.chars().count()));
        each(reader, filters, args.limit, |letter| {
            found += 1;
            groups.add(&letter.facts);
            for (width, cell) in widths.iter_mut().zip(row(letter)) {
                *width = (*width).max(cell.chars().count());
            }
            Ok(())
        })?;
        if found > 0 {
            writeln!(out, "{}", groups.table())?;
            writeln!(out, "{}", aligned(HEAD.map(str::to_owned), widths))?;
        }
        each(reader, filters, args.limit, |letter| Ok(writeln!(out, "{}", aligned(row(letter), widths))?))?;
    }
    if found == 0 && args.limit != Some(0) {
        eprintln!("event-router: {}", nothing_matches(reader)?);
    }
    Ok(Exit::Done)
}

/// The columns of a dead letter.
fn row(letter: &ListedDeadLetter) -> [String; 8] {
    let facts = &letter.facts;
    [
        letter.row.to_string(),
        at(facts.last_us),
        cell(shown(&facts.destination)),
        cell(&facts.source),
        cell(shown(&facts.subject)),
        status(facts.status),
        facts.attempts.to_string(),
        escaped(&facts.reason).into_owned(),
    ]
}

/// A line of the table. The last column is not padded.
fn aligned(columns: [String; 8], widths: [usize; 8]) -> String {
    let mut line = String::new();
    for (column, width) in columns.iter().zip(&widths[..7]) {
        line += &format!("{column:width$}  ");
    }
    line + &columns[7]
}

fn status(status: Option<u16>) -> String {
    status.map_or_else(|| "-".into(), |status| status.to_string())
}

/// Numbers of dead letters by destination, status and reason.
#[derive(Default)]
struct ReasonGroups {
    /// At most [`DLQ_GROUPS_MAX`]: reasons may contain text of targets, which differs every time.
    groups: BTreeMap<(String, Option<u16>, String), ReasonGroup>,
    /// Letters that belong to no group.
    others: u64,
}

#[derive(Default)]
struct ReasonGroup {
    letters: u64,
    last_us: i64,
}

impl ReasonGroups {
    fn add(&mut self, facts: &DeadLetterFacts) {
        let key = (facts.destination.clone(), facts.status, facts.reason.clone());
        if self.groups.len() >= DLQ_GROUPS_MAX && !self.groups.contains_key(&key) {
            self.others += 1;
            return;
        }
        let group = self.groups.entry(key).or_default();
        group.letters += 1;
        group.last_us = group.last_us.max(facts.last_us);
    }

    /// The largest groups, at most [`DLQ_GROUPS_SHOWN`].
    fn table(&self) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.letters));
        let rest = groups.split_off(groups.len().min(DLQ_GROUPS_SHOWN));
        let rows: Vec<[String; 5]> = groups
            .into_iter()
            .map(|((destination, code, reason), group)| {
                let letters = group.letters.to_string();
                [letters, shown(destination).to_owned(), status(*code), at(group.last_us), reason.clone()]
            })
            .collect();
        let mut table = table(["LETTERS", "DESTINATION", "STATUS", "LAST TRY", "REASON"], &rows);
        let others = self.others + rest.iter().map(|(_, group)| group.letters).sum::<u64>();
        if others > 0 {
            table += &format!("{others} more with other reasons\n");
        }
        table
    }
}

/// A dash for an empty value: an undecodable event has no destination and subject.
pub(super) fn shown(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A time to the second, which is enough to find it in a log.
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

/// The event of a dead letter.
enum Kept {
    /// The CloudEvent, with the envelope's default settings.
    Event(Box<RawValue>),
    /// The text of an event that could not be decoded.
    Raw(String),
}

fn kept(payload: DeadLetterPayload) -> anyhow::Result<Kept> {
    let blob = match payload {
        DeadLetterPayload::Event(blob) => blob,
        DeadLetterPayload::Raw(bytes) => return Ok(Kept::Raw(String::from_utf8_lossy(&bytes).into_owned())),
    };
    let batch = codec::decode_blob(&blob)?;
    let envelope = Envelope::new(EnvelopeOptions::default())?;
    let mut event = Vec::new();
    if !batch.records.is_empty() {
        envelope.open(&batch).structured(0, &mut event);
    }
    Ok(Kept::Event(serde_json::from_slice(&event).context("cannot parse the stored event")?))
}

pub(super) fn show(
    args: &DlqShowArgs,
    reader: &StoreReader,
    mut out: impl io::Write,
) -> anyhow::Result<Exit> {
    let mut found = Vec::new();
    // The same event may be a dead letter of several destinations.
    each(reader, &[args.which.narrow(DeadLetterFilter::default())], None, |letter| {
        found.push(letter.row);
        Ok(())
    })?;
    if found.is_empty() {
        bail!("there is no such dead letter; `event-router dlq list` lists all of them");
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
            let text = escaped_json(&text);
            match &payload {
                // Insert its bytes unchanged: parsing could alter a number.
                Kept::Event(event) => {
                    writeln!(out, "{},\"event\":{}}}", &text[..text.len() - 1], escaped_json(event.get()))?
                }
                Kept::Raw(_) => writeln!(out, "{text}")?,
            }
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        let status = status(facts.status);
        let tried_for = Duration::from_micros(facts.last_us.abs_diff(facts.first_us));
        for (name, value) in [
            ("number", number.to_string()),
            ("destination", escaped(shown(&facts.destination)).into_owned()),
            ("source", escaped(&facts.source).into_owned()),
            ("id", facts.id.to_string()),
            ("subject", escaped(shown(&facts.subject)).into_owned()),
            ("reason", escaped(&facts.reason).into_owned()),
            ("status", status),
            ("tries", facts.attempts.to_string()),
            ("first try", state::shown(facts.first_us)),
            ("last try", format!("{}, {tried_for:.1?} after the first", state::shown(facts.last_us))),
        ] {
            writeln!(out, "{name:12} {value}")?;
        }
        match &payload {
            Kept::Event(event) => writeln!(out, "{:12} {}", "event", escaped_json(event.get()))?,
            Kept::Raw(text) => writeln!(out, "{:12} {}", "undecoded", escaped(text))?,
        }
    }
    Ok(Exit::Done)
}
