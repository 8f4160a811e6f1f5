//! One source of events: the deliveries that arrived from it, and their order, latency and gaps.
//!
//! ```text
//! delivery ─► key, createdTime ─► index ─► seen    one bit an event: unique, repeated, missing
//!                (truth)            │  ├─► newest, lanes    order in the source and in each entity
//!                                   │  └─► latency
//!                                   └────► the content to compare, if it is this event's turn
//! ```
//!
//! Only the first arrival of an event counts for order and latency. Events are compared with the
//! truth that was read last. If a delivery does not fit it, the truth is read again.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use hdrhistogram::Histogram;
use uuid::Uuid;

use super::compare::{Comparison, ToCompare};
use super::{EXAMPLES_MAX, Expect, Phase, Witness, new_histogram};
use crate::content::{Contents, Form};
use crate::scan::DeliveredEvent;
use crate::tally::{Latency, Overtaken, SourceReport, Tally};
use crate::truth::{Truth, event_id, index_of};
use crate::vcenter::{Exceptions, MixError, Model};

/// Largest number of events under way that are examined to count their entities: at 50 ns each, a
/// millisecond at most.
const LOOK_MAX: usize = 20_000;
/// Largest number of events that deliveries may be ahead of a truth that is fetched now and then:
/// 20 s at 500,000 events/s.
const AHEAD_MAX: u64 = 10_000_000;

/// The deliveries of one source, counted.
pub(super) struct Source {
    pub(super) witness: Arc<dyn Witness>,
    pub(super) truth: Truth,
    model: Arc<Model>,
    pub(super) contents: Option<Arc<Contents>>,
    pub(super) url: String,
    expect_from: u64,
    expect: Option<Expect>,
    /// One bit for each event.
    seen: Vec<u64>,
    newest: Option<u64>,
    /// For each entity, one more than the index of its newest event; 0 before the first.
    lanes: Vec<u64>,
    /// Latencies recorded since the last call of [`Source::take_latency`].
    latency: Histogram<u64>,
    /// Latencies taken as part of the measured time.
    latency_measured: Histogram<u64>,
    /// Latencies taken as part of the warm-up.
    latency_warm_up: Histogram<u64>,
    pub(super) tally: Tally,
}

impl Source {
    /// Reads the truth and compiles its model.
    ///
    /// # Errors
    /// The truth names an unknown mix of events.
    pub fn new(
        url: &str,
        witness: Arc<dyn Witness>,
        expect_from: u64,
        expect: Option<Expect>,
        form: Option<Form>,
    ) -> Result<Source, MixError> {
        let truth = witness.truth();
        let model = Arc::new(Model::new(truth.model.clone())?);
        let contents = form.map(|form| Arc::new(Contents::new(Arc::clone(&model), form)));
        let lanes = vec![0; model.lanes()];
        Ok(Source {
            url: url.to_owned(),
            witness,
            truth,
            model,
            contents,
            expect_from,
            expect,
            seen: Vec::new(),
            newest: None,
            lanes,
            latency: new_histogram(),
            latency_measured: new_histogram(),
            latency_warm_up: new_histogram(),
            tally: Tally::default(),
        })
    }

    pub fn is_seen(&self, index: u64) -> bool {
        self.seen.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// The index of a delivered event. If the known truth does not have it, the truth is read
    /// again.
    fn index_of(&mut self, delivered: &DeliveredEvent<'_>) -> Option<u64> {
        let known = |source: &Source| {
            let ahead = if source.witness.is_current() { 0 } else { AHEAD_MAX };
            let limit = source.truth.produced + ahead;
            index_of(&source.truth.spans, limit, delivered.key, delivered.created_us)
        };
        known(self).or_else(|| {
            self.refresh();
            self.truth.produced = self.witness.produced();
            known(self)
        })
    }

    /// Reads the truth again if more than the number of events has changed.
    pub fn refresh(&mut self) {
        if self.witness.generation() != self.truth.generation {
            self.truth = self.witness.truth();
        }
    }

    /// Counts a delivery. Returns the expectation if `comparison` wants this event's content.
    pub fn take(
        &mut self,
        delivered: &DeliveredEvent<'_>,
        now_us: i64,
        comparison: &Comparison,
    ) -> Option<ToCompare> {
        self.tally.delivered += 1;
        let Some(index) = self.index_of(delivered) else {
            self.tally.unknown += 1;
            return None;
        };
        // The id follows from the vCenter, the key and the time.
        let id = event_id(&self.truth.instance_uuid, delivered.key, delivered.created_us);
        let same_id = Uuid::try_parse_ascii(delivered.id).is_ok_and(|delivered| delivered == id);
        self.tally.wrong_ids += u64::from(!same_id);
        // The first arrival of an event counts for order and latency, a repeated one as a
        // duplicate.
        let (word, bit) = ((index / 64) as usize, 1u64 << (index % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        let is_first = self.seen[word] & bit == 0;
        if is_first {
            self.seen[word] |= bit;
            self.tally.unique += 1;
            self.check_order(index, delivered.key, now_us);
            if index < self.truth.live_from {
                self.tally.from_backlog += 1;
            } else {
                let latency_us = now_us - (delivered.created_us - self.truth.clock_offset_us);
                self.latency.saturating_record(latency_us.max(1) as u64);
            }
        } else {
            self.tally.duplicates += u64::from(same_id);
        }
        if !comparison.wants(index) {
            return None;
        }
        self.to_compare(index, delivered, is_first, now_us)
    }

    /// Checks the order of a first arrival, in its source and in its entity.
    fn check_order(&mut self, index: u64, key: i32, now_us: i64) {
        let in_source = self.newest.is_none_or(|newest| newest < index);
        if in_source {
            self.newest = Some(index);
        }
        // A special event has another subject than the model gives it, so it is no part of that
        // lane's order.
        let special = self.truth.exceptions.special.binary_search(&index).is_ok();
        let overtaken_by = self.model.lane(index).filter(|_| !special).and_then(|lane| {
            let newest = &mut self.lanes[lane];
            let before = *newest;
            *newest = before.max(index + 1);
            (before > index).then(|| before - 1)
        });
        if in_source && overtaken_by.is_none() {
            return;
        }
        // Events that vCenter showed late are excused.
        self.refresh();
        let exceptions = &self.truth.exceptions;
        if holds(&exceptions.late, index) {
            self.tally.late += 1;
            return;
        }
        if !in_source {
            self.tally.out_of_order += 1;
            if self.tally.out_of_order_keys.len() < EXAMPLES_MAX {
                self.tally.out_of_order_keys.push(key);
            }
        }
        if let Some(by) = overtaken_by {
            self.tally.out_of_order_in_entity += 1;
            if self.tally.overtaken_in_entity.len() < EXAMPLES_MAX {
                self.tally.overtaken_in_entity.push(Overtaken { index, key, by, received_us: now_us });
            }
        }
    }

    /// Number of entities with an event that exists and has not arrived. Of the events under way
    /// the oldest [`LOOK_MAX`] are examined.
    pub fn entities_waiting(&mut self) -> u64 {
        self.refresh();
        let produced = self.witness.produced();
        let Exceptions { unreadable, withdrawn, hidden, .. } = &self.truth.exceptions;
        let never_comes = |index| [unreadable, withdrawn, hidden].iter().any(|ranges| holds(ranges, index));
        let mut waiting = HashSet::new();
        let mut looked = 0;
        for word in (self.expect_from / 64)..produced.div_ceil(64) {
            let bits = self.seen.get(word as usize).copied().unwrap_or_default();
            if bits == u64::MAX {
                continue;
            }
            for index in word * 64..((word + 1) * 64).min(produced) {
                if bits & (1 << (index % 64)) == 0 && !never_comes(index) {
                    waiting.extend(self.model.lane(index));
                    looked += 1;
                }
            }
            if looked >= LOOK_MAX {
                break;
            }
        }
        waiting.len() as u64
    }

    /// Adds the latencies since the last call to `all`, and to those of this phase.
    pub fn take_latency(&mut self, phase: Phase, all: &mut Histogram<u64>) {
        let taken = match phase {
            Phase::WarmUp => &mut self.latency_warm_up,
            Phase::Measured => &mut self.latency_measured,
        };
        // Adding fails only if the bounds differ; all histograms here have the same bounds.
        let _ = all.add(&self.latency);
        let _ = taken.add(&self.latency);
        self.latency.reset();
    }

    /// Counts the events that are missing by now. Adds the measured latencies to `all`, and those
    /// of the warm-up to `warm_up`.
    pub fn report(&mut self, all: &mut Histogram<u64>, warm_up: &mut Histogram<u64>) -> SourceReport {
        self.truth = self.witness.truth();
        self.count_missing();
        let mut latency = self.latency_measured.clone();
        // The bounds are the same, see `take_latency`.
        let _ = latency.add(&self.latency);
        let _ = all.add(&latency);
        let _ = warm_up.add(&self.latency_warm_up);
        SourceReport { source: self.url.clone(), tally: self.tally.clone(), latency: Latency::of(&latency) }
    }

    /// Counts the expected and the missing events anew, from the bits of `seen`.
    fn count_missing(&mut self) {
        let exceptions = &self.truth.exceptions;
        let mut missing = 0;
        let mut expected = 0;
        let mut keys = Vec::new();
        let mut unexpected = 0;
        // Events that may not arrive, but did.
        for range in &exceptions.unreadable {
            unexpected += range.clone().filter(|index| self.is_seen(*index)).count() as u64;
        }
        unexpected += exceptions.malformed.iter().filter(|index| self.is_seen(**index)).count() as u64;
        for word in (self.expect_from / 64)..self.truth.produced.div_ceil(64) {
            let first = (word * 64).max(self.expect_from);
            let end = ((word + 1) * 64).min(self.truth.produced);
            let bits = self.seen.get(word as usize).copied().unwrap_or_default();
            let is_plain = || {
                ![&exceptions.unreadable, &exceptions.withdrawn, &exceptions.hidden]
                    .iter()
                    .any(|ranges| touches(ranges, first, end))
                    && exceptions.malformed.partition_point(|index| *index < first)
                        == exceptions.malformed.partition_point(|index| *index < end)
            };
            // Whole words at once: most are full, or empty if the target is behind. Each report
            // examines an hour's events again.
            if self.expect.is_none()
                && (bits == u64::MAX || (bits == 0 && keys.len() == EXAMPLES_MAX && is_plain()))
            {
                expected += end - first;
                missing += if bits == 0 { end - first } else { 0 };
                continue;
            }
            for index in first..end {
                // Some events are excused, as nobody could deliver them.
                let seen = bits & (1 << (index % 64)) != 0;
                let excused = holds(&exceptions.unreadable, index)
                    || holds(&exceptions.withdrawn, index)
                    || holds(&exceptions.hidden, index)
                    || exceptions.malformed.binary_search(&index).is_ok()
                    || self.expect.as_ref().is_some_and(|expect| !expect(index));
                if excused {
                    continue;
                }
                expected += 1;
                if !seen {
                    missing += 1;
                    if keys.len() < EXAMPLES_MAX {
                        keys.push(self.key(index));
                    }
                }
            }
        }
        self.tally.missing = missing;
        self.tally.expected = expected;
        self.tally.unexpected = unexpected;
        self.tally.missing_keys = keys;
    }

    fn key(&self, index: u64) -> i32 {
        let spans = &self.truth.spans;
        let at = spans.partition_point(|span| span.first <= index).saturating_sub(1);
        spans.get(at).map_or(0, |span| span.key_base.wrapping_add((index - span.first) as u32 as i32))
    }
}

/// True if one of these ranges overlaps `first..end`.
fn touches(ranges: &[Range<u64>], first: u64, end: u64) -> bool {
    // The ranges are sorted, because they were added as the history grew.
    let at = ranges.partition_point(|range| range.end <= first);
    ranges.get(at).is_some_and(|range| range.start < end)
}

fn holds(ranges: &[Range<u64>], index: u64) -> bool {
    touches(ranges, index, index + 1)
}
