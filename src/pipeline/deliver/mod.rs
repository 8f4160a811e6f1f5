//! Deliver: one destination's engine. Says what to send when, and what becomes of every event.
//! Pure: the clock, the answers and the store's replies come in as [`Input`], requests and writes
//! go out as [`Action`].
//!
//! ```text
//!  Offer ─► lanes ─► requests (by count, bytes, age) ─► Send ··· Done
//!             ▲                                                   ├─ acknowledged ─► Settle
//!             │                                                   ├─ target at fault ─► probe
//!             │                                                   └─ refused ─► evidence decides:
//!             │                                                        try again, or DeadLetter
//!  Spool ◄────┴─ too much waits ─► Append ··· Appended ─► Settle
//!                later: Fetch ··· Fetched ─► lanes ─► Unspool
//!                too much of one entity behind a refused event: a spool of its own
//!
//!  Replay ─► lanes of its own ─► Replayed: a dead letter was delivered, or failed again
//!  Adopt ──► like an Offer ────► Adopted: an event that another destination could not deliver is
//!                                delivered, or durable here
//! ```
//!
//! INVARIANT: every offered event leaves exactly once as `Settle`, or within `DeadLetter` or
//! `Append`, whose completion settles it; an adopted one as `Adopted` or within `DeadLetter`.
//! INVARIANT: nothing overtakes a spool that is not empty, but for dead letters that a person
//! replays.
//! INVARIANT: every replay comes to its end: it waits neither for a target that is gone nor for its
//! breaker, but stays a dead letter.

mod answer;
mod backoff;
mod evidence;
mod health;
mod held;
mod item;
mod lanes;
mod message;
mod rate;
mod send;
mod spool;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustc_hash::{FxHashMap, FxHashSet};

pub use item::{Origin, SpoolRow, pick};
pub use message::{Action, FailedEvent, Gauges, Input, ReplayEnd, Room};
pub use spool::{SpoolKey, Spooled};

use self::backoff::Pauses;
use self::evidence::Evidence;
use self::health::Health;
use self::item::{CompactSelection, LaneItem};
use self::lanes::{LaneKey, LaneKind, LaneKinds, Lanes, is_own, is_replay, lane_of};
use self::rate::Rate;
use self::spool::Spools;
use crate::config::{DeliveryPolicy as Policy, Ordering, OverflowPolicy};
use crate::limits::{ASIDES_MAX, REPLAY_WAIT_MAX, SPOOL_REFETCH_BYTES};
use crate::processor::RequestLimits;

/// One destination's engine.
#[derive(Debug)]
pub struct DeliveryEngine {
    policy: Policy,
    limits: RequestLimits,
    function: std::sync::Arc<str>,
    lanes: Lanes,
    health: Health,
    evidence: Evidence,
    pauses: Pauses,
    rate: Rate,
    spool: Spools,
    /// This destination's share of the memory, in bytes, when it was last told of it.
    share: usize,
    /// Events of one request now: fewer than the shape allows after a request that was too much for
    /// the target.
    events_max: usize,
    under_way: FxHashMap<u64, UnderWay>,
    /// Requests under way, by [`LaneKind`].
    sent: [usize; 3],
    next_request: u64,
    /// Since when a lane is ready, for the linger.
    ready_since: Option<Duration>,
    /// Nothing is sent but replays: see [`Input::Block`].
    blocked: bool,
    /// Nothing at all is sent any more.
    stopped: bool,
    random: SmallRng,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct UnderWay {
    parts: Vec<LanePart>,
    events: usize,
    /// The kind of its first lane.
    kind: LaneKind,
    sent_at: Duration,
    /// See [`Health::opened`].
    opened: u64,
}

/// What one lane has in a request.
#[derive(Debug)]
struct LanePart {
    key: LaneKey,
    items: Vec<LaneItem>,
    /// Written to the spool meanwhile: what fails is not put back, it comes from there.
    spooled: bool,
}

impl DeliveryEngine {
    /// `spooled` waits in the store from a former run. `seed` is for the jitter.
    pub fn new(policy: Policy, limits: RequestLimits, function: &str, spooled: Spooled, seed: u64) -> Self {
        let rate = Rate::new(policy.rate_limit);
        // What the configuration allows, within what the processor can take.
        let limits = RequestLimits {
            events_max: limits.events_max.min(policy.batch.events).min(rate.events_max()).max(1),
            bytes_max: limits.bytes_max.min(policy.batch.bytes).max(1),
            ..limits
        };
        DeliveryEngine {
            rate,
            spool: Spools::new(spooled, policy.ordering),
            share: 2 * SPOOL_REFETCH_BYTES,
            policy,
            events_max: limits.events_max,
            limits,
            function: function.into(),
            lanes: Lanes::default(),
            health: Health::default(),
            evidence: Evidence::default(),
            pauses: Pauses::default(),
            under_way: FxHashMap::default(),
            sent: [0; 3],
            next_request: 0,
            ready_since: None,
            blocked: false,
            stopped: false,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Takes one input, adds what follows to `actions`.
    pub fn step(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Offer { slice, room } => {
                self.offer(now, LaneItem::new(&slice, Origin::Source), room, actions)
            }
            Input::Adopt { ticket, slice, room } => {
                self.offer(now, LaneItem::new(&slice, Origin::Adopted(ticket)), room, actions)
            }
            Input::Done { request, outcome } => self.done(now, request, outcome, actions),
            Input::Appended { ticket } => self.spool.appended(ticket, &self.lanes, actions),
            Input::Refused => self.spool.refused(now),
            Input::Fetched { spool, rows } => {
                for item in self.spool.fetched(spool, rows, actions) {
                    match spool {
                        SpoolKey::Main => self.admit(item, actions),
                        // The oldest of its lane.
                        SpoolKey::Lane(_) => self.lanes.push(item, self.policy.ordering),
                    }
                }
                if let SpoolKey::Lane(key) = spool {
                    self.lanes.emptied.push(key);
                }
            }
            // Its lanes are as the others; what it holds in memory is bounded by whoever replays.
            Input::Replay { letter, slice } => {
                self.lanes.push(LaneItem::new(&slice, Origin::DeadLetter(letter)), self.policy.ordering)
            }
            Input::Block(blocked) => {
                if std::mem::replace(&mut self.blocked, blocked) != blocked {
                    self.health.pause();
                }
            }
            Input::Room(room) => self.make_room(now, room, actions),
            Input::Stop => {
                self.stopped = true;
                self.spool.mark_all(actions);
                return;
            }
            Input::Tick => {}
        }
        if self.health.is_quiet_for(now, REPLAY_WAIT_MAX) {
            self.put_off_replays(actions);
        }
        self.lanes.wake(now);
        while let Some(key) = self.lanes.emptied.pop() {
            self.spool.look_at(key, &self.lanes);
        }
        let spilled = self.spool.is_active()
            && self.under_way.values().any(|request| request.parts.iter().any(|part| part.spooled));
        if self.spool.is_full() {
            self.take_back(now, spilled, actions);
        }
        self.spool.retry(now, actions);
        self.spool.mark_in_time(now, actions);
        let (open, rests) = (self.health.is_open(), self.health.rests(now));
        if rests && self.spool.is_active() {
            let items = self.lanes.drain_spooled(|key| self.spool.has_lane(key));
            self.spool.give_back(items, &self.lanes);
        }
        // Where the target is gone only what it is probed with has a place in memory. What waits
        // for its own next try is nothing to probe with.
        if !open || !(rests || self.lanes.has_ready(LaneKinds::ALL) || !self.under_way.is_empty()) {
            let parked_max = self.parked_max();
            self.spool.fetch(&mut self.lanes, parked_max, spilled, open, actions);
        }
        self.pump(now, actions);
    }

    /// When to `Tick` at the latest.
    pub fn wakes_at(&self) -> Option<Duration> {
        let waits = self.lanes.wakes_at().into_iter().chain(self.spool.wakes_at());
        waits.chain(self.sends_at()).chain(self.probes_at()).min()
    }

    /// When the spool is asked for something to probe with.
    fn probes_at(&self) -> Option<Duration> {
        let is_due =
            self.health.is_open() && self.under_way.is_empty() && !self.lanes.has_ready(LaneKinds::ALL);
        self.health.wakes_at().filter(|_| is_due && self.spool.may_ask(&self.lanes, self.parked_max()))
    }

    /// When the next request may be sent, if time is all that is missing.
    fn sends_at(&self) -> Option<Duration> {
        if self.under_way.len() >= self.policy.concurrency {
            return None;
        }
        // The end of a request is an input of its own.
        let may_send =
            self.lanes.has_ready(self.sendable()) && !self.health.awaits_answer(self.under_way.len());
        may_send.then(|| {
            let linger = self.lingers_until().unwrap_or_default();
            let health = self.health.wakes_at().unwrap_or_default();
            linger.max(health).max(self.rate.next_at())
        })
    }

    /// The function that it delivers to; empty for a processor that is one destination.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Whether nothing waits in memory and nothing is under way; the spool may still hold events.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.under_way.is_empty() && self.spool.is_quiet()
    }

    pub fn gauges(&self) -> Gauges {
        Gauges {
            waiting_events: self.lanes.events,
            waiting_bytes: self.lanes.bytes(),
            requests_under_way: self.under_way.len(),
            breaker_open: self.health.is_open(),
            spooling: self.spool.is_active(),
            parked_lanes: self.lanes.parked_lanes,
            parked_spools: self.spool.lanes(),
            store_full: self.spool.is_full(),
            refuses_all: self.health.is_blamed(),
            aside_events: self.lanes.asides(),
        }
    }

    /// Whether more waits in memory than this share of it, in bytes, and there is another place for
    /// it.
    pub fn exceeds(&self, share: usize) -> bool {
        self.policy.overflow.policy == OverflowPolicy::Spill
            && !self.spool.is_active()
            && self.lanes.bytes() > share
    }

    /// Whether what is over its share holds up others: they want the memory, or its target will not
    /// take it soon.
    fn holds_up(&self, room: Room) -> bool {
        self.health.is_open() || (room.scarce && !room.alone)
    }

    /// Spills what has no place in memory any more. When memory is full nothing is offered, so that
    /// this cannot wait for an offer.
    fn make_room(&mut self, now: Duration, room: Room, actions: &mut Vec<Action>) {
        self.share = room.share;
        if !self.exceeds(room.share) || !self.holds_up(room) || !self.spool.may_write(now) {
            return;
        }
        self.lanes.compact();
        if self.exceeds(room.share) {
            self.spill(None, actions);
        }
    }

    fn offer(&mut self, now: Duration, item: LaneItem, room: Room, actions: &mut Vec<Action>) {
        self.share = room.share;
        // A few events should not keep a whole page, neither here nor in a request.
        let item = item.compact();
        if self.spool.is_active() {
            self.spool.append(vec![item], actions);
            return;
        }
        let holds_up = self.holds_up(room);
        let has_room = |lanes: &Lanes| lanes.bytes_with(&item) <= room.share;
        if !has_room(&self.lanes) && (holds_up || room.scarce) {
            self.lanes.compact();
        }
        if has_room(&self.lanes) || !holds_up {
            return self.admit(item, actions);
        }
        // One that has nothing to send is not behind, however little of the memory is its share:
        // nothing is lost for its neighbours' sake.
        let keeps_up = self.lanes.events == 0 && !self.health.is_open();
        match self.policy.overflow.policy {
            OverflowPolicy::Spill if self.spool.may_write(now) => self.spill(Some(item), actions),
            OverflowPolicy::Spill | OverflowPolicy::Block => self.admit(item, actions),
            OverflowPolicy::DropNewest | OverflowPolicy::DropOldest if keeps_up => self.admit(item, actions),
            OverflowPolicy::DropNewest => self.drop_newest(item, actions),
            OverflowPolicy::DropOldest => self.drop_oldest(item, actions),
        }
    }

    /// Puts events into their lanes, or behind what lanes have in spools of their own.
    fn admit(&mut self, item: LaneItem, actions: &mut Vec<Action>) {
        let may_park =
            self.policy.ordering == Ordering::Entity && (self.lanes.parked > 0 || self.spool.lanes() > 0);
        if !may_park {
            return self.lanes.push(item, self.policy.ordering);
        }
        let (mut parked, mut keys) = (Vec::new(), FxHashSet::default());
        for i in item.selection.to_selection().iter() {
            let key = lane_of(&item.batch, i);
            let one = LaneItem { selection: CompactSelection::One(i as u16), ..item.clone() };
            if self.spool.has_lane(key) || keys.contains(&key) {
                parked.push((key, one));
                continue;
            }
            self.lanes.append(key, one);
            if self.is_to_be_parked(key) {
                keys.insert(key);
                parked.extend(self.lanes.take_resting(key).into_iter().map(|item| (key, item)));
            }
        }
        if !parked.is_empty() {
            self.spool.append_to_lanes(lanes::merge_by_lane(parked), actions);
        }
    }

    /// What the store has no room for goes back to where it was: its target may take it.
    fn take_back(&mut self, now: Duration, spilled_under_way: bool, actions: &mut Vec<Action>) {
        // Half, so that it is not asked again with each event that comes and goes.
        if self.lanes.bytes() <= self.share / 2 {
            self.spool.forget_full();
        }
        if self.spool.may_write(now) {
            // It is asked first.
            return;
        }
        let (older, newer) = self.spool.take_back(spilled_under_way, actions);
        older.into_iter().for_each(|item| self.lanes.push(item, self.policy.ordering));
        newer.into_iter().for_each(|item| self.admit(item, actions));
        self.spool.leave_if_empty(&mut self.lanes);
    }

    /// Returns true if there is no room for another refused event that others may overtake.
    fn has_full_asides(&self) -> bool {
        self.lanes.asides() >= ASIDES_MAX || self.lanes.aside_bytes > self.share / 4
    }

    /// Bytes that may wait in memory behind events that are refused.
    fn parked_max(&self) -> usize {
        self.share / 2
    }

    /// Whether what waits in a lane, from an event on that is refused, has no place in memory.
    fn is_to_be_parked(&self, key: LaneKey) -> bool {
        self.lanes.parked > self.parked_max()
            && !self.spool.is_full()
            && self.policy.ordering == Ordering::Entity
            && self.policy.overflow.policy == OverflowPolicy::Spill
            && self.lanes.is_resting(key)
            // A lane of its own has a number that only this run knows.
            && !is_own(key)
            && !self.spool.has_lane(key)
    }

    /// A lane waits for its next try.
    fn park(&mut self, key: LaneKey, actions: &mut Vec<Action>) {
        if self.is_to_be_parked(key) {
            let items = self.lanes.take_resting(key).into_iter().map(|item| (key, item)).collect();
            self.spool.append_to_lanes(lanes::merge_by_lane(items), actions);
        } else if self.spool.has_lane(key) && self.spool.is_short_of_room(&self.lanes, self.parked_max()) {
            // It comes back from there for its next try; until then another one has its place.
            let items = self.lanes.take_resting(key);
            self.spool.give_back(items, &self.lanes);
        }
    }

    fn drop(&mut self, item: &LaneItem, actions: &mut Vec<Action>) {
        actions.push(Action::Drop(item.slice()));
        self.settle(item, false, actions);
    }

    /// Writes all that waits and all that is under way to the spool, then the new events: nothing
    /// may overtake what is in it. But what lanes with spools of their own have in memory stays: it
    /// is older than what is in those.
    fn spill(&mut self, newest: Option<LaneItem>, actions: &mut Vec<Action>) {
        let mut items = self.lanes.drain(|key| self.spool.has_lane(key));
        if items.is_empty() && newest.is_none() {
            return;
        }
        for part in self.under_way.values_mut().flat_map(|request| &mut request.parts) {
            if !is_replay(part.key) && !self.spool.has_lane(part.key) && !part.spooled {
                items.extend(part.items.iter().cloned());
                part.spooled = true;
            }
        }
        items.extend(newest);
        let items = lanes::merge(items, |item| self.spool.age(item));
        self.spool.append(items, actions);
    }

    /// Drops new events; but one is kept to probe with where nothing waits.
    fn drop_newest(&mut self, newest: LaneItem, actions: &mut Vec<Action>) {
        if self.lanes.events > 0 {
            return self.drop(&newest, actions);
        }
        let (first, rest) = newest.split_front(1, usize::MAX);
        if let Some(rest) = rest {
            self.drop(&rest, actions);
        }
        self.admit(first.compact(), actions);
    }

    fn drop_oldest(&mut self, newest: LaneItem, actions: &mut Vec<Action>) {
        let waiting = self.lanes.drain(|key| self.spool.has_lane(key));
        let mut waiting = lanes::merge(waiting, |item| self.spool.age(item));
        let keep = waiting.split_off(waiting.len().div_ceil(2));
        waiting.iter().for_each(|item| self.drop(item, actions));
        for item in keep.into_iter().chain([newest]) {
            self.admit(item, actions);
        }
    }
}
