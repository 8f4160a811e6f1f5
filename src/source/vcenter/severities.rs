//! Reads the severities of the vCenter's event types for [`crate::event::severity`].
//!
//! They are read before the first event, and again every hour. This is done only if a route or a
//! processor uses them. A failure does not keep the source from reading events, and the severities
//! that were read last stay in use.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::api::EventApi;
use super::limits::{SEVERITIES_INTERVAL, SEVERITIES_RETRY};
use super::link::Link;
use super::status::Method;
use crate::event::{TypeSeverities, severity};

/// The time of the next read; `None` if nobody uses the severities.
#[derive(Debug, Default)]
pub(super) struct SeverityReads {
    due: Option<Mutex<Instant>>,
}

impl SeverityReads {
    /// `wanted`: a route or a processor uses the severities.
    pub fn new(wanted: bool) -> Self {
        SeverityReads { due: wanted.then(|| Mutex::new(Instant::now())) }
    }

    fn is_due(&self) -> bool {
        let at = |due: &Mutex<Instant>| *due.lock().unwrap_or_else(PoisonError::into_inner);
        self.due.as_ref().is_some_and(|due| at(due) <= Instant::now())
    }

    fn set_due(&self, at: Instant) {
        if let Some(due) = &self.due {
            *due.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }
}

/// Reads the severities if they are wanted and not recent.
pub(super) async fn refresh<A: EventApi>(link: &Link<A>) {
    if !link.severity_reads.is_due() {
        return;
    }
    // Both are counted as reads of properties of the EventManager.
    let wait = match link.call(Method::LatestEvent, link.api.event_info()).await {
        Ok(types) => {
            let types = types.iter().map(|info| (info.event_type(), &*info.category));
            let severities: TypeSeverities = types.collect();
            tracing::debug!(source = %link.name, types = severities.len(), "read the severities of event types");
            severity::learn(link.started().info.instance_uuid, severities);
            SEVERITIES_INTERVAL
        }
        Err(error) => {
            let hint = "routes with `severity` take events whose severity is unknown";
            tracing::warn!(source = %link.name, %error, hint, "cannot read the severities of event types; trying again");
            SEVERITIES_RETRY
        }
    };
    link.severity_reads.set_due(Instant::now() + wait);
}
