//! Deliver, sending: composes requests and decides when each may leave.
//!
//! A request leaves when the linger is over and fewer than `concurrency` requests are in flight.
//! The rate limit and the breaker must allow it as well.

use std::time::Duration;

use super::item::LaneItem;
use super::lanes::{LaneKind, LaneKinds, SHARED};
use super::{Action, DeliveryEngine, LanePart, UnderWay};
use crate::limits::{REFUSED_CONCURRENCY_SHARE, SPOOL_LINGER};
use crate::pipeline::deliver::settings::Ordering;
use crate::processor::{BatchSlice, DeliveryRequest};

impl DeliveryEngine {
    /// Returns the time until which a request that is not full waits for more events. Events from a
    /// spool have waited long enough: they linger briefly, and only while requests are in flight.
    /// Answers to those may free lanes whose next events can share the request. Without the linger,
    /// each lane's next event would go in a request of its own.
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

    /// Sends all requests that may leave now.
    pub(super) fn pump(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let is_held = self.stopped || self.is_switching();
        while !is_held && self.lanes.has_ready(self.sendable()) {
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

    /// Returns the kinds of lanes that may send now. Refused events take at most a quarter of the
    /// requests.
    pub(super) fn sendable(&self) -> LaneKinds {
        if self.health.is_open() {
            return LaneKinds::ALL;
        }
        let refused_max = (self.policy.concurrency / REFUSED_CONCURRENCY_SHARE).max(1);
        // Without room for another aside, fresh lanes still send one request at a time. Only an
        // accepted event provides evidence to judge the waiting ones. Without room for dead letters
        // either, no judgement would free a place.
        let has_room = self.policy.ordering != Ordering::None || !self.has_full_asides();
        let is_first = self.sent[LaneKind::Fresh as usize] == 0 && !self.letters.is_full();
        LaneKinds {
            fresh: has_room || is_first,
            refused: self.sent[LaneKind::Refused as usize] < refused_max,
            replays: true,
        }
    }

    /// Forms one request from ready lanes.
    fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut parts: Vec<LanePart> = Vec::new();
        let (mut events, mut bytes, mut attempt) = (0, 0, 1);
        let mut kind = None;
        let (kinds, probes) = (self.sendable(), self.health.is_open());
        while events < self.events_max
            && bytes < self.limits.bytes_max
            && let Some(key) = self.lanes.next_ready(kinds)
        {
            let Some(lane) = self.lanes.get(key) else { continue };
            // A refused event goes alone unless the target judges each event of a request. A probe
            // always goes alone.
            let is_single = probes || (lane.is_parked() && !self.limits.partial);
            let alone = is_single || lane.cap != usize::MAX;
            let first = lane.items.front().map_or(0, LaneItem::first_bytes);
            if !parts.is_empty() && (alone || bytes + first > self.limits.bytes_max) {
                self.lanes.unready(key);
                break;
            }
            attempt = attempt.max(1 + lane.trial.refusals + lane.target_tries);
            // Such a target may accept one event and refuse another. Two events of one ordered lane
            // must therefore not share a request.
            let ordered = self.limits.partial && key != SHARED;
            let cap = if ordered || is_single { 1 } else { lane.cap };
            kind.get_or_insert(LaneKind::of(key, lane));
            let items =
                self.lanes.take(key, cap.min(self.events_max - events), self.limits.bytes_max - bytes);
            events += items.iter().map(|item| item.selection.len()).sum::<usize>();
            bytes += items.iter().map(LaneItem::request_bytes).sum::<usize>();
            parts.push(LanePart { key, items, spooled: false });
            if alone || (key == SHARED && !self.lanes.has_ready(kinds)) {
                break;
            }
        }
        let Some(kind) = kind else { return };
        self.sent[kind as usize] += 1;
        let id = self.next_request;
        self.next_request += 1;
        let request =
            DeliveryRequest { function: self.function.clone(), slices: slices(&parts), events, attempt };
        self.rate.spend(now, events);
        self.under_way
            .insert(id, UnderWay { parts, events, kind, sent_at: now, opened: self.health.opened() });
        actions.push(Action::Send { id, request });
    }
}

/// The slices of a request, in the order of its lanes.
fn slices(parts: &[LanePart]) -> Vec<BatchSlice> {
    parts.iter().flat_map(|part| &part.items).map(LaneItem::slice).collect()
}
