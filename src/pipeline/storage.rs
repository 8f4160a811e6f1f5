//! The storage thread: the one owner of the store. Writes that wait together share one transaction and one fsync.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::watch;

use crate::limits::STORE_GROUP_WRITES_MAX;
use crate::state::{Storage, StoreError, Write, WriteOutcome};

type Reply = Box<dyn FnOnce(Vec<WriteOutcome>) + Send>;
type Task<S> = Box<dyn FnOnce(&mut S) -> Result<(), StoreError> + Send>;

enum Job<S> {
    Apply { writes: Vec<Write>, reply: Reply },
    With(Task<S>),
    Fail(String),
}

/// The way to the storage thread. Jobs are done in order; after a storage error none is, and `failed` says why.
pub struct StoreHandle<S> {
    jobs: Sender<Job<S>>,
    failed: watch::Receiver<Option<String>>,
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        StoreHandle { jobs: self.jobs.clone(), failed: self.failed.clone() }
    }
}

impl<S: Storage + 'static> StoreHandle<S> {
    /// Starts the thread. It ends when the last handle is dropped, or at the first storage error: it never carries on with unknown durability.
    pub fn start(store: S) -> std::io::Result<(Self, JoinHandle<S>)> {
        // Unbounded: every job holds events under a memory permit, or is one of a few a second a source.
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let (fail, failed) = watch::channel(None);
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || run(store, &inbox, &fail))?;
        Ok((StoreHandle { jobs, failed }, thread))
    }

    /// Makes `writes` durable in one transaction, then calls `reply` on the storage thread. After a storage error `reply` is never called.
    pub fn apply(&self, writes: Vec<Write>, reply: impl FnOnce(Vec<WriteOutcome>) + Send + 'static) {
        // A thread that is gone has said so in `failed`; the process is about to end.
        let _ = self.jobs.send(Job::Apply { writes, reply: Box::new(reply) });
    }

    /// Runs `task` with the store, on its thread.
    pub fn with(&self, task: impl FnOnce(&mut S) -> Result<(), StoreError> + Send + 'static) {
        let _ = self.jobs.send(Job::With(Box::new(task)));
    }

    /// Stops the storage thread, and with it the process, as a storage error would: a part of the process is gone that nothing can do without.
    pub fn fail(&self, reason: String) {
        let _ = self.jobs.send(Job::Fail(reason));
    }

    /// What stopped the storage thread.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }
}

fn run<S: Storage>(mut store: S, inbox: &Receiver<Job<S>>, fail: &watch::Sender<Option<String>>) -> S {
    while let Ok(first) = inbox.recv() {
        let mut writes = Vec::new();
        let mut replies: Vec<(usize, Reply)> = Vec::new();
        let (mut task, mut reason) = (None, None);
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Apply { writes: more, reply } => {
                    replies.push((more.len(), reply));
                    writes.extend(more);
                }
                Job::With(with) => task = Some(with),
                Job::Fail(why) => reason = Some(why),
            }
            if task.is_none() && reason.is_none() && writes.len() < STORE_GROUP_WRITES_MAX {
                next = inbox.try_recv().ok();
            }
        }
        let result =
            apply(&mut store, &writes, replies).and_then(|()| task.map_or(Ok(()), |task| task(&mut store)));
        if let Some(reason) = result.err().map(|error| error.to_string()).or(reason) {
            fail.send_replace(Some(reason));
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
