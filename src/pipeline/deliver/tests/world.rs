//! The world around one engine in its tests: a clock, a scripted target, a spool and the events to
//! deliver.

use super::*;

pub(super) const ROOM: Room = Room { share: usize::MAX, scarce: false, alone: true };

pub(super) fn failure(blame: Blame) -> Failure {
    Failure::new(blame, "no")
}

pub(super) fn slice(first: i32, n: i32, entities: u64) -> BatchSlice {
    slice_of(first, n, |key| key % entities)
}

pub(super) fn slice_of(first: i32, n: i32, lane: impl Fn(u64) -> u64) -> BatchSlice {
    let events: Vec<(i32, i64)> = (first..first + n).map(|key| (key, i64::from(key))).collect();
    let mut batch = batch(0, &events);
    for record in &mut batch.records {
        let key = record.key.expect("made with one") as u64;
        record.seq = key;
        record.lane = lane(key);
    }
    BatchSlice { selection: Selection::first(batch.records.len()), batch: Arc::new(batch) }
}

/// The same events, each larger by `bytes`. Large events go to spools sooner.
pub(super) fn padded(slice: BatchSlice, bytes: usize) -> BatchSlice {
    let mut batch = Arc::into_inner(slice.batch).expect("just made");
    for record in &mut batch.records {
        let start = batch.arena.len();
        batch.arena.resize(start + bytes, b'x');
        record.data = Span::new(start, start + bytes);
    }
    BatchSlice { batch: batch.into(), ..slice }
}

/// A dead letter of the destination with this number, 2 or more.
pub(super) fn failed_slice(key: i32, destination: u16, entities: u64) -> BatchSlice {
    let BatchSlice { batch, selection } = slice(key, 1, entities);
    let failed = Failed { dest: format!("http://{destination}"), code: destination, data: String::new() };
    let batch = Batch { failed: Some(failed.into()), ..Arc::into_inner(batch).expect("just made") };
    BatchSlice { batch: batch.into(), selection }
}

/// The keys of events. For an event that failed elsewhere, a million is added for each number of
/// that destination.
pub(super) fn keys<'a>(slices: impl IntoIterator<Item = &'a BatchSlice>) -> Vec<i32> {
    let keys = slices.into_iter().flat_map(|p| {
        let million = p.batch.failed.as_ref().map_or(0, |failed| i32::from(failed.code));
        let key = |i: usize| p.batch.records[i].key.expect("has one") + million * 1_000_000;
        p.selection.iter().map(key).collect::<Vec<_>>()
    });
    keys.collect()
}

/// A row of one event that a former run left: its spool, its key, its entity.
pub(super) type Left = (SpoolKey, i32, u64);

/// The spool of an entity's lane.
pub(super) fn spool_of(entity: u64) -> SpoolKey {
    SpoolKey::Lane(lanes::lane_of(&slice_of(0, 1, |_| entity).batch, 0))
}

/// A row of the fake spool.
pub(super) struct StoredRow {
    pub(super) spool: SpoolKey,
    pub(super) row: SpoolRow,
    pub(super) batch: Batch,
    pub(super) left: Selection,
}

/// Everything around one engine: a clock, a target that answers from a script, a spool.
pub(super) struct World {
    pub(super) engine: DeliveryEngine,
    pub(super) now: Duration,
    pub(super) under_way: Vec<(u64, DeliveryRequest)>,
    pub(super) rows: VecDeque<StoredRow>,
    pub(super) next_row: i64,
    /// Most rows of the destination's spool that one fetch returns.
    pub(super) rows_a_fetch: usize,
    pub(super) store: VecDeque<Input>,
    /// Letters on their way to the place where they are kept.
    pub(super) letters: VecDeque<FailedEvent>,
    /// True if the store takes no append.
    pub(super) full: bool,
    /// True if the store takes no dead letter.
    pub(super) letters_full: bool,
    /// Keys of the events that the store had no room for as dead letters.
    pub(super) returned: BTreeSet<i32>,
    /// Keys in the order of acknowledgement by the target.
    pub(super) received: Vec<i32>,
    pub(super) settled: BTreeSet<i32>,
    /// Keys that this run was given, with the scope that each must stay in order with.
    pub(super) offered: BTreeMap<i32, Option<u64>>,
    pub(super) dead: Vec<i32>,
    pub(super) dropped: Vec<i32>,
    /// Result of each replay, by its number, which is the key of its event plus a million.
    pub(super) replayed: BTreeMap<i64, ReplayEnd>,
    /// Tickets of adopted events. A ticket is the key that [`keys`] gives the event.
    pub(super) adopted: BTreeSet<u64>,
    pub(super) from_spool: BTreeSet<i32>,
    /// Number of sends of each key.
    pub(super) sent: BTreeMap<i32, u32>,
    pub(super) widest: usize,
    /// The ordering that events must keep, if the settings change: the weakest of all.
    pub(super) weakest: Option<Ordering>,
}

impl World {
    pub(super) fn new(policy: Policy, limits: RequestLimits) -> Self {
        World {
            engine: DeliveryEngine::new(policy, limits, "", Spooled::default(), 1),
            now: Duration::ZERO,
            under_way: Vec::new(),
            rows: VecDeque::new(),
            next_row: 0,
            rows_a_fetch: 2,
            store: VecDeque::new(),
            letters: VecDeque::new(),
            full: false,
            letters_full: false,
            returned: BTreeSet::new(),
            received: Vec::new(),
            settled: BTreeSet::new(),
            offered: BTreeMap::new(),
            dead: Vec::new(),
            dropped: Vec::new(),
            replayed: BTreeMap::new(),
            adopted: BTreeSet::new(),
            from_spool: BTreeSet::new(),
            sent: BTreeMap::new(),
            widest: 0,
            weakest: None,
        }
    }

    /// Begins with rows of one event each that a former run left. The store's first replies are not
    /// yet given.
    pub(super) fn left(
        policy: Policy,
        limits: RequestLimits,
        padding: usize,
        rows: impl IntoIterator<Item = Left>,
    ) -> Self {
        let mut world = World::new(policy.clone(), limits);
        let mut spooled = Spooled::default();
        for (spool, key, entity) in rows {
            match spool {
                SpoolKey::Main => spooled.main += 1,
                SpoolKey::Lane(lane) => match spooled.lanes.iter_mut().find(|(known, _)| *known == lane) {
                    Some((_, rows)) => *rows += 1,
                    None => spooled.lanes.push((lane, 1)),
                },
            }
            let event = padded(slice_of(key, 1, |_| entity), padding);
            let batch = Arc::into_inner(event.batch).expect("just made");
            world.next_row += 1;
            let row = SpoolRow(world.next_row);
            world.rows.push_back(StoredRow { spool, row, batch, left: Selection::first(1) });
        }
        world.engine = DeliveryEngine::new(policy, limits, "", spooled, 1);
        world.input(Input::Tick);
        world
    }

    /// Begins again with rows that a former run left in the spool. Each row has a number, a first
    /// key and a number of events, of two entities.
    pub(super) fn spooled<const N: usize>(&mut self, policy: Policy, rows: [(i64, i32, i32); N]) {
        let spooled = Spooled { main: N, lanes: Vec::new() };
        self.engine = DeliveryEngine::new(policy, limits(1, false), "", spooled, 1);
        for (row, first, n) in rows {
            let batch = Arc::into_inner(slice(first, n, 2).batch).expect("just made");
            let left = Selection::first(batch.records.len());
            self.rows.push_back(StoredRow { spool: SpoolKey::Main, row: SpoolRow(row), batch, left });
            self.next_row = row;
        }
    }

    /// Somebody else writes a row of one event to the end of the destination's spool.
    pub(super) fn write_row(&mut self, key: i32) {
        let batch = Arc::into_inner(slice(key, 1, 2).batch).expect("just made");
        self.next_row += 1;
        let (spool, row, left) = (SpoolKey::Main, SpoolRow(self.next_row), Selection::first(1));
        self.rows.push_back(StoredRow { spool, row, batch, left });
    }

    pub(super) fn input(&mut self, input: Input) {
        if let Input::Offer { slice, .. } = &input {
            let records = slice.selection.iter().map(|i| &slice.batch.records[i]);
            let scopes = records.map(|record| (record.key.expect("has one"), self.scope_of(record)));
            self.offered.extend(scopes.collect::<Vec<_>>());
        }
        let mut actions = Vec::new();
        self.engine.step(self.now, input, &mut actions);
        self.carry_out(actions);
    }

    /// Returns the scope within which an event must stay in order.
    fn scope_of(&self, record: &Record) -> Option<u64> {
        match self.weakest.unwrap_or(self.engine.policy.ordering) {
            Ordering::Source => Some(0),
            Ordering::Entity => Some(record.lane),
            Ordering::None => None,
        }
    }

    pub(super) fn carry_out(&mut self, mut actions: Vec<Action>) {
        // The driver does the same: a step's reads come after its removals.
        actions.sort_by_key(|action| matches!(action, Action::Fetch { .. }));
        let writes = |action: &Action| matches!(action, Action::Append { .. } | Action::Unspool(_));
        let changes_rows = actions.iter().any(writes);
        for action in actions {
            match action {
                Action::Send { id, request } => {
                    let sent = keys(&request.slices);
                    for (_, other) in &self.under_way {
                        let twice = keys(&other.slices).into_iter().find(|key| sent.contains(key));
                        assert_eq!(twice, None, "sent twice at once");
                    }
                    sent.into_iter().for_each(|key| *self.sent.entry(key).or_default() += 1);
                    self.under_way.push((id, request));
                }
                Action::Settle(slice) => {
                    for key in keys([&slice]) {
                        assert!(self.settled.insert(key), "{key} settled twice");
                    }
                }
                Action::DeadLetter(letter) => {
                    self.dead.extend(keys([&letter.slice]));
                    if let Origin::Adopted(ticket) = letter.origin {
                        assert!(self.adopted.insert(ticket), "{ticket} came to its end twice");
                        continue;
                    }
                    self.letters.push_back(letter);
                }
                Action::Append { .. } if self.full => self.store.push_back(Input::Refused),
                Action::Append { ticket, slices } => {
                    for (spool, slice) in slices {
                        self.next_row += 1;
                        self.from_spool.extend(keys([&slice]));
                        let batch = pick(&slice.batch, &slice.selection);
                        let left = Selection::first(batch.records.len());
                        self.rows.push_back(StoredRow { spool, row: SpoolRow(self.next_row), batch, left });
                    }
                    self.store.push_back(Input::Appended { ticket });
                }
                Action::Fetch { spool, after, bytes } => {
                    let rows = self.rows.iter().filter(|at| at.spool == spool && at.row > after);
                    let mut size = 0;
                    let fits = |at: &&StoredRow| {
                        size += at.batch.size();
                        size == at.batch.size() || size <= bytes
                    };
                    let rows = rows
                        .take_while(fits)
                        .take(if spool == SpoolKey::Main { self.rows_a_fetch } else { usize::MAX })
                        .map(|at| {
                            let all = Selection::first(at.batch.records.len());
                            (
                                at.row,
                                BatchSlice { batch: Arc::new(pick(&at.batch, &all)), selection: at.left },
                            )
                        })
                        .collect();
                    self.store.push_back(Input::Fetched { spool, rows });
                }
                Action::Unspool(row) => self.rows.retain(|at| at.row != row),
                Action::UnspoolSome { row, gone } => {
                    let at = self.rows.iter_mut().find(|at| at.row == row).expect("others keep it");
                    at.left = Selection::first(at.batch.records.len());
                    at.left.remove(&gone);
                    assert!(!at.left.is_empty());
                }
                Action::Replayed { letter, end } => {
                    assert!(self.replayed.insert(letter, end).is_none(), "{letter} ended twice");
                }
                Action::Adopted(ticket) => {
                    assert!(self.adopted.insert(ticket), "{ticket} came to its end twice");
                }
                Action::Drop(slice) => self.dropped.extend(keys([&slice])),
            }
        }
        self.widest = self.widest.max(self.under_way.len());
        if changes_rows {
            self.check_rows();
        }
    }

    /// Checks the spools as a crash would leave them now. The successor would deliver their events
    /// in order, except those acknowledged before. Events that it would read again from the source
    /// come after those.
    pub(super) fn check_rows(&self) {
        // An event that was convicted is out of the order, even if it waits for its target again.
        let out = self.received.iter().chain(&self.dead).chain(&self.returned);
        let mut seen: FxHashSet<i32> = out.copied().collect();
        let mut last = FxHashMap::default();
        for of_lanes in [true, false] {
            for at in self.rows.iter().filter(|at| of_lanes == (at.spool != SpoolKey::Main)) {
                for record in at.left.iter().map(|i| &at.batch.records[i]) {
                    let key = record.key.expect("has one");
                    if at.batch.failed.is_some() || !seen.insert(key) {
                        continue;
                    }
                    if let Some(scope) = self.scope_of(record) {
                        let before = last.insert(scope, key);
                        assert!(before.is_none_or(|before| before < key), "{key} after {before:?}");
                    }
                }
            }
        }
        for (key, scope) in self.offered.iter().filter(|(key, _)| !seen.contains(*key)) {
            let before = scope.and_then(|scope| last.get(&scope));
            assert!(before.is_none_or(|before| before < key), "{key}, which is read again, after {before:?}");
        }
    }

    /// Ends the request at `at`. `answer` gives the blame for each key, or none.
    pub(super) fn answer(&mut self, at: usize, partial: bool, answer: &mut impl FnMut(i32) -> Option<Blame>) {
        let (id, request) = self.under_way.swap_remove(at);
        let keys = keys(&request.slices);
        let verdicts: Vec<_> = keys.iter().map(|key| answer(*key)).collect();
        let outcome = if partial {
            for (key, verdict) in keys.iter().zip(&verdicts) {
                if verdict.is_none() {
                    self.received.push(*key);
                }
            }
            DeliveryOutcome::Partial(verdicts.into_iter().map(|v| v.map(failure)).collect())
        } else if let Some(blame) = verdicts.iter().flatten().next() {
            DeliveryOutcome::Failed(failure(*blame))
        } else {
            self.received.extend(&keys);
            DeliveryOutcome::Delivered
        };
        self.input(Input::Done { request: id, outcome });
    }

    /// Replays `n` dead letters with the keys from `first`.
    pub(super) fn replay(&mut self, first: i32, n: i32, entities: u64) {
        for key in first..first + n {
            self.input(Input::Replay { letter: i64::from(key), slice: slice(key, 1, entities) });
        }
    }

    pub(super) fn adopt(&mut self, key: i32, destination: u16, entities: u64, room: Room) {
        let ticket = key as u64 + u64::from(destination) * 1_000_000;
        self.input(Input::Adopt { ticket, slice: failed_slice(key, destination, entities), room });
    }

    /// The numbers of the replays that ended as `which` selects.
    pub(super) fn ended(&self, which: impl Fn(&ReplayEnd) -> bool) -> Vec<i64> {
        self.replayed.iter().filter(|(_, end)| which(end)).map(|(letter, _)| *letter).collect()
    }

    pub(super) fn store_replies(&mut self) {
        if let Some(input) = self.store.pop_front() {
            self.input(input);
        }
    }

    pub(super) fn store_dead_letters(&mut self) {
        while let Some(letter) = self.letters.pop_front() {
            if !self.letters_full {
                self.input(Input::LetterStored(letter.into()));
                continue;
            }
            let of_letter = keys([&letter.slice]);
            self.dead.retain(|key| !of_letter.contains(key));
            self.returned.extend(of_letter);
            self.input(Input::LetterRefused(letter.into()));
        }
    }

    /// Runs until nothing is left. The target takes every event from now on, except those that
    /// `poison` selects.
    pub(super) fn finish(&mut self, partial: bool, poison: impl Fn(i32) -> bool) {
        for _ in 0..20_000 {
            if self.engine.is_idle()
                && self.store.is_empty()
                && self.letters.is_empty()
                && self.rows.is_empty()
            {
                return;
            }
            self.store_replies();
            self.store_dead_letters();
            if self.under_way.is_empty() {
                if let Some(at) = self.engine.wakes_at() {
                    self.now = self.now.max(at);
                }
                self.input(Input::Tick);
            } else {
                self.answer(0, partial, &mut |key| poison(key).then_some(Blame::Evidence));
            }
        }
        panic!("stuck: {:?} {:?} rows {}", self.engine.gauges(), self.engine.wakes_at(), self.rows.len());
    }
}

pub(super) fn attempts(attempts: u32) -> Policy {
    Policy { retry: Retry { attempts, ..Retry::default() }, ..Policy::default() }
}

pub(super) fn limits(events_max: usize, partial: bool) -> RequestLimits {
    RequestLimits { events_max, bytes_max: 1 << 20, partial }
}
