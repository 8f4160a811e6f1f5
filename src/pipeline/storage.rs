//! The storage thread: the only owner of the store.
//!
//! ```text
//!  jobs: [Apply] [Apply] [Apply] [With] … ─► one transaction, one fsync ─► replies ─► the task
//! ```
//!
//! Writes that wait at the same time share one transaction and one fsync. A task, such as a read,
//! runs after the writes that were queued before it.
//!
//! After a storage error or a lost job the thread does no further job: it never continues with
//! unknown durability. The process ends, and the next one resumes from the last checkpoint.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::level::Level;
use crate::limits::STORE_GROUP_WRITES_MAX;
use crate::state::{CheckpointWrite, Storage, StoreError, Write, WriteOutcome};
use crate::supervise::{Heartbeat, Part, PartKind, Supervisor};

type Reply = Box<dyn FnOnce(Vec<WriteOutcome>) + Send>;
/// Is told each checkpoint that has become durable, on the storage thread.
pub type PositionSink = Arc<dyn Fn(&CheckpointWrite) + Send + Sync>;
type Task<S> = Box<dyn FnOnce(&mut S) -> Result<(), StoreError> + Send>;

enum Job<S> {
    Apply { writes: Vec<Write>, reply: Reply },
    With(Task<S>),
}

/// The sending end of the storage thread's queue. Jobs are done in order. After a failure of the
/// router none is done.
///
/// No sender waits to hand over a job. Each actor announces the number of jobs that it may have
/// waiting (see [`StoreHandle::expect`]), and the bound is the sum of these.
pub struct StoreHandle<S> {
    /// Unbounded, because the number of destinations is not known when the channel is made. `level`
    /// checks the bound.
    jobs: Sender<Job<S>>,
    level: Arc<Level>,
    supervisor: Supervisor,
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        StoreHandle {
            jobs: self.jobs.clone(),
            level: Arc::clone(&self.level),
            supervisor: self.supervisor.clone(),
        }
    }
}

impl<S: Storage + 'static> StoreHandle<S> {
    /// Starts the thread, for at most `jobs_max` jobs at a time. It ends when the last handle is
    /// dropped or at the first storage error, since it never continues with unknown durability.
    pub fn start(
        store: S,
        jobs_max: usize,
        positions: Option<PositionSink>,
        supervisor: &Supervisor,
    ) -> std::io::Result<(Self, JoinHandle<S>)> {
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let supervisor = supervisor.clone();
        let failing = supervisor.clone();
        let thread = supervisor.thread(Part::new(PartKind::Store, "store"), move |heartbeat| {
            run(store, &inbox, positions.as_ref(), heartbeat, &failing)
        })?;
        let level = Arc::new(Level::new("storage", jobs_max));
        Ok((StoreHandle { jobs, level, supervisor }, thread))
    }

    /// Raises the bound for another actor that has at most `jobs` waiting at a time.
    pub fn expect(&self, jobs: usize) {
        self.level.raise(jobs);
    }

    /// Makes `writes` durable in one transaction, then calls `reply` on the storage thread. After a
    /// storage error `reply` is never called.
    pub fn apply(&self, writes: Vec<Write>, reply: impl FnOnce(Vec<WriteOutcome>) + Send + 'static) {
        self.send(Job::Apply { writes, reply: Box::new(reply) });
    }

    /// Runs `task` with the store, on the storage thread.
    pub fn with(&self, task: impl FnOnce(&mut S) -> Result<(), StoreError> + Send + 'static) {
        self.send(Job::With(Box::new(task)));
    }

    /// Ends the process as a storage error would. No job is done after this.
    pub fn fail(&self, reason: String) {
        self.supervisor.fail(reason);
    }

    fn send(&self, job: Job<S>) {
        // Two senders may pass this check at once. That is harmless: the bound detects defects and
        // protects no resource.
        let waiting = self.jobs.len();
        if waiting >= self.level.bound() {
            return self.level.overflowed(&self.supervisor);
        }
        self.level.note(waiting + 1);
        // A thread that is gone has recorded its failure, and the process is about to end.
        let _ = self.jobs.send(job);
    }

    pub(super) fn level(&self) -> &Level {
        &self.level
    }
}

fn run<S: Storage>(
    mut store: S,
    inbox: &Receiver<Job<S>>,
    positions: Option<&PositionSink>,
    heartbeat: &Heartbeat,
    supervisor: &Supervisor,
) -> S {
    while let Ok(first) = inbox.recv() {
        let _step = heartbeat.step();
        let mut writes = Vec::new();
        let mut replies: Vec<(usize, Reply)> = Vec::new();
        let mut task = None;
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Apply { writes: more, reply } => {
                    replies.push((more.len(), reply));
                    writes.extend(more);
                }
                Job::With(with) => task = Some(with),
            }
            if task.is_none() && writes.len() < STORE_GROUP_WRITES_MAX {
                next = inbox.try_recv().ok();
            }
        }
        // INVARIANT: nothing is written after a failure of the router. If a job was lost, a later
        // job of the same sender may rely on it.
        if supervisor.failure().is_some() {
            break;
        }
        let result = apply(&mut store, &writes, positions, replies)
            .and_then(|()| task.map_or(Ok(()), |task| task(&mut store)));
        if let Err(error) = result {
            supervisor.fail(error.to_string());
            break;
        }
    }
    store
}

fn apply<S: Storage>(
    store: &mut S,
    writes: &[Write],
    positions: Option<&PositionSink>,
    replies: Vec<(usize, Reply)>,
) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    let outcomes = store.apply(writes)?;
    if let Some(sink) = positions {
        for (write, outcome) in writes.iter().zip(&outcomes) {
            if let (Write::Checkpoint(checkpoint), WriteOutcome::Done) = (write, outcome) {
                sink(checkpoint);
            }
        }
    }
    let mut outcomes = outcomes.into_iter();
    for (count, reply) in replies {
        reply(outcomes.by_ref().take(count).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{MemoryDisk, MemoryStore};

    /// Starts a thread that stays in its first job until the returned sender is dropped.
    fn busy(jobs_max: usize) -> (StoreHandle<MemoryStore>, JoinHandle<MemoryStore>, Sender<()>) {
        let (store, thread) = StoreHandle::start(
            MemoryStore::open(&MemoryDisk::default()),
            jobs_max,
            None,
            &Supervisor::default(),
        )
        .unwrap();
        let (begun, has_begun) = crossbeam_channel::bounded(1);
        let (let_go, waits) = crossbeam_channel::bounded::<()>(1);
        store.with(move |_| {
            begun.send(()).unwrap();
            // Returns when the other end is dropped.
            let _ = waits.recv();
            Ok(())
        });
        has_begun.recv().unwrap();
        (store, thread, let_go)
    }

    #[test]
    fn a_full_queue_ends_the_process_and_later_jobs_are_dropped() {
        let (store, thread, let_go) = busy(2);
        let (done, replies) = crossbeam_channel::unbounded();
        let job = |n: i32| {
            let done = done.clone();
            store.with(move |_| {
                done.send(n).unwrap();
                Ok(())
            });
        };
        (0..2).for_each(job);
        assert_eq!(store.supervisor.failure(), None);
        job(2);
        let reason = store.supervisor.failure().unwrap();
        assert!(reason.contains("`storage` is full with 2 messages"), "{reason}");
        drop(let_go);
        thread.join().unwrap();
        drop(done);
        assert_eq!(replies.iter().count(), 0);
    }

    #[test]
    fn an_actor_brings_room_for_its_jobs() {
        let (store, thread, let_go) = busy(1);
        store.expect(2);
        (0..3).for_each(|_| store.with(|_| Ok(())));
        assert_eq!((store.level().highest(), store.supervisor.failure()), (3, None));
        drop((let_go, store));
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        let (store, thread, let_go) = busy(1);
        store.with(|_| panic!("as it was told to"));
        drop(let_go);
        assert!(thread.join().is_err());
        assert!(store.supervisor.failure().unwrap().contains("`store` panicked: as it was told to"));
    }
}
