//! Settle: tracks which events are settled everywhere, which limits how far the checkpoint may go.
//!
//! ```text
//!  seq:      0 … 999 │ 1000 … 1763 │ 1764 … 2763 │
//!  flight:   settled │ A: 3 left   │ A: -  B: 1k │
//!                      └── oldest_us = the oldest createdTime of the unsettled flights
//! ```
//!
//! An event is settled for a destination when the target has acknowledged it. It is also settled
//! when it is durable in the destination's spool or dead letters, or when the overflow policy has
//! dropped it.
//!
//! INVARIANT: the checkpoint never passes an unsettled event. `oldest_us` is no later than the
//! createdTime of every registered event that is not settled everywhere. The checkpoint (`core`)
//! makes reading start again no later than that.

use std::collections::VecDeque;

use crate::event::{Batch, Identity, Record, Selection};

use super::destination::DestinationId;

/// The events in flight of one source.
#[derive(Debug)]
pub struct Settle {
    flights: VecDeque<Flight>,
    /// Time at which reading began, microseconds since 1970 UTC.
    begin_us: i64,
    /// Latest createdTime registered, microseconds since 1970 UTC.
    newest_us: Option<i64>,
}

/// One batch that is not settled everywhere.
#[derive(Debug)]
struct Flight {
    first_seq: u64,
    identities: Box<[Identity]>,
    /// Oldest createdTime in the batch. If no event has one, the latest createdTime that was
    /// registered before the batch.
    oldest_us: i64,
    pending: Vec<(DestinationId, Selection)>,
}

impl Settle {
    /// Starts with nothing in flight. Reading begins at `begin_us`.
    pub fn new(begin_us: i64) -> Self {
        Settle { flights: VecDeque::new(), begin_us, newest_us: None }
    }

    /// Registers a batch that was routed to `destinations`. Must be called before any of it is
    /// offered.
    pub fn register(&mut self, batch: &Batch, destinations: &[(DestinationId, Selection)]) {
        let Some(first) = batch.records.first() else { return };
        let times = || batch.records.iter().filter_map(Record::position_us);
        let before_us = self.newest_us.unwrap_or(self.begin_us);
        self.newest_us = self.newest_us.max(times().max());
        if destinations.is_empty() {
            return;
        }
        debug_assert!(
            self.flights.back().is_none_or(|flight| flight.end() <= first.seq),
            "batches are registered in order"
        );
        self.flights.push_back(Flight {
            first_seq: first.seq,
            identities: batch.records.iter().map(|record| record.identity).collect(),
            oldest_us: times().min().unwrap_or(before_us),
            pending: destinations.to_vec(),
        });
    }

    /// Adds a destination of events of a registered batch that is not settled yet. Must be called
    /// before any of it is offered.
    pub fn add(&mut self, destination: DestinationId, batch: &Batch, selection: &Selection) {
        let Some(at) = batch.records.first().and_then(|first| self.find(first.seq)) else {
            debug_assert!(false, "the batch is registered and not settled");
            return;
        };
        let pending = &mut self.flights[at].pending;
        match pending.iter_mut().find(|(other, _)| *other == destination) {
            Some((_, all)) => all.add(selection),
            None => pending.push((destination, *selection)),
        }
    }

    /// Settles the events `selection` of `batch` for `destination`. Events that are not pending are
    /// ignored, because an acknowledgement may come twice.
    pub fn settled(&mut self, destination: DestinationId, batch: &Batch, selection: &Selection) {
        let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else { return };
        if last.seq - first.seq + 1 == batch.records.len() as u64 {
            // Fast path: the batch as it was registered, or the start of it.
            if let Some(at) = self.find(first.seq) {
                let flight = &mut self.flights[at];
                if flight.first_seq == first.seq {
                    flight.settle(destination, selection);
                    self.collect();
                    return;
                }
            }
        }
        for i in selection.iter() {
            let seq = batch.records[i].seq;
            if let Some(at) = self.find(seq) {
                let flight = &mut self.flights[at];
                flight.settle(destination, &Selection::one((seq - flight.first_seq) as usize));
            }
        }
        self.collect();
    }

    /// Oldest createdTime of the unsettled batches, microseconds since 1970 UTC. No unsettled event
    /// is older.
    pub fn oldest_us(&self) -> Option<i64> {
        self.flights.iter().filter(|flight| !flight.pending.is_empty()).map(|flight| flight.oldest_us).min()
    }

    /// Latest createdTime registered, microseconds since 1970 UTC.
    pub fn newest_us(&self) -> Option<i64> {
        self.newest_us
    }

    /// Iterates over every unsettled event, by destination.
    pub fn unsettled(&self) -> impl Iterator<Item = (DestinationId, Identity)> {
        self.flights.iter().flat_map(|flight| {
            flight.pending.iter().flat_map(|(destination, selection)| {
                selection.iter().map(|i| (*destination, flight.identities[i]))
            })
        })
    }

    /// The numbers of unsettled events, by batch and destination.
    pub fn pending(&self) -> impl Iterator<Item = (DestinationId, u64)> {
        let pending = self.flights.iter().flat_map(|flight| &flight.pending);
        pending.map(|(destination, selection)| (*destination, selection.len() as u64))
    }

    /// Number of unsettled events of the destinations that `which` selects.
    pub fn count(&self, which: impl Fn(DestinationId) -> bool) -> usize {
        let pending = self.flights.iter().flat_map(|flight| &flight.pending);
        pending.filter(|(destination, _)| which(*destination)).map(|(_, events)| events.len()).sum()
    }

    /// Settles all events of the destinations that `which` selects, because these destinations are
    /// gone. Returns the number of events.
    pub fn release(&mut self, which: impl Fn(DestinationId) -> bool) -> usize {
        let events = self.count(&which);
        for flight in &mut self.flights {
            flight.pending.retain(|(destination, _)| !which(*destination));
        }
        self.collect();
        events
    }

    /// Returns true if nothing is in flight.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty()
    }

    fn find(&self, seq: u64) -> Option<usize> {
        let after = self.flights.partition_point(|flight| flight.first_seq <= seq);
        let at = after.checked_sub(1)?;
        (seq < self.flights[at].end()).then_some(at)
    }

    /// Drops settled flights from the front. A settled flight in the middle stays until it is at
    /// the front.
    fn collect(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.pending.is_empty()) {
            self.flights.pop_front();
        }
    }
}

impl Flight {
    fn end(&self) -> u64 {
        self.first_seq + self.identities.len() as u64
    }

    fn settle(&mut self, destination: DestinationId, selection: &Selection) {
        if let Some(at) = self.pending.iter().position(|(other, _)| *other == destination) {
            self.pending[at].1.remove(selection);
            if self.pending[at].1.is_empty() {
                self.pending.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::event::testing::batch;

    fn registered(first_seq: u64, events: &[(i32, i64)]) -> Batch {
        let mut batch = batch(0, events);
        for (i, record) in batch.records.iter_mut().enumerate() {
            record.seq = first_seq + i as u64;
        }
        batch
    }

    #[test]
    fn the_checkpoint_never_passes_an_unsettled_event() {
        let (a, b) = (DestinationId(0), DestinationId(1));
        let mut settle = Settle::new(0);
        let first = registered(0, &[(1, 100), (2, 200)]);
        let second = registered(2, &[(3, 300)]);
        let all = Selection::first(2);
        settle.register(&first, &[(a, all), (b, Selection::one(1))]);
        settle.register(&second, &[(a, Selection::one(0))]);
        assert_eq!(settle.oldest_us(), Some(100));
        settle.settled(a, &first, &all);
        assert_eq!(settle.oldest_us(), Some(100), "b still waits for key 2");
        settle.settled(b, &first, &Selection::one(1));
        assert_eq!(settle.oldest_us(), Some(300));
        settle.settled(a, &second, &Selection::one(0));
        assert!(settle.is_settled());
        assert_eq!((settle.oldest_us(), settle.newest_us()), (None, Some(300)));
    }

    #[test]
    fn a_destination_that_is_gone_holds_nothing_back() {
        let (a, b) = (DestinationId(0), DestinationId(1));
        let mut settle = Settle::new(0);
        let (first, second) = (registered(0, &[(1, 100), (2, 200)]), registered(2, &[(3, 300)]));
        settle.register(&first, &[(a, Selection::first(2))]);
        settle.register(&second, &[(a, Selection::one(0)), (b, Selection::one(0))]);
        assert_eq!(settle.count(|destination| destination == a), 3);
        assert_eq!(settle.release(|destination| destination == a), 3);
        assert_eq!((settle.oldest_us(), settle.unsettled().collect::<Vec<_>>().len()), (Some(300), 1));
        // An answer that is late changes nothing.
        settle.settled(a, &first, &Selection::first(2));
        settle.settled(b, &second, &Selection::one(0));
        assert!(settle.is_settled());
    }

    #[test]
    fn an_event_without_a_destination_is_settled() {
        let mut settle = Settle::new(0);
        settle.register(&registered(0, &[(1, 100)]), &[]);
        assert!(settle.is_settled());
        assert_eq!((settle.oldest_us(), settle.newest_us()), (None, Some(100)));
    }

    proptest! {
        /// Compares with a naive list of (destination, seq). Both have the same unsettled events,
        /// and the resume time is no later than the oldest of them.
        #[test]
        fn agrees_with_a_naive_list(
            batches in prop::collection::vec((1usize..6, 0u8..8), 1..8),
            acks in prop::collection::vec((0usize..8, 0u32..3, prop::collection::vec(0usize..6, 0..6), any::<bool>()), 0..40),
        ) {
            let mut settle = Settle::new(0);
            let mut model: BTreeMap<(u32, u64), i64> = BTreeMap::new();
            let mut registered_batches = Vec::new();
            let mut seq = 0;
            for (n, mask) in batches {
                let events: Vec<(i32, i64)> = (0..n).map(|i| (seq as i32 + i as i32, (seq as i64 + i as i64) * 10)).collect();
                let batch = registered(seq, &events);
                let destinations: Vec<_> = (0..3).filter(|d| mask >> d & 1 == 1).map(|d| (DestinationId(d), Selection::first(n))).collect();
                for (destination, _) in &destinations {
                    for i in 0..n as u64 {
                        model.insert((destination.0, seq + i), (seq + i) as i64 * 10);
                    }
                }
                settle.register(&batch, &destinations);
                registered_batches.push(batch);
                seq += n as u64;
            }
            for (at, destination, selection, compacted) in acks {
                let Some(batch) = registered_batches.get(at) else { continue };
                let selection: Selection = selection.into_iter().filter(|i| *i < batch.records.len()).collect();
                for i in selection.iter() {
                    model.remove(&(destination, batch.records[i].seq));
                }
                if compacted {
                    let mut small = registered(0, &[]);
                    small.records = selection.iter().map(|i| batch.records[i]).collect();
                    let n = small.records.len();
                    settle.settled(DestinationId(destination), &small, &Selection::first(n));
                } else {
                    settle.settled(DestinationId(destination), batch, &selection);
                }
            }
            let mut unsettled: Vec<(u32, u32)> = settle.unsettled().map(|(d, identity)| (d.0, identity.key)).collect();
            unsettled.sort();
            let expected: Vec<(u32, u32)> = model.keys().map(|(d, seq)| (*d, *seq as u32)).collect();
            prop_assert_eq!(unsettled, expected);
            if let Some(oldest) = model.values().min() {
                prop_assert!(settle.oldest_us().expect("something is unsettled") <= *oldest);
            }
        }
    }
}
