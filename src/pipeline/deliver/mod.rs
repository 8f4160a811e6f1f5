//! Deliver: the engine of one destination. It decides which events go into which request, and when.
//! It also decides the fate of every event: settled, retried, spooled or dead.
//!
//! The engine is pure. The clock, the target's answers and the store's replies come in as
//! [`Input`]; requests and writes go out as [`Action`]. The simulation and the tests below drive
//! the same engine as production.
//!
//! ```text
//!  Offer ─► lanes ─► requests (by count, bytes, age) ─► Send ··· Done
//!             ▲                                                   ├─ acknowledged ─► Settle
//!             │                                                   ├─ target at fault ─► probe
//!             │                                                   └─ refused ─► evidence decides:
//!             ├───────────────────────────────────────────────────────── try again, or DeadLetter
//!             └─ no room for a dead letter ··· LetterRefused
//!  Spool ◄────┴─ too much waits ─► Append ··· Appended ─► Settle
//!                later: Fetch ··· Fetched ─► lanes ─► Unspool
//!                too much of one entity behind a refused event: a spool of its own
//!
//!  Replay ─► lanes of its own ─► Replayed: a dead letter was delivered, or failed again
//!  Adopt ──► like an Offer ────► Adopted: another destination's dead letter was delivered, or is
//!                                durable here
//! ```
//!
//! The step itself and the overflow policies are in this file. `send.rs` forms requests, and
//! `answer.rs` handles their answers. `refusal.rs` judges refused events, and `conviction.rs` turns
//! those at fault into dead letters. `Lanes` keep the order, `Health` is the breaker,
//! `Evidence` judges refusals, and `Spools` is the queue on disk.
//!
//! INVARIANT: every offered event leaves exactly once: as `Settle`, or within a `DeadLetter` or an
//! `Append`, whose completion settles it. A `DeadLetter` without room returns to the engine. An
//! adopted event leaves as `Adopted` or within a `DeadLetter`.
//! INVARIANT: nothing overtakes a spool that is not empty, except dead letters under replay.
//! INVARIANT: every replay ends. It waits neither for a target that is gone nor for its breaker; it
//! stays a dead letter instead.

mod answer;
mod backoff;
mod conviction;
mod evidence;
mod health;
mod held;
mod item;
mod lanes;
mod message;
mod rate;
mod reconfigure;
mod refusal;
mod send;
pub mod settings;
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
use self::conviction::LetterRoom;
use self::evidence::Evidence;
use self::health::Health;
use self::item::{CompactSelection, LaneItem};
use self::lanes::{LaneKey, LaneKind, LaneKinds, Lanes, is_own, is_replay, lane_of};
use self::rate::Rate;
use self::spool::Spools;
use crate::event::{Batch, Selection};
use crate::limits::{ASIDES_MAX, REPLAY_WAIT_MAX, SPOOL_REFETCH_BYTES};
use crate::pipeline::deliver::settings::{DeliveryPolicy as Policy, Ordering, OverflowPolicy};
use crate::processor::RequestLimits;

/// The engine of one destination.
#[derive(Debug)]
pub struct DeliveryEngine {
    policy: Policy,
    /// The ordering to switch to, see `reconfigure`.
    next_ordering: Option<Ordering>,
    limits: RequestLimits,
    function: std::sync::Arc<str>,
    lanes: Lanes,
    health: Health,
    evidence: Evidence,
    pauses: Pauses,
    rate: Rate,
    spool: Spools,
    /// This destination's share of the memory, in bytes, from the last [`Room`].
    share: usize,
    /// Events per request now. Fewer than the configured size after a request that was too much for
    /// the target.
    events_max: usize,
    under_way: FxHashMap<u64, UnderWay>,
    /// Requests in flight, by [`LaneKind`].
    sent: [usize; 3],
    next_request: u64,
    /// Time since which a lane has been ready. The linger counts from it.
    ready_since: Option<Duration>,
    /// The way of convicted events to the dead letters.
    letters: LetterRoom,
    /// True if nothing is sent any more.
    stopped: bool,
    random: SmallRng,
}

/// A request in flight.
#[derive(Debug)]
struct UnderWay {
    parts: Vec<LanePart>,
    events: usize,
    /// The kind of the first lane in the request.
    kind: LaneKind,
    sent_at: Duration,
    /// [`Health::opened`] at the time of the send.
    opened: u64,
}

/// The events of one lane in a request.
#[derive(Debug)]
struct LanePart {
    key: LaneKey,
    items: Vec<LaneItem>,
    /// True if the events were written to the spool meanwhile. On failure they are not put back
    /// into the lane; they return from the spool.
    spooled: bool,
}

impl DeliveryEngine {
    /// `spooled`: rows that a former run left in the store. `seed`: for the jitter.
    pub fn new(policy: Policy, limits: RequestLimits, function: &str, spooled: Spooled, seed: u64) -> Self {
        let rate = Rate::new(policy.rate_limit);
        let limits = reconfigure::configured(limits, &policy, &rate);
        DeliveryEngine {
            rate,
            spool: Spools::new(spooled, policy.ordering),
            share: 2 * SPOOL_REFETCH_BYTES,
            policy,
            next_ordering: None,
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
            letters: LetterRoom::default(),
            stopped: false,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Expects rows from outside ([`Input::Added`]) until the first offer. To be called at the
    /// start, since the engine may not write to the end of its spool in that time.
    pub fn expect_rows(&mut self) {
        self.spool.keep();
    }

    /// Processes one input and appends the resulting actions to `actions`.
    pub fn step(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        self.handle(now, input, actions);
        self.lanes.charge();
    }

    fn handle(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
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
                        // The lane had run dry, so these are its oldest events.
                        SpoolKey::Lane(_) => self.lanes.push(item, self.policy.ordering),
                    }
                }
                if let SpoolKey::Lane(key) = spool {
                    self.lanes.emptied.push(key);
                }
            }
            Input::Added { rows } => self.spool.added(rows),
            // Replays get lanes of the usual kinds. The sender of replays bounds their memory.
            Input::Replay { letter, slice } => {
                self.lanes.push(LaneItem::new(&slice, Origin::DeadLetter(letter)), self.policy.ordering)
            }
            Input::LetterStored(letter) => self.letter_stored(&letter, actions),
            Input::LetterRefused(letter) => self.letter_refused(now, &letter, actions),
            Input::Room(room) => self.make_room(now, room, actions),
            Input::Policy { policy, limits } => self.reconfigure(*policy, limits),
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
        self.forget_full_letters();
        while let Some(key) = self.lanes.emptied.pop() {
            self.spool.look_at(key, &self.lanes);
        }
        self.reorder();
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
        // With the target gone, only the events for a probe have a place in memory. A request in
        // back-off cannot serve as a probe.
        if !open || !(rests || self.lanes.has_ready(LaneKinds::ALL) || !self.under_way.is_empty()) {
            let parked_max = self.parked_max();
            self.spool.fetch(&mut self.lanes, parked_max, spilled, open, actions);
        }
        self.pump(now, actions);
    }

    /// Returns the latest time for the next `Tick`.
    pub fn wakes_at(&self) -> Option<Duration> {
        let waits = self.lanes.wakes_at().into_iter().chain(self.spool.wakes_at());
        waits.chain(self.sends_at()).chain(self.probes_at()).min()
    }

    /// Returns the time at which the spool is asked for events to probe with.
    fn probes_at(&self) -> Option<Duration> {
        let is_due =
            self.health.is_open() && self.under_way.is_empty() && !self.lanes.has_ready(LaneKinds::ALL);
        self.health.wakes_at().filter(|_| is_due && self.spool.may_ask(&self.lanes, self.parked_max()))
    }

    /// Returns the time of the next send, if time is all that is missing.
    fn sends_at(&self) -> Option<Duration> {
        if self.under_way.len() >= self.policy.concurrency || self.is_switching() {
            return None;
        }
        // An answer is an input of its own and needs no timer.
        let may_send =
            self.lanes.has_ready(self.sendable()) && !self.health.awaits_answer(self.under_way.len());
        may_send.then(|| {
            let linger = self.lingers_until().unwrap_or_default();
            let health = self.health.wakes_at().unwrap_or_default();
            linger.max(health).max(self.rate.next_at())
        })
    }

    /// The function that this destination delivers to. Empty for a processor that is one
    /// destination.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Returns true if nothing waits in memory and nothing is in flight. The spool may still hold
    /// events.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.under_way.is_empty() && self.spool.is_quiet()
    }

    pub fn gauges(&self) -> Gauges {
        Gauges {
            waiting_events: self.lanes.events,
            waiting_bytes: self.lanes.bytes(),
            requests_under_way: self.under_way.len(),
            breaker_open: self.health.is_open(),
            spooling: self.spool.is_spooling(),
            parked_lanes: self.lanes.parked_lanes,
            parked_spools: self.spool.lanes(),
            appending: self.spool.is_appending(),
            store_full: self.spool.is_full() || self.letters.is_full(),
            refuses_all: self.health.is_blamed(),
            aside_events: self.lanes.asides(),
        }
    }

    /// Number of events in flight.
    pub fn events_under_way(&self) -> usize {
        self.under_way.values().map(|request| request.events).sum()
    }

    /// Shows each group of events in memory that waits or is in flight. Dead letters of this or
    /// another destination are left out.
    pub fn each_waiting(&self, mut each: impl FnMut(&Batch, &Selection)) {
        let in_flight = self.under_way.values().flat_map(|request| &request.parts);
        let in_flight = in_flight.flat_map(|part| &part.items);
        let is_own = |item: &&LaneItem| matches!(item.origin, Origin::Source | Origin::Spool(_));
        for item in self.lanes.first_items().chain(in_flight).filter(is_own) {
            each(&item.batch, &item.selection.to_selection());
        }
    }

    /// The setting `alertAge`.
    pub fn alert_age(&self) -> Duration {
        self.policy.alert_age
    }

    /// Returns true if the lanes hold more than `share` bytes and the spool could take them.
    pub fn exceeds(&self, share: usize) -> bool {
        self.policy.overflow.policy == OverflowPolicy::Spill
            && !self.spool.is_active()
            && self.lanes.bytes() > share
    }

    /// Returns true if exceeding the share holds up other destinations: they need the memory, or
    /// this target will not take the events soon.
    fn holds_up(&self, room: Room) -> bool {
        self.health.is_open() || (room.scarce && !room.alone)
    }

    /// Spills the lanes when they exceed the new share. This cannot wait for an offer: nothing is
    /// offered while memory is full.
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
        // An offer means that no more rows come from outside.
        self.spool.end_keep(&mut self.lanes);
        // A few events should not keep a whole page, neither here nor in a request.
        let item = item.compact();
        if self.spool.is_active() {
            self.spool.append(vec![item], actions);
            return;
        }
        let holds_up = self.holds_up(room);
        let ordering = self.policy.ordering;
        let has_room = |lanes: &Lanes| lanes.bytes_with(&item, ordering) <= room.share;
        if !has_room(&self.lanes) && (holds_up || room.scarce) {
            self.lanes.compact();
        }
        if has_room(&self.lanes) || !holds_up {
            return self.admit(item, actions);
        }
        // A destination with nothing to send keeps up, however small its share is. It drops nothing
        // for the sake of its neighbours.
        let keeps_up = self.lanes.events == 0 && !self.health.is_open();
        match self.policy.overflow.policy {
            OverflowPolicy::Spill if self.spool.may_write(now) => self.spill(Some(item), actions),
            OverflowPolicy::Spill | OverflowPolicy::Block => self.admit(item, actions),
            OverflowPolicy::DropNewest | OverflowPolicy::DropOldest if keeps_up => self.admit(item, actions),
            OverflowPolicy::DropNewest => self.drop_newest(item, actions),
            OverflowPolicy::DropOldest => self.drop_oldest(item, actions),
        }
    }

    /// Puts events into their lanes. Events of a lane with its own spool go to the end of that
    /// spool.
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

    /// Takes appends that the store refused back into memory, so the target can still get them.
    fn take_back(&mut self, now: Duration, spilled_under_way: bool, actions: &mut Vec<Action>) {
        // Half of the share as hysteresis: otherwise each event that comes and goes would ask the
        // store.
        if self.lanes.bytes() <= self.share / 2 {
            self.spool.forget_full();
        }
        if self.spool.may_write(now) {
            // The store is asked again first.
            return;
        }
        let (older, newer) = self.spool.take_back(spilled_under_way, actions);
        older.into_iter().for_each(|item| self.lanes.push(item, self.policy.ordering));
        newer.into_iter().for_each(|item| self.admit(item, actions));
        self.spool.leave_if_empty(&mut self.lanes);
    }

    /// Returns true if there is no room for another aside.
    fn has_full_asides(&self) -> bool {
        self.lanes.asides() >= ASIDES_MAX || self.lanes.aside_bytes > self.share / 4
    }

    /// Bytes that may wait in memory behind refused events.
    fn parked_max(&self) -> usize {
        self.share / 2
    }

    /// Returns true if a lane's events, from its refused first event on, have no place in memory.
    fn is_to_be_parked(&self, key: LaneKey) -> bool {
        self.lanes.parked > self.parked_max()
            && !self.spool.is_full()
            && self.next_ordering.is_none()
            && self.policy.ordering == Ordering::Entity
            && self.policy.overflow.policy == OverflowPolicy::Spill
            && self.lanes.is_resting(key)
            // The number of an own lane is known to this run only.
            && !is_own(key)
            && !self.spool.has_lane(key)
    }

    /// Moves a lane that just began to wait out of memory if memory is short.
    fn park(&mut self, key: LaneKey, actions: &mut Vec<Action>) {
        if self.is_to_be_parked(key) {
            let items = self.lanes.take_resting(key).into_iter().map(|item| (key, item)).collect();
            self.spool.append_to_lanes(lanes::merge_by_lane(items), actions);
        } else if self.spool.has_lane(key) && self.spool.is_short_of_room(&self.lanes, self.parked_max()) {
            // The spool returns it for its next try. Until then another lane has its place.
            let items = self.lanes.take_resting(key);
            self.spool.give_back(items, &self.lanes);
        }
    }

    fn drop(&mut self, item: &LaneItem, actions: &mut Vec<Action>) {
        actions.push(Action::Drop(item.slice()));
        self.settle(item, false, actions);
    }

    /// Writes everything that waits and everything in flight to the spool, then the new events.
    /// Nothing may overtake the spool, so no event may remain outside. Lanes with spools of their
    /// own keep their events in memory: these are older than the rows of those spools.
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

    /// Drops the new events. If nothing waits, it keeps one event for a probe.
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
