//! The reader of the simulated vCenter: behaves as `source::vcenter` does, without network calls.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::outside::Outside;
use super::{OVERLAP_US, SWEEP_INTERVAL_US};
use crate::source::{Page, PageForm, Verdict, Wire};

/// Reads pages as the vCenter source does:
///
/// - ahead of the verdicts,
/// - after a lost answer, again from before the position,
/// - after an undecodable page, event by event,
/// - now and then a sweep of the trailing window, to find events that became visible late.
pub(super) struct Reader {
    pub(super) info: Arc<crate::event::SourceInfo>,
    pub(super) begin_us: i64,
    pub(super) next: usize,
    /// Rest of the window that the sweep re-reads. It never passes the position.
    pub(super) sweep: Option<std::ops::Range<usize>>,
    pub(super) sweep_due_us: i64,
    pub(super) number: u64,
    pub(super) reading: u64,
    pub(super) position_us: i64,
    /// Number of events to read one at a time.
    pub(super) careful: usize,
    pub(super) in_flight: VecDeque<(u64, usize, Option<Verdict>)>,
    pub(super) verdicts: (mpsc::UnboundedSender<Verdict>, mpsc::UnboundedReceiver<Verdict>),
}

impl Reader {
    pub(super) fn has_read_all(&self, outside: &Outside) -> bool {
        self.next >= outside.vcenter.len() && self.sweep.is_none() && self.in_flight.is_empty()
    }

    pub(super) fn step(&mut self, outside: &mut Outside, pages: &mut VecDeque<Page>) {
        self.take_verdicts(pages, outside);
        if pages.len() > 4 {
            return;
        }
        if self.sweep.is_none() && outside.now_us >= self.sweep_due_us {
            self.sweep_due_us = outside.now_us + SWEEP_INTERVAL_US;
            let from_us = self.position_us - OVERLAP_US;
            let end = first_since(outside, self.position_us + 1);
            self.sweep = Some(first_since(outside, from_us.max(self.begin_us))..end);
        }
        // The sweep skips undecodable events. Only readable events are late here, so the reader has
        // met the others before.
        if let Some(window) = self.sweep.take() {
            let (mut keys, next) = visible(outside, window.clone(), 20);
            keys.retain(|key| !outside.vcenter[*key].unreadable);
            self.sweep = (next > window.start && next < window.end).then_some(next..window.end);
            if !keys.is_empty() {
                let body = outside.page(&keys, false);
                let (ignored, _) = mpsc::unbounded_channel();
                self.push(pages, body, None, None, outside.now_us, ignored);
            }
            return;
        }
        if self.careful > 0 && !self.in_flight.is_empty() {
            return;
        }
        let size = if self.careful > 0 { 1 } else { 1 + outside.below(8) };
        let (keys, end) = visible(outside, self.next..outside.vcenter.len(), size);
        self.next = end;
        if keys.is_empty() {
            return;
        }
        if outside.chance(8) {
            // The answer is lost, but the server's cursor has moved.
            return self.rewind(outside);
        }
        let body = outside.page(&keys, true);
        let reading = (self.careful == 0).then_some(self.reading);
        let number = self.push(pages, body, reading, None, outside.now_us, self.verdicts.0.clone());
        self.in_flight.push_back((number, keys[0], None));
    }

    pub(super) fn push(
        &mut self,
        pages: &mut VecDeque<Page>,
        body: Bytes,
        reading: Option<u64>,
        poison: Option<String>,
        now_us: i64,
        verdicts: mpsc::UnboundedSender<Verdict>,
    ) -> u64 {
        let number = self.number;
        self.number += 1;
        pages.push_back(Page {
            source: Arc::clone(&self.info),
            number,
            reading,
            produced_us: now_us,
            form: PageForm::Vsphere(Wire::Soap),
            body,
            poison,
            permit: Default::default(),
            verdicts,
        });
        number
    }

    /// Starts a new reading from before the position, within the overlap.
    pub(super) fn rewind(&mut self, outside: &Outside) {
        self.reading += 1;
        self.next = first_since(outside, (self.position_us - OVERLAP_US / 4).max(self.begin_us));
    }

    pub(super) fn take_verdicts(&mut self, pages: &mut VecDeque<Page>, outside: &mut Outside) {
        while let Ok(verdict) = self.verdicts.1.try_recv() {
            if let Some(page) = self.in_flight.iter_mut().find(|(number, ..)| *number == verdict.page) {
                page.2 = Some(verdict);
            }
        }
        while let Some((_, _, Some(_))) = self.in_flight.front() {
            let Some((_, key, Some(verdict))) = self.in_flight.pop_front() else { return };
            match verdict.found {
                Ok(facts) => {
                    self.position_us = self.position_us.max(facts.newest_us.unwrap_or_default());
                    self.careful = self.careful.saturating_sub(1);
                }
                Err(error) if self.careful > 0 => {
                    self.careful -= 1;
                    let body = outside.page(&[key], false);
                    let (ignored, _) = mpsc::unbounded_channel();
                    self.push(pages, body, None, Some(error.to_string()), outside.now_us, ignored);
                }
                Err(_) => {
                    self.careful = 40;
                    self.in_flight.clear();
                    self.rewind(outside);
                }
            }
        }
    }
}

/// Index of the first event created at `us` or later.
pub(super) fn first_since(outside: &Outside, us: i64) -> usize {
    outside.vcenter.partition_point(|event| event.created_us < us)
}

/// Up to `count` visible events of `range`, and the cursor's next place, which is behind the last
/// of them.
pub(super) fn visible(outside: &Outside, range: std::ops::Range<usize>, count: usize) -> (Vec<usize>, usize) {
    let is_visible = |key: &usize| outside.vcenter[*key].visible_us <= outside.now_us;
    let next = range.start;
    let keys: Vec<usize> = range.filter(is_visible).take(count).collect();
    let next = keys.last().map_or(next, |last| last + 1);
    (keys, next)
}
