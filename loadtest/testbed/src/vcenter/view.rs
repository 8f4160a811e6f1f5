//! Reading the history: the events and veils at a cursor, the plan to render the events, and the
//! exceptions for a verifier.
//!
//! ```text
//! cursor ─► read_forward ─► runs of indexes ─► plan ─► PlanItems ─► rendered without the lock
//!               │
//!               └► veils: late events are skipped, unreadable ones take places
//! ```

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::history::{History, Segment, Special, Veil};
use super::model::CHAIN_KEYS;

/// A part of a page, with all data that rendering needs without the lock.
pub(crate) enum PlanItem {
    Run { first: u64, count: u64, key: i32, times: RunTimes },
    Special { key: i32, created_us: i64, special: Arc<Special> },
}

/// The createdTimes of the events of a run.
#[derive(Clone, Copy)]
pub(crate) struct RunTimes(Segment);

impl RunTimes {
    pub fn created_us(&self, index: u64) -> i64 {
        self.0.created_us(index)
    }
}

/// Ranges of indexes that a verifier must treat differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exceptions {
    /// Became visible late: a first delivery out of order is no fault.
    pub late: Vec<Range<u64>>,
    /// Never readable: their absence is no loss.
    pub unreadable: Vec<Range<u64>>,
    /// Rolled back by a restore: they may have been delivered before it, or never.
    pub withdrawn: Vec<Range<u64>>,
    /// Not visible yet: their absence is no loss so far.
    pub hidden: Vec<Range<u64>>,
    /// Events with content that is not from the model (posted, or of an unknown class).
    pub special: Vec<u64>,
    /// Events that are not well-formed: they cannot be delivered, only kept as dead letters.
    pub malformed: Vec<u64>,
}

impl History {
    /// Reads forward from `cursor` up to `end`. Returns the runs of at most `max` places, and the
    /// new cursor.
    pub fn read_forward<'f>(
        &self,
        cursor: u64,
        end: u64,
        max: u64,
        now_us: i64,
        mut wanted: Option<&mut (dyn FnMut(u64) -> bool + 'f)>,
    ) -> (Vec<Range<u64>>, u64) {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = cursor;
        let mut places = 0;
        while at < end && places < max {
            // Veiled events: late ones are skipped, unreadable ones use up places of the page.
            if let Some((veil_end, veil)) = self.veil_at(at, now_us) {
                let covered = veil_end.min(end);
                match veil {
                    Veil::Late { .. } => at = covered,
                    Veil::Unreadable { sticky } => {
                        let step = (covered - at).min(max - places);
                        if sticky && step == max {
                            // A whole page of these: the real server's cursor stays where it is.
                            return (runs, cursor);
                        }
                        places += step;
                        at += step;
                    }
                }
                continue;
            }
            // Visible events up to the next veil: all of them, or those that pass the filter.
            let free_until = self.next_veil(at, now_us).unwrap_or(u64::MAX).min(end);
            match &mut wanted {
                None => {
                    let step = (free_until - at).min(max - places);
                    add_run(&mut runs, at..at + step);
                    places += step;
                    at += step;
                }
                Some(wanted) => {
                    while at < free_until && places < max {
                        if wanted(at) {
                            add_run(&mut runs, at..at + 1);
                            places += 1;
                        }
                        at += 1;
                    }
                }
            }
        }
        (runs, at)
    }

    /// Reads backward from `cursor` down to `begin`. Returns at most `max` events, the newest
    /// first, and the new cursor.
    pub fn read_backward(
        &self,
        cursor: u64,
        begin: u64,
        max: u64,
        now_us: i64,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> (Vec<u64>, u64) {
        let mut found = Vec::new();
        let mut at = cursor;
        while at > begin && (found.len() as u64) < max {
            at -= 1;
            if self.veil_at(at, now_us).is_none() && wanted(at) {
                found.push(at);
            }
        }
        (found, at)
    }

    /// The veil over an event, and the index at which it ends.
    fn veil_at(&self, index: u64, now_us: i64) -> Option<(u64, Veil)> {
        if let Some(range) = self.withdrawn.iter().find(|range| range.contains(&index)) {
            return Some((range.end, Veil::Late { until_us: i64::MAX }));
        }
        let at = self.veils.partition_point(|(range, _)| range.end <= index);
        let (range, veil) = self.veils.get(at)?;
        (range.contains(&index) && !Self::due(*veil, now_us)).then_some((range.end, *veil))
    }

    /// The index at which the next veil after `index` begins.
    fn next_veil(&self, index: u64, now_us: i64) -> Option<u64> {
        let at = self.veils.partition_point(|(range, _)| range.end <= index);
        let veiled = self.veils[at..]
            .iter()
            .find(|(_, veil)| !Self::due(*veil, now_us))
            .map(|(range, _)| range.start.max(index + 1));
        let withdrawn = self.withdrawn.iter().map(|range| range.start).filter(|start| *start > index).min();
        [veiled, withdrawn].into_iter().flatten().min()
    }

    /// The shortest range of indexes that holds all events of this chain; empty if there are none.
    pub fn range_of_chain(&self, chain: i32, produced: u64) -> Range<u64> {
        let (mut start, mut end) = (u64::MAX, 0);
        for (at, span) in self.spans.iter().enumerate() {
            let span_end = self.spans.get(at + 1).map_or(produced, |next| next.first).min(produced);
            for key in (0..CHAIN_KEYS).map(|offset| chain.wrapping_add(offset)) {
                let index = span.first + u64::from(key.wrapping_sub(span.key_base) as u32);
                if index < span_end {
                    (start, end) = (start.min(index), end.max(index + 1));
                }
            }
        }
        start.min(end)..end
    }

    pub fn special(&self, index: u64) -> Option<&Arc<Special>> {
        self.specials.get(&index)
    }

    /// Appends the plan to render these indexes, in this order.
    pub fn plan(&self, runs: &[Range<u64>], plan: &mut Vec<PlanItem>) {
        for run in runs {
            let mut at = run.start;
            while at < run.end {
                if let Some(special) = self.specials.get(&at) {
                    let special = Arc::clone(special);
                    plan.push(PlanItem::Special {
                        key: self.key(at),
                        created_us: self.created_us(at),
                        special,
                    });
                    at += 1;
                    continue;
                }
                // A run ends with its segment, before the next special event, and with its span of
                // keys.
                let (segment, segment_end) = self.segment(at);
                let mut end = run.end.min(segment_end);
                if let Some((special, _)) = self.specials.range(at..end).next() {
                    end = *special;
                }
                let span = self.spans.partition_point(|span| span.first <= at);
                if let Some(next) = self.spans.get(span) {
                    end = end.min(next.first);
                }
                plan.push(PlanItem::Run {
                    first: at,
                    count: end - at,
                    key: self.key(at),
                    times: RunTimes(segment),
                });
                at = end;
            }
        }
    }

    pub fn exceptions(&self, now_us: i64) -> Exceptions {
        let veiled = |wanted: &dyn Fn(Veil) -> bool| -> Vec<Range<u64>> {
            self.veils.iter().filter(|(_, veil)| wanted(*veil)).map(|(range, _)| range.clone()).collect()
        };
        let specials = |malformed: bool| -> Vec<u64> {
            let chosen = self.specials.iter().filter(|(_, special)| special.malformed == malformed);
            chosen.map(|(index, _)| *index).collect()
        };
        Exceptions {
            late: self.late.clone(),
            unreadable: veiled(&|veil| matches!(veil, Veil::Unreadable { .. })),
            withdrawn: self.withdrawn.clone(),
            hidden: veiled(&|veil| matches!(veil, Veil::Late { .. }) && !Self::due(veil, now_us)),
            special: specials(false),
            malformed: specials(true),
        }
    }
}

/// Appends a run, joined to the last one if it continues it.
pub(super) fn add_run(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}
