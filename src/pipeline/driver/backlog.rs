//! The backlog of a destination: how many events wait, where, and how old the oldest is.
//!
//! ```text
//!  every BACKLOG_INTERVAL ─► the engine: events in memory ──────────────┐
//!                         └► the store: size and first row of the spool ─┴─► gauges, log lines
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::falling_behind::{BacklogState, FallingBehind, Notice};
use super::{Driver, DriverMessage, now_us};
use crate::event::{Batch, Selection};
use crate::processor::{BatchSlice, DeliveryOutcome, DeliveryRequest};
use crate::source::ClockOffsets;
use crate::state::{Storage, StoreError, codec, spool_owner};
use crate::telemetry::histogram::Histogram;

/// The backlog of one destination, as last measured.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Backlog {
    spool: SpoolBacklog,
    /// True while the store is asked.
    is_asked: bool,
    behind: FallingBehind,
    /// Events that the target has taken since the start of the process.
    pub delivered: u64,
}

/// The events in a destination's spools.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pipeline) struct SpoolBacklog {
    events: u64,
    bytes: u64,
    /// Creation of the oldest event of the main spool's first row, microseconds since 1970 UTC by
    /// the router's clock.
    oldest_us: Option<i64>,
}

/// Creation of event `i`, microseconds since 1970 UTC by the router's clock. For an event of a push
/// source, whose sender may write any time, this is the time of its arrival.
fn created_us(batch: &Batch, i: usize, clocks: &ClockOffsets) -> Option<i64> {
    let record = &batch.records[i];
    match record.attributes.is_empty() {
        true => Some(record.created_us?.saturating_sub(clocks.get(batch.source.index))),
        false => Some(batch.produced_us),
    }
}

/// Creation of the first selected event, as [`created_us`]. The events of a batch are in the order
/// of their creation, so it is the oldest, but for events that appeared late.
fn oldest_us(batch: &Batch, selection: &Selection, clocks: &ClockOffsets) -> Option<i64> {
    created_us(batch, selection.iter().next()?, clocks)
}

impl Driver {
    /// Measures the backlog. The part in the spool follows with a message of the store.
    pub(super) fn look_at_backlog(&mut self) {
        let gauges = self.engine.gauges();
        if gauges.spooling || self.backlog.spool.events > 0 || gauges.parked_spools > 0 {
            self.ask_store();
        }
        let clocks = &self.shared.clocks;
        let mut oldest = self.backlog.spool.oldest_us;
        self.engine.each_waiting(|batch, selection| {
            oldest = oldest.into_iter().chain(oldest_us(batch, selection, clocks)).min();
        });
        // A vCenter's clock may run ahead by more than its offset was when it was last read.
        let age = oldest.map_or(0, |oldest| now_us().saturating_sub(oldest).max(0));
        let memory_events = gauges.waiting_events + self.engine.events_under_way();
        let metrics = &self.metrics.backlog;
        metrics.memory_events.set(memory_events as f64);
        metrics.memory_bytes.set(gauges.waiting_bytes as f64);
        metrics.spool_events.set(self.backlog.spool.events as f64);
        metrics.spool_bytes.set(self.backlog.spool.bytes as f64);
        metrics.spool_limit.set(self.overflow.bytes_max as f64);
        metrics.oldest.set(age as f64 / 1e6);
        let state = BacklogState {
            is_spooling: gauges.spooling,
            events: memory_events as u64 + self.backlog.spool.events,
            oldest: Duration::from_micros(age.unsigned_abs()),
            delivered: self.backlog.delivered,
        };
        let alert_age = self.engine.alert_age();
        let Some(notice) = self.backlog.behind.step(self.now(), alert_age, state) else { return };
        let (destination, events, oldest_s) = (&*self.name, state.events, state.oldest.as_secs());
        match notice {
            Notice::Spools => {
                tracing::warn!(
                    destination,
                    events,
                    "new events wait on disk: the target takes fewer than arrive"
                );
            }
            Notice::Late => {
                tracing::warn!(
                    destination,
                    events,
                    oldest_s,
                    "the target falls behind: the oldest event is older than `alertAge`"
                );
            }
            Notice::Long { needs } => {
                let hours = needs.as_secs() / 3_600;
                tracing::warn!(
                    destination,
                    events,
                    hours,
                    "the target needs more than an hour for the waiting events"
                );
            }
            Notice::CaughtUp => tracing::info!(destination, "the target has caught up"),
        }
    }

    /// Asks the store for the size of the spools, and for the oldest event of the main one.
    fn ask_store(&mut self) {
        if std::mem::replace(&mut self.backlog.is_asked, true) {
            return;
        }
        let (name, mailbox) = (Arc::clone(&self.name), self.mailbox.clone());
        let (sources, clocks) = (self.shared.sources.clone(), Arc::clone(&self.shared.clocks));
        self.shared.store.with(move |store| {
            let mut found = SpoolBacklog::default();
            let own = store.spools().range(name.to_string()..);
            let own = own.take_while(|(spool, _)| spool.starts_with(&*name));
            for (_, size) in own.filter(|(spool, _)| spool_owner(spool).0 == &*name) {
                found.events += size.events;
                found.bytes += size.bytes;
            }
            if let Some(row) = store.reader().peek(&name, 0, 1)?.first() {
                let batch = codec::decode(&row.blob, |source| sources.index_of(source));
                let batch = batch.map_err(|error| StoreError::Damaged {
                    path: store.dir().to_owned(),
                    what: format!("row {} of the spool of `{name}`: {error}", row.row),
                })?;
                found.oldest_us = oldest_us(&batch, &row.left(), &clocks);
            }
            mailbox.send(DriverMessage::SpoolMeasured(found));
            Ok(())
        });
    }

    pub(super) fn spool_measured(&mut self, spool: SpoolBacklog) {
        self.backlog.is_asked = false;
        self.backlog.spool = spool;
    }
}

/// Records the delivery times of the events that the target accepted. The events of one slice come
/// from one page and count with the first of them: one by one would cost time for each event.
pub(super) fn record_delivery(
    request: &DeliveryRequest,
    outcome: &DeliveryOutcome,
    clocks: &ClockOffsets,
    seconds: &Histogram,
) {
    let mut failures = match outcome {
        DeliveryOutcome::Delivered => None,
        DeliveryOutcome::Failed(_) => return,
        DeliveryOutcome::Partial(failures) => Some(failures.iter()),
    };
    let now = now_us();
    for BatchSlice { batch, selection } in &request.slices {
        let accepted = match &mut failures {
            None => selection.len(),
            Some(failures) => failures.take(selection.len()).filter(|failure| failure.is_none()).count(),
        };
        if accepted > 0
            && let Some(oldest) = oldest_us(batch, selection, clocks)
        {
            let age = Duration::from_micros(now.saturating_sub(oldest).max(0).unsigned_abs());
            seconds.record(age, accepted as u64);
        }
    }
}
