//! The core: the stages order, route and settle of all sources, and the checkpoints that result.
//!
//! ```text
//!  decoded page ─► order ─► route ─┬─► offers to destinations
//!                                  └─► settle ◄─ settlements from destinations
//!                                        └─► checkpoint: position, known and unsettled events
//! ```
//!
//! The core runs on one thread and has no locks, no clock and no I/O. So the simulation drives the
//! same code that production runs.
//!
//! INVARIANT: a batch is registered with `settle` before any of it is offered.
//! INVARIANT: a checkpoint describes a single moment. The events that it names as known and those
//! that it names as unsettled belong together.

mod changes;
mod flow;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustc_hash::FxHashMap;
use uuid::Uuid;

pub use self::changes::NotSettled;
use self::flow::{Begun, Flow};
use super::destination::{DestinationId, Destinations, undecided_processor};
use super::order::{Leaving, Order};
use super::parse::{Parsed, Poison};
use super::route::Route;
use super::seen::Seen;
use super::settle::Settle;
use super::undecided::{UndecidedGauges, UndecidedJob, UndecidedReply};
use crate::event::{Batch, Identity, Selection, SourceInfo, minute_of};
use crate::limits::SEEN_HELD_MAX;
use crate::processor::BatchSlice;
use crate::source::{BeginError, Found, Progress, Start};
use crate::state::{Checkpoint, CheckpointWrite};

/// Stands for the dead letters of unreadable events. Such an event is unsettled for this
/// destination until it is stored as a dead letter.
pub const POISON: &str = "(unreadable)";

/// An instruction that follows from a page.
#[derive(Debug)]
pub enum Output {
    /// Events that were read for the first time, before they are offered.
    Read(Arc<Batch>),
    /// Events for a destination, in order.
    Offer { destination: DestinationId, slice: BatchSlice },
    /// An event to store as a dead letter with its raw bytes. Then it is settled for `destination`.
    Poison { destination: DestinationId, poison: Poison },
}

/// Counts of one page, for the metrics and the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    pub events: usize,
    pub duplicates: usize,
    pub keys_restarted: bool,
}

/// The pipeline's state between the decoder and the destinations.
pub struct Core {
    sources: Vec<Flow>,
    route: Route,
    pub destinations: Destinations,
    poison: DestinationId,
}

/// The next resume time, microseconds since 1970 UTC. A restarted source begins to read one overlap
/// before it, which is never later than the oldest unsettled event.
///
/// An event that became visible late is older than the last resume time. If the overlap reaches
/// that event, the resume time stays: a step back would move reading to before the start of the
/// seen set.
///
/// The resume time does not pass `position_us`, the time up to which the source has read. Otherwise
/// an event with a time in the future would make a restarted source skip the present.
fn resume(
    last_us: i64,
    newest_us: Option<i64>,
    oldest_us: Option<i64>,
    overlap_us: i64,
    position_us: i64,
) -> i64 {
    let us = match oldest_us {
        None => last_us.max(newest_us.unwrap_or(last_us)),
        Some(oldest) if oldest >= last_us => oldest,
        Some(oldest) if oldest >= last_us.saturating_sub(overlap_us) => last_us,
        Some(oldest) => oldest.saturating_add(overlap_us),
    };
    us.min(position_us.max(last_us))
}

/// First minute to remember so that no event from `kept_us` on is taken twice. An event's minute
/// may differ by one between two readings.
fn first_minute(kept_us: i64) -> u32 {
    minute_of(kept_us).saturating_sub(1)
}

impl Core {
    /// `sources` holds the name and the overlap in microseconds, by source index.
    pub fn new(sources: Vec<(String, i64)>, route: Route, mut destinations: Destinations) -> Self {
        let poison = destinations.intern(usize::MAX, POISON, "");
        let sources = sources.into_iter().map(|(name, overlap_us)| Flow::new(name, overlap_us)).collect();
        Core { sources, route, destinations, poison }
    }

    /// Decides the start of `source` from the vCenter that it found and its stored checkpoint. Also
    /// returns the checkpoint that has to be durable before the first read.
    pub fn begin(
        &mut self,
        source: usize,
        found: &Found,
        stored: Option<Checkpoint>,
    ) -> Result<(Start, CheckpointWrite), BeginError> {
        let flow = &mut self.sources[source];
        if let Some(stored) = stored.as_ref().filter(|stored| stored.instance_uuid != found.instance_uuid) {
            return Err(BeginError::OtherInstance {
                source_name: flow.name.clone(),
                expected: stored.instance_uuid,
                found: found.instance_uuid,
            });
        }
        let info = Arc::new(SourceInfo {
            index: source,
            name: flow.name.clone(),
            url: found.url.clone(),
            instance_uuid: found.instance_uuid,
            api_version: found.api_version.clone(),
        });
        let (mut order, resume_us, first_us, begin_us) = match stored {
            None => (Order::default(), found.start_us, Some(found.start_us), found.start_us),
            Some(stored) => {
                let mut unsettled: FxHashMap<Identity, Vec<Arc<str>>> = FxHashMap::default();
                for (destination, identities) in stored.unsettled {
                    let name: Arc<str> = destination.into();
                    // A destination that was removed or renamed holds nothing back.
                    if self.route.destination(&name, &mut self.destinations).is_none() {
                        tracing::error!(source = %flow.name, destination = %name, events = identities.len(),
                            "unsettled events of a destination that is not configured any more are discarded");
                        continue;
                    }
                    for identity in identities {
                        unsettled.entry(identity).or_default().push(Arc::clone(&name));
                    }
                }
                let order = Order::restore(Seen::restore(stored.seen), unsettled);
                // INVARIANT: the overlap never reaches events from before the first start, which
                // were skipped on purpose.
                let again_us = stored.resume_us.saturating_sub(flow.overlap_us);
                let begin_us = again_us.max(stored.first_us.unwrap_or(again_us));
                (order, stored.resume_us, stored.first_us, begin_us)
            }
        };
        // Minutes older than the overlap requires were kept for a sweep.
        let is_held = |first_us: &i64| minute_of(*first_us) < first_minute(resume_us - flow.overlap_us);
        let unswept_us = order.seen().first_us().filter(is_held).unwrap_or(i64::MAX);
        let progress = Arc::new(Progress::new(resume_us, unswept_us));
        let settle = Settle::new(resume_us);
        flow.begun = Some(Begun {
            info: Arc::clone(&info),
            order: order.after_pages(flow.pages),
            settle,
            progress: Arc::clone(&progress),
            resume_us,
            first_us,
            changed: true,
            inbox_row: 0,
            known: Vec::new(),
        });
        let write = self.checkpoint_of(source).expect("it has just begun");
        Ok((Start { info, begin_us, floor_us: first_us.unwrap_or(begin_us), progress }, write))
    }

    /// Takes a decoded page through order and route.
    pub fn page(&mut self, parsed: Parsed, outputs: &mut Vec<Output>) -> PageCounts {
        let Some(flow) = self.sources[parsed.source.index].begun.as_mut() else {
            return PageCounts::default();
        };
        let ordered = flow.order.step(parsed);
        // A source that says nothing of its position reads nothing again.
        let position_us = flow.progress.position_us.load(Relaxed);
        if position_us < i64::MAX {
            let forgotten = flow.order.seen().forget_excess(minute_of(position_us));
            if forgotten > 0 {
                tracing::debug!(source = %flow.info.name, minutes = forgotten, "the set of seen events is full; forgotten events may be delivered again");
            }
        }
        flow.progress.pages_ordered.store(flow.order.pages(), Relaxed);
        let mut counts = PageCounts {
            duplicates: ordered.duplicates,
            keys_restarted: ordered.keys_restarted,
            ..PageCounts::default()
        };
        if ordered.keys_restarted {
            flow.progress.restarted.store(true, Relaxed);
        }
        for leaving in ordered.leaving {
            flow.changed = true;
            let ordered = match leaving {
                Leaving::Events(ordered) => ordered,
                Leaving::Poison(poison) => {
                    counts.events += 1;
                    flow.inbox_row = poison.row.unwrap_or(flow.inbox_row);
                    flow.settle.register(&poison.batch, &[(self.poison, Selection::one(0))]);
                    outputs.push(Output::Poison { destination: self.poison, poison });
                    continue;
                }
            };
            counts.events += ordered.batch.records.len();
            if let Some(record) = ordered.batch.records.last().filter(|record| !record.attributes.is_empty())
            {
                flow.inbox_row = record.identity.inbox_row();
            }
            let routed = self.route.step(&ordered.batch, &ordered.replays, &mut self.destinations);
            flow.settle.register(&ordered.batch, &routed.all);
            let batch = Arc::new(ordered.batch);
            outputs.push(Output::Read(Arc::clone(&batch)));
            for (destination, selection) in routed.all {
                let slice = BatchSlice { batch: Arc::clone(&batch), selection };
                // While a processor is undecided, all of its events take the same way, also those
                // that a former run owed to one of its functions.
                match self.route.undecided(self.destinations.get(destination).processor) {
                    Some(undecided) => undecided.put(destination, slice),
                    None => outputs.push(Output::Offer { destination, slice }),
                }
            }
        }
        counts
    }

    /// Bytes of the sets of seen events of all sources.
    pub fn seen_bytes(&self) -> usize {
        let begun = self.sources.iter().filter_map(|flow| flow.begun.as_ref());
        begun.map(|begun| begun.order.seen_bytes()).sum()
    }

    /// The jobs that undecided processors have for the store, by processor index. To be called
    /// after every page and every reply, and at intervals. Events that the store has no room for
    /// may come back as `outputs`.
    pub fn undecided_jobs(&mut self, now: Duration, outputs: &mut Vec<Output>) -> Vec<(usize, UndecidedJob)> {
        self.route.go_live(&mut self.destinations);
        let mut jobs = Vec::new();
        for processor in 0..self.route.processors() {
            // The events of a removed processor stay on disk.
            let is_known = self.route.is_known(processor) && !self.route.is_removed(processor);
            let Some(undecided) = self.route.undecided(processor) else { continue };
            let taken_back = if is_known { undecided.take_back() } else { Vec::new() };
            jobs.extend(undecided.jobs(now, is_known).into_iter().map(|job| (processor, job)));
            for (destination, slice) in taken_back {
                self.offer_again(processor, destination, slice, outputs);
            }
        }
        jobs
    }

    /// Offers events that were to be stored. Those for a pseudo-destination are decided now.
    fn offer_again(
        &mut self,
        processor: usize,
        destination: DestinationId,
        slice: BatchSlice,
        outputs: &mut Vec<Output>,
    ) {
        if destination != self.route.pseudo_destination(processor, &mut self.destinations) {
            return outputs.push(Output::Offer { destination, slice });
        }
        let to = self.route.destinations_of(processor, &slice, &mut self.destinations);
        if let Some(flow) = self.sources[slice.batch.source.index].begun.as_mut() {
            to.iter().for_each(|(to, selection)| flow.settle.add(*to, &slice.batch, selection));
        }
        self.settled(destination, &slice);
        outputs.extend(to.into_iter().map(|(destination, selection)| Output::Offer {
            destination,
            slice: BatchSlice { batch: Arc::clone(&slice.batch), selection },
        }));
    }

    /// Takes the store's reply to a job of an undecided processor. Returns the next job, if it
    /// follows from the reply, and the destinations whose spools have a row more.
    pub fn undecided_done(
        &mut self,
        now: Duration,
        processor: usize,
        reply: UndecidedReply,
    ) -> (Option<UndecidedJob>, Vec<DestinationId>) {
        let Core { route, destinations, .. } = self;
        match reply {
            UndecidedReply::Appended(is_written) => {
                let pseudo = route.pseudo_destination(processor, destinations);
                let appended = route.undecided_queue(processor).appended(now, is_written, pseudo);
                appended.iter().for_each(|(destination, slice)| self.settled(*destination, slice));
                let added = appended.into_iter().map(|(destination, _)| destination);
                (None, added.filter(|destination| *destination != pseudo).collect())
            }
            UndecidedReply::Fetched(None) => {
                route.undecided_queue(processor).fetched_none();
                (None, Vec::new())
            }
            UndecidedReply::Fetched(Some((row, slice))) => {
                let to = route.destinations_of(processor, &slice, destinations);
                let job = route.undecided_queue(processor).fetched(row, slice, to);
                (Some(UndecidedJob::Move(job)), Vec::new())
            }
            UndecidedReply::Moved(is_written) => {
                (None, route.undecided_queue(processor).moved(now, is_written))
            }
        }
    }

    /// Returns true if the events of a processor do not go to its destinations directly yet.
    pub fn is_undecided(&mut self, processor: usize) -> bool {
        self.route.undecided(processor).is_some()
    }

    /// The state of the queue of a processor, and true if its functions or rules are known.
    pub fn undecided_gauges(&mut self, processor: usize) -> (UndecidedGauges, bool) {
        (self.route.undecided_queue(processor).gauges(), self.route.is_known(processor))
    }

    /// Number of destinations that events may go to; see [`Route::reached`].
    pub fn reached(&self) -> usize {
        self.route.reached()
    }

    /// The destination of this name, even if it had no event in this run. `None` if its processor
    /// is not configured, or if the name is that of a pseudo-destination.
    pub fn destination(&mut self, name: &str) -> Option<DestinationId> {
        if undecided_processor(name).is_some() {
            return None;
        }
        self.route.destination(name, &mut self.destinations).filter(|id| *id != self.poison)
    }

    /// Records that `slice` is settled for `destination`.
    pub fn settled(&mut self, destination: DestinationId, slice: &BatchSlice) {
        if let Some(flow) = self.sources[slice.batch.source.index].begun.as_mut() {
            flow.changed = true;
            flow.settle.settled(destination, &slice.batch, &slice.selection);
        }
    }

    /// Checkpoints of the sources that changed since the last call.
    pub fn checkpoints(&mut self) -> Vec<CheckpointWrite> {
        let changed = |flow: &Flow| flow.begun.as_ref().is_some_and(|begun| begun.changed);
        let moved: Vec<usize> =
            (0..self.sources.len()).filter(|source| changed(&self.sources[*source])).collect();
        moved.into_iter().filter_map(|source| self.checkpoint_of(source)).collect()
    }

    /// Puts the contents of a refused checkpoint into the next one.
    pub fn refused(&mut self, write: &CheckpointWrite) {
        for flow in self.sources.iter_mut().filter(|flow| flow.name == write.source) {
            if let Some(begun) = &mut flow.begun {
                begun.changed = true;
                begun.known.clear();
                begun.order.seen().mark_dirty(write.dirty.iter().map(|(minute, _)| *minute));
            }
        }
    }

    pub(super) fn checkpoint_of(&mut self, source: usize) -> Option<CheckpointWrite> {
        let flow = &mut self.sources[source];
        let begun = flow.begun.as_mut()?;
        begun.changed = false;
        // Events that a former run left unsettled, and that this run has not read again, are
        // unsettled as well. Once reading has passed such an event by the overlap, vCenter no
        // longer has it.
        let position_us = begun.progress.position_us.load(Relaxed);
        if let Some(newest) = begun.order.newest_us().map(|newest| newest.min(position_us)) {
            let gone =
                begun.order.give_up(minute_of(newest.saturating_sub(flow.overlap_us)).saturating_sub(1));
            if gone > 0 {
                tracing::error!(source = %flow.name, events = gone, "unsettled events of a former run are no longer in vCenter's history");
            }
        }
        let mut unsettled: FxHashMap<Arc<str>, Vec<Identity>> = FxHashMap::default();
        let mut awaited_us = None;
        for (identity, destinations) in begun.order.awaited() {
            // An identity without a time could lie anywhere. The resume time stays until that event
            // is read again.
            let minute_us = identity.minute_us().unwrap_or(begun.resume_us);
            awaited_us = Some(awaited_us.map_or(minute_us, |us: i64| us.min(minute_us)));
            for destination in destinations {
                unsettled.entry(Arc::clone(destination)).or_default().push(*identity);
            }
        }
        for (destination, identity) in begun.settle.unsettled() {
            unsettled.entry(Arc::clone(&self.destinations.get(destination).name)).or_default().push(identity);
        }
        let oldest_us = begun.settle.oldest_us().into_iter().chain(awaited_us).min();
        let newest_us = begun.settle.newest_us();
        let resume_us = resume(begun.resume_us, newest_us, oldest_us, flow.overlap_us, position_us);
        begun.resume_us = resume_us;
        begun.progress.resume_us.store(resume_us, Relaxed);
        let high_key = begun.order.high_key();
        let seen = begun.order.seen();
        let needed_us = resume_us.saturating_sub(flow.overlap_us);
        let unswept_us = begun.progress.unswept_us.load(Relaxed);
        let held_us = if seen.len() <= SEEN_HELD_MAX { unswept_us } else { i64::MAX };
        let prune_before_minute = first_minute(needed_us.min(held_us));
        seen.prune(prune_before_minute);
        begun.progress.has_gaps.store(seen.has_gaps_since(prune_before_minute), Relaxed);
        // There may be ten thousand names, so they are written only when they change.
        let known = self.route.known(&self.destinations);
        let destinations = (begun.known != known).then(|| known.clone());
        begun.known = known;
        // Rows are routed in order, so all rows before the first unsettled one are settled.
        let owed_rows = unsettled.values().flatten().map(Identity::inbox_row);
        let inbox_kept = match begun.inbox_row {
            0 => 0,
            row => owed_rows.min().map_or(row + 1, |owed| owed.min(row + 1)),
        };
        Some(CheckpointWrite {
            source: flow.name.clone(),
            instance_uuid: begun.info.instance_uuid,
            resume_us,
            first_us: begun.first_us,
            high_key,
            dirty: seen.take_dirty(),
            prune_before_minute,
            inbox_kept,
            unsettled: unsettled
                .into_iter()
                .map(|(name, identities)| (name.to_string(), identities))
                .collect(),
            destinations,
        })
    }

    /// Returns true if every event that was read is settled everywhere.
    pub fn is_settled(&self) -> bool {
        self.sources.iter().all(|flow| flow.begun.as_ref().is_none_or(|begun| begun.settle.is_settled()))
    }

    /// The number of unsettled events of each destination.
    pub fn unsettled(&self) -> FxHashMap<DestinationId, u64> {
        let mut unsettled: FxHashMap<DestinationId, u64> = FxHashMap::default();
        for begun in self.sources.iter().filter_map(|flow| flow.begun.as_ref()) {
            for (destination, events) in begun.settle.pending() {
                *unsettled.entry(destination).or_default() += events;
            }
        }
        unsettled
    }

    /// The vCenter instance of a source, once the source has begun.
    pub fn instance(&self, source: usize) -> Option<Uuid> {
        Some(self.sources.get(source)?.begun.as_ref()?.info.instance_uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_resumes_at_the_oldest_unsettled_event() {
        let check = |newest: i64, oldest: Option<i64>, position: i64, expected: i64| {
            assert_eq!(resume(1_000, Some(newest), oldest, 100, position), expected, "{newest} {oldest:?}");
        };
        check(1_500, None, i64::MAX, 1_500);
        check(900, None, i64::MAX, 1_000);
        check(1_500, Some(1_200), i64::MAX, 1_200);
        // An event that became visible late, within reach of the overlap and out of it.
        check(1_500, Some(950), i64::MAX, 1_000);
        check(1_500, Some(800), i64::MAX, 900);
        // Events with a time in the future.
        check(9_000, None, 1_500, 1_500);
        check(9_000, Some(9_000), 1_500, 1_500);
        check(9_000, Some(9_000), 900, 1_000);
        check(9_000, Some(800), 1_500, 900);
    }
}
