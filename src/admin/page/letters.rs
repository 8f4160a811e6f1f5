//! The screen of the dead letters: groups, letters, one event; replay and drop.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::pattern::indented;
use crate::admin::control::{ControlAnswer, ControlRequest, Orders, carry_out};
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::limits::{
    DLQ_GROUPS_MAX, PAGE_LETTERS_CHANGED_MAX, PAGE_LETTERS_READ_MAX, PAGE_ROWS_MAX, REASON_BYTES_MAX,
    SAMPLE_BYTES_MAX,
};
use crate::outside;
use crate::pipeline::replay::{Ended, ReplayError};
use crate::redact::redact;
use crate::state::{
    DeadLetterFilter, DeadLetterPayload, ListedDeadLetter, StoredDeadLetter, codec, shown_destination,
};

/// The letters that a screen is about, as its address and its forms write them. Empty fields select
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Chosen {
    pub destination: String,
    pub status: String,
    pub reason: String,
    pub number: String,
}

/// The letters of a screen.
#[derive(Debug, Default, Serialize)]
pub(super) struct Letters {
    pub found: usize,
    /// True if there are more than were read.
    pub is_cut: bool,
    /// The largest first.
    pub groups: Vec<LetterGroup>,
    /// The latest first.
    pub letters: Vec<LetterRow>,
}

#[derive(Debug, Serialize)]
pub(super) struct LetterGroup {
    letters: u64,
    destination: String,
    status: Option<u16>,
    reason: String,
    last: String,
    /// The address of the screen of this group.
    href: String,
}

#[derive(Debug, Serialize)]
pub(super) struct LetterRow {
    number: i64,
    subject: String,
    source: String,
    destination: String,
    attempts: u32,
    last: String,
}

impl Chosen {
    /// Reads the fields of a query or form.
    pub fn of(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        Chosen {
            destination: field("destination"),
            status: field("status"),
            reason: field("reason"),
            number: field("number"),
        }
    }

    pub fn is_all(&self) -> bool {
        *self == Chosen::default()
    }

    /// The filter. Text that is no number selects nothing.
    pub fn filter(&self) -> DeadLetterFilter {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        // An undecodable event has no destination and is shown with `-`.
        let destination = given(&self.destination).map(|name| if name == "-" { String::new() } else { name });
        DeadLetterFilter {
            destination,
            reason: given(&self.reason),
            status: given(&self.status).map(|status| status.parse().unwrap_or(0)),
            row: given(&self.number).map(|number| number.parse().unwrap_or(0)),
            ..DeadLetterFilter::default()
        }
    }
}

/// Reads the letters that were chosen.
pub(super) async fn read(orders: &Orders, chosen: &Chosen) -> Result<Letters, ReplayError> {
    let mut filter = chosen.filter();
    let mut groups: BTreeMap<(String, Option<u16>, String), (u64, i64)> = BTreeMap::new();
    let mut latest: VecDeque<ListedDeadLetter> = VecDeque::new();
    let mut letters = Letters::default();
    loop {
        let page = orders.letters.list(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.advance(last.row, page.len());
        for letter in page {
            letters.found += 1;
            let facts = &letter.facts;
            let key = (facts.destination.clone(), facts.status, facts.reason.clone());
            if groups.len() < DLQ_GROUPS_MAX || groups.contains_key(&key) {
                let group = groups.entry(key).or_default();
                *group = (group.0 + 1, group.1.max(facts.last_us));
            }
            if latest.len() == PAGE_ROWS_MAX {
                latest.pop_front();
            }
            latest.push_back(letter);
        }
        if letters.found >= PAGE_LETTERS_READ_MAX {
            letters.is_cut = true;
            break;
        }
    }
    letters.groups = groups.into_iter().map(|(key, counts)| group(key, counts)).collect();
    letters.groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
    letters.groups.truncate(PAGE_ROWS_MAX);
    letters.letters = latest.iter().rev().map(row).collect();
    Ok(letters)
}

fn group(
    (destination, status, reason): (String, Option<u16>, String),
    (letters, last_us): (u64, i64),
) -> LetterGroup {
    let destination = shown_destination(&destination);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("destination", destination);
    if let Some(status) = status {
        query.append_pair("status", &status.to_string());
    }
    query.append_pair("reason", &reason);
    LetterGroup {
        letters,
        destination: outside::escaped(destination).into_owned(),
        status,
        reason: outside::text(&reason, REASON_BYTES_MAX),
        last: time(last_us),
        href: format!("/dead-letters?{}", query.finish()),
    }
}

fn row(letter: &ListedDeadLetter) -> LetterRow {
    let facts = &letter.facts;
    LetterRow {
        number: letter.row,
        subject: outside::text(&facts.subject, REASON_BYTES_MAX),
        source: facts.source.clone(),
        destination: outside::escaped(shown_destination(&facts.destination)).into_owned(),
        attempts: facts.attempts,
        last: time(facts.last_us),
    }
}

/// The event of a letter, for people.
pub(super) fn event(letter: &StoredDeadLetter) -> String {
    let blob = match &letter.payload {
        DeadLetterPayload::Event(blob) => blob,
        DeadLetterPayload::Raw(bytes) => return outside::bytes(bytes, SAMPLE_BYTES_MAX),
    };
    let parsed = codec::decode_blob(blob).map(|batch| {
        let envelope = Envelope::new(EnvelopeOptions::default()).expect("the default has no extension");
        let mut event = Vec::new();
        if !batch.records.is_empty() {
            envelope.open(&batch).structured(0, &mut event);
        }
        let text = redact(&String::from_utf8_lossy(&event));
        serde_json::from_str::<Value>(&text).map_or(text, |event| indented(&event))
    });
    parsed.unwrap_or_else(|error| outside::display(error, REASON_BYTES_MAX))
}

/// A change of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterChange {
    Replay,
    Drop,
}

/// Counts the letters that a change of the chosen ones concerns.
pub(super) fn changed(letters: &Letters) -> usize {
    letters.found.min(PAGE_LETTERS_CHANGED_MAX)
}

/// Carries out a change of the chosen letters, and says in words how it ended. True if all went
/// well.
pub(super) async fn change(orders: &Orders, change: LetterChange, chosen: &Chosen) -> (bool, String) {
    let filter = DeadLetterFilter { limit: Some(PAGE_LETTERS_CHANGED_MAX), ..chosen.filter() };
    let request = match change {
        LetterChange::Replay => ControlRequest::Replay(filter),
        LetterChange::Drop => ControlRequest::Drop(filter),
    };
    // Unbounded is safe: there is one answer for each of a bounded number of letters.
    let (answers, mut ended) = mpsc::unbounded_channel();
    let done = carry_out(request, orders, &answers).await;
    drop(answers);
    let (mut delivered, mut dropped, mut failed, mut reason) = (0_u64, 0, 0_u64, None);
    while let Some(answer) = ended.recv().await {
        match answer {
            ControlAnswer::Replayed(replayed) if replayed.ended == Ended::Delivered => delivered += 1,
            ControlAnswer::Replayed(replayed) => {
                failed += 1;
                reason.get_or_insert_with(|| in_words(&replayed.ended));
            }
            ControlAnswer::Dropped(letters) => dropped += letters,
            _ => {}
        }
    }
    if let Err(error) = done {
        return (false, format!("This failed: {}", outside::text(&error, REASON_BYTES_MAX)));
    }
    match change {
        LetterChange::Drop => (true, format!("Dropped {dropped}.")),
        LetterChange::Replay if failed == 0 => {
            (true, format!("Replayed {delivered}; the targets accepted all."))
        }
        LetterChange::Replay => {
            let reason = reason.unwrap_or_default();
            (false, format!("Replayed: {delivered} were accepted, {failed} were not. The first: {reason}"))
        }
    }
}

fn in_words(ended: &Ended) -> String {
    match ended {
        Ended::Delivered => "it was delivered".to_owned(),
        Ended::Failed { reason } => reason.clone(),
        Ended::PutOff => "its target takes nothing at present".to_owned(),
        Ended::UnderWay => "another replay of it has not ended".to_owned(),
        Ended::NotConfigured => "its destination is no longer configured".to_owned(),
        Ended::Undecodable { reason } => format!("it cannot be decoded: {reason}"),
        Ended::Gone => "it is gone".to_owned(),
    }
}

/// A time to the second.
fn time(us: i64) -> String {
    jiff::Timestamp::from_second(us.div_euclid(1_000_000))
        .map_or_else(|_| "–".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_selects_nothing() {
        let chosen = Chosen { status: "many".into(), number: "x".into(), ..Chosen::default() };
        let filter = chosen.filter();
        assert_eq!((filter.status, filter.row, filter.destination), (Some(0), Some(0), None));
        assert!(!chosen.is_all() && Chosen::default().is_all());
    }

    #[test]
    fn the_address_of_a_group_selects_that_group() {
        let key = ("fn/a b&c".to_owned(), Some(422), "bad = \"x\"".to_owned());
        let group = group(key, (3, 1_700_000_000_000_000));
        let query = group.href.strip_prefix("/dead-letters?").expect("its path");
        let fields = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let filter = Chosen::of(&fields).filter();
        assert_eq!(filter.destination.as_deref(), Some("fn/a b&c"));
        assert_eq!((filter.status, filter.reason.as_deref()), (Some(422), Some("bad = \"x\"")));
    }
}
