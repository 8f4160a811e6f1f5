//! The event history: the events that exist at a moment, their keys and times, and the events that
//! a reader may see.
//!
//! ```text
//! index      0 … 999    1000 … 1004   1005 … 1011        created by `rate`, `append`, `feed`
//! segments   ├──────────┼─────────────┼───────────       index ─► createdTime
//! spans      ├── key 1 …───────────┼── key 500 …──       index ─► key
//! veils                      ├─────┤                     late or unreadable events
//! ```
//!
//! All lists are run-length encoded. A [`Segment`] is a run of events with equal spacing in time, a
//! [`KeySpan`] a run of consecutive keys, a veil a run that cannot be read. 10,000,000 events are
//! one segment.
//!
//! INVARIANT: an event's index, key and createdTime never change once it exists; createdTime never
//! falls with the index.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use super::special::Special;
pub use super::view::Exceptions;
pub(crate) use super::view::PlanItem;

/// Fixed-point shift of a segment's step, 2^-20 microseconds: at 400,000 events/s a day drifts less
/// than 100 ms.
const STEP_SHIFT: u32 = 20;

/// A run of consecutive keys: event `first + n` has key `key_base + n`, wrapping at 32 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySpan {
    pub first: u64,
    pub key_base: i32,
    /// Microseconds since 1970. No event of this span is older.
    pub from_us: i64,
}

/// A run of events with equal spacing: event `first + n` was created at `base_us + n * step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    first: u64,
    base_us: i64,
    step: u64,
}

impl Segment {
    pub(super) fn created_us(&self, index: u64) -> i64 {
        self.base_us + ((u128::from(index - self.first) * u128::from(self.step)) >> STEP_SHIFT) as i64
    }
}

/// The reason that a run of events does not appear in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Veil {
    /// The events appear at this time, behind the cursors that passed them.
    Late { until_us: i64 },
    /// The user may not see the events, but they take their places in a page. With `sticky` the
    /// cursor never gets past a page full of these.
    Unreadable { sticky: bool },
}

/// The way in which the history grows.
enum Growth {
    Idle,
    /// Events come at this rate; `segment` begins with the next one.
    Rate {
        segment: Segment,
    },
    /// Events are created when they are read.
    Endless,
}

pub(crate) struct History {
    segments: Vec<Segment>,
    /// Number of events in `segments`.
    closed: u64,
    growth: Growth,
    total: Option<u64>,
    /// createdTime of the newest event in `segments`.
    last_us: i64,
    pub spans: Vec<KeySpan>,
    /// Sorted by start, and disjoint.
    pub(super) veils: Vec<(Range<u64>, Veil)>,
    pub(super) withdrawn: Vec<Range<u64>>,
    pub(super) specials: BTreeMap<u64, Arc<Special>>,
    pub(super) late: Vec<Range<u64>>,
    pub live_from: u64,
    /// Counts changes of spans and exceptions, so that a verifier can see that it must read the
    /// truth again.
    pub generation: u64,
}

impl History {
    /// A history whose backlog ends just before `now_us`.
    pub fn new(first_key: i32, backlog: u64, spacing_us: u64, total: Option<u64>, now_us: i64) -> History {
        let backlog = total.map_or(backlog, |total| backlog.min(total));
        let base_us = now_us - (backlog * spacing_us) as i64;
        let mut history = History {
            segments: Vec::new(),
            closed: 0,
            growth: Growth::Idle,
            total,
            last_us: base_us,
            spans: vec![KeySpan { first: 0, key_base: first_key, from_us: base_us }],
            veils: Vec::new(),
            withdrawn: Vec::new(),
            specials: BTreeMap::new(),
            late: Vec::new(),
            live_from: backlog,
            generation: 1,
        };
        if backlog > 0 {
            history.push(Segment { first: 0, base_us, step: spacing_us << STEP_SHIFT }, backlog);
        }
        history
    }

    fn push(&mut self, segment: Segment, count: u64) {
        debug_assert_eq!(segment.first, self.closed);
        self.segments.push(segment);
        self.closed += count;
        self.last_us = segment.created_us(self.closed - 1);
    }

    /// Number of events that exist at `now_us`.
    pub fn produced(&self, now_us: i64) -> u64 {
        match &self.growth {
            Growth::Idle | Growth::Endless => self.closed,
            Growth::Rate { segment } => {
                let count = if now_us < segment.base_us {
                    0
                } else {
                    (((now_us - segment.base_us) as u128) << STEP_SHIFT) / u128::from(segment.step) + 1
                };
                let produced = self.closed.saturating_add(count.min(u128::from(u64::MAX)) as u64);
                self.total.map_or(produced, |total| produced.min(total.max(self.closed)))
            }
        }
    }

    /// The time at which the next event comes by itself.
    pub fn next_event_us(&self, now_us: i64) -> Option<i64> {
        match &self.growth {
            Growth::Rate { segment } => {
                let next = self.produced(now_us);
                if self.total.is_some_and(|total| next >= total) {
                    return None;
                }
                Some(segment.created_us(next))
            }
            // Reading creates the next event, so a waiter reads again after a millisecond.
            Growth::Endless if self.total.is_none_or(|total| self.closed < total) => Some(now_us + 1_000),
            Growth::Idle | Growth::Endless => None,
        }
    }

    /// Turns the events that the rate made until now into a closed segment.
    fn settle_rate(&mut self, now_us: i64) {
        let produced = self.produced(now_us);
        if let Growth::Rate { segment } = self.growth {
            if produced > self.closed {
                self.push(segment, produced - self.closed);
            }
            // The phase is kept, because frequent appends would otherwise slow the rate down.
            let next =
                Segment { first: self.closed, base_us: segment.created_us(produced), step: segment.step };
            self.growth = Growth::Rate { segment: next };
        }
    }

    pub fn set_rate(&mut self, per_second: f64, now_us: i64) {
        self.settle_rate(now_us);
        self.growth = if per_second > 0.0 {
            let step = ((1e6 / per_second) * f64::from(1u32 << STEP_SHIFT)).max(1.0) as u64;
            // The remaining part of a step is kept; otherwise a rate that is set often would make
            // no events.
            let left = match &self.growth {
                Growth::Rate { segment } => {
                    let due_us = (segment.base_us - now_us).max(0) as f64;
                    (due_us * f64::from(1u32 << STEP_SHIFT) / segment.step as f64).min(1.0)
                }
                Growth::Idle | Growth::Endless => 1.0,
            };
            let until_us = (left * (step >> STEP_SHIFT) as f64) as i64;
            let base_us = (now_us + until_us).max(self.last_us);
            Growth::Rate { segment: Segment { first: self.closed, base_us, step } }
        } else {
            Growth::Idle
        };
    }

    pub fn set_endless(&mut self, now_us: i64) {
        self.settle_rate(now_us);
        self.growth = Growth::Endless;
    }

    /// Creates `count` events now and returns their indexes.
    pub fn append(&mut self, count: u64, now_us: i64) -> Range<u64> {
        self.settle_rate(now_us);
        let count = match self.total {
            Some(total) => count.min(total.saturating_sub(self.closed)),
            None => count,
        };
        let first = self.closed;
        if count > 0 {
            // The new events are a microsecond apart, unless that would make them older than the
            // last one.
            let base_us = self.last_us.max(now_us - count as i64);
            let span = (now_us - base_us).max(0) as u128;
            let step = ((span << STEP_SHIFT) / u128::from(count)) as u64;
            self.push(Segment { first, base_us, step }, count);
            if let Growth::Rate { segment } = &mut self.growth {
                segment.first = self.closed;
            }
        }
        first..self.closed
    }

    /// With an endless pace, creates events until `count` of them are behind `cursor`.
    pub fn feed(&mut self, cursor: u64, count: u64, now_us: i64) {
        if matches!(self.growth, Growth::Endless) && self.closed < cursor + count {
            self.append(cursor + count - self.closed, now_us);
        }
    }

    pub fn append_special(&mut self, special: Special, now_us: i64) -> Option<u64> {
        let index = self.append(1, now_us).next()?;
        self.specials.insert(index, Arc::new(special));
        self.generation += 1;
        Some(index)
    }

    pub fn key(&self, index: u64) -> i32 {
        let at = self.spans.partition_point(|span| span.first <= index).saturating_sub(1);
        let span = &self.spans[at];
        span.key_base.wrapping_add((index - span.first) as u32 as i32)
    }

    /// The segment of an event, and the index at which the segment ends.
    pub(super) fn segment(&self, index: u64) -> (Segment, u64) {
        if index >= self.closed
            && let Growth::Rate { segment } = &self.growth
        {
            return (*segment, u64::MAX);
        }
        let at = self.segments.partition_point(|segment| segment.first <= index).saturating_sub(1);
        let end = self.segments.get(at + 1).map_or(self.closed, |next| next.first);
        (self.segments[at], end)
    }

    /// createdTime of an event that exists.
    pub fn created_us(&self, index: u64) -> i64 {
        self.segment(index).0.created_us(index)
    }

    /// Index of the first event whose createdTime is at or after `time_us`; `produced` if there is
    /// none.
    pub fn first_at_or_after(&self, time_us: i64, produced: u64) -> u64 {
        let (mut low, mut high) = (0, produced);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.created_us(middle) < time_us {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Index of the first event at or after `from` with a negative key.
    pub fn first_negative_key(&self, from: u64, produced: u64) -> Option<u64> {
        for (at, span) in self.spans.iter().enumerate() {
            let end = self.spans.get(at + 1).map_or(produced, |next| next.first);
            // A span that starts positive turns negative after `i32::MAX`.
            let wrap = if span.key_base < 0 {
                span.first
            } else {
                span.first + (i64::from(i32::MAX) - i64::from(span.key_base)) as u64 + 1
            };
            let candidate = wrap.max(from);
            if candidate < end.min(produced) {
                return Some(candidate);
            }
        }
        None
    }

    /// The first index that does not exist yet and has no veil.
    fn next_unplanned(&self, now_us: i64) -> u64 {
        let produced = self.produced(now_us);
        self.veils.last().map_or(produced, |(range, _)| range.end.max(produced))
    }

    /// Hides the next `count` events until `until_us`.
    pub fn hide_next(&mut self, count: u64, until_us: i64, now_us: i64) -> Range<u64> {
        let first = self.next_unplanned(now_us);
        let range = first..first + count;
        self.veils.push((range.clone(), Veil::Late { until_us }));
        self.late.push(range.clone());
        self.generation += 1;
        range
    }

    pub fn reveal(&mut self) {
        self.generation += 1;
        self.veils.retain(|(_, veil)| !matches!(veil, Veil::Late { .. }));
    }

    pub fn forbid_next(&mut self, count: u64, sticky: bool, now_us: i64) -> Range<u64> {
        let first = self.next_unplanned(now_us);
        let range = first..first + count;
        self.veils.push((range.clone(), Veil::Unreadable { sticky }));
        self.generation += 1;
        range
    }

    /// True if a hidden event is now visible, so that reading again would find more than before.
    pub(super) fn due(veil: Veil, now_us: i64) -> bool {
        matches!(veil, Veil::Late { until_us } if until_us <= now_us)
    }

    /// Withdraws the newest `back` events, as if they had never happened. The next event takes the
    /// first of their keys.
    pub fn restore(&mut self, back: u64, now_us: i64) {
        self.settle_rate(now_us);
        let back = back.min(self.closed);
        let from = self.closed - back;
        let key = if back == 0 { self.key(self.closed) } else { self.key(from) };
        if back > 0 {
            self.withdrawn.push(from..self.closed);
        }
        self.next_key(key, now_us);
    }

    /// Gives the next event this key.
    pub fn next_key(&mut self, key: i32, now_us: i64) {
        self.settle_rate(now_us);
        let span = KeySpan { first: self.closed, key_base: key, from_us: self.last_us };
        match self.spans.last_mut() {
            Some(last) if last.first == span.first => *last = span,
            _ => self.spans.push(span),
        }
        self.generation += 1;
    }

    /// Adapts the rate to a step of the clock: events keep coming, and none is older than the last
    /// one.
    pub fn clock_stepped(&mut self, before_us: i64, after_us: i64) {
        self.generation += 1;
        self.settle_rate(before_us);
        if let Growth::Rate { segment } = &mut self.growth {
            let phase = segment.base_us - before_us;
            segment.base_us = (after_us + phase).max(self.last_us);
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
