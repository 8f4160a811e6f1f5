//! Parse: decodes the bytes of a page into records and rendered JSON, and enriches them.
//!
//! Pages do not depend on each other here, so the stage runs on several threads. `order` restores
//! the order of the pages by their number.
//!
//! A page that cannot be decoded for its characters is repaired. Any other is reported to its
//! source, which reads it again in halves. An event that cannot be decoded on its own arrives as
//! poison, and becomes a dead letter. So does a damaged row of an inbox. A row of a newer release
//! waits for that release: it ends its reading, so no later row passes it.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Record, SourceInfo, Span};
use crate::memory::Permit;
use crate::source::{Page, PageFacts, PageForm, Verdict, Wire};
use crate::state::codec::CodecError;
use crate::state::inbox;
use vsphere::decode::repair::repair;
use vsphere::decode::salvage::{self, Broken, created_us};
use vsphere::decode::{Quota, decode_within};
use vsphere::{DecodeError, Decoded, EventRecord};

/// A page after the decoder. `order` waits for these in order of `number`.
#[derive(Debug)]
pub struct Parsed {
    pub source: Arc<SourceInfo>,
    pub number: u64,
    /// As in [`Page`].
    pub reading: Option<u64>,
    pub content: Content,
}

/// Content of a decoded page.
#[derive(Debug)]
pub enum Content {
    /// Events of the page, not yet ordered.
    Events(Batch),
    /// The page could not be decoded. Its source reads it again in halves.
    Unreadable(DecodeError),
    /// A single event that could not be decoded in any reading.
    Poison(Poison),
}

/// An undecodable event, kept with its raw bytes as a dead letter.
#[derive(Debug)]
pub struct Poison {
    /// One record whose raw bytes are the event.
    pub batch: Batch,
    pub reason: String,
    /// Set if the bytes are a row of an inbox: its number. The letter stands for all its events.
    pub row: Option<i64>,
}

/// Counts of the decoder, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseCounts {
    pub events: usize,
    pub unknown_classes: usize,
    pub misfits: usize,
    /// Characters that XML or UTF-8 forbid and that were replaced.
    pub replaced_characters: usize,
    pub bytes: usize,
}

/// The parse stage.
#[derive(Debug, Default)]
pub struct Parse {
    /// True if a destination wants events in the form in which they were sent.
    pub keep_sent: bool,
}

impl Parse {
    /// Decodes `page` and reports the result to its source.
    pub fn step(&mut self, page: Page) -> (Parsed, ParseCounts) {
        let Page { source, number, reading, produced_us, form, mut body, poison, mut permit, verdicts } =
            page;
        let mut counts = ParseCounts { bytes: body.len(), ..ParseCounts::default() };
        if let Some(reason) = poison {
            let PageForm::Vsphere(wire) = form else {
                unreachable!("the decoder finds a damaged row of an inbox itself")
            };
            let (raw, created_us) = (Span::new(0, body.len()), created_us(wire, &body));
            let records = vec![Record { raw, created_us, ..Record::default() }];
            let batch = Batch {
                produced_us,
                raw_page: body,
                permit,
                ..Batch::new(Arc::clone(&source), number, Vec::new(), records)
            };
            let facts = PageFacts { events: 1, ..PageFacts::default() };
            // A source that has ended does not need the verdict.
            let _ = verdicts.send(Verdict { page: number, found: Ok(facts), broken: Vec::new() });
            let content = Content::Poison(Poison { batch, reason, row: None });
            return (Parsed { source, number, reading, content }, counts);
        }
        let (wire, salvages) = match form {
            PageForm::Vsphere(wire) => (wire, false),
            PageForm::Salvage(wire) => (wire, true),
            PageForm::Inbox { row } => {
                let (content, found, broken) = inbox_row(&source, number, row, body, permit);
                if let Content::Events(batch) = &content {
                    counts.events = batch.records.len();
                }
                let _ = verdicts.send(Verdict { page: number, found, broken });
                return (Parsed { source, number, reading, content }, counts);
            }
        };
        let mut decoded = Decoded::default();
        let held = body.len();
        let mut page = PageDecoder { wire, body, held, permit: &mut permit, decoded: &mut decoded };
        let found =
            if salvages { Ok(page.salvage()) } else { page.whole().map(|places| (Vec::new(), places)) };
        body = page.body;
        let (broken, replaced_characters) = match found {
            Ok(found) => found,
            Err(error) => {
                let found = Err(error.clone());
                let _ = verdicts.send(Verdict { page: number, found, broken: Vec::new() });
                return (Parsed { source, number, reading, content: Content::Unreadable(error) }, counts);
            }
        };
        counts.replaced_characters = replaced_characters;
        counts.events = decoded.records.len();
        counts.unknown_classes = decoded.unknown_classes;
        counts.misfits = decoded.misfits;
        let facts = facts(&decoded.records);
        let mut batch =
            Batch { produced_us, raw_page: body, ..Batch::decoded(Arc::clone(&source), number, decoded) };
        super::enrich::Enrich.step(&mut batch);
        if !self.keep_sent {
            batch.raw_page = Bytes::new();
        }
        permit.resize(batch.size());
        batch.permit = permit;
        let _ = verdicts.send(Verdict { page: number, found: Ok(facts), broken });
        (Parsed { source, number, reading, content: Content::Events(batch) }, counts)
    }
}

/// Decodes a row of an inbox. Also returns the verdict: the facts, and the row itself if it is
/// damaged.
fn inbox_row(
    source: &Arc<SourceInfo>,
    number: u64,
    row: i64,
    body: Bytes,
    mut permit: Permit,
) -> (Content, Result<PageFacts, DecodeError>, Vec<Broken>) {
    let error = match inbox::batch(source, number, row, &body) {
        Ok(mut batch) => {
            permit.resize(batch.size());
            batch.permit = permit;
            let facts = PageFacts { events: batch.records.len(), ..PageFacts::default() };
            return (Content::Events(batch), Ok(facts), Vec::new());
        }
        Err(error) => error,
    };
    let reason = format!("row {row} of the inbox: {error}");
    let failed = DecodeError { offset: 0, reason: reason.clone() };
    if let CodecError::Newer(_) = error {
        return (Content::Unreadable(failed.clone()), Err(failed), Vec::new());
    }
    let broken = vec![Broken { range: 0..body.len(), error: failed }];
    let records = vec![Record { raw: Span::new(0, body.len()), ..Record::default() }];
    let mut batch = Batch { raw_page: body, ..Batch::new(Arc::clone(source), number, Vec::new(), records) };
    permit.resize(batch.size());
    batch.permit = permit;
    let facts = PageFacts { events: 1, ..PageFacts::default() };
    (Content::Poison(Poison { batch, reason, row: Some(row) }), Ok(facts), broken)
}

/// A page, and the memory that decoding it may take.
struct PageDecoder<'a> {
    wire: Wire,
    body: Bytes,
    /// Bytes of the page, and of its repaired copy.
    held: usize,
    permit: &'a mut Permit,
    decoded: &'a mut Decoded,
}

impl PageDecoder<'_> {
    /// Decodes the page as a whole, and returns the number of characters that it replaced.
    fn whole(&mut self) -> Result<usize, DecodeError> {
        let Err(error) = self.decode(decode_within) else { return Ok(0) };
        let sent = self.body.clone();
        let Some(places) = self.repair() else { return Err(error) };
        if self.decode(decode_within).is_ok() && self.has_identities() {
            return Ok(places);
        }
        self.body = sent;
        Err(error)
    }

    /// Decodes the events of the page one by one. Returns the broken ones, and the number of
    /// characters that it replaced.
    fn salvage(&mut self) -> (Vec<Broken>, usize) {
        let sent = self.body.clone();
        if let Some(places) = self.repair() {
            let broken = self.decode(salvage::decode);
            if self.has_identities() {
                return (broken, places);
            }
            self.body = sent;
        }
        (self.decode(salvage::decode), 0)
    }

    /// Decodes with `decode`, which is given what the permit covers beyond the page.
    fn decode<R>(&mut self, decode: impl FnOnce(Wire, &[u8], &mut Quota<'_>, &mut Decoded) -> R) -> R {
        let (held, granted) = (self.held, self.permit.bytes());
        let mut charge = |bytes| self.permit.resize(held + bytes);
        let mut quota = Quota::charged(self.body.len(), granted.saturating_sub(held), &mut charge);
        decode(self.wire, &self.body, &mut quota, self.decoded)
    }

    /// Replaces characters that XML or UTF-8 forbid, and returns their number; `None` if there are
    /// none.
    fn repair(&mut self) -> Option<usize> {
        let granted = self.permit.bytes();
        let repaired = repair(self.wire, &self.body, |bytes| self.permit.resize(granted + bytes))?;
        self.body = repaired.bytes.into();
        self.held += self.body.len();
        Some(repaired.places)
    }

    /// Returns true if every event has a key and a time. A wrong character in one of these would
    /// give the event another id; perhaps the next reading is better.
    fn has_identities(&self) -> bool {
        self.decoded.records.iter().all(|record| record.key.is_some() && record.created_us.is_some())
    }
}

fn facts(records: &[EventRecord]) -> PageFacts {
    PageFacts {
        events: records.len(),
        newest_us: records.iter().filter_map(|record| record.created_us).max(),
        last_key: records.last().and_then(|record| record.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::source;
    use crate::limits::batch_bytes;
    use crate::memory::Budget;

    fn page(form: PageForm, body: Bytes, permit: Permit) -> Page {
        let (verdicts, _) = tokio::sync::mpsc::unbounded_channel();
        Page {
            source: source(),
            number: 0,
            reading: None,
            produced_us: 0,
            form,
            body,
            poison: None,
            permit,
            verdicts,
        }
    }

    /// The decoder charges for a record what it takes here.
    #[test]
    fn a_record_takes_no_more_than_is_charged_for_it() {
        assert!(size_of::<EventRecord>() + size_of::<Record>() <= vsphere::limits::RECORD_BYTES);
    }

    /// A source reserves `batch_bytes` for a page before it is decoded.
    #[test]
    fn a_usual_page_takes_no_more_than_was_reserved_for_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/page1000.xml");
        let body = Bytes::from(std::fs::read(path).expect("a fixture"));
        let reserved = batch_bytes(body.len());
        let page = page(PageForm::Vsphere(Wire::Soap), body, Budget::new(1 << 30).take(reserved));
        let Content::Events(batch) = Parse::default().step(page).0.content else { panic!("not decoded") };
        assert!(batch.size() <= reserved, "{} of {reserved}", batch.size());
    }

    /// vCenter copies a VM's annotation as it is, also characters that XML forbids.
    #[test]
    fn forbidden_characters_are_replaced_and_the_page_is_delivered() {
        const TIME: &str = "<createdTime>2026-01-01T00:00:00Z</createdTime>";
        let body = |second: &str, text: &str| {
            format!(
                "<Envelope><Body><ReadNextEventsResponse><returnval><key>1</key>{TIME}</returnval>\
                 <returnval><key>{second}</key>{TIME}<fullFormattedMessage>{text}</fullFormattedMessage></returnval>\
                 </ReadNextEventsResponse></Body></Envelope>"
            )
        };
        let step = |form, body: String| {
            let budget = Budget::new(1 << 30);
            let page = page(form, body.into(), budget.take(1 << 16));
            let (parsed, counts) = Parse { keep_sent: true }.step(page);
            (parsed.content, counts.replaced_characters, budget)
        };
        let check = |form, text: &str, keys: &[i32], delivered: &str, replaced| {
            let (content, counted, budget) = step(form, body("2", text));
            assert_eq!(counted, replaced, "{text:?}");
            let Content::Events(batch) = content else { panic!("{text:?} is not decoded") };
            assert!(batch.records.iter().map(|record| record.key).eq(keys.iter().map(|key| Some(*key))));
            let arena = String::from_utf8_lossy(&batch.arena);
            assert!(arena.contains(delivered), "{text:?}: {arena}");
            assert!(batch.size() <= budget.used(), "{} of {}", batch.size(), budget.used());
        };
        let whole = || PageForm::Vsphere(Wire::Soap);
        check(whole(), "a&#x1B;[31m", &[1, 2], "a\u{FFFD}[31m", 1);
        check(whole(), "R&D \u{0}", &[1, 2], "R\\u0026D \u{FFFD}", 2);
        check(whole(), "&#xD83D;&#xDE00;", &[1, 2], "\u{1F600}", 0);
        check(PageForm::Salvage(Wire::Soap), "a&#x1B;b", &[1, 2], "a\u{FFFD}b", 1);
        check(PageForm::Salvage(Wire::Soap), "a < b", &[1], "\"Key\":1", 0);
        // A wrong character in the key would give the event another id.
        let (content, counted, _) = step(whole(), body("2\u{1}", "text"));
        assert!(matches!(content, Content::Unreadable(_)) && counted == 0, "{content:?}");
    }
    /// The sender of a row's events cannot be asked again.
    #[test]
    fn a_damaged_row_becomes_a_dead_letter_and_a_row_of_a_newer_release_waits() {
        let step = |blob: Vec<u8>| {
            let page = page(PageForm::Inbox { row: 7 }, blob.into(), Permit::default());
            Parse::default().step(page).0.content
        };
        let row = crate::state::codec::seal(b"", 0);
        let mut damaged = row.clone();
        damaged[9] ^= 1;
        let Content::Poison(poison) = step(damaged.clone()) else { panic!("it is passed over") };
        assert_eq!((poison.row, &poison.batch.raw_page[..]), (Some(7), &damaged[..]));
        assert!(poison.reason.contains("row 7 of the inbox"), "{}", poison.reason);
        let mut newer = row;
        newer[2] = u8::MAX;
        assert!(matches!(step(newer), Content::Unreadable(_)));
    }
}
