//! A source that this node reads while it holds the lease.
//!
//! ```text
//!  wait for the lease ─► make the source ─► run ─┬─► the router stops: the end
//!         ▲                                      └─► another node should read: leave
//!         └──────────────────────────────────────────────┘
//! ```
//!
//! INVARIANT: the lease goes to another node only after each event that was read here is settled.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::leases::{SourceLease, lock};
use crate::limits::{HAND_OVER_LOOK, HAND_OVER_MAX, UNREACHABLE_LOOK, UNREACHABLE_MAX, UNREACHABLE_MIN};
use crate::pipeline::exit::SourceExit;
use crate::source::{Observed, Source, SourceReport};

/// Makes a source that runs until the receiver turns true.
pub(super) type MakeSource = Box<dyn Fn(watch::Receiver<bool>) -> Arc<dyn Source> + Send + Sync>;

pub(super) struct LeasedSource {
    name: String,
    make: MakeSource,
    exit: SourceExit,
    /// Turns true when the router stops.
    stopped: watch::Receiver<bool>,
    report: Arc<LeasedReport>,
    tenure: Mutex<Option<Tenure>>,
    /// Time without an answer after which another node should try.
    patience: Mutex<Duration>,
}

/// The source while it reads. It outlives a panic of its task, so that it goes on where it was.
#[derive(Clone)]
struct Tenure {
    source: Arc<dyn Source>,
    halt: watch::Sender<bool>,
}

/// The report of the source that reads, or read last.
struct LeasedReport {
    lease: Arc<SourceLease>,
    source: Mutex<Option<Arc<dyn Observed>>>,
}

impl LeasedSource {
    pub fn new(
        name: String,
        make: MakeSource,
        lease: Arc<SourceLease>,
        exit: SourceExit,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let report = Arc::new(LeasedReport { lease, source: Mutex::default() });
        let (tenure, patience) = (Mutex::default(), Mutex::new(UNREACHABLE_MIN));
        LeasedSource { name, make, exit, stopped, report, tenure, patience }
    }

    fn tenure(&self) -> Tenure {
        let mut tenure = lock(&self.tenure);
        let make = || {
            let (halt, halted) = watch::channel(false);
            let source = (self.make)(halted);
            *lock(&self.report.source) = Some(source.observed());
            Tenure { source, halt }
        };
        tenure.get_or_insert_with(make).clone()
    }

    async fn read(&self) {
        let (mut stopped, lease) = (self.stopped.clone(), &self.report.lease);
        loop {
            while !lease.wait().await {
                if *stopped.borrow() {
                    return;
                }
            }
            let Tenure { source, halt } = self.tenure();
            let mut run = pin!(source.run());
            tokio::select! {
                () = &mut run => return,
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = self.handed_over() => {}
                () = self.cannot_be_reached() => {}
            }
            halt.send_replace(true);
            run.await;
            if *stopped.borrow() {
                return;
            }
            lock(&self.tenure).take();
            lease.end_hand_over(self.leave().await);
        }
    }

    /// Waits until the source is to be handed over, and can be.
    async fn handed_over(&self) {
        let lease = &self.report.lease;
        loop {
            lease.handed_over().await;
            if self.exit.is_clear() {
                tracing::info!(source = %self.name, "another node has fewer sources; handing this one over");
                return;
            }
            tracing::debug!(source = %self.name, "events wait for a target, so no source is handed over");
            lease.end_hand_over(false);
        }
    }

    /// Waits until the source has not answered for so long that another node should try. Each time,
    /// this node becomes more patient, so that a vCenter that is down does not wander from node to
    /// node.
    async fn cannot_be_reached(&self) {
        loop {
            sleep(UNREACHABLE_LOOK).await;
            let report = self.report.report();
            let mut patience = lock(&self.patience);
            if report.state.is_up() {
                *patience = UNREACHABLE_MIN;
            } else if report.silence.is_some_and(|silence| silence >= *patience)
                && self.report.lease.has_others()
            {
                *patience = UNREACHABLE_MAX.min(*patience * 2);
                tracing::warn!(source = %self.name, "this node cannot reach it; another node may try");
                return;
            }
        }
    }

    /// Waits until nothing of the source is left on this node. Returns false if that takes too
    /// long, for example because a target is down.
    async fn leave(&self) -> bool {
        let until = Instant::now() + HAND_OVER_MAX;
        while !self.exit.leave(&self.name).await {
            if Instant::now() >= until || *self.stopped.borrow() {
                tracing::info!(source = %self.name, "events of this source still wait here, so this node reads on");
                return false;
            }
            sleep(HAND_OVER_LOOK).await;
        }
        true
    }
}

impl Source for LeasedSource {
    fn run(&self) -> BoxFuture<'_, ()> {
        self.read().boxed()
    }

    fn observed(&self) -> Arc<dyn Observed> {
        Arc::clone(&self.report) as Arc<dyn Observed>
    }

    fn task_ended(&self, end: &str) {
        if let Some(tenure) = &*lock(&self.tenure) {
            tenure.source.task_ended(end);
        }
    }
}

impl Observed for LeasedReport {
    fn report(&self) -> SourceReport {
        self.lease.report(|| lock(&self.source).as_ref().map(|source| source.report()).unwrap_or_default())
    }
}
