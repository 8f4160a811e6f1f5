//! Changed settings of a destination while it delivers.
//!
//! All settings but the ordering take effect with the next request. The lanes depend on the
//! ordering, so a new one waits:
//!
//! ```text
//!  Policy ─► settings but ordering ─► next request
//!     └────► ordering ─► parked lanes empty their own spools; no lane gets a new one
//!                      ─► nothing is sent until the requests in flight have ended
//!                      ─► all lanes dissolve into one list in reading order ─► new lanes
//! ```
//!
//! Parked lanes come first because their events in memory are older than those in their spools, and
//! those may be older than events of the new lanes. The destination's own spool may stay: events
//! enter the lanes of the ordering that is in effect when they leave it.
//!
//! INVARIANT: events that were read before the change keep the order that both orderings demand.
//! Events that are read after it keep the new one.

use super::lanes::merge;
use super::rate::Rate;
use super::{DeliveryEngine, Policy};
use crate::processor::RequestLimits;

/// The bounds of a request: the configuration sets the size, within the processor's limits.
pub(super) fn configured(limits: RequestLimits, policy: &Policy, rate: &Rate) -> RequestLimits {
    RequestLimits {
        events_max: limits.events_max.min(policy.batch.events).min(rate.events_max()).max(1),
        bytes_max: limits.bytes_max.min(policy.batch.bytes).max(1),
        ..limits
    }
}

impl DeliveryEngine {
    /// Takes over changed settings. The waits that the old settings caused end.
    pub(super) fn reconfigure(&mut self, policy: Policy, limits: RequestLimits) {
        let ordering = self.policy.ordering;
        self.next_ordering = (policy.ordering != ordering).then_some(policy.ordering);
        self.rate = Rate::new(policy.rate_limit);
        self.limits = configured(limits, &policy, &self.rate);
        self.events_max = self.limits.events_max;
        self.policy = Policy { ordering, ..policy };
        self.health.retarget(&self.policy);
        self.lanes.forget_caps();
        self.lanes.make_due();
    }

    /// Returns true if nothing is sent because a new ordering waits for the requests in flight.
    pub(super) fn is_switching(&self) -> bool {
        self.next_ordering.is_some() && self.spool.lanes() == 0
    }

    /// Switches to the next ordering once no request is in flight.
    pub(super) fn reorder(&mut self) {
        if !self.is_switching() || !self.under_way.is_empty() {
            return;
        }
        let Some(ordering) = self.next_ordering.take() else { return };
        let items = merge(self.lanes.dissolve(), |item| self.spool.age(item));
        self.policy.ordering = ordering;
        items.into_iter().for_each(|item| self.lanes.push(item, ordering));
        self.spool.set_ordering(ordering);
    }
}
