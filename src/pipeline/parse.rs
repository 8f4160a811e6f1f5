//! Parse: decodes the bytes of a page into records and rendered JSON, and enriches them.
//!
//! Pages do not depend on each other here, so the stage runs on several threads. `order` restores
//! the order of the pages by their number.
//!
//! A page that cannot be decoded is reported to its source, which reads it again in halves. An
//! event that cannot be decoded on its own arrives as poison, and becomes a dead letter.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Record, SourceInfo, Span};
use crate::source::{Page, PageFacts, PageForm, Verdict};
use crate::state::inbox;
use vsphere::decode::salvage::{self, created_us};
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
    pub batch: Batch,
    pub reason: String,
}

/// Counts of the decoder, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseCounts {
    pub events: usize,
    pub unknown_classes: usize,
    pub misfits: usize,
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
        let Page { source, number, reading, produced_us, form, body, poison, mut permit, verdicts } = page;
        let mut counts = ParseCounts { bytes: body.len(), ..ParseCounts::default() };
        if let Some(reason) = poison {
            let PageForm::Vsphere(wire) = form else {
                unreachable!("a row of the inbox was decoded before it was stored")
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
            let content = Content::Poison(Poison { batch, reason });
            return (Parsed { source, number, reading, content }, counts);
        }
        let (wire, salvages) = match form {
            PageForm::Vsphere(wire) => (wire, false),
            PageForm::Salvage(wire) => (wire, true),
            PageForm::Inbox { row } => {
                let content = match inbox::batch(&source, number, row, &body) {
                    Ok(mut batch) => {
                        counts.events = batch.records.len();
                        permit.resize(batch.size());
                        batch.permit = permit;
                        Content::Events(batch)
                    }
                    Err(error) => {
                        let reason = format!("row {row} of the inbox: {error}");
                        Content::Unreadable(DecodeError { offset: 0, reason })
                    }
                };
                let found = match &content {
                    Content::Unreadable(error) => Err(error.clone()),
                    _ => Ok(PageFacts { events: counts.events, ..PageFacts::default() }),
                };
                let _ = verdicts.send(Verdict { page: number, found, broken: Vec::new() });
                return (Parsed { source, number, reading, content }, counts);
            }
        };
        let mut decoded = Decoded::default();
        let (page_bytes, granted) = (body.len(), permit.bytes());
        let mut charge = |bytes| permit.resize(page_bytes + bytes);
        let mut quota = Quota::charged(page_bytes, granted.saturating_sub(page_bytes), &mut charge);
        let mut broken = Vec::new();
        if salvages {
            broken = salvage::decode(wire, &body, &mut quota, &mut decoded);
        } else if let Err(error) = decode_within(wire, &body, &mut quota, &mut decoded) {
            let found = Err(error.clone());
            let _ = verdicts.send(Verdict { page: number, found, broken });
            return (Parsed { source, number, reading, content: Content::Unreadable(error) }, counts);
        }
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
    use crate::source::Wire;

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
        let (verdicts, _) = tokio::sync::mpsc::unbounded_channel();
        let page = Page {
            source: source(),
            number: 0,
            reading: None,
            produced_us: 0,
            form: PageForm::Vsphere(Wire::Soap),
            body,
            poison: None,
            permit: Budget::new(1 << 30).take(reserved),
            verdicts,
        };
        let Content::Events(batch) = Parse::default().step(page).0.content else { panic!("not decoded") };
        assert!(batch.size() <= reserved, "{} of {reserved}", batch.size());
    }
}
