//! The I/O of undecided processors, on the core thread: has the store do their [`UndecidedJob`]s,
//! and reports in logs and metrics that events wait.
//!
//! Events are compressed on another thread: one row may go to hundreds of functions, and the core
//! thread serves all destinations. One append and one move of a processor are in flight at a time,
//! so this keeps their order.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{MoveJob, RegistryState, UndecidedGauges, UndecidedJob, UndecidedReply};
use crate::pipeline::control::{Control, ControlSender};
use crate::pipeline::core_thread::CoreThread;
use crate::pipeline::deliver::settings::Overflow;
use crate::pipeline::deliver::{SpoolKey, SpoolRow};
use crate::pipeline::destination::{Destinations, undecided_name};
use crate::pipeline::driver::{Shared, spool_writes};
use crate::processor::BatchSlice;
use crate::state::codec::{self, CodecError};
use crate::state::{SpoolAppend, SpoolMove, StoreError, Write, WriteOutcome};
use crate::supervise::Supervisor;
use crate::telemetry::metrics::UndecidedMetrics;

/// The reports about one undecided processor, from its first stored event or row on.
pub(in crate::pipeline) struct UndecidedReports {
    metrics: UndecidedMetrics,
    /// The gauges at the last report.
    last: UndecidedGauges,
    /// True if the log says that events wait for the functions or rules.
    is_told: bool,
    /// True if the log says that they wait for room in the store.
    is_full_told: bool,
}

impl CoreThread {
    /// Has the store do all jobs of undecided processors, and reports on these processors.
    pub(in crate::pipeline) fn look_at_undecided(&mut self) {
        if self.all_live {
            return;
        }
        let mut outputs = Vec::new();
        for (processor, job) in self.core.undecided_jobs(self.now(), &mut outputs) {
            self.undecided_job(processor, job);
        }
        self.carry_out(outputs);
        let mut all_live = true;
        let configured = (0..self.undecided.len()).filter(|processor| !self.core.is_removed(*processor));
        for processor in configured.collect::<Vec<_>>() {
            all_live &= self.report_undecided(processor);
        }
        self.all_live = all_live;
    }

    /// Takes the store's reply to a job of an undecided processor.
    pub(in crate::pipeline) fn undecided_done(
        &mut self,
        processor: usize,
        reply: UndecidedReply,
        refusal: Option<String>,
    ) {
        if let Some(reason) = refusal {
            self.tell_full(processor, &reason);
        }
        let (job, added) = self.core.undecided_done(self.now(), processor, reply);
        for destination in added {
            // The rows of a processor that was removed are counted if it comes back.
            if self.has_driver(destination) || !self.core.is_removed(processor) {
                self.mailbox(destination).row_added();
            }
        }
        if let Some(job) = job {
            self.undecided_job(processor, job);
        }
        self.look_at_undecided();
    }

    fn undecided_job(&mut self, processor: usize, job: UndecidedJob) {
        let overflow = self.settings.processors[processor].delivery.overflow;
        let shared = self.shared.clone();
        match job {
            UndecidedJob::Append { destination, slices } => {
                let name = Arc::clone(&self.core.destinations.get(destination).name);
                in_background(&self.runtime, &self.shared.supervisor, move || {
                    append(&shared, processor, &name, &overflow, slices);
                });
            }
            UndecidedJob::Fetch => {
                let name = undecided_name(&self.settings.processors[processor].name);
                fetch(&shared, processor, name);
            }
            UndecidedJob::Move(job) => {
                let names = names(&job, &self.core.destinations);
                in_background(&self.runtime, &self.shared.supervisor, move || {
                    move_row(&shared, processor, &names, &overflow, &job);
                });
            }
        }
    }

    /// Updates the metrics of a processor and logs the begin and the end of the time in which its
    /// events wait. Returns true if it is live.
    fn report_undecided(&mut self, processor: usize) -> bool {
        let (gauges, is_known) = self.core.undecided_gauges(processor);
        let state = match (gauges.is_live, is_known) {
            (true, _) => RegistryState::Live,
            (false, false) => RegistryState::Unknown,
            (false, true) => RegistryState::Moving,
        };
        self.registries.set(processor, state);
        let reports = &mut self.undecided[processor];
        if reports.is_none() && gauges.waiting_events == 0 && gauges.rows == 0 {
            return gauges.is_live;
        }
        let name = undecided_name(&self.settings.processors[processor].name);
        let reports = reports.get_or_insert_with(|| UndecidedReports {
            metrics: UndecidedMetrics::new(&name),
            last: UndecidedGauges::default(),
            is_told: false,
            is_full_told: false,
        });
        if gauges == reports.last {
            return gauges.is_live;
        }
        // Update the metrics.
        let (now, before, metrics) = (gauges.totals, reports.last.totals, &reports.metrics);
        metrics.waiting.set(gauges.waiting_events as f64);
        metrics.spooling.set(f64::from(u8::from(gauges.rows > 0)));
        metrics.spilled.increment(now.stored - before.stored);
        metrics.unwanted.increment(now.unwanted - before.unwanted);
        // Log changes.
        if !is_known && !reports.is_told {
            reports.is_told = true;
            tracing::warn!(destination = %name, "events wait on disk until this processor can read its functions or rules");
        }
        if gauges.is_live && !reports.last.is_live {
            let (events, unwanted) = (now.moved + now.unwanted, now.unwanted);
            tracing::info!(destination = %name, events, unwanted, "events that waited for functions or rules have been moved");
        }
        if reports.is_full_told && !gauges.is_full {
            reports.is_full_told = false;
            metrics.store_full.set(0.0);
            tracing::info!(destination = %name, "this destination no longer waits for room in the store");
        }
        reports.last = gauges;
        gauges.is_live
    }

    fn tell_full(&mut self, processor: usize, reason: &str) {
        let Some(reports) = &mut self.undecided[processor] else { return };
        if !std::mem::replace(&mut reports.is_full_told, true) {
            let destination = undecided_name(&self.settings.processors[processor].name);
            tracing::error!(%destination, reason, "this destination waits for room in the store");
            reports.metrics.store_full.set(1.0);
        }
    }
}

/// Runs `job` on a thread for blocking work. A job that panics sends no reply, so it ends the
/// process.
fn in_background(runtime: &Handle, supervisor: &Supervisor, job: impl FnOnce() + Send + 'static) {
    let supervisor = supervisor.clone();
    let task = runtime.spawn_blocking(job);
    runtime.spawn(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            supervisor.fail(format!("events that wait for functions or rules cannot be stored: {error}"));
        }
    });
}

/// The names of the destinations that a row is moved to.
pub(in crate::pipeline) fn names(job: &MoveJob, destinations: &Destinations) -> Vec<Arc<str>> {
    job.to.iter().map(|(destination, _)| Arc::clone(&destinations.get(*destination).name)).collect()
}

/// Builds the write that moves a row to the spools of `names`.
pub(in crate::pipeline) fn move_write(
    names: &[Arc<str>],
    overflow: &Overflow,
    job: &MoveJob,
) -> Result<Write, CodecError> {
    let append = |(name, (_, selection)): (&Arc<str>, &(_, _))| {
        let batch = codec::encode(&job.batch, selection)?;
        let alone = SpoolAppend::alone(&**name, &*job.batch.source.name, batch);
        let Overflow { bytes_max, free_disk_floor: disk_free_min, .. } = *overflow;
        Ok(SpoolAppend { bytes_max, disk_free_min, ..alone })
    };
    let appends = names.iter().zip(&job.to).map(append).collect::<Result<_, _>>()?;
    let SpoolRow(row) = job.row;
    Ok(Write::SpoolMove(SpoolMove { row, settled: job.settled, appends }))
}

fn append(shared: &Shared, processor: usize, name: &str, overflow: &Overflow, slices: Vec<BatchSlice>) {
    let slices: Vec<_> = slices.into_iter().map(|slice| (SpoolKey::Main, slice)).collect();
    apply(shared, processor, spool_writes(name, overflow, &slices), UndecidedReply::Appended);
}

fn move_row(shared: &Shared, processor: usize, names: &[Arc<str>], overflow: &Overflow, job: &MoveJob) {
    let write = move_write(names, overflow, job).map(|write| vec![write]);
    apply(shared, processor, write, UndecidedReply::Moved);
}

/// Gives writes to the store. `reply` gets true if they are done.
fn apply(
    shared: &Shared,
    processor: usize,
    writes: Result<Vec<Write>, CodecError>,
    reply: fn(bool) -> UndecidedReply,
) {
    let writes = match writes {
        Ok(writes) => writes,
        // The bounds on events prevent this. Stopping loses nothing.
        Err(error) => {
            return shared
                .store
                .fail(format!("events that wait for functions or rules cannot be stored: {error}"));
        }
    };
    let control = shared.control.clone();
    shared.store.apply(writes, move |outcomes| {
        let refusal = outcomes.iter().find_map(|outcome| match outcome {
            WriteOutcome::Full(full) => Some(full.to_string()),
            _ => None,
        });
        let is_written =
            outcomes.iter().all(|outcome| matches!(outcome, WriteOutcome::Row(_) | WriteOutcome::Done));
        answer(&control, processor, reply(is_written), refusal);
    });
}

fn answer(control: &ControlSender, processor: usize, reply: UndecidedReply, refusal: Option<String>) {
    // A core that has ended needs no reply.
    control.send(Control::Undecided { processor, reply, refusal });
}

/// Reads the first row of the spool. It takes memory at once, since moving it makes room.
fn fetch(shared: &Shared, processor: usize, name: String) {
    let (control, sources, budget) = (shared.control.clone(), shared.sources.clone(), shared.budget.clone());
    shared.store.with(move |store| {
        let first = store.reader().peek(&name, 0, 1)?.into_iter().next();
        let row = match first {
            None => None,
            Some(row) => {
                let selection = row.left();
                let decoded = codec::decode(&row.blob, |source| sources.index_of(source));
                let mut batch = decoded.map_err(|error| StoreError::Damaged {
                    path: store.dir().to_owned(),
                    what: format!("row {} of the spool of `{name}`: {error}", row.row),
                })?;
                batch.permit = budget.take(batch.size());
                Some((SpoolRow(row.row), BatchSlice { batch: Arc::new(batch), selection }))
            }
        };
        answer(&control, processor, UndecidedReply::Fetched(row), None);
        Ok(())
    });
}
