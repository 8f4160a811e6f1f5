//! A refused event on its way to a judgement: weighs the evidence, and lets the event wait for its
//! next try, at the head of its lane or aside.

use std::time::Duration;

use super::backoff::backoff;
use super::evidence::{EventKey, Firmness, Judgement};
use super::item::LaneItem;
use super::lanes::{LaneKey, is_own};
use super::{Action, DeliveryEngine};
use crate::limits::{ASIDES_MAX, RETRY_AFTER_MAX};
use crate::pipeline::deliver::settings::{OnRefusal, Ordering};
use crate::processor::{Blame, Failure};

/// Circumstances of a failed request, the same for each of its parts.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    /// True if the request carried one event, or its target judges each event.
    pub is_single: bool,
    /// True if the breaker has not opened since the request was sent.
    pub is_current: bool,
    pub sent_at: Duration,
    /// The random share of the back-off, 0 to 1. All parts use the same one, so events that were
    /// refused together are retried together.
    pub random: f64,
}

/// Events of one lane that were refused together.
pub(super) struct RefusedPart<'a> {
    pub now: Duration,
    pub key: LaneKey,
    pub items: Vec<LaneItem>,
    pub failure: &'a Failure,
    pub refusal: Refusal,
}

impl RefusedPart<'_> {
    /// Number of events.
    pub fn events(&self) -> usize {
        self.items.iter().map(|item| item.selection.len()).sum()
    }
}

impl DeliveryEngine {
    /// Weighs the refusal of a single event: the event or the destination may be at fault.
    pub(super) fn weigh(&mut self, part: RefusedPart<'_>, actions: &mut Vec<Action>) {
        let RefusedPart { now, key, failure, refusal, .. } = part;
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let trial = lane.trial;
        let firmness = if failure.blame == Blame::FirmEvidence { Firmness::Firm } else { Firmness::Ordinary };
        let is_blamed = self.health.is_blamed();
        let Some(event) = part.items.first().map(EventKey::of) else { return };
        let mut trial = if trial.has_begun() { trial } else { self.evidence.recall(event) };
        let mut verdict = match is_blamed {
            // A probe was refused. The destination still refuses everything; the event is not
            // judged.
            true => self.evidence.refused_while_blamed(now, &mut trial),
            false => self.evidence.refused(now, event, &mut trial, firmness, self.policy.retry.attempts),
        };
        let answering = self.health.answering();
        let age = answering.saturating_sub(*lane.refused_at.get_or_insert(answering));
        // The rest of a request still stands behind this event and is no aside.
        let has_room = !self.has_full_asides();
        self.lanes.set_trial(key, trial);
        if verdict == Judgement::Event {
            return self.convict(part, trial, actions);
        }
        let is_too_old = !is_blamed && age >= self.policy.retry.max_age;
        if is_too_old && trial.counted == 0 && self.evidence.may_be_outage() && !self.is_alone(key) {
            verdict = Judgement::Destination;
        } else if is_too_old {
            let mut failure = failure.clone();
            if trial.counted == 0 {
                failure.reason += "; no other event was accepted meanwhile to compare with";
            }
            return self.convict(RefusedPart { failure: &failure, ..part }, trial, actions);
        }
        self.wait_for_next_try(part, has_room, actions);
        if verdict == Judgement::Destination && !is_blamed && !self.is_alone(key) {
            self.evidence.forget_streak();
            self.health.blame(now, &self.policy, refusal.random);
            self.lanes.forget_caps();
            self.lanes.make_due();
        }
    }

    /// Returns true if the refused event of this lane is the only one that can be sent: nothing may
    /// pass it, and no other lane has events. The destination cannot be blamed then. Each probe
    /// would be this event; if it is poisonous none would be accepted, and a blamed destination has
    /// no limit of age.
    fn is_alone(&self, key: LaneKey) -> bool {
        self.holds_lanes() && !self.lanes.has_events_besides(key)
    }

    /// Queues a refused event for its next try: aside, so that others pass, or at the head of its
    /// lane. `has_room`: there is room for another aside.
    fn wait_for_next_try(&mut self, part: RefusedPart<'_>, has_room: bool, actions: &mut Vec<Action>) {
        let RefusedPart { now, key, items, failure, refusal } = part;
        let trial = self.lanes.get(key).map(|lane| lane.trial).unwrap_or_default();
        let wait = self.wait_after(key, failure, refusal.random);
        let is_blamed = self.health.is_blamed();
        let has_others = self.lanes.get(key).is_some_and(|lane| !lane.items.is_empty());
        let steps_aside = match self.policy.ordering {
            // All first events may be poisonous, and each probe would be one of them. Probes are
            // rare, so these asides are few, and their bytes do not count. The next event of the
            // entity may still be in the spool.
            Ordering::Entity => {
                self.health.is_blamed_for(now, self.policy.retry.max_age)
                    && trial.refusals >= 2
                    && self.lanes.asides() < ASIDES_MAX
                    && !is_own(key)
                    && (has_others || self.spool.is_active() || self.spool.has_lane(key))
            }
            // The event has an own lane, perhaps with others of the same request.
            Ordering::None => has_others && has_room,
            Ordering::Source if is_own(key) || self.policy.on_refusal == OnRefusal::Hold => false,
            Ordering::Source if self.has_no_place() => false,
            // Without room for an aside, the event waits once at the head, which slows the lane
            // down. After that it steps aside regardless: without other events accepted, there is
            // nothing to compare it with.
            Ordering::Source if !has_room => is_blamed || trial.refusals > 2,
            Ordering::Source => is_blamed || trial.refusals >= 2,
        };
        let is_head = self.policy.ordering == Ordering::Source && !is_own(key) && !steps_aside;
        let wait = match is_head && trial.refusals == 1 && self.policy.on_refusal == OnRefusal::StepAside {
            true => self.pauses.take(now, wait),
            false => wait,
        };
        let key = match steps_aside {
            true => self.lanes.step_aside(key, items),
            false => {
                self.lanes.put_back(key, items);
                key
            }
        };
        // While the target is blamed, every second probe at most is an aside: those in the spool
        // are fetched only if nothing in memory can be sent.
        let probe_interval = self.policy.breaker.unwrap_or_default().probe_interval;
        let asides = u32::try_from(self.lanes.asides()).unwrap_or(u32::MAX);
        let wait = match is_blamed && is_own(key) {
            true => wait.max(probe_interval.saturating_mul(asides.saturating_mul(2))),
            false => wait,
        };
        self.lanes.wait(key, now + wait);
        self.park(key, actions);
    }

    /// Returns the wait before the next try of an event. The first two sends follow each other
    /// soon. The wait stays short if asides fill more than half of their places. It also does if
    /// the lane's previous event became a dead letter. The verdict then comes as early as it can.
    pub(super) fn wait_after(&self, key: LaneKey, failure: &Failure, random: f64) -> Duration {
        let retry = &self.policy.retry;
        let lane = self.lanes.get(key);
        let is_crowded = self.lanes.asides() > ASIDES_MAX / 2 || self.has_full_asides();
        let is_urgent = is_crowded || lane.is_some_and(|lane| lane.convictions > 0);
        let max = if is_urgent { retry.backoff_min } else { retry.backoff_max };
        let refusals = lane.map_or(0, |lane| lane.trial.refusals);
        let wait = backoff(retry.backoff_min, max, refusals.saturating_sub(2), random);
        wait.max(failure.wait.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}
