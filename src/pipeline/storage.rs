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
use tokio::sync::watch;

use super::level::{Level, QueueLevel};
use crate::limits::STORE_GROUP_WRITES_MAX;
use crate::state::{Storage, StoreError, Write, WriteOutcome};

type Reply = Box<dyn FnOnce(Vec<WriteOutcome>) + Send>;
type Task<S> = Box<dyn FnOnce(&mut S) -> Result<(), StoreError> + Send>;

enum Job<S> {
    Apply { writes: Vec<Write>, reply: Reply },
    With(Task<S>),
}

/// The sending end of the storage thread's queue. Jobs are done in order. After a storage error
/// none is done, and `failed` gives the reason.
///
/// No sender waits to hand over a job. Each actor announces the number of jobs that it may have
/// waiting (see [`StoreHandle::expect`]), and the bound is the sum of these.
pub struct StoreHandle<S> {
    /// Unbounded, because the number of destinations is not known when the channel is made. `level`
    /// checks the bound.
    jobs: Sender<Job<S>>,
    level: Arc<Level>,
    fatal: Fatal,
}

/// Ends the process, because an indispensable part of it is gone or a message was lost. The next
/// process resumes from the last checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Fatal {
    reason: Arc<watch::Sender<Option<String>>>,
}

impl Fatal {
    /// Fails with this reason, unless there is an earlier one.
    fn fail(&self, reason: String) {
        self.reason.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert(reason);
            is_first
        });
    }

    /// Reason why the process ends, if it does.
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Reports a queue that is full, which is a defect. Its message is lost.
    pub fn overflowed(&self, level: &Level) {
        let QueueLevel { name: queue, bound, .. } = level.read();
        tracing::error!(queue, bound, "a queue holds more messages than it can by design");
        self.fail(format!("the queue `{queue}` is full with {bound} messages, which cannot be; this is a defect of the router, please report it"));
    }
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        StoreHandle { jobs: self.jobs.clone(), level: Arc::clone(&self.level), fatal: self.fatal.clone() }
    }
}

impl<S: Storage + 'static> StoreHandle<S> {
    /// Starts the thread, for at most `jobs_max` jobs at a time. It ends when the last handle is
    /// dropped or at the first storage error, since it never continues with unknown durability.
    pub fn start(store: S, jobs_max: usize) -> std::io::Result<(Self, JoinHandle<S>)> {
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let fatal = Fatal::default();
        let failing = fatal.clone();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || run(store, &inbox, &failing))?;
        let level = Arc::new(Level::new("storage", jobs_max));
        Ok((StoreHandle { jobs, level, fatal }, thread))
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

    /// Ends the process as a storage error would, because an indispensable part of it is gone. No
    /// job is done after this.
    pub fn fail(&self, reason: String) {
        self.fatal.fail(reason);
    }

    pub(super) fn fatal(&self) -> &Fatal {
        &self.fatal
    }

    fn send(&self, job: Job<S>) {
        // Two senders may pass this check at once. That is harmless: the bound detects defects and
        // protects no resource.
        let waiting = self.jobs.len();
        if waiting >= self.level.bound() {
            return self.fatal.overflowed(&self.level);
        }
        self.level.note(waiting + 1);
        // A thread that is gone has given its reason in `failed`, and the process is about to end.
        let _ = self.jobs.send(job);
    }

    pub(super) fn level(&self) -> &Level {
        &self.level
    }

    /// Watches for the failure that stopped the storage thread.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.fatal.reason.subscribe()
    }
}

/// A storage thread that panics also ends the process. Nothing else would report its end.
struct Watched<'a>(&'a Fatal);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the storage thread panicked; this is a defect of the router, please report it with the message above".into());
        }
    }
}

fn run<S: Storage>(mut store: S, inbox: &Receiver<Job<S>>, fatal: &Fatal) -> S {
    let _watched = Watched(fatal);
    while let Ok(first) = inbox.recv() {
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
        // INVARIANT: nothing is written after a lost job, since a later job of the same sender may
        // rely on it.
        if fatal.reason().is_some() {
            break;
        }
        let result =
            apply(&mut store, &writes, replies).and_then(|()| task.map_or(Ok(()), |task| task(&mut store)));
        if let Err(error) = result {
            fatal.fail(error.to_string());
            break;
        }
    }
    store
}

fn apply<S: Storage>(
    store: &mut S,
    writes: &[Write],
    replies: Vec<(usize, Reply)>,
) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    let mut outcomes = store.apply(writes)?.into_iter();
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
        let (store, thread) =
            StoreHandle::start(MemoryStore::open(&MemoryDisk::default()), jobs_max).unwrap();
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
    fn a_full_queue_ends_the_process_and_nothing_behind_it_is_done() {
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
        assert_eq!(*store.failed().borrow(), None);
        job(2);
        let reason = store.failed().borrow().clone().unwrap();
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
        assert_eq!((store.level().highest(), store.failed().borrow().clone()), (3, None));
        drop((let_go, store));
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        let (store, thread, let_go) = busy(1);
        store.with(|_| panic!("as it was told to"));
        drop(let_go);
        assert!(thread.join().is_err());
        assert!(store.failed().borrow().clone().unwrap().contains("storage thread panicked"));
    }

    #[test]
    fn the_first_reason_to_fail_is_kept() {
        let (store, thread, let_go) = busy(1);
        store.fail("first".into());
        store.fail("second".into());
        assert_eq!(store.failed().borrow().as_deref(), Some("first"));
        drop((let_go, store));
        thread.join().unwrap();
    }
}
