//! Keeps the registry of a processor fresh: the functions of a gateway or the rules of buses.
//! The refresh is a supervised part, which is started again when it panics.

use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Failure;
use crate::limits::FIRST_SYNC_RETRY;
use crate::supervise::{Part, PartKind, Supervisor};

/// A list of functions or rules that is read again at intervals.
pub(super) trait Registry: Send + Sync + 'static {
    /// Time between two refreshes.
    fn interval(&self) -> Duration;

    /// Reads the list once. After a failure, the last good one stays.
    fn refresh(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns true once the list is known. Until then it is read more often.
    fn is_known(&self) -> bool;

    /// Logs the first of several failures in a row.
    fn log_failure(&self, reason: String);

    /// Logs the first success after failures.
    fn log_recovery(&self);
}

/// Refreshes until the processor, whose configured name is `name`, is dropped.
pub(super) fn keep_fresh<R: Registry>(registry: Arc<R>, supervisor: &Supervisor, name: &str) {
    let weak = Arc::downgrade(&registry);
    drop(registry);
    let part = Part::new(PartKind::Registry, format!("registry/{name}"));
    let life = move || refresh_at_intervals(weak.clone());
    tokio::spawn(supervisor.clone().restarted(part, life, |_| ()));
}

async fn refresh_at_intervals<R: Registry>(weak: Weak<R>) -> ControlFlow<()> {
    let mut is_failing = false;
    while let Some(registry) = weak.upgrade() {
        match registry.refresh().await {
            Ok(()) if std::mem::take(&mut is_failing) => registry.log_recovery(),
            Ok(()) => {}
            Err(failure) => {
                if !std::mem::replace(&mut is_failing, true) {
                    registry.log_failure(failure.reason);
                }
            }
        }
        let interval = registry.interval().max(Duration::from_millis(10));
        let wait = if registry.is_known() { interval } else { interval.min(FIRST_SYNC_RETRY) };
        drop(registry);
        tokio::time::sleep(wait).await;
    }
    ControlFlow::Break(())
}
