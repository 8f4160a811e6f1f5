//! Deliver, when a request has come to its end: what becomes of each of its events.

use std::time::Duration;

use rand::Rng;

use super::backoff::backoff;
use super::item::{CompactSelection, LaneItem, Origin};
use super::lanes::{LaneKey, SHARED, is_replay};
use super::{Action, DeliveryEngine, FailedEvent, LanePart, ReplayEnd};
use crate::event::Selection;
use crate::limits::RETRY_AFTER_MAX;
use crate::processor::{Blame, DeliveryOutcome, Failure};

/// How a request came to its bad end, for each of its parts.
#[derive(Clone, Copy)]
struct Refusal<'a> {
    failure: &'a Failure,
    /// Whether one event alone is at fault.
    single: bool,
    sent_at: Duration,
    /// What its waits are drawn with, 0 to 1: what was refused together is tried again together.
    random: f64,
}

impl DeliveryEngine {
    pub(super) fn done(
        &mut self,
        now: Duration,
        request: u64,
        mut outcome: DeliveryOutcome,
        actions: &mut Vec<Action>,
    ) {
        let Some(done) = self.under_way.remove(&request) else { return };
        match &mut outcome {
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::Failed(failure) => failure.blame = self.blame_of(failure),
            DeliveryOutcome::Partial(each) => {
                each.iter_mut().flatten().for_each(|failure| failure.blame = self.blame_of(failure));
            }
        }
        let random = self.random.random();
        match &outcome {
            DeliveryOutcome::Delivered => self.health.success(now, done.opened, &self.policy),
            DeliveryOutcome::Failed(failure) => self.judge(now, done.opened, Some(failure), random),
            DeliveryOutcome::Partial(failures) => {
                let worst = failures.iter().flatten().find(|failure| failure.blame == Blame::Target);
                // One throttled entry of many slows down, it does not say that the target is gone.
                let gone = failures.iter().all(|f| f.as_ref().is_some_and(|f| f.blame == Blame::Target));
                self.judge(now, done.opened, worst.filter(|_| gone), random);
            }
        }
        self.size(&outcome, done.events);
        match outcome {
            DeliveryOutcome::Delivered => {
                for part in done.parts {
                    part.items.iter().for_each(|item| self.settle(item, part.spooled, actions));
                    self.succeed(part.key);
                }
            }
            DeliveryOutcome::Failed(failure) => {
                let single = done.events == 1;
                let refusal = Refusal { failure: &failure, single, sent_at: done.sent_at, random };
                for part in done.parts {
                    self.fail(now, part, refusal, actions);
                }
            }
            DeliveryOutcome::Partial(failures) => {
                let mut failures = failures.into_iter();
                for part in done.parts {
                    self.partial(now, part, &mut failures, done.sent_at, random, actions);
                }
            }
        }
        if self.health.rests(now) {
            self.put_off_replays(actions);
        }
    }

    /// Whose fault a failure is: of what is not the target's, `retry.statuses` says which statuses are worth another try.
    pub fn blame_of(&self, failure: &Failure) -> Blame {
        match (&self.policy.retry.statuses, failure.status) {
            (Some(statuses), Some(status @ 400..=599)) if failure.blame != Blame::Target => {
                if statuses.contains(&status) { Blame::Unclear } else { Blame::Event }
            }
            _ => failure.blame,
        }
    }

    fn judge(&mut self, now: Duration, sent: u64, failure: Option<&Failure>, random: f64) {
        match failure {
            Some(failure) if failure.blame == Blame::Target => {
                self.health.failure(now, sent, failure.wait, &self.policy, random)
            }
            _ => self.health.success(now, sent, &self.policy),
        }
    }

    /// Adapts the size of requests: a batch that takes the target longer than the time-out would never get through. Halved by a failure that may come of
    /// the size, and grown by a quarter with each success, so that few requests fail where the largest that succeeds is looked for.
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

    /// Gives back the replays that wait: a person is waiting for them, and the target is gone for who knows how long.
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

    /// The events of `item` were acknowledged.
    pub(super) fn settle(&mut self, item: &LaneItem, spooled: bool, actions: &mut Vec<Action>) {
        if spooled {
            self.spool.delivered_ahead(item);
        }
        match item.origin {
            // Settled, and out of its old row, when what was written of it is durable: once, and not before.
            Origin::Source | Origin::Adopted(_) | Origin::Spool(_) if spooled => {}
            Origin::Spool(row) => {
                self.spool.delivered(row, &item.batch, &item.selection.to_selection(), actions)
            }
            Origin::Source => actions.push(Action::Settle(item.slice())),
            Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
            Origin::DeadLetter(_) => self.end_replay(item, ReplayEnd::Delivered, actions),
        }
    }

    fn succeed(&mut self, key: LaneKey) {
        self.lanes.forget_tries(key);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.cap = lane.cap.saturating_mul(2);
            if lane.cap >= self.limits.events_max {
                lane.cap = usize::MAX;
            }
        }
        self.lanes.release(key);
    }

    /// All events of a part failed together.
    fn fail(&mut self, now: Duration, part: LanePart, refusal: Refusal<'_>, actions: &mut Vec<Action>) {
        let Refusal { failure, single, sent_at, random } = refusal;
        let LanePart { key, items, spooled } = part;
        if spooled {
            // It is in the spool, and comes back in its order.
            self.lanes.release(key);
            return;
        }
        let key = if key == SHARED { self.lanes.own_lane() } else { key };
        let count: usize = items.iter().map(|item| item.selection.len()).sum();
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let first_try = *lane.first_try.get_or_insert(sent_at);
        let out_of_replays = is_replay(key) && lane.target_tries + 1 >= self.policy.retry.attempts;
        if failure.blame == Blame::Target && out_of_replays {
            give_up(items, failure, lane.target_tries + 1, Duration::ZERO, actions);
            self.succeed(key);
        } else if failure.blame == Blame::Target {
            // The breaker says when a target that is gone is tried; a lane must not keep it from that.
            let max = self.policy.retry.backoff_max;
            let max = self.policy.breaker.as_ref().map_or(max, |breaker| max.min(breaker.probe_interval));
            let wait = backoff(self.policy.retry.backoff_min, max, lane.target_tries, random);
            lane.target_tries = lane.target_tries.saturating_add(1);
            self.lanes.put_back(key, items);
            self.lanes.wait(key, now + wait);
        } else if !single {
            // One of them is at fault: halve until it is alone. No attempt is used up.
            lane.cap = (count / 2).max(1);
            self.lanes.put_back(key, items);
            self.lanes.release(key);
        } else {
            let answering = self.health.answering();
            let age = answering.saturating_sub(*lane.refused_at.get_or_insert(answering));
            let (tries, tried_for) = (self.lanes.count_try(key), now.saturating_sub(first_try));
            let out_of_tries = tries >= self.policy.retry.attempts;
            if failure.blame == Blame::Event || out_of_tries || age >= self.policy.retry.max_age {
                give_up(items, failure, tries, tried_for, actions);
                self.succeed(key);
            } else {
                let wait =
                    backoff(self.policy.retry.backoff_min, self.policy.retry.backoff_max, tries - 1, random);
                let asked = failure.wait.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.lanes.put_back(key, items);
                self.lanes.wait(key, now + wait.max(asked));
                self.park(key, actions);
            }
        }
    }

    /// Some events of a part failed: each has its own entry in `failures`, in order.
    fn partial(
        &mut self,
        now: Duration,
        part: LanePart,
        failures: &mut impl Iterator<Item = Option<Failure>>,
        sent_at: Duration,
        random: f64,
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
            self.fail(now, part, Refusal { failure: &failure, single: true, sent_at, random }, actions);
        }
    }

    /// A dead letter is durable, or taken over by a dead-letter processor: it is settled; one that came from the spool leaves its row.
    pub fn dead_letter_stored(&mut self, letter: &FailedEvent, actions: &mut Vec<Action>) {
        match letter.origin {
            Origin::Spool(row) => {
                self.spool.delivered(row, &letter.slice.batch, &letter.slice.selection, actions)
            }
            Origin::Source => actions.push(Action::Settle(letter.slice.clone())),
            Origin::Adopted(_) | Origin::DeadLetter(_) => {
                debug_assert!(false, "it is a dead letter of another destination, or is one already")
            }
        }
    }
}

/// Whether a smaller request might have succeeded: no answer in time, from the target or from what stands before it.
fn may_be_too_much(failure: &Failure) -> bool {
    failure.blame == Blame::Target && matches!(failure.status, None | Some(408 | 502 | 504))
}

/// These failed for good.
fn give_up(
    items: Vec<LaneItem>,
    failure: &Failure,
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
        }),
    }));
}
