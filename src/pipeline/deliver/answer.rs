//! Deliver, answers: settles, retries or gives up each event of a request that has ended.
//!
//! An answer is read twice. First it is evidence about the destination: it may open or close the
//! breaker. Then each part of the request is handled by the blame of its failure:
//!
//! ```text
//!  accepted            ─► settle
//!  target at fault     ─► back to its lane; waits, and uses no attempt
//!  several events      ─► back to its lane; smaller requests find the culprit
//!  one event, unclear  ─► weighed by the evidence: retry, or dead letter
//!  event at fault      ─► dead letter, or the same wait if there is no room
//! ```
//!
//! Replays are the exception: a person waits for them, so their attempts are few and they are no
//! evidence.

use std::iter;
use std::time::Duration;

use rand::Rng;

use super::backoff::backoff;
use super::conviction::Tries;
use super::item::{CompactSelection, LaneItem, Origin};
use super::lanes::{LaneKey, LaneKind, SHARED, is_replay};
use super::refusal::{Refusal, RefusedPart};
use super::{Action, DeliveryEngine, FailedEvent, LanePart, ReplayEnd, UnderWay};
use crate::event::Selection;
use crate::pipeline::deliver::settings::RefusalBlame;
use crate::processor::{Blame, DeliveryOutcome, Failure};

impl DeliveryEngine {
    pub(super) fn done(
        &mut self,
        now: Duration,
        request: u64,
        mut outcome: DeliveryOutcome,
        actions: &mut Vec<Action>,
    ) {
        let Some(done) = self.under_way.remove(&request) else { return };
        self.sent[done.kind as usize] -= 1;
        match &mut outcome {
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::Failed(failure) => failure.blame = self.blame_of(failure),
            DeliveryOutcome::Partial(each) => {
                each.iter_mut().flatten().for_each(|failure| failure.blame = self.blame_of(failure));
            }
        }
        let random = self.random.random();
        let is_current = done.opened == self.health.opened();
        self.judge_destination(now, &done, &outcome, random);
        self.size(&outcome, done.events);
        match outcome {
            DeliveryOutcome::Delivered => {
                for part in done.parts {
                    part.items.iter().for_each(|item| self.settle(item, part.spooled, actions));
                    self.succeed(part.key);
                }
            }
            DeliveryOutcome::Failed(failure) => {
                let is_single = done.events == 1;
                let refusal = Refusal { is_single, is_current, sent_at: done.sent_at, random };
                for part in done.parts {
                    self.fail(now, part, &failure, refusal, actions);
                }
            }
            DeliveryOutcome::Partial(failures) => {
                let mut failures = failures.into_iter();
                let refusal = Refusal { is_single: true, is_current, sent_at: done.sent_at, random };
                for part in done.parts {
                    self.partial(now, part, &mut failures, refusal, actions);
                }
            }
        }
        if self.health.rests(now) {
            self.put_off_replays(actions);
        }
    }

    /// Returns who is to blame for a failure: `retry.blame` of the configuration, else the
    /// processor's own opinion.
    pub fn blame_of(&self, failure: &Failure) -> Blame {
        let judged_by_status = failure.status.filter(|_| !failure.is_certain);
        match judged_by_status.and_then(|status| self.policy.retry.blame.of(status)) {
            Some(RefusalBlame::Target) => Blame::Target,
            Some(RefusalBlame::Evidence) => Blame::Evidence,
            Some(RefusalBlame::Event) => Blame::Event,
            None => failure.blame,
        }
    }

    /// Judges the destination by an answer, whichever events the request carried.
    fn judge_destination(&mut self, now: Duration, done: &UnderWay, outcome: &DeliveryOutcome, random: f64) {
        match outcome {
            DeliveryOutcome::Delivered => self.accepted(now, done),
            // One throttled entry of many is a reason to slow down, but no sign that the target is
            // gone.
            DeliveryOutcome::Partial(each) if each.iter().any(Option::is_none) => self.accepted(now, done),
            DeliveryOutcome::Failed(failure) => self.not_accepted(now, done, iter::once(failure), random),
            DeliveryOutcome::Partial(each) => {
                self.not_accepted(now, done, each.iter().flatten(), random);
            }
        }
    }

    /// The destination accepted at least one event of a request.
    fn accepted(&mut self, now: Duration, done: &UnderWay) {
        if done.opened != self.health.opened() {
            return;
        }
        let is_first_send = done.kind == LaneKind::Fresh;
        let window = self.policy.breaker.unwrap_or_default().window;
        self.evidence.accepted(now, done.sent_at, window, is_first_send);
        let was_blamed = self.health.is_blamed();
        self.health.success(now, done.opened, &self.policy);
        if was_blamed {
            let trials = self.lanes.recall(self.policy.ordering, |item| self.spool.age(item));
            self.evidence.remember(now, trials);
            self.lanes.make_due();
        }
    }

    /// The destination accepted no event of a request.
    fn not_accepted<'a>(
        &mut self,
        now: Duration,
        done: &UnderWay,
        mut failures: impl Iterator<Item = &'a Failure>,
        random: f64,
    ) {
        match failures.find(|failure| failure.blame == Blame::Target) {
            Some(failure) => self.health.failure(now, done.opened, failure.wait, &self.policy, random),
            None => self.health.refused(now, done.opened, &self.policy, random),
        }
    }

    /// Adapts the size of requests: a batch that takes the target longer than the time-out would
    /// never get through. A failure that may come from the size halves it. Each full-size success
    /// grows it by a quarter, so the search for the largest working size causes few failures.
    fn size(&mut self, outcome: &DeliveryOutcome, events: usize) {
        match outcome {
            DeliveryOutcome::Failed(failure) if may_be_too_much(failure) => {
                self.events_max = self.events_max.min(events / 2).max(1);
            }
            DeliveryOutcome::Delivered if events >= self.events_max => {
                self.events_max = (self.events_max + self.events_max.div_ceil(4)).min(self.limits.events_max);
            }
            _ => {}
        }
    }

    /// Gives up the replays that wait, since the target is gone for an unknown time and a person
    /// waits for the result.
    pub(super) fn put_off_replays(&mut self, actions: &mut Vec<Action>) {
        for item in self.lanes.drain_replays() {
            self.end_replay(&item, ReplayEnd::PutOff, actions);
        }
    }

    fn end_replay(&mut self, item: &LaneItem, end: ReplayEnd, actions: &mut Vec<Action>) {
        if let Origin::DeadLetter(letter) = item.origin {
            actions.push(Action::Replayed { letter, end });
        }
    }

    /// Settles the events of `item`, which the target acknowledged.
    pub(super) fn settle(&mut self, item: &LaneItem, spooled: bool, actions: &mut Vec<Action>) {
        if spooled {
            self.spool.delivered_ahead(item);
        }
        match item.origin {
            // The events are in an append to the spool. The end of that append settles them and
            // removes them from their old row: once, and not before.
            Origin::Source | Origin::Adopted(_) | Origin::Spool(_) if spooled => {}
            Origin::Spool(row) => {
                self.spool.delivered(row, &item.batch, &item.selection.to_selection(), actions)
            }
            Origin::Source => actions.push(Action::Settle(item.slice())),
            Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
            Origin::DeadLetter(_) => self.end_replay(item, ReplayEnd::Delivered, actions),
        }
    }

    pub(super) fn succeed(&mut self, key: LaneKey) {
        self.lanes.forget_tries(key);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.convictions = 0;
            lane.cap = lane.cap.saturating_mul(2);
            if lane.cap >= self.limits.events_max {
                lane.cap = usize::MAX;
            }
        }
        self.lanes.release(key);
    }

    /// All events of a part failed together.
    fn fail(
        &mut self,
        now: Duration,
        part: LanePart,
        failure: &Failure,
        refusal: Refusal,
        actions: &mut Vec<Action>,
    ) {
        let LanePart { key, items, spooled } = part;
        if spooled {
            // The spool has these events and returns them in order.
            self.lanes.release(key);
            return;
        }
        let key = if key == SHARED { self.lanes.own_lane() } else { key };
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.first_try.get_or_insert(refusal.sent_at);
        let part = RefusedPart { now, key, items, failure, refusal };
        match failure.blame {
            _ if is_replay(key) => self.fail_replay(part, actions),
            Blame::Target => self.await_target(part),
            // The request was in flight when the breaker opened, so the destination is most likely
            // at fault.
            Blame::Evidence | Blame::FirmEvidence if !refusal.is_current && refusal.is_single => {
                self.await_target(part);
            }
            _ if !refusal.is_single => {
                // The first events are now tried one by one. If they are refused too, the
                // destination is at fault. If not, each success doubles the size. A 413 blames the
                // size itself, so it only halves.
                let is_too_large = failure.status == Some(413);
                lane.cap = if is_too_large { (part.events() / 2).max(1) } else { 1 };
                self.lanes.put_back(key, part.items);
                self.lanes.release(key);
            }
            Blame::Event => {
                let trial = lane.trial.with_certain_refusal(now);
                self.convict(part, trial, actions);
            }
            Blame::Evidence | Blame::FirmEvidence => self.weigh(part, actions),
        }
    }

    /// Puts events back after the target could not take them. They wait and use no attempt.
    fn await_target(&mut self, part: RefusedPart<'_>) {
        let RefusedPart { now, key, items, refusal, .. } = part;
        let Some(lane) = self.lanes.get_mut(key) else { return };
        // The breaker decides when a target that is gone is tried. A lane's back-off must not be
        // longer than the breaker's.
        let max = self.policy.retry.backoff_max;
        let max = self.policy.breaker.as_ref().map_or(max, |breaker| max.min(breaker.probe_interval));
        let wait = backoff(self.policy.retry.backoff_min, max, lane.target_tries, refusal.random);
        lane.target_tries = lane.target_tries.saturating_add(1);
        self.lanes.put_back(key, items);
        self.lanes.wait(key, now + wait);
    }

    /// Handles a failed replay. A person waits for it, so it gets at most `retry.attempts` tries.
    /// It is no evidence, since a dead letter is expected to be refused.
    fn fail_replay(&mut self, part: RefusedPart<'_>, actions: &mut Vec<Action>) {
        let RefusedPart { now, key, failure, refusal, .. } = part;
        let attempts = self.policy.retry.attempts;
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if failure.blame == Blame::Target {
            if lane.target_tries + 1 < attempts {
                return self.await_target(part);
            }
            give_up(part.items, failure, Tries::default(), lane.target_tries + 1, Duration::ZERO, actions);
            return self.succeed(key);
        }
        if !refusal.is_single {
            lane.cap = (part.events() / 2).max(1);
            self.lanes.put_back(key, part.items);
            return self.lanes.release(key);
        }
        lane.trial.refusals += 1;
        let trial = lane.trial;
        if failure.blame != Blame::Evidence || trial.refusals >= attempts {
            return self.convict(part, trial, actions);
        }
        let wait = self.wait_after(key, failure, refusal.random);
        self.lanes.put_back(key, part.items);
        self.lanes.wait(key, now + wait);
    }

    /// Handles a part of which only some events failed. Each event has its own entry in `failures`,
    /// in order.
    fn partial(
        &mut self,
        now: Duration,
        part: LanePart,
        failures: &mut impl Iterator<Item = Option<Failure>>,
        refusal: Refusal,
        actions: &mut Vec<Action>,
    ) {
        let LanePart { key, items, spooled } = part;
        let mut failed = Vec::new();
        for item in items {
            let mut good = Selection::EMPTY;
            for i in item.selection.to_selection().iter() {
                match failures.next().flatten() {
                    None => good.insert(i),
                    Some(failure) => {
                        failed.push((
                            LaneItem { selection: CompactSelection::One(i as u16), ..item.clone() },
                            failure,
                        ));
                    }
                }
            }
            if !good.is_empty() {
                self.settle(&LaneItem { selection: CompactSelection::of(&good), ..item }, spooled, actions);
            }
        }
        if failed.is_empty() {
            self.succeed(key);
        }
        for (item, failure) in failed {
            let part = LanePart { key, items: vec![item], spooled };
            self.fail(now, part, &failure, refusal, actions);
        }
    }
}

/// Returns true if a smaller request might have succeeded: no answer came in time, from the target
/// or from a proxy before it.
fn may_be_too_much(failure: &Failure) -> bool {
    failure.blame == Blame::Target && matches!(failure.status, None | Some(408 | 502 | 504))
}

/// Gives up events that failed for good: dead letters, or failed replays.
pub(super) fn give_up(
    items: Vec<LaneItem>,
    failure: &Failure,
    tries: Tries,
    attempts: u32,
    tried_for: Duration,
    actions: &mut Vec<Action>,
) {
    actions.extend(items.into_iter().map(|item| match item.origin {
        Origin::DeadLetter(letter) => {
            let end = ReplayEnd::Failed { failure: failure.clone(), attempts };
            Action::Replayed { letter, end }
        }
        origin => Action::DeadLetter(FailedEvent {
            slice: item.slice(),
            failure: failure.clone(),
            attempts,
            tried_for,
            origin,
            tries,
        }),
    }));
}
