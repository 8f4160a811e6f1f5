//! Deliver, when something may be sent: what goes into a request, and when it goes.

use std::time::Duration;

use super::item::LaneItem;
use super::lanes::SHARED;
use super::{Action, DeliveryEngine, LanePart, UnderWay};
use crate::limits::SPOOL_LINGER;
use crate::processor::{BatchSlice, DeliveryRequest};

impl DeliveryEngine {
    /// Until when a request that is not full waits for more. What comes out of a spool has waited for long enough: it waits for a moment for answers that are on
    /// their way, since they may free more that can go with it; else what each lane has next would go in a request of its own.
    pub(super) fn lingers_until(&self) -> Option<Duration> {
        let since = self.ready_since?;
        let age = match self.spool.is_active() {
            true if self.under_way.is_empty() => Duration::ZERO,
            true => SPOOL_LINGER,
            false => self.policy.batch.age,
        };
        let fills =
            age.is_zero() || self.lanes.events >= self.events_max || self.lanes.fill(self.limits.bytes_max);
        (!fills).then(|| since + age)
    }

    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while self.lanes.has_ready(self.blocked) && !self.stopped {
            self.ready_since.get_or_insert(now);
            if self.lingers_until().is_some_and(|until| now < until)
                || self.under_way.len() >= self.policy.concurrency
                || now < self.rate.next_at()
                || !self.health.admits(now, self.under_way.len())
            {
                return;
            }
            self.send(now, actions);
        }
        self.ready_since = None;
    }

    /// Forms one request from the lanes that are ready.
    fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut parts: Vec<LanePart> = Vec::new();
        let (mut events, mut bytes, mut attempt) = (0, 0, 1);
        while events < self.events_max
            && bytes < self.limits.bytes_max
            && let Some(key) = self.lanes.next_ready(self.blocked)
        {
            let Some(lane) = self.lanes.get(key) else { continue };
            let alone = lane.cap != usize::MAX;
            let first = lane.items.front().map_or(0, LaneItem::first_bytes);
            if !parts.is_empty() && (alone || bytes + first > self.limits.bytes_max) {
                self.lanes.unready(key);
                break;
            }
            attempt = attempt.max(1 + lane.tries + lane.target_tries);
            // Where a target may take one event and refuse another, two of one lane must not share a request.
            let ordered = self.limits.partial && key != SHARED;
            let cap = if ordered { 1 } else { lane.cap };
            let items =
                self.lanes.take(key, cap.min(self.events_max - events), self.limits.bytes_max - bytes);
            events += items.iter().map(|item| item.selection.len()).sum::<usize>();
            bytes += items.iter().map(LaneItem::request_bytes).sum::<usize>();
            parts.push(LanePart { key, items, spooled: false });
            if alone || (key == SHARED && !self.lanes.has_ready(self.blocked)) {
                break;
            }
        }
        if events == 0 {
            return;
        }
        let id = self.next_request;
        self.next_request += 1;
        let request =
            DeliveryRequest { function: self.function.clone(), slices: slices(&parts), events, attempt };
        self.rate.spend(now, events);
        self.under_way.insert(id, UnderWay { parts, events, sent_at: now, opened: self.health.opened() });
        actions.push(Action::Send { id, request });
    }
}

/// The slices of a request: neighbours of the same batch joined where that keeps the order.
fn slices(parts: &[LanePart]) -> Vec<BatchSlice> {
    parts.iter().flat_map(|part| &part.items).map(LaneItem::slice).collect()
}
