//! A part of the router, and its heartbeat.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::fault;
use super::limits::{DELIVERY_STALL_AFTER, SOURCE_STALL_AFTER, STEP_STALL_AFTER, STORE_STALL_AFTER};

/// The kind of a part. It decides how a stall is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A thread that decodes pages.
    Parse,
    Core,
    Store,
    /// The task that passes the first questions of sources to the core thread.
    Begins,
    /// The task of a destination.
    Delivery,
    Source,
    /// The task that refreshes the functions or rules of a processor.
    Registry,
    /// The task that keeps the lease of a source.
    Lease,
    Admin,
    Control,
    /// The task that proves that the runtime runs tasks.
    Runtime,
    Watchdog,
}

impl PartKind {
    /// Value of the metric label `part`.
    pub fn as_str(self) -> &'static str {
        match self {
            PartKind::Parse => "parse",
            PartKind::Core => "core",
            PartKind::Store => "store",
            PartKind::Begins => "begins",
            PartKind::Delivery => "delivery",
            PartKind::Source => "source",
            PartKind::Registry => "registry",
            PartKind::Lease => "lease",
            PartKind::Admin => "admin",
            PartKind::Control => "control",
            PartKind::Runtime => "runtime",
            PartKind::Watchdog => "watchdog",
        }
    }

    fn stall_after(self) -> Duration {
        match self {
            PartKind::Store => STORE_STALL_AFTER,
            PartKind::Delivery => DELIVERY_STALL_AFTER,
            PartKind::Source => SOURCE_STALL_AFTER,
            _ => STEP_STALL_AFTER,
        }
    }

    /// True if a part of this kind takes a turn at intervals even when it has nothing to do.
    fn is_never_idle(self) -> bool {
        matches!(self, PartKind::Source | PartKind::Runtime)
    }

    /// True if a part of this kind ends when the router stops. The others last as long as the
    /// process.
    pub(super) fn ends_at_stop(self) -> bool {
        use PartKind::{Begins, Core, Delivery, Parse, Source, Store};
        matches!(self, Parse | Core | Store | Begins | Delivery | Source)
    }

    /// True if a part of this kind ends with the core thread, which owns the other end of its
    /// queue. The end of the core thread is noticed by itself.
    pub(super) fn ends_with_core(self) -> bool {
        matches!(self, PartKind::Begins | PartKind::Delivery)
    }
}

type HasWork = Arc<dyn Fn() -> bool + Send + Sync>;

/// The description of a part.
#[derive(Clone)]
pub struct Part {
    pub kind: PartKind,
    pub name: Arc<str>,
    stall_after: Duration,
    has_work: Option<HasWork>,
}

impl Part {
    pub fn new(kind: PartKind, name: impl Into<Arc<str>>) -> Self {
        let has_work = kind.is_never_idle().then(|| Arc::new(|| true) as HasWork);
        Part { kind, name: name.into(), stall_after: kind.stall_after(), has_work }
    }

    /// Allows this much more time between two turns.
    pub fn slower_by(mut self, time: Duration) -> Self {
        self.stall_after += time;
        self
    }

    /// Tells when the part has work while it takes no turn. A part that has work and takes no turn
    /// is stalled.
    pub fn with_work(mut self, has_work: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.has_work = Some(Arc::new(has_work));
        self
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Part").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The heartbeat of a running part: a counter that moves at the start and at the end of each step.
/// It is odd during a step.
#[derive(Debug)]
pub struct Heartbeat {
    pub(super) part: Part,
    beats: AtomicU64,
    follows_peer: AtomicBool,
}

/// A step in progress.
#[must_use]
pub struct StepGuard<'a>(&'a Heartbeat);

impl Heartbeat {
    pub(super) fn new(part: Part) -> Self {
        Heartbeat { part, beats: AtomicU64::new(0), follows_peer: AtomicBool::new(false) }
    }

    /// Begins a step, which ends when the guard is dropped. A step computes or writes; it does not
    /// wait for work or for a peer.
    pub fn step(&self) -> StepGuard<'_> {
        self.beats.fetch_add(1, Relaxed);
        let guard = StepGuard(self);
        fault::point(&self.part.name);
        guard
    }

    /// Notes that this part ends because the peer at the other end of its queue is gone. The end of
    /// that peer is noticed by itself.
    pub fn follow_peer(&self) {
        self.follows_peer.store(true, Relaxed);
    }

    pub(super) fn follows_peer(&self) -> bool {
        self.follows_peer.load(Relaxed) || self.part.kind.ends_with_core()
    }

    /// Reads the heartbeat.
    pub(super) fn read(&self) -> HeartbeatReading {
        let beats = self.beats.load(Relaxed);
        let is_in_step = beats % 2 == 1;
        HeartbeatReading {
            beats,
            has_work: is_in_step || self.part.has_work.as_ref().is_some_and(|has_work| has_work()),
            stall_after: fault::stall_after(&self.part.name, self.part.stall_after),
        }
    }
}

impl Drop for StepGuard<'_> {
    fn drop(&mut self) {
        self.0.beats.fetch_add(1, Relaxed);
    }
}

/// A heartbeat at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeartbeatReading {
    pub beats: u64,
    pub has_work: bool,
    pub stall_after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_work_during_a_step_and_when_it_says_so() {
        let heartbeat = Heartbeat::new(Part::new(PartKind::Core, "core"));
        assert!(!heartbeat.read().has_work);
        let step = heartbeat.step();
        assert!(heartbeat.read().has_work);
        drop(step);
        assert!(!heartbeat.read().has_work);
        let has_mail = Arc::new(AtomicBool::new(false));
        let part = Part::new(PartKind::Delivery, "delivery/a");
        let heartbeat = Heartbeat::new(part.with_work({
            let has_mail = Arc::clone(&has_mail);
            move || has_mail.load(Relaxed)
        }));
        assert!(!heartbeat.read().has_work);
        has_mail.store(true, Relaxed);
        assert!(heartbeat.read().has_work);
        assert!(Heartbeat::new(Part::new(PartKind::Source, "source/a")).read().has_work);
    }
}
