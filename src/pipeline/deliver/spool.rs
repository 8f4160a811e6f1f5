//! The engine's side of the spools: what was written, what came back, what may be removed.
//!
//! ```text
//!  the destination's spool:   everything that it cannot take now, in order          entered and left as a whole
//!  a parked lane's spool:     an event that is refused and what waits behind it     one a lane, so that a poisoned entity holds up only itself
//! ```
//!
//! INVARIANT: rows are fetched only when nothing that was under way at the spill still is, and what was fetched is not taken for new when it is read again: an
//! event is never at the target twice at once.
//! INVARIANT: what was fetched goes back to the spool that it is in, whatever lane it waits in.
//! INVARIANT: what is in a lane's spool is older than what is in the destination's, and goes before it; what is in the lane itself is older still.
//! INVARIANT: what the store has of a spool is in order whenever the process dies: events that were written anew leave their old rows together, and not a part
//! of them.
//! INVARIANT: a parked lane has its next try when its wait is over, however many others are parked: none keeps its place in memory while it waits and others
//! want it.
//! INVARIANT: what the store has no room for is sent from memory as soon as nothing older waits in the spool: a full disk stops no target that takes events.
//! INVARIANT: while a breaker is open nothing of the destination's spool stays in memory but the row that is probed with, and what was refused for its own sake:
//! dead targets, however many, hold up nobody else.
//! INVARIANT: what is in memory of spools is at most [`SPOOL_REFETCH_BYTES`] + [`SPOOL_FETCH_BYTES`] (or one row) that may be sent or is to go from one spool to
//! another, and what is parked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Action;
use super::item::{Item, Origin, Picks, SpoolRow};
use super::lanes::{LaneKey, Lanes};
use crate::config::Ordering;
use crate::durable::{spool_name, spool_owner};
use crate::event::{Batch, Failed, Identity, Selection};
use crate::limits::{
    SPOOL_FETCH_BYTES, SPOOL_LANE_FETCH_BYTES, SPOOL_MARK_INTERVAL, SPOOL_REFETCH_BYTES, STORE_FULL_RETRY,
};
use crate::processor::Piece;

/// Which of a destination's spools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolKey {
    /// The destination's own.
    Whole,
    /// That of a lane that is parked.
    Lane(u64),
}

impl Spooled {
    /// From the names of all spools in the store and their rows: what each destination has.
    pub fn by_destination<'a>(
        spools: impl IntoIterator<Item = (&'a String, u64)>,
    ) -> HashMap<String, Spooled> {
        let mut all: HashMap<String, Spooled> = HashMap::new();
        for (name, rows) in spools {
            let (destination, lane) = spool_owner(name);
            let own = all.entry(destination.to_owned()).or_default();
            match lane {
                None => own.whole = rows as usize,
                Some(key) => own.lanes.push((key, rows as usize)),
            }
        }
        all
    }
}

impl SpoolKey {
    /// Its name in the store.
    pub fn name(self, destination: &str) -> String {
        let lane = match self {
            SpoolKey::Whole => None,
            SpoolKey::Lane(key) => Some(key),
        };
        spool_name(destination, lane)
    }
}

/// What former runs left in a destination's spools, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    pub whole: usize,
    pub lanes: Vec<(u64, usize)>,
}

/// What an event in the spool is told apart by: one that is adopted from two destinations is there twice. The hash is of the source's name, since all that
/// are not configured any more have one index.
type Told = (usize, u32, Identity, Option<Arc<Failed>>);

fn told(batch: &Batch, i: usize) -> Told {
    let source = &batch.source;
    let name = crc32fast::hash(source.name.as_bytes());
    (source.index, name, batch.records[i].identity, batch.failed.clone())
}

/// Bytes of what is to go from the destination's spool to lanes'.
fn moving(items: &[(SpoolKey, Item)]) -> usize {
    let moves =
        |(key, item): &&(SpoolKey, Item)| *key != SpoolKey::Whole && matches!(item.origin, Origin::Spool(_));
    items.iter().filter(moves).map(|(_, item)| item.bytes()).sum()
}

/// A row that was fetched.
#[derive(Debug)]
struct Open {
    spool: SpoolKey,
    /// All that it has in the store, in order.
    identities: Box<[Identity]>,
    /// Events of it that came.
    events: usize,
    /// Those of them that are not delivered.
    left: usize,
    /// Those of all that it needs no more.
    gone: Selection,
    /// As it came, as long as somebody has it.
    batch: Weak<Batch>,
}

impl Open {
    /// `events`: how many the store had left of it. `left`: those that are not delivered.
    fn new(spool: SpoolKey, batch: &Arc<Batch>, events: usize, left: &Selection) -> Self {
        let mut gone = Selection::first(batch.records.len());
        gone.remove(left);
        let identities = batch.records.iter().map(|record| record.identity).collect();
        Open { spool, identities, events, left: left.len(), gone, batch: Arc::downgrade(batch) }
    }

    /// It needs these of its events no more.
    fn leave(&mut self, batch: &Arc<Batch>, picks: &Selection) {
        self.left = self.left.saturating_sub(picks.len());
        if self.batch.as_ptr() == Arc::as_ptr(batch) {
            picks.iter().for_each(|i| self.gone.insert(i));
            return;
        }
        // A copy, with other places.
        let left: FxHashSet<Identity> = picks.iter().map(|i| batch.records[i].identity).collect();
        let places = self.identities.iter().enumerate();
        places.filter(|(_, identity)| left.contains(identity)).for_each(|(place, _)| self.gone.insert(place));
    }
}

/// One spool.
#[derive(Debug)]
struct Queue {
    /// Rows in the store that were not fetched.
    stored: usize,
    /// Pieces that are not durable yet.
    appending: usize,
    fetching: bool,
    /// Rows went back meanwhile that come before those that are being fetched: these are fetched again, behind them.
    rewound: bool,
    /// For a lane: whether it has nothing in memory and waits for its turn to be fetched.
    dry: bool,
    /// The last row that was fetched.
    last: SpoolRow,
}

impl Queue {
    fn new(stored: usize) -> Self {
        Queue {
            stored,
            appending: 0,
            fetching: false,
            rewound: false,
            dry: stored > 0,
            last: SpoolRow(i64::MIN),
        }
    }

    /// Whether all that was written has been fetched.
    fn is_empty(&self) -> bool {
        self.stored == 0 && self.appending == 0 && !self.fetching
    }
}

#[derive(Debug)]
pub(super) struct Spools {
    /// Whether new events have to go through the destination's spool.
    active: bool,
    whole: Queue,
    /// Parked lanes with more events than may wait in memory.
    lanes: FxHashMap<LaneKey, Queue>,
    /// Those of them that have nothing in memory any more, in the order in which that came about.
    dry: VecDeque<LaneKey>,
    /// Whether one of them is being fetched.
    lane_fetching: bool,
    /// Whether lanes' spools are of another ordering scope: they have to be empty before the destination's is read.
    lanes_differ: bool,
    /// Appends that are not durable yet, in order. What came from a spool and goes to one again leaves its old row then.
    appending: BTreeMap<u64, Vec<(SpoolKey, Item)>>,
    /// Bytes of those of them that are to go from the destination's spool to lanes'.
    moving: usize,
    /// Whether the first of them is with the store; the others wait, so that one that is refused is not overtaken.
    at_store: bool,
    /// The store had no room: it is asked again then.
    full_until: Option<Duration>,
    next_ticket: u64,
    open: FxHashMap<SpoolRow, Open>,
    /// Rows that came to their end while rows were being fetched, and may be among those.
    ended: FxHashSet<SpoolRow>,
    /// Those of which more is gone than the store knows.
    unmarked: FxHashSet<SpoolRow>,
    /// When it is told.
    marks_at: Option<Duration>,
    /// What was given back of rows of which another part was delivered, or is on its way to the dead letters: at most one row a parked lane, and those that
    /// were in memory of the destination's spool.
    given_back: FxHashMap<SpoolRow, FxHashSet<Told>>,
    /// Events that were under way at the spill and were acknowledged after they had been written. Bounded by what can be under way.
    ahead: FxHashSet<Told>,
}

impl Spools {
    pub fn new(spooled: Spooled, ordering: Ordering) -> Self {
        let lanes_differ = ordering != Ordering::Entity;
        Spools {
            active: spooled.whole > 0 || (lanes_differ && !spooled.lanes.is_empty()),
            whole: Queue::new(spooled.whole),
            dry: spooled.lanes.iter().map(|(key, _)| *key).collect(),
            lanes: spooled.lanes.into_iter().map(|(key, rows)| (key, Queue::new(rows))).collect(),
            lane_fetching: false,
            lanes_differ,
            appending: BTreeMap::new(),
            moving: 0,
            at_store: false,
            full_until: None,
            next_ticket: 0,
            open: FxHashMap::default(),
            ended: FxHashSet::default(),
            unmarked: FxHashSet::default(),
            marks_at: None,
            given_back: FxHashMap::default(),
            ahead: FxHashSet::default(),
        }
    }

    /// Whether new events have to go through the destination's spool.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Lanes that have a spool of their own.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether new events of a lane have to go through its spool.
    pub fn has_lane(&self, key: LaneKey) -> bool {
        self.lanes.contains_key(&key)
    }

    /// Whether lanes' spools come before the destination's.
    fn lanes_first(&self) -> bool {
        self.lanes_differ && !self.lanes.is_empty()
    }

    /// Whether no reply of the store is awaited.
    pub fn is_quiet(&self) -> bool {
        self.appending.is_empty() && !self.is_fetching()
    }

    /// Writes to the end of the destination's spool.
    pub fn append(&mut self, items: Vec<Item>, actions: &mut Vec<Action>) {
        self.active = true;
        self.write(items.into_iter().map(|item| (SpoolKey::Whole, item)).collect(), actions);
    }

    /// Writes to the ends of lanes' spools, of which new ones begin with this.
    pub fn append_to_lanes(&mut self, items: Vec<(LaneKey, Item)>, actions: &mut Vec<Action>) {
        self.write(items.into_iter().map(|(key, item)| (SpoolKey::Lane(key), item)).collect(), actions);
    }

    fn write(&mut self, items: Vec<(SpoolKey, Item)>, actions: &mut Vec<Action>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.moving += moving(&items);
        for (key, _) in &items {
            let queue = match key {
                SpoolKey::Whole => &mut self.whole,
                SpoolKey::Lane(key) => self.lanes.entry(*key).or_insert_with(|| Queue::new(0)),
            };
            queue.appending += 1;
        }
        self.appending.insert(ticket, items);
        if self.full_until.is_none() {
            self.send_append(actions);
        }
    }

    /// Gives the first append to the store, if it has none.
    fn send_append(&mut self, actions: &mut Vec<Action>) {
        if self.at_store {
            return;
        }
        let Some((ticket, items)) = self.appending.first_key_value() else { return };
        let pieces = items.iter().map(|(key, item)| (*key, item.piece())).collect();
        actions.push(Action::Append { ticket: *ticket, pieces });
        self.at_store = true;
    }

    fn queue(&mut self, key: SpoolKey) -> Option<&mut Queue> {
        match key {
            SpoolKey::Whole => Some(&mut self.whole),
            SpoolKey::Lane(key) => self.lanes.get_mut(&key),
        }
    }

    /// An append is durable.
    pub fn appended(&mut self, ticket: u64, lanes: &Lanes, actions: &mut Vec<Action>) {
        (self.at_store, self.full_until) = (false, None);
        let mut rewritten = BTreeSet::new();
        let items = self.appending.remove(&ticket).unwrap_or_default();
        self.moving -= moving(&items);
        for (key, item) in items {
            if let Some(queue) = self.queue(key) {
                queue.appending -= 1;
                queue.stored += 1;
            }
            match item.origin {
                Origin::Spool(row) => {
                    self.delivered(row, &item.batch, &item.picks.selection(), actions);
                    rewritten.insert(row);
                }
                Origin::Source => actions.push(Action::Settle(item.piece())),
                Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
                Origin::DeadLetter(_) => debug_assert!(false, "a dead letter is in the store already"),
            }
            if let SpoolKey::Lane(key) = key {
                self.look_at(key, lanes);
            }
        }
        // If others keep it, the store is told at once: after a crash it is read before the new rows, and what is in both would overtake what left another
        // old row whole.
        rewritten.into_iter().for_each(|row| self.mark(row, actions));
        self.send_append(actions);
    }

    /// The store had no room for the append that it was given, and wrote nothing of it.
    pub fn refused(&mut self, now: Duration) {
        (self.at_store, self.full_until) = (false, Some(now + STORE_FULL_RETRY));
    }

    /// Whether the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.full_until.is_some()
    }

    /// Whether the store may be asked to take more: it had room, or a while has passed.
    pub fn may_write(&self, now: Duration) -> bool {
        self.full_until.is_none_or(|until| now >= until)
    }

    /// Whether the store has room is of no account, as long as nothing waits for it.
    pub fn forget_full(&mut self) {
        if self.appending.is_empty() {
            self.full_until = None;
        }
    }

    /// When there is something to do.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.retries_at().into_iter().chain(self.marks_at).min()
    }

    /// When what was refused is tried again.
    fn retries_at(&self) -> Option<Duration> {
        self.full_until.filter(|_| !self.at_store && !self.appending.is_empty())
    }

    /// Asks the store again when it is time.
    pub fn retry(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.retries_at().is_some_and(|at| now >= at) {
            self.send_append(actions);
        }
    }

    /// What the store had no room for, of each spool in which nothing older than it waits: what goes to lanes as it is, and what is admitted after that.
    ///
    /// What is new stays in front of what is to be written to the destination's spool, with all of its lane: in memory it would be overtaken by that after a
    /// crash. That lasts no longer than the requests that were under way at the spill: something new went to a lane's spool when the destination's was empty.
    pub fn take_back(
        &mut self,
        spilled_under_way: bool,
        actions: &mut Vec<Action>,
    ) -> (Vec<Item>, Vec<Item>) {
        let (mut lanes, mut whole) = (Vec::new(), Vec::new());
        let is_next = |queue: &Queue| queue.stored == 0 && !queue.fetching;
        let whole_is_next = is_next(&self.whole) && !spilled_under_way && !self.lanes_first();
        let new_may_leave = whole_is_next || self.whole.appending == 0;
        let waits = |queue: &Queue| queue.appending > 0 && is_next(queue);
        let may_some = (whole_is_next && waits(&self.whole))
            || ((new_may_leave || self.moving > 0) && self.lanes.values().any(waits));
        if self.at_store || !may_some {
            return (lanes, whole);
        }
        let with_new = |(key, item): &(SpoolKey, Item)| match key {
            SpoolKey::Lane(key) if !matches!(item.origin, Origin::Spool(_)) => Some(*key),
            _ => None,
        };
        let held_up: FxHashSet<LaneKey> = match new_may_leave {
            true => FxHashSet::default(),
            false => self.appending.values().flatten().filter_map(with_new).collect(),
        };
        for (ticket, items) in std::mem::take(&mut self.appending) {
            let mut stays = Vec::new();
            for (key, item) in items {
                let may_leave = match key {
                    SpoolKey::Whole => whole_is_next,
                    SpoolKey::Lane(key) => {
                        !held_up.contains(&key) && self.lanes.get(&key).is_none_or(is_next)
                    }
                };
                if !may_leave {
                    stays.push((key, item));
                    continue;
                }
                if let Some(queue) = self.queue(key) {
                    queue.appending -= 1;
                }
                match key {
                    SpoolKey::Whole => whole.extend(self.without_delivered(item, actions)),
                    SpoolKey::Lane(key) => {
                        // What it has in memory need not be from its spool any more.
                        if self.lanes.get(&key).is_some_and(Queue::is_empty) {
                            self.lanes.remove(&key);
                        }
                        lanes.push(item);
                    }
                }
            }
            if !stays.is_empty() {
                self.appending.insert(ticket, stays);
            }
        }
        self.moving = self.appending.values().map(|items| moving(items)).sum();
        (lanes, whole)
    }

    /// What of an item, which was to be written while it was under way, was not acknowledged meanwhile.
    fn without_delivered(&mut self, item: Item, actions: &mut Vec<Action>) -> Option<Item> {
        let mut left = item.picks.selection();
        let gone: Selection = left.iter().filter(|i| self.ahead.remove(&told(&item.batch, *i))).collect();
        left.remove(&gone);
        if !gone.is_empty() {
            match item.origin {
                Origin::Source => {
                    actions.push(Action::Settle(Item { picks: Picks::of(&gone), ..item.clone() }.piece()))
                }
                Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
                Origin::Spool(row) => self.delivered(row, &item.batch, &gone, actions),
                Origin::DeadLetter(_) => debug_assert!(false, "a dead letter is in the store already"),
            }
        }
        (!left.is_empty()).then(|| Item { picks: Picks::of(&left), ..item })
    }

    /// Leaves the destination's spool if all that was written stands in the lanes: what comes now stands behind it there.
    pub fn leave_if_empty(&mut self, lanes: &mut Lanes) {
        if self.active && self.whole.is_empty() && !self.lanes_first() {
            self.active = false;
            self.ahead.clear();
            lanes.sweep(|key| self.lanes.contains_key(&key));
        }
    }

    /// A lane may have nothing left in memory: more of it is to be fetched, or its spool has come to its end.
    pub fn look_at(&mut self, key: LaneKey, lanes: &Lanes) {
        if !lanes.is_idle(key) {
            return;
        }
        let Some(queue) = self.lanes.get_mut(&key) else { return };
        if queue.is_empty() {
            self.lanes.remove(&key);
        } else if queue.stored > 0 && !queue.fetching && !queue.dry {
            queue.dry = true;
            self.dry.push_back(key);
        }
    }

    /// Whether to ask for rows of a parked lane, and of the destination's spool. `parked_max`: bytes that parked lanes may hold; twice as many where a row is
    /// wanted to probe with, since the target need not be gone for as long as they wait.
    fn asks(&self, lanes: &Lanes, parked_max: usize, probes: bool) -> (bool, bool) {
        let parked_max = parked_max.max(SPOOL_REFETCH_BYTES) * if probes { 2 } else { 1 };
        let waiting = lanes.bytes().saturating_sub(lanes.parked);
        let has_room = waiting <= SPOOL_REFETCH_BYTES && lanes.parked <= parked_max;
        let lane = has_room && !self.lane_fetching && !self.dry.is_empty();
        let whole = has_room
            && waiting + self.moving <= SPOOL_REFETCH_BYTES
            && self.active
            && self.whole.stored > 0
            && !self.whole.fetching
            && !self.lanes_first();
        (lane, whole)
    }

    /// Asks for the next rows when there is room for them, or leaves the spool when it is empty. `parked_max`: bytes that parked lanes may hold.
    /// `probes`: one row, for a probe.
    pub fn fetch(
        &mut self,
        lanes: &mut Lanes,
        parked_max: usize,
        spilled_under_way: bool,
        probes: bool,
        actions: &mut Vec<Action>,
    ) {
        let (lane, whole) = self.asks(lanes, parked_max, probes);
        if lane
            && let Some(key) = self.dry.pop_front()
            && let Some(queue) = self.lanes.get_mut(&key)
        {
            (queue.dry, queue.fetching, self.lane_fetching) = (false, true, true);
            let (spool, after) = (SpoolKey::Lane(key), queue.last);
            actions.push(Action::Fetch { spool, after, bytes: SPOOL_LANE_FETCH_BYTES });
        }
        if whole && !spilled_under_way {
            self.whole.fetching = true;
            let (spool, after) = (SpoolKey::Whole, self.whole.last);
            actions.push(Action::Fetch { spool, after, bytes: if probes { 1 } else { SPOOL_FETCH_BYTES } });
        } else if !spilled_under_way {
            self.leave_if_empty(lanes);
        }
    }

    /// Rows have come back: what of them is to be sent.
    pub fn fetched(
        &mut self,
        spool: SpoolKey,
        mut rows: Vec<(SpoolRow, Piece)>,
        actions: &mut Vec<Action>,
    ) -> Vec<Item> {
        self.lane_fetching &= spool == SpoolKey::Whole;
        let (is_end, last) = (rows.is_empty(), rows.last().map(|(row, _)| *row));
        // Behind what was given back there may be rows that have all their events under way, or on their way to the dead letters, or had them a moment ago.
        rows.retain(|(row, _)| match self.open.contains_key(row) {
            true => self.given_back.contains_key(row),
            false => !self.ended.contains(row),
        });
        if let Some(queue) = self.queue(spool) {
            queue.fetching = false;
            if std::mem::take(&mut queue.rewound) {
                rows.clear();
            } else {
                // The store has less than was counted if there is none: it was emptied by hand.
                queue.stored = if is_end { 0 } else { queue.stored.saturating_sub(rows.len()) };
                queue.last = last.unwrap_or(queue.last);
            }
        }
        if !self.is_fetching() {
            self.ended.clear();
        }
        let mut items = Vec::with_capacity(rows.len());
        for (row, Piece { batch, picks }) in rows {
            if let Some(back) = self.given_back.remove(&row) {
                let picks: Selection = picks.iter().filter(|i| back.contains(&told(&batch, *i))).collect();
                items.push(Item::new(&Piece { batch, picks }, Origin::Spool(row)));
                continue;
            }
            let is_left = |i: &usize| self.ahead.is_empty() || !self.ahead.remove(&told(&batch, *i));
            let left: Selection = picks.iter().filter(is_left).collect();
            if left.is_empty() {
                actions.push(Action::Unspool(row));
                continue;
            }
            self.open.insert(row, Open::new(spool, &batch, picks.len(), &left));
            if left.len() < picks.len() {
                self.unmarked.insert(row);
            }
            items.push(Item::new(&Piece { batch, picks: left }, Origin::Spool(row)));
        }
        items
    }

    /// Whether parked lanes hold more than they may, and one of them waits for its turn.
    pub fn is_short_of_room(&self, lanes: &Lanes, parked_max: usize) -> bool {
        !self.dry.is_empty() && lanes.parked > parked_max.max(SPOOL_REFETCH_BYTES)
    }

    /// Whether there is something to probe with that is not in memory.
    pub fn may_ask(&self, lanes: &Lanes, parked_max: usize) -> bool {
        self.asks(lanes, parked_max, true) != (false, false)
    }

    /// Of what waits in memory, what is older is less, before the numbers of rows: what is in lanes' spools may have been written anew there, and then has a
    /// higher number than what came after it into the destination's.
    pub fn age(&self, item: &Item) -> u8 {
        let Origin::Spool(row) = item.origin else { return 2 };
        let in_lane = self.open.get(&row).is_some_and(|open| open.spool != SpoolKey::Whole);
        u8::from(!in_lane)
    }

    /// What was in memory of spools is to be fetched again. It is in the store: nothing is written.
    pub fn give_back(&mut self, items: Vec<Item>, lanes: &Lanes) {
        let mut rows: BTreeMap<SpoolRow, Vec<Item>> = BTreeMap::new();
        for item in items {
            match item.origin {
                Origin::Spool(row) => rows.entry(row).or_default().push(item),
                _ => debug_assert!(false, "only what is from a spool is given back"),
            }
        }
        let mut touched = FxHashSet::default();
        for (row, items) in rows {
            let Some(open) = self.open.get(&row) else {
                debug_assert!(false, "what is in memory of a row keeps it");
                continue;
            };
            let queue = match open.spool {
                SpoolKey::Whole => &mut self.whole,
                SpoolKey::Lane(key) => {
                    touched.insert(key);
                    self.lanes.entry(key).or_insert_with(|| Queue::new(0))
                }
            };
            queue.last = queue.last.min(SpoolRow(row.0 - 1));
            queue.stored += usize::from(!self.given_back.contains_key(&row));
            queue.rewound |= queue.fetching;
            let events: usize = items.iter().map(|item| item.picks.len()).sum();
            if open.events == events {
                // As if it had never been fetched.
                self.open.remove(&row);
                self.unmarked.remove(&row);
                continue;
            }
            let told = items.iter().flat_map(|item| {
                item.picks.selection().iter().map(|i| told(&item.batch, i)).collect::<Vec<_>>()
            });
            self.given_back.entry(row).or_default().extend(told);
        }
        touched.into_iter().for_each(|key| self.look_at(key, lanes));
    }

    fn is_fetching(&self) -> bool {
        self.whole.fetching || self.lane_fetching
    }

    /// Events of a fetched row are delivered, or elsewhere in the store; the last of them removes the row.
    pub fn delivered(
        &mut self,
        row: SpoolRow,
        batch: &Arc<Batch>,
        picks: &Selection,
        actions: &mut Vec<Action>,
    ) {
        let Some(open) = self.open.get_mut(&row) else { return };
        open.leave(batch, picks);
        self.unmarked.insert(row);
        if open.left == 0 {
            self.open.remove(&row);
            self.unmarked.remove(&row);
            if self.is_fetching() {
                self.ended.insert(row);
            }
            actions.push(Action::Unspool(row));
        }
    }

    /// Tells the store what of a row is gone, if it stays for the rest.
    fn mark(&mut self, row: SpoolRow, actions: &mut Vec<Action>) {
        self.unmarked.remove(&row);
        if let Some(open) = self.open.get(&row) {
            actions.push(Action::UnspoolSome { row, gone: open.gone });
        }
    }

    /// Tells the store what of rows is gone that stay for the rest.
    pub fn mark_all(&mut self, actions: &mut Vec<Action>) {
        self.marks_at = None;
        for row in std::mem::take(&mut self.unmarked) {
            self.mark(row, actions);
        }
    }

    /// The same once in a while, so that a crash brings back what was delivered lately and no more.
    pub fn mark_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.unmarked.is_empty() {
            self.marks_at = None;
        } else if now >= *self.marks_at.get_or_insert(now + SPOOL_MARK_INTERVAL) {
            self.mark_all(actions);
        }
    }

    /// Events that were written to the spool while they were under way were acknowledged.
    pub fn delivered_ahead(&mut self, item: &Item) {
        self.ahead.extend(item.picks.selection().iter().map(|i| told(&item.batch, i)));
    }
}
