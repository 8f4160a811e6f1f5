//! The exit of a source that another node of a cluster is to read.

use tokio::sync::oneshot;

use super::control::{Control, ControlSender};
use super::observe::Observations;
use super::sources::SourceTable;
use crate::limits::HAND_OVER_OLDEST_MAX;

/// Lets sources leave. Cheap to clone. It ends with the pipeline.
#[derive(Clone)]
pub struct SourceExit {
    pub(super) control: ControlSender,
    pub(super) sources: SourceTable,
    pub(super) observations: Observations,
}

impl SourceExit {
    /// True if every target takes its events at once, so that a source that stops reading can soon
    /// leave.
    pub fn is_clear(&self) -> bool {
        self.observations.destinations().iter().all(|(_, observed)| {
            let (metrics, backlog) = (&observed.metrics, &observed.metrics.backlog);
            !metrics.breaker_open.is_set()
                && !metrics.refuses_all.is_set()
                && backlog.spool_events.count() == 0
                && backlog.oldest.get() < HAND_OVER_OLDEST_MAX.as_secs_f64()
        })
    }

    /// Tries to let a source leave that has stopped reading. Returns true if nothing of it is left
    /// here: its events are settled, and its last checkpoint is durable. It may then begin again,
    /// from whatever position the store has by that time.
    pub async fn leave(&self, source: &str) -> bool {
        let Some(source) = self.sources.index_of(source) else { return true };
        let pages = *self.sources.numbering(source).next_page.lock().await;
        let (answer, answered) = oneshot::channel();
        self.control.send(Control::Leave { source, pages, answer }) && answered.await.unwrap_or(false)
    }
}
