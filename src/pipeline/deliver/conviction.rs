//! Convicted events: events at fault, on their way to the dead letters.
//!
//! A convicted event for which the store has no room waits for its target again, like any refused
//! event. It needs no more evidence:
//!
//! ```text
//!              ┌────────────────── refused ───────────────────┐
//!              ▼                                              │
//!  convicted ──┬─ DeadLetter ··· LetterStored ─► settled      │
//!              │        └─────── LetterRefused ─┐             │
//!              └─ the store was full just now ──┴─► waits ────┴── accepted ─► settled
//! ```
//!
//! It waits aside, and the events behind it go on. In two cases its lane waits instead, from the
//! conviction until the event is settled: if the ordering lets refused events hold their lanes, and
//! if the asides are full. So a store that stays full stops one lane after the other, until the
//! target accepts an event or the store has room.
//!
//! A dead-letter processor may be away for long, so no lane waits for one. An event that it refuses
//! comes back if the store has no room for the letter, and waits aside in every ordering.
//!
//! INVARIANT: a convicted event is in one place: on its way to the dead letters, at its target, or
//! first in its lane. It is settled once, by the letter or by its acceptance.

use std::time::Duration;

use rand::Rng;

use super::answer::give_up;
use super::backoff::backoff;
use super::evidence::Trial;
use super::item::{LaneItem, Origin};
use super::lanes::{LaneKey, is_own, is_replay};
use super::refusal::RefusedPart;
use super::{Action, DeliveryEngine, FailedEvent};
use crate::limits::RETRY_AFTER_MAX;
use crate::pipeline::deliver::settings::{OnRefusal, Ordering};
use crate::pipeline::refusals::StoreRoom;
use crate::processor::Failure;

/// The way to the dead letters.
#[derive(Debug, Default)]
pub(super) struct LetterRoom {
    /// The store's room for letters, from its last answer.
    room: StoreRoom,
    /// Letters whose end was not reported yet.
    under_way: usize,
}

impl LetterRoom {
    /// Returns true if the store had no room for a letter when it was last asked, and an event
    /// waits for that room.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }
}

/// The tries of a convicted event, for the case that it returns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    trial: Trial,
    first_try: Option<Duration>,
    refused_at: Option<Duration>,
    /// The lane that waits for the letter's end. `None`: the lane has gone on.
    lane: Option<LaneKey>,
}

impl DeliveryEngine {
    /// Turns the event into a dead letter because it is at fault, or lets it wait if there is no
    /// room. `trial`: the refusals of the event, with this one.
    pub(super) fn convict(&mut self, part: RefusedPart<'_>, trial: Trial, actions: &mut Vec<Action>) {
        let RefusedPart { now, key, items, failure, .. } = part;
        let lane = self.lanes.get(key);
        let tries = Tries {
            trial: trial.with_conviction(),
            first_try: lane.and_then(|lane| lane.first_try),
            refused_at: lane.and_then(|lane| lane.refused_at),
            lane: None,
        };
        let attempts = tries.trial.refusals;
        let tried_for = tries.first_try.map_or(Duration::ZERO, |first| now.saturating_sub(first));
        let is_letter = |item: &LaneItem| matches!(item.origin, Origin::Source | Origin::Spool(_));
        if !items.iter().all(is_letter) {
            // Replays end, and the letters of other destinations return there.
            give_up(items, failure, Tries::default(), attempts, tried_for, actions);
            return self.go_on_after_conviction(key);
        }
        let has_sink = self.policy.dead_letter.is_some();
        if !has_sink && !self.letters.room.may_ask(now) {
            return self.wait_for_room(now, key, items, tries, failure, actions);
        }
        let goes_on = (has_sink || !self.holds_lanes()) && !self.has_no_place();
        let tries = Tries { lane: (!goes_on).then_some(key), ..tries };
        self.letters.under_way += items.len();
        give_up(items, failure, tries, attempts, tried_for, actions);
        match goes_on {
            true => self.go_on_after_conviction(key),
            false => self.lanes.set_trial(key, tries.trial),
        }
    }

    /// Returns true if the lane of a convicted event waits for it, as the ordering demands.
    pub(super) fn holds_lanes(&self) -> bool {
        match self.policy.ordering {
            Ordering::Entity => true,
            Ordering::Source => self.policy.on_refusal == OnRefusal::Hold,
            Ordering::None => false,
        }
    }

    /// Returns true if a refused event has no other place than the head of its lane: there is room
    /// neither for another aside nor among the dead letters.
    pub(super) fn has_no_place(&self) -> bool {
        self.letters.is_full() && self.has_full_asides()
    }

    /// Ends the wait of a lane for its convicted first event.
    fn go_on_after_conviction(&mut self, key: LaneKey) {
        let convictions = self.lanes.get(key).map_or(0, |lane| lane.convictions);
        self.succeed(key);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.convictions = convictions.saturating_add(1);
        }
    }

    /// A dead letter is durable, or a dead-letter processor has taken it. Settles the event. A
    /// letter from the spool leaves its row.
    pub(super) fn letter_stored(&mut self, letter: &FailedEvent, actions: &mut Vec<Action>) {
        self.letters.under_way -= 1;
        // Nothing is known of the store's room if a dead-letter processor has the letter.
        if self.policy.dead_letter.is_none() {
            self.letters.room.found();
        }
        if let Some(key) = letter.tries.lane {
            self.go_on_after_conviction(key);
        }
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

    /// The store had no room for a dead letter. The event waits for its target again.
    pub(super) fn letter_refused(&mut self, now: Duration, letter: &FailedEvent, actions: &mut Vec<Action>) {
        self.letters.under_way -= 1;
        self.letters.room.refused(now);
        let key = letter.tries.lane.unwrap_or_else(|| self.lanes.own_lane());
        let items = vec![LaneItem::new(&letter.slice, letter.origin)];
        self.set_tries(key, letter.tries);
        self.wait_in(now, key, items, &letter.failure, actions);
    }

    /// Forgets that the store was full as soon as no event waits for room.
    pub(super) fn forget_full_letters(&mut self) {
        if self.lanes.convicted_lanes == 0 && self.letters.under_way == 0 {
            self.letters.room.found();
        }
    }

    /// Lets a convicted event wait for its next try, without asking the store.
    fn wait_for_room(
        &mut self,
        now: Duration,
        key: LaneKey,
        items: Vec<LaneItem>,
        tries: Tries,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        let is_aside = is_own(key) && self.lanes.get(key).is_some_and(|lane| lane.items.is_empty());
        let steps_aside = !is_aside && !self.holds_lanes() && !self.has_full_asides();
        let to = if steps_aside { self.lanes.own_lane() } else { key };
        if steps_aside {
            self.go_on_after_conviction(key);
        }
        self.set_tries(to, tries);
        self.wait_in(now, to, items, failure, actions);
    }

    /// Gives a lane the tries of an event that is about to be its first.
    fn set_tries(&mut self, key: LaneKey, tries: Tries) {
        let Tries { trial, first_try, refused_at, .. } = tries;
        self.lanes.set_trial(key, trial);
        if let Some(lane) = self.lanes.get_mut(key) {
            (lane.cap, lane.first_try, lane.refused_at) = (1, first_try, refused_at);
        }
    }

    /// Puts a convicted event to the front of a lane, which waits with the usual back-off.
    fn wait_in(
        &mut self,
        now: Duration,
        key: LaneKey,
        items: Vec<LaneItem>,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        debug_assert!(!is_replay(key), "a replay is a dead letter already");
        let retry = &self.policy.retry;
        let refusals = self.lanes.get(key).map_or(0, |lane| lane.trial.refusals);
        let random = self.random.random();
        let wait = backoff(retry.backoff_min, retry.backoff_max, refusals.saturating_sub(1), random);
        let wait = wait.max(failure.wait.unwrap_or_default().min(RETRY_AFTER_MAX));
        self.lanes.put_back(key, items);
        self.lanes.wait(key, now + wait);
        self.park(key, actions);
    }
}
