//! A source that runs: its task, and how it is started and stopped.

use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RegistryWait;
use super::leased::LeasedSource;
use super::leases::SourceLease;
use crate::pipeline::exit::SourceExit;
use crate::processor::Processor;
use crate::settings::Config;
use crate::source::{Intake, Observed, ReadUntil, Source, SourceParts};
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

/// Starts the source at index `at` of the configuration. `lease`: this node reads it while it holds
/// that.
pub(super) fn start_source(
    config: &Config,
    at: usize,
    processors: &[Arc<dyn Processor>],
    intake: Intake,
    until: Option<ReadUntil>,
    lease: Option<(Arc<SourceLease>, SourceExit)>,
    supervisor: &Supervisor,
) -> RunningSource {
    let source = &config.sources[at];
    let (kind, name) = (source.kind.clone(), source.name.clone());
    let part = Part::new(PartKind::Source, format!("source/{name}")).slower_by(kind.as_type().longest_call());
    let ready = RegistryWait::of(config, at, processors).wait(name.clone()).boxed().shared();
    let (sources, wants_xml, wants_severities) =
        (config.sources.len(), config.wants_xml(), config.wants_severities());
    let make = move |shutdown| {
        kind.as_type().start(SourceParts {
            name: name.clone(),
            intake: intake.clone(),
            ready: ready.clone().boxed(),
            until: until.clone(),
            shutdown,
            sources,
            wants_xml,
            wants_severities,
        })
    };
    let (stop, stopped) = watch::channel(false);
    let started: Arc<dyn Source> = match lease {
        None => make(stopped),
        Some((lease, exit)) => {
            Arc::new(LeasedSource::new(source.name.clone(), Box::new(make), lease, exit, stopped))
        }
    };
    let (observed, again) = (started.observed(), Arc::clone(&started));
    let life = move || {
        let source = Arc::clone(&started);
        async move {
            source.run().await;
            ControlFlow::Break(())
        }
    };
    let task = tokio::spawn(supervisor.clone().restarted(part, life, move |end| again.task_ended(end)));
    RunningSource { name: source.name.clone(), observed, stop, task }
}
