//! A source that runs: its task, and how it is started and stopped.

use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RegistryWait;
use super::leases::{LeasedSource, SourceLease};
use crate::processor::Processor;
use crate::settings::Config;
use crate::source::{Intake, Observed, ReadUntil, SourceParts};
use crate::supervise::limits::SOURCE_ABORT_MAX;
use crate::supervise::{Part, PartKind, Supervisor};

/// A source and its task.
pub(super) struct RunningSource {
    pub name: String,
    pub observed: Arc<dyn Observed>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningSource {
    /// Tells the source to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end of a source that was told to stop, and aborts it at the deadline. The
    /// pages of an aborted source stay unsettled.
    pub async fn ended_by(self, until: Instant) {
        let mut task = self.task;
        if tokio::time::timeout_at(until, &mut task).await.is_err() {
            tracing::warn!(source = %self.name, "this source does not stop; abandoning its session");
            task.abort();
            // A task that hangs in its turn ends at its next one, if ever.
            let _ = tokio::time::timeout(SOURCE_ABORT_MAX, task).await;
        }
    }
}

/// Starts the source at index `at` of the configuration.
pub(super) fn start_source(
    config: &Config,
    at: usize,
    processors: &[Arc<dyn Processor>],
    intake: Intake,
    until: Option<ReadUntil>,
    lease: Option<Arc<SourceLease>>,
    supervisor: &Supervisor,
) -> RunningSource {
    let source = &config.sources[at];
    let kind = source.kind.as_type();
    let part = Part::new(PartKind::Source, format!("source/{}", source.name)).slower_by(kind.longest_call());
    let (stop, stopped) = watch::channel(false);
    let started = kind.start(SourceParts {
        name: source.name.clone(),
        intake,
        ready: RegistryWait::of(config, at, processors).wait(source.name.clone()).boxed(),
        until,
        shutdown: stopped.clone(),
        sources: config.sources.len(),
        wants_xml: config.wants_xml(),
        wants_severities: config.wants_severities(),
    });
    let (mut observed, again) = (started.observed(), Arc::clone(&started));
    if let Some(lease) = &lease {
        observed = Arc::new(LeasedSource { source: observed, lease: Arc::clone(lease) });
    }
    let life = move || {
        let (source, lease, stopped) = (Arc::clone(&started), lease.clone(), stopped.clone());
        async move {
            if let Some(lease) = lease {
                while !lease.wait().await {
                    if *stopped.borrow() {
                        return ControlFlow::Break(());
                    }
                }
            }
            source.run().await;
            ControlFlow::Break(())
        }
    };
    let task = tokio::spawn(supervisor.clone().restarted(part, life, move |end| again.task_ended(end)));
    RunningSource { name: source.name.clone(), observed, stop, task }
}
