//! Order: puts pages and events into order, drops duplicates, and assigns the read sequence.
//!
//! Pages are ordered by their number, and the events of a page by key. Each event passes once.
//!
//! ```text
//!  page 7 ─┐                        ┌─ seen before ─► dropped
//!  page 5 ─┼─► 5, 6, 7 ─► by key ───┤                 (after a restart, an unsettled event
//!  page 6 ─┘                        │                  goes where it is still owed)
//!                                   └─ new ─────────► seq = 1, 2, 3, …
//! ```
//!
//! INVARIANT: within a source the read sequence has no gap, and each batch that leaves this stage
//! holds a contiguous run of it.
//! INVARIANT: nothing is held back to wait for late events. A late event gets its sequence number
//! when it is first read.
//! INVARIANT: events that were read behind an undecodable page never overtake the events of that
//! page. The source reads both again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::core::POISON;
use super::parse::{Content, Parsed, Poison};
use super::seen::Seen;
use crate::event::{Batch, Identity, Record, Selection, SourceInfo};
use crate::limits::READINGS_ENDED_MAX;

/// Distance below the highest key from which a lower key counts as a restart of the keys. It counts
/// only on an event that is later than all before it.
///
/// The key of a late event is behind by a few pages of events at most. The keys of a restored
/// vCenter are behind by hours of events.
const RESTART_KEYS: i64 = 10_000;

/// The ordering and dedup stage of one source.
#[derive(Debug, Default)]
pub struct Order {
    next_page: u64,
    early: BTreeMap<u64, Parsed>,
    /// Readings that ended with an undecodable page.
    ended: VecDeque<u64>,
    next_seq: u64,
    seen: Seen,
    /// Events that were read before the restart and are not settled everywhere, with the
    /// destinations that they are still owed to.
    unsettled: FxHashMap<Identity, Vec<Arc<str>>>,
    high_key: Option<i32>,
    high_us: Option<i64>,
}

/// A batch in order. None of its events has passed before in this run.
#[derive(Debug)]
pub struct Ordered {
    pub batch: Batch,
    /// Events that a former run had routed. They go to these destinations only.
    pub replays: Vec<(usize, Vec<Arc<str>>)>,
}

/// An item that leaves the stage, with rising read sequence numbers.
#[derive(Debug)]
pub enum Leaving {
    Events(Ordered),
    Poison(Poison),
}

/// Result of one step.
#[derive(Debug, Default)]
pub struct OrderOutput {
    pub leaving: Vec<Leaving>,
    /// Events dropped because they had been read before.
    pub duplicates: usize,
    /// Pages dropped because they were read behind a page that could not be decoded. They are read
    /// again.
    pub dropped: usize,
    /// True if keys started again because this vCenter was restored from a backup.
    pub keys_restarted: bool,
}

impl Order {
    /// Continues from a checkpoint. A former run has read `seen`; the events in `unsettled` are
    /// still owed to their destinations.
    pub fn restore(seen: Seen, unsettled: FxHashMap<Identity, Vec<Arc<str>>>) -> Self {
        Order { seen, unsettled, ..Order::default() }
    }

    /// Goes on after `pages` pages of an earlier life of the source.
    pub fn after_pages(self, pages: u64) -> Self {
        Order { next_page: pages, ..self }
    }

    /// Takes a decoded page and returns everything that is now in order.
    pub fn step(&mut self, parsed: Parsed) -> OrderOutput {
        let mut output = OrderOutput::default();
        debug_assert!(parsed.number >= self.next_page, "a page number is used once");
        self.early.insert(parsed.number, parsed);
        while let Some(parsed) = self.early.remove(&self.next_page) {
            self.next_page += 1;
            match parsed.content {
                Content::Events(_) | Content::Poison(_) if self.has_ended(parsed.reading) => {
                    output.dropped += 1;
                }
                Content::Events(batch) => self.page(batch, &mut output),
                Content::Unreadable(_) => self.end(parsed.reading),
                Content::Poison(poison) => self.poison(poison, &mut output),
            }
        }
        output
    }

    fn has_ended(&self, reading: Option<u64>) -> bool {
        reading.is_some_and(|reading| self.ended.contains(&reading))
    }

    fn end(&mut self, reading: Option<u64>) {
        let Some(reading) = reading else { return };
        if self.ended.len() == READINGS_ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(reading);
    }

    fn page(&mut self, mut batch: Batch, output: &mut OrderOutput) {
        sort_by_key(&mut batch);
        output.keys_restarted |= self.note_keys(&batch);
        let mut replays = Vec::new();
        let before = batch.records.len();
        let mut kept = 0;
        let (seen, unsettled, next_seq) = (&mut self.seen, &mut self.unsettled, &mut self.next_seq);
        batch.records.retain_mut(|record| {
            if seen.insert(record.identity) {
                // The set may have forgotten an event that is still owed. It goes everywhere.
                if !unsettled.is_empty() {
                    unsettled.remove(&record.identity);
                }
            } else {
                // `is_empty` comes first: once a restart has replayed its events, this costs
                // nothing.
                let Some(destinations) =
                    (!unsettled.is_empty()).then(|| unsettled.remove(&record.identity)).flatten()
                else {
                    return false;
                };
                // An event that a former run could not decode was routed nowhere.
                if !destinations.iter().any(|name| &**name == POISON) {
                    replays.push((kept, destinations));
                }
            }
            record.seq = *next_seq;
            *next_seq += 1;
            kept += 1;
            true
        });
        output.duplicates += before - kept;
        if kept > 0 {
            output.leaving.push(Leaving::Events(Ordered { batch, replays }));
        }
    }

    fn poison(&mut self, mut poison: Poison, output: &mut OrderOutput) {
        for record in &mut poison.batch.records {
            let raw = || &poison.batch.raw_page[record.raw.range()];
            (record.identity, record.id) = crate::event::event_id(
                &poison.batch.source.instance_uuid,
                record.key,
                record.created_us,
                raw,
            );
            if let Some(row) = poison.row {
                record.identity = Identity::of_inbox(row, 0);
                record.created_us = record.identity.minute_us();
            }
            // An event that was seen before a restart may be missing from the dead letters. Then it
            // still has to go there.
            let owed = match poison.row {
                None => self.unsettled.remove(&record.identity).is_some(),
                // The letter stands for every event of the row.
                Some(row) => {
                    let before = self.unsettled.len();
                    self.unsettled.retain(|identity, _| identity.inbox_row() != row);
                    self.unsettled.len() < before
                }
            };
            if !self.seen.insert(record.identity) && !owed {
                output.duplicates += 1;
                return;
            }
            record.seq = self.next_seq;
            self.next_seq += 1;
        }
        output.leaving.push(Leaving::Poison(poison));
    }

    /// Notes the newest key and time. Returns true if keys started again.
    fn note_keys(&mut self, batch: &Batch) -> bool {
        let Some(last) = batch.records.iter().rev().find(|record| record.key.is_some()) else { return false };
        let (Some(key), Some(created)) = (last.key, last.created_us) else { return false };
        // An event that is read again says nothing new.
        if self.high_us.is_some_and(|high| created <= high) {
            return false;
        }
        self.high_us = Some(created);
        // The wrapping difference stays small across the int32 wrap.
        let behind = self.high_key.map_or(0, |high| i64::from(high.wrapping_sub(key)));
        let restarted = behind > RESTART_KEYS;
        if restarted || behind <= 0 {
            self.high_key = Some(key);
        }
        if restarted {
            self.seen.restart(last.identity.minute);
        }
        restarted
    }

    /// Number of pages that were put in order.
    pub fn pages(&self) -> u64 {
        self.next_page
    }

    /// The latest createdTime read, microseconds since 1970 UTC.
    pub fn newest_us(&self) -> Option<i64> {
        self.high_us
    }

    /// The highest key read.
    pub fn high_key(&self) -> Option<i32> {
        self.high_key
    }

    /// Bytes of the set of seen events.
    pub fn seen_bytes(&self) -> usize {
        self.seen.bytes()
    }

    pub fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// Events that a former run left unsettled and that this run has not read again yet.
    pub fn awaited(&self) -> impl Iterator<Item = (&Identity, &[Arc<str>])> {
        self.unsettled.iter().map(|(identity, destinations)| (identity, destinations.as_slice()))
    }

    /// Gives up on events that vCenter no longer has: awaited events before `minute`. To be called
    /// when reading has passed them by the overlap. Returns their number.
    pub fn give_up(&mut self, minute: u32) -> usize {
        let before = self.unsettled.len();
        self.unsettled.retain(|identity, _| identity.minute >= minute);
        before - self.unsettled.len()
    }
}

/// Orders the records of a page by key. Keys are serial numbers: after `i32::MAX` comes `i32::MIN`.
/// Pages arrive in order or reversed, so this is cheap.
///
/// Keys may start again within the page, and then all of the lower ones have later times. In that
/// case the lower keys go last.
fn sort_by_key(batch: &mut Batch) {
    let Some(first) = batch.records.iter().find_map(|record| record.key) else { return };
    let serial = |record: &Record| record.key.map_or(0, |key| i64::from(key.wrapping_sub(first)));
    if !batch.records.is_sorted_by_key(serial) {
        batch.records.sort_by_key(serial);
    }
    let is_later = |a: Option<&Record>, b: Option<&Record>| {
        a.zip(b).and_then(|(a, b)| Some(a.created_us? > b.created_us?)).unwrap_or(false)
    };
    // The clock may have been set back between two keys that are far apart. Then not all events
    // with higher keys are older, so the ends of the page are compared as well.
    if is_later(batch.records.first(), batch.records.last())
        && let Some(at) = batch.records.windows(2).position(|pair| {
            serial(&pair[1]) - serial(&pair[0]) > RESTART_KEYS && is_later(pair.first(), pair.last())
        })
    {
        batch.records.rotate_left(at + 1);
    }
}

impl Ordered {
    /// Every event of the batch.
    pub fn all(&self) -> Selection {
        Selection::first(self.batch.records.len())
    }

    pub fn source(&self) -> &Arc<SourceInfo> {
        &self.batch.source
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::testing::{batch, source};
    use vsphere::DecodeError;

    fn parsed(page: u64, events: &[(i32, i64)]) -> Parsed {
        let content = Content::Events(batch(page, events));
        Parsed { source: source(), number: page, reading: Some(0), content }
    }

    fn keys(output: &OrderOutput) -> Vec<i32> {
        batches(output)
            .flat_map(|ordered| ordered.batch.records.iter().filter_map(|record| record.key))
            .collect()
    }

    fn batches(output: &OrderOutput) -> impl Iterator<Item = &Ordered> {
        output.leaving.iter().filter_map(|leaving| match leaving {
            Leaving::Events(ordered) => Some(ordered),
            Leaving::Poison(_) => None,
        })
    }

    #[test]
    fn pages_wait_for_the_ones_before_them() {
        let mut order = Order::default();
        assert!(order.step(parsed(1, &[(3, 3), (4, 4)])).leaving.is_empty());
        let output = order.step(parsed(0, &[(2, 2), (1, 1), (3, 3)]));
        assert_eq!(keys(&output), [1, 2, 3, 4]);
        assert_eq!(output.duplicates, 1);
        let seqs: Vec<u64> = batches(&output).flat_map(|o| o.batch.records.iter().map(|r| r.seq)).collect();
        assert_eq!(seqs, [0, 1, 2, 3]);
    }

    #[test]
    fn pages_behind_an_undecodable_page_wait_for_the_new_reading() {
        let unreadable = |page| Parsed {
            content: Content::Unreadable(DecodeError { offset: 0, reason: "cut".into() }),
            ..parsed(page, &[])
        };
        let damaged = |page| {
            let Content::Events(batch) = parsed(page, &[(7, 7)]).content else { unreachable!() };
            let poison = Poison { batch, reason: "damaged".into(), row: Some(9) };
            Parsed { content: Content::Poison(poison), ..parsed(page, &[]) }
        };
        let again = |page, events: &[(i32, i64)]| Parsed { reading: Some(1), ..parsed(page, events) };
        let mut order = Order::default();
        assert_eq!(keys(&order.step(parsed(0, &[(1, 1)]))), [1]);
        order.step(unreadable(1));
        let behind = order.step(parsed(2, &[(3, 3)]));
        assert_eq!((keys(&behind), behind.dropped), (vec![], 1));
        let row = order.step(damaged(3));
        assert!(row.leaving.is_empty() && row.dropped == 1, "nor does a damaged row pass");
        assert_eq!(keys(&order.step(again(4, &[(1, 1), (2, 2)]))), [2]);
        assert_eq!(keys(&order.step(again(5, &[(3, 3)]))), [3], "dropped is not seen");
    }

    /// Its former run stopped before the dead letter was stored.
    #[test]
    fn an_event_that_can_be_decoded_at_last_is_routed_as_a_new_one() {
        let mut order = Order::default();
        let first = order.step(parsed(0, &[(1, 1), (2, 2)]));
        let identities: Vec<_> =
            batches(&first).flat_map(|o| o.batch.records.iter().map(|r| r.identity)).collect();
        let owed = [POISON, "fn"].map(|name| vec![Arc::from(name)]);
        let mut order =
            Order::restore(std::mem::take(order.seen()), identities.into_iter().zip(owed).collect());
        let again = order.step(parsed(0, &[(1, 1), (2, 2)]));
        let replays: Vec<_> = batches(&again).flat_map(|o| o.replays.clone()).collect();
        assert_eq!((keys(&again), replays), (vec![1, 2], vec![(1, vec![Arc::from("fn")])]));
    }

    #[test]
    fn keys_that_wrap_stay_in_order_and_are_no_restart() {
        let mut order = Order::default();
        let output = order.step(parsed(0, &[(i32::MIN, 3), (i32::MAX, 2), (i32::MIN + 1, 4)]));
        assert_eq!(keys(&output), [i32::MAX, i32::MIN, i32::MIN + 1]);
        let output = order.step(parsed(1, &[(i32::MIN + 2, 5)]));
        assert!(!output.keys_restarted);
    }

    #[test]
    fn a_lower_key_with_a_later_time_is_a_restored_vcenter_and_its_events_pass() {
        let mut order = Order::default();
        assert!(!order.step(parsed(0, &[(50_000, 1_000_000_000)])).keys_restarted);
        let late = order.step(parsed(1, &[(100, 900_000_000)]));
        assert!(!late.keys_restarted, "lower key, earlier time: an event that became visible late");
        let restored = order.step(parsed(2, &[(101, 2_000_000_000)]));
        assert!(restored.keys_restarted);
        assert_eq!(keys(&restored), [101]);
        assert!(!order.step(parsed(3, &[(102, 3_000_000_000)])).keys_restarted, "said once");
    }

    #[test]
    fn restarted_keys_within_a_page_follow_the_earlier_ones() {
        for start in [50_000, i32::MIN + 20_000] {
            let again = start.wrapping_sub(40_000);
            let mut order = Order::default();
            let page = [(again, 5), (start, 3), (start + 1, 4), (again.wrapping_add(1), 6), (start - 1, 2)];
            let output = order.step(parsed(0, &page));
            assert_eq!(keys(&output), [start - 1, start, start + 1, again, again.wrapping_add(1)]);
            assert_eq!(order.high_key(), Some(again.wrapping_add(1)));
        }
        let mut order = Order::default();
        let filtered = order.step(parsed(0, &[(100_000, 2), (1, 1)]));
        assert_eq!(keys(&filtered), [1, 100_000], "what is between was left out");
    }

    #[test]
    fn old_events_that_are_read_again_have_no_newest_key() {
        let mut order = Order::default();
        let keys =
            [(775_000, 1), (i32::MAX - 1_000, 2), (i32::MIN + 100, 3), (775_001, 1), (i32::MIN + 200, 4)];
        for (page, (key, second)) in keys.into_iter().enumerate() {
            let output = order.step(parsed(page as u64, &[(key, second * 1_000_000_000)]));
            assert!(!output.keys_restarted, "{key}");
        }
        assert_eq!(order.high_key(), Some(i32::MIN + 200));
    }

    #[test]
    fn an_owed_event_that_the_seen_set_has_forgotten_goes_everywhere_once() {
        let owed = batch(0, &[(2, 2)]).records[0].identity;
        let unsettled = FxHashMap::from_iter([(owed, vec![Arc::from("slow")])]);
        let mut order = Order::restore(Seen::default(), unsettled);
        let output = order.step(parsed(0, &[(2, 2)]));
        assert_eq!(keys(&output), [2]);
        assert!(batches(&output).all(|ordered| ordered.replays.is_empty()), "not to the slow one alone");
        assert_eq!(order.awaited().count(), 0);
        assert_eq!(keys(&order.step(parsed(1, &[(2, 2)]))), [] as [i32; 0]);
    }

    #[test]
    fn after_a_restart_an_event_goes_only_to_its_unsettled_destinations() {
        let (first, second) =
            (batch(0, &[(1, 1)]).records[0].identity, batch(0, &[(2, 2)]).records[0].identity);
        let mut seen = Seen::default();
        seen.insert(first);
        seen.insert(second);
        let unsettled = FxHashMap::from_iter([(second, vec![Arc::from("slow")])]);
        let mut order = Order::restore(seen, unsettled);
        let output = order.step(parsed(0, &[(1, 1), (2, 2), (3, 3)]));
        assert_eq!(keys(&output), [2, 3]);
        assert_eq!(
            batches(&output).next().map(|o| &o.replays[..]),
            Some(&[(0, vec![Arc::from("slow")])][..])
        );
        assert_eq!(keys(&order.step(parsed(1, &[(2, 2)]))), [] as [i32; 0], "replayed once");
    }

    proptest! {
        /// Compares with a sorted set. Whatever the pages hold, and in whatever order they are
        /// decoded, each identity leaves once, at its first reading.
        #[test]
        fn each_event_leaves_once_in_the_order_of_first_reading(
            pages in prop::collection::vec(prop::collection::vec(0i32..40, 0..8), 1..10),
            shuffle in any::<u64>(),
        ) {
            let mut arrival: Vec<usize> = (0..pages.len()).collect();
            let mut state = shuffle | 1;
            for i in (1..arrival.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                arrival.swap(i, (state >> 33) as usize % (i + 1));
            }
            let mut order = Order::default();
            let mut left = Vec::new();
            for page in arrival {
                let events: Vec<(i32, i64)> = pages[page].iter().map(|key| (*key, i64::from(*key))).collect();
                let output = order.step(parsed(page as u64, &events));
                left.extend(keys(&output));
            }
            let mut expected = Vec::new();
            for page in &pages {
                let mut sorted = page.clone();
                sorted.sort();
                for key in sorted {
                    if !expected.contains(&key) {
                        expected.push(key);
                    }
                }
            }
            prop_assert_eq!(left, expected);
        }
    }
}
