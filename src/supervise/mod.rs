//! Supervision: every thread and every lasting task of the router is a named part. The process
//! never looks healthy while a part is dead or stalled.
//!
//! ```text
//!  parse-0 … core  store  delivery/NAME          source/NAME  registry/NAME  admin  control
//!     │ panics or ends early       │ heartbeats     │ panics
//!     ▼                            ▼                ▼
//!  failure ─► exit code 1      watchdog ─► stall   started again after a back-off, and counted
//!     │                            │         │
//!     └────────► /healthz 503 ◄────┼─────────┘
//!                                  └─ healthy ─► WATCHDOG=1 to the service manager
//! ```
//!
//! A part whose state cannot be rebuilt ends the process: the next one resumes from the last
//! checkpoint. A part that can continue with what it has left is started again.
//!
//! Tasks that live as long as one connection or one request are no parts. Their end is the answer
//! that somebody awaits.
//!
//! INVARIANT: the failure of a thread is recorded before the thread can be joined.
//! INVARIANT: after a failure nothing is written to the store.

mod fault;
pub mod limits;
mod panics;
mod part;
mod restart;
mod stall;
mod systemd;
mod watchdog;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::time::Instant;

use self::panics::Running;
pub use self::panics::log_panics;
pub use self::part::{Heartbeat, Part, PartKind, StepGuard};
use self::restart::RestartBackoff;
use self::stall::{PartId, StallDetector};
pub use self::systemd::ServiceManager;
pub use self::watchdog::watch;
use crate::telemetry::metrics as names;

/// The supervisor of all parts of one router. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Arc<Supervision>);

#[derive(Debug, Default)]
struct Supervision {
    /// Reason of the first failure.
    failure: watch::Sender<Option<String>>,
    failed_at: OnceLock<std::time::Instant>,
    /// Set when the router begins to stop: the time by which all parts have to end.
    stop_by: watch::Sender<Option<Instant>>,
    parts: Mutex<PartList>,
    /// Names of the parts that are stalled.
    stalled: Mutex<Vec<Arc<str>>>,
}

#[derive(Debug, Default)]
struct PartList {
    running: BTreeMap<PartId, Arc<Heartbeat>>,
    next: PartId,
}

/// The health of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessHealth {
    Healthy,
    /// These parts have work and make no progress.
    Stalled(Vec<Arc<str>>),
    /// The process is about to end, for this reason.
    Failed(String),
}

impl Supervisor {
    /// Records that the process has to end, for this reason, unless there is an earlier one.
    pub fn fail(&self, reason: String) {
        self.0.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(reason);
            is_first
        });
        self.0.failed_at.get_or_init(std::time::Instant::now);
    }

    /// Reason why the process ends, if it does.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    /// Receives the reason when a part fails. The process must end then.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.0.failure.subscribe()
    }

    /// Records that the router stops, so that parts may end. They have to end by `by`.
    pub fn stopping(&self, by: Instant) {
        self.0.stop_by.send_if_modified(|stop_by| stop_by.replace(by).is_none());
    }

    fn is_stopping(&self) -> bool {
        self.0.stop_by.borrow().is_some()
    }

    pub fn health(&self) -> ProcessHealth {
        if let Some(reason) = self.failure() {
            return ProcessHealth::Failed(reason);
        }
        match &*self.stalled() {
            stalled if stalled.is_empty() => ProcessHealth::Healthy,
            stalled => ProcessHealth::Stalled(stalled.clone()),
        }
    }

    /// Names of the parts that have to end when the router stops, and have not.
    pub fn unfinished(&self) -> Vec<Arc<str>> {
        let parts = self.parts();
        let unfinished = parts.running.values().filter(|heartbeat| heartbeat.part.kind.ends_at_stop());
        unfinished.map(|heartbeat| Arc::clone(&heartbeat.part.name)).collect()
    }

    /// Starts a thread that is a part. If it panics, or ends before the router stops, the process
    /// has to end.
    pub fn thread<T: Send + 'static>(
        &self,
        part: Part,
        body: impl FnOnce(&Heartbeat) -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        let registered = self.register(part);
        let thread = std::thread::Builder::new().name(registered.name().to_string());
        thread.spawn(move || {
            let _running = Running::enter(registered.name());
            match catch_unwind(AssertUnwindSafe(|| body(&registered.heartbeat))) {
                Ok(result) => {
                    registered.ended();
                    result
                }
                Err(payload) => {
                    registered.fail(&format!("panicked: {}", panics::message(&*payload)));
                    resume_unwind(payload)
                }
            }
        })
    }

    /// Makes `task` a part. If it panics, or ends before the router stops, the process has to end.
    pub fn task<F: Future<Output = ()>>(&self, part: Part, task: F) -> impl Future<Output = ()> + use<F> {
        let registered = self.register(part);
        async move {
            match Turns::new(&registered.heartbeat, task).await {
                Ok(()) => registered.ended(),
                Err(message) => registered.fail(&format!("panicked: {message}")),
            }
        }
    }

    /// Makes a task a part that is started again when it ends. `life` starts it; a life that breaks
    /// is the last one. `ended` gets the reason of each other end before the back-off.
    pub async fn restarted<F: Future<Output = ControlFlow<()>>>(
        self,
        part: Part,
        mut life: impl FnMut() -> F,
        ended: impl Fn(&str),
    ) {
        let restarts = metrics::counter!(names::PART_RESTARTS, "part" => part.kind.as_str());
        let mut stop = self.0.stop_by.subscribe();
        let mut backoff = RestartBackoff::default();
        loop {
            let began = Instant::now();
            let registered = self.register(part.clone());
            let end = Turns::new(&registered.heartbeat, async { life().await }).await;
            drop(registered);
            let reason = match end {
                Ok(ControlFlow::Break(())) => return,
                Ok(ControlFlow::Continue(())) => "ended early".to_owned(),
                Err(message) => format!("panicked: {message}"),
            };
            if self.is_stopping() {
                return;
            }
            ended(&reason);
            let wait = backoff.next(began.elapsed());
            tracing::warn!(part = %part.name, wait_s = wait.as_secs(), "a part of the router ended and will be started again");
            tokio::select! {
                () = tokio::time::sleep(wait) => restarts.increment(1),
                _ = stop.wait_for(Option::is_some) => return,
            }
        }
    }

    fn register(&self, part: Part) -> Registered {
        let heartbeat = Arc::new(Heartbeat::new(part));
        let mut parts = self.parts();
        let id = parts.next;
        parts.next += 1;
        parts.running.insert(id, Arc::clone(&heartbeat));
        drop(parts);
        Registered { supervisor: self.clone(), id, heartbeat }
    }

    /// Looks at all heartbeats, `elapsed` after the look before. A router that stops has a deadline
    /// of its own, and its parts leave work undone.
    fn look(&self, detector: &mut StallDetector, elapsed: std::time::Duration) {
        if self.is_stopping() {
            return;
        }
        let running: Vec<_> = {
            let parts = self.parts();
            parts.running.iter().map(|(id, heartbeat)| (*id, Arc::clone(heartbeat))).collect()
        };
        let stalled = detector.step(elapsed, running.iter().map(|(id, heartbeat)| (*id, heartbeat.read())));
        let name = |id: &PartId| {
            let at = running.binary_search_by_key(id, |(id, _)| *id).ok()?;
            Some(Arc::clone(&running[at].1.part.name))
        };
        let now: Vec<Arc<str>> = stalled.iter().filter_map(name).collect();
        let before = std::mem::replace(&mut *self.stalled(), now.clone());
        for part in now.iter().filter(|part| !before.contains(part)) {
            tracing::error!(%part, "a part of the router has work and makes no progress");
        }
        for part in before.iter().filter(|part| !now.contains(part)) {
            tracing::info!(%part, "a part of the router makes progress again");
        }
    }

    fn parts(&self) -> MutexGuard<'_, PartList> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stalled(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.0.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that runs. Dropping it takes the part off the list.
struct Registered {
    supervisor: Supervisor,
    id: PartId,
    heartbeat: Arc<Heartbeat>,
}

impl Registered {
    fn name(&self) -> &Arc<str> {
        &self.heartbeat.part.name
    }

    /// Notes that the part returned.
    fn ended(&self) {
        if !self.supervisor.is_stopping() && !self.heartbeat.follows_peer() {
            self.fail("ended early");
        }
    }

    fn fail(&self, end: &str) {
        let name = self.name();
        self.supervisor.fail(format!(
            "the part `{name}` {end}; this is a defect of the router, please report it with the log"
        ));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.supervisor.parts().running.remove(&self.id);
    }
}

/// A future whose turns are steps of a part. A panic ends it with the message of the panic.
struct Turns<'a, F> {
    heartbeat: &'a Heartbeat,
    /// Boxed, so that it can be dropped when it has panicked.
    future: Option<Pin<Box<F>>>,
}

impl<'a, F: Future> Turns<'a, F> {
    fn new(heartbeat: &'a Heartbeat, future: F) -> Self {
        Turns { heartbeat, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Turns<'_, F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let heartbeat = self.heartbeat;
        let future = self.future.as_mut().expect("a future is not polled after its end");
        let _running = Running::enter(&heartbeat.part.name);
        let turn = catch_unwind(AssertUnwindSafe(|| {
            let _step = heartbeat.step();
            future.as_mut().poll(context)
        }));
        match turn {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => {
                let future = self.future.take();
                // A second panic says no more than the first.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
                Poll::Ready(Err(panics::message(&*payload)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    fn core() -> Part {
        Part::new(PartKind::Core, "core")
    }

    #[test]
    fn a_thread_that_panics_fails_the_process_by_its_name() {
        let supervisor = Supervisor::default();
        assert_eq!(supervisor.health(), ProcessHealth::Healthy);
        let thread = supervisor.thread(core(), |_| panic!("as it was\ntold to")).unwrap();
        assert!(thread.join().is_err());
        let reason = supervisor.failure().unwrap();
        assert!(reason.starts_with("the part `core` panicked: as it was told to; "), "{reason}");
        assert_eq!(supervisor.health(), ProcessHealth::Failed(reason));
        assert!(supervisor.unfinished().is_empty());
    }

    #[test]
    fn a_thread_may_end_when_the_router_stops_or_after_its_peer() {
        let end = |before: fn(&Supervisor), body: fn(&Heartbeat)| {
            let supervisor = Supervisor::default();
            before(&supervisor);
            supervisor.thread(core(), body).unwrap().join().unwrap();
            supervisor.failure()
        };
        assert!(end(|_| (), |_| ()).unwrap().contains("`core` ended early"));
        assert_eq!(end(|supervisor| supervisor.stopping(Instant::now()), |_| ()), None);
        assert_eq!(end(|_| (), Heartbeat::follow_peer), None);
    }

    #[tokio::test]
    async fn a_task_that_panics_fails_the_process_by_its_name() {
        let supervisor = Supervisor::default();
        let part = Part::new(PartKind::Delivery, "delivery/a");
        supervisor.task(part.clone(), async {}).await;
        assert_eq!(supervisor.failure(), None, "its mailbox was closed");
        supervisor.task(part, async { panic!("oh") }).await;
        assert!(supervisor.failure().unwrap().contains("`delivery/a` panicked: oh"));
    }

    #[test]
    fn the_first_reason_to_fail_is_kept() {
        let supervisor = Supervisor::default();
        supervisor.fail("first".into());
        supervisor.fail("second".into());
        assert_eq!(supervisor.failure().as_deref(), Some("first"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_started_again_with_back_off_until_it_breaks() {
        let supervisor = Supervisor::default();
        let (lives, reasons) = (AtomicU32::new(0), Mutex::new(Vec::new()));
        let life = || async {
            match lives.fetch_add(1, Relaxed) {
                0 => panic!("oh"),
                1 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let began = Instant::now();
        let part = Part::new(PartKind::Registry, "registry/a");
        supervisor
            .clone()
            .restarted(part, life, |reason| reasons.lock().unwrap().push(reason.to_owned()))
            .await;
        assert_eq!(*reasons.lock().unwrap(), ["panicked: oh", "ended early"]);
        assert_eq!(began.elapsed(), Duration::from_secs(1 + 2));
        assert_eq!(supervisor.health(), ProcessHealth::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_in_back_off_ends_with_the_router() {
        let supervisor = Supervisor::default();
        let part = Part::new(PartKind::Source, "source/a");
        let life = || async { ControlFlow::Continue(()) };
        let stopping = supervisor.clone();
        let restarted = supervisor.restarted(part, life, |_| stopping.stopping(Instant::now()));
        tokio::time::timeout(Duration::from_millis(1), restarted).await.unwrap();
    }

    #[test]
    fn a_stalled_part_is_named_until_it_makes_progress() {
        let supervisor = Supervisor::default();
        let mut detector = StallDetector::default();
        let registered = supervisor.register(core());
        let step = registered.heartbeat.step();
        for _ in 0..2 {
            supervisor.look(&mut detector, limits::STEP_STALL_AFTER);
        }
        assert_eq!(supervisor.health(), ProcessHealth::Stalled(vec!["core".into()]));
        drop(step);
        supervisor.look(&mut detector, limits::STEP_STALL_AFTER);
        assert_eq!(supervisor.health(), ProcessHealth::Healthy);
    }
}
