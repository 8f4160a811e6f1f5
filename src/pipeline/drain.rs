//! The end of a pipeline: delivers what was read, until all of it is settled, no target takes the
//! rest or the time is over.
//!
//! The core thread counts the events that are left ([`look`]). The task that stops the router waits
//! ([`drained`]) and logs the progress. A target counts as down while its breaker is open.

use tokio::sync::watch;
use tokio::time::Instant;

use super::core::Core;
use super::destination::DestinationId;
use super::driver::Mailbox;
use crate::supervise::limits::DRAIN_TOLD_INTERVAL;

/// The progress of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Draining {
    /// True once everything is read and settled.
    pub is_settled: bool,
    /// Known once everything is read.
    counted: Option<LeftEvents>,
}

/// Numbers of unsettled deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeftEvents {
    all: u64,
    /// Those whose targets are known to take no events now.
    for_down: u64,
}

impl Draining {
    /// Returns true if waiting would deliver nothing more.
    fn is_over(&self) -> bool {
        self.is_settled || self.counted.is_some_and(|left| left.all > 0 && left.all == left.for_down)
    }

    /// Number of deliveries that are left.
    pub fn undelivered(&self) -> u64 {
        self.counted.filter(|_| !self.is_settled).map_or(0, |left| left.all)
    }
}

/// Counts the events that are left. Called once everything is read.
pub(super) fn look(core: &Core, mailboxes: &[Option<Mailbox>], draining: &watch::Sender<Draining>) {
    let unsettled = core.unsettled();
    let mailbox = |id: &DestinationId| mailboxes.get(id.0 as usize).and_then(Option::as_ref);
    let is_down = |id: &DestinationId| mailbox(id).is_some_and(Mailbox::is_down);
    let all = unsettled.values().sum();
    let for_down = unsettled.iter().filter(|(id, _)| is_down(id)).map(|(_, events)| events).sum();
    draining.send_if_modified(|draining| {
        let now = Draining { counted: Some(LeftEvents { all, for_down }), ..*draining };
        std::mem::replace(draining, now) != now
    });
}

/// Waits until the drain is over or `until`, and logs its progress. `has_next_start`: another start
/// reads what is left; otherwise the whole time is used for targets that may come back.
pub(super) async fn drained(draining: &mut watch::Receiver<Draining>, until: Instant, has_next_start: bool) {
    let mut told_at = Instant::now();
    loop {
        let now = *draining.borrow_and_update();
        if now.is_settled || (has_next_start && now.is_over()) {
            if let Some(left) = now.counted.filter(|_| !now.is_settled) {
                tracing::warn!(
                    events = left.all,
                    "no target takes the events that are left; the next start delivers them"
                );
            }
            return;
        }
        tokio::select! {
            changed = draining.changed() => {
                // The core thread has ended.
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(until) => return,
            () = tokio::time::sleep_until(told_at + DRAIN_TOLD_INTERVAL) => {
                told_at = Instant::now();
                let left = now.counted;
                let (events, for_down) = left.map_or((None, None), |left| (Some(left.all), Some(left.for_down)));
                let seconds_left = until.saturating_duration_since(told_at).as_secs();
                tracing::info!(events, for_down, seconds_left, "delivering before the stop");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_over_when_waiting_would_deliver_nothing_more() {
        let check = |is_settled: bool, counted: Option<(u64, u64)>, expected: (bool, u64)| {
            let counted = counted.map(|(all, for_down)| LeftEvents { all, for_down });
            let draining = Draining { is_settled, counted };
            assert_eq!((draining.is_over(), draining.undelivered()), expected, "{draining:?}");
        };
        check(false, None, (false, 0));
        check(false, Some((5, 4)), (false, 5));
        check(false, Some((5, 5)), (true, 5));
        // The last events were settled after they were counted, or are about to be.
        check(true, Some((5, 4)), (true, 0));
        check(false, Some((0, 0)), (false, 0));
    }
}
