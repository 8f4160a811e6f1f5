//! The router from a start to its crash: the production stages, joined by queues of messages. Each
//! step handles one thing that the seed chooses, so the seed decides the order of all threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::Rng;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::lane::{AdoptionEnd, Lane, LaneMessage};
use super::outside::Outside;
use super::reader::Reader;
use super::reloads::Presence;
use super::undecided::{self, AwaitedJob};
use super::{
    BASE_US, LANES, OVERFLOW, OVERLAP_US, REMOVABLE, WITNESS, engine, name, parts, processor_name, sink_of,
};
use crate::event::Selection;
use crate::limits::{DRIVER_JOBS_MAX, OWN_MESSAGES_MAX};
use crate::pipeline::control::UnreadableEvent;
use crate::pipeline::core::{Core, Output};
use crate::pipeline::deliver::{
    Action, FailedEvent, Input, Origin, ReplayEnd, Room, SpoolKey, SpoolRow, Spooled,
};
use crate::pipeline::destination::{DestinationId, Destinations};
use crate::pipeline::driver;
use crate::pipeline::level::Coalesced;
use crate::pipeline::parse::{Parse, Parsed};
use crate::pipeline::refusals::{Attempt, Outbox};
use crate::processor::BatchSlice;
use crate::source::{Found, Page};
use crate::state::{DeadLetterPayload, MemoryStore, Storage, Write, codec};

pub(super) struct Inside {
    pub(super) core: Core,
    pub(super) parse: Parse,
    pub(super) reader: Reader,
    pub(super) to_parse: VecDeque<Page>,
    pub(super) parsed: Vec<Parsed>,
    pub(super) store: MemoryStore,
    pub(super) jobs: VecDeque<(Vec<Write>, Reply)>,
    pub(super) lanes: Vec<Lane>,
    unreadable: Outbox<UnreadableEvent>,
    settlements: Coalesced<Vec<(DestinationId, BatchSlice)>>,
    /// Number of messages to the core that announce settlements.
    pub(super) settled: usize,
    pub(super) checkpointing: bool,
    /// Replies to the core about the undecided gateway.
    pub(super) undecided: VecDeque<undecided::UndecidedReply>,
}

/// Continuation after a job of the store is done.
pub(super) enum Reply {
    Checkpointed,
    Message(usize, LaneMessage),
    Appended(usize, u64),
    Fetch {
        lane: usize,
        spool: SpoolKey,
        after: SpoolRow,
        bytes: usize,
    },
    Unreadable(Vec<Attempt<UnreadableEvent>>),
    Undecided(AwaitedJob),
    /// Read the dead letter with this number, and send it to its destination again.
    Replay(usize, i64),
    /// The result of a replay is written.
    Replayed,
}

impl Inside {
    pub(super) fn start(outside: &mut Outside) -> Inside {
        let mut destinations = Destinations::default();
        for lane in 0..LANES {
            let (processor, function) = parts(lane);
            destinations.intern(processor, &processor_name(processor), function);
        }
        let mut store = MemoryStore::open(&outside.disk);
        let route = undecided::route(outside, &store, &mut destinations);
        let mut core = Core::new(vec![("vc".into(), OVERLAP_US)], route, destinations);
        let found = Found {
            url: "https://vc/sdk".into(),
            instance_uuid: Uuid::from_u128(7),
            api_version: "8.0.3.0".into(),
            start_us: BASE_US - 1,
        };
        let stored = store.load("vc").expect("the disk is read only here");
        let (start, write) = core.begin(0, &found, stored).expect("the same vCenter");
        store.apply(&[Write::Checkpoint(write)]).expect("no failure is planned before a start");
        let mut spooled =
            Spooled::by_destination(store.spools().iter().map(|(name, size)| (name, size.rows)));
        let lanes = (0..LANES)
            .map(|n| {
                let rows = spooled.remove(&name(n)).unwrap_or_default();
                let mut engine = engine(n, outside.ordering[n], rows, outside.random.random());
                if core.is_undecided(parts(n).0) {
                    engine.expect_rows();
                }
                Lane::new(engine, outside.crashed)
            })
            .collect();
        // The reader sweeps only what the overlap keeps, so nothing has to be held longer for it.
        start.progress.unswept_us.store(i64::MAX, Relaxed);
        let reader = Reader {
            info: start.info,
            begin_us: start.begin_us,
            next: 0,
            sweep: None,
            sweep_due_us: 0,
            number: 0,
            reading: 0,
            position_us: start.begin_us,
            careful: 0,
            in_flight: VecDeque::new(),
            verdicts: mpsc::unbounded_channel(),
        };
        Inside {
            core,
            parse: Parse::default(),
            reader,
            to_parse: VecDeque::new(),
            parsed: Vec::new(),
            store,
            jobs: VecDeque::new(),
            lanes,
            unreadable: Outbox::default(),
            settlements: Coalesced::default(),
            settled: 0,
            checkpointing: false,
            undecided: VecDeque::new(),
        }
    }

    /// Does one step. Returns `Err` if the store failed, and then the process has to end.
    pub(super) fn step(&mut self, outside: &mut Outside) -> Result<(), ()> {
        let lane = outside.below(LANES);
        match outside.below(13) {
            0 => self.reader.step(outside, &mut self.to_parse),
            1 => {
                if let Some(page) = self.to_parse.pop_front() {
                    self.parsed.push(self.parse.step(page).0);
                }
            }
            // There are two decoders, so a page may overtake the one before it.
            2 if !self.parsed.is_empty() => {
                let at = outside.below(self.parsed.len().min(2));
                let parsed = self.parsed.remove(at);
                self.page(parsed, outside);
            }
            3 if self.settled > 0 => {
                self.settled -= 1;
                for (destination, slice) in self.settlements.take() {
                    self.core.settled(destination, &slice);
                }
            }
            4 if !outside.stalled => return self.job(outside),
            5 => {
                if let Some(message) = self.lanes[lane].mailbox.pop_front() {
                    self.handle(lane, message, outside.now_us);
                }
            }
            6 if !self.lanes[lane].under_way.is_empty() => {
                let at = outside.below(self.lanes[lane].under_way.len());
                let (id, request) = self.lanes[lane].under_way.swap_remove(at);
                let outcome = outside.answer(lane, &request);
                self.handle(lane, LaneMessage::Input(Input::Done { request: id, outcome }), outside.now_us);
            }
            7 if outside.chance(50) => {
                let room = Room { share: 1_500, scarce: outside.chance(50), alone: false };
                self.handle(lane, LaneMessage::Input(Input::Room(room)), outside.now_us);
            }
            7 => self.handle(lane, LaneMessage::Input(Input::Tick), outside.now_us),
            8 if !self.checkpointing => {
                let writes = self.core.checkpoints();
                if !writes.is_empty() {
                    self.checkpointing = true;
                    let job = writes.into_iter().map(Write::Checkpoint).collect();
                    self.jobs.push_back((job, Reply::Checkpointed));
                }
            }
            9 if outside.below(8) == 0 => self.replay(outside),
            10 => self.step_undecided(outside),
            11 if outside.well || outside.below(4) == 0 => self.reload(outside),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn page(&mut self, parsed: Parsed, outside: &mut Outside) {
        let mut outputs = Vec::new();
        self.core.page(parsed, &mut outputs);
        self.output(outputs, outside);
        self.store_unreadable(outside.now_us);
    }

    pub(super) fn output(&mut self, outputs: Vec<Output>, outside: &mut Outside) {
        for output in outputs {
            match output {
                Output::Offer { destination, slice } => {
                    self.excuse(destination, &slice, outside);
                    let room = Room { share: 1_500, scarce: outside.chance(50), alone: false };
                    self.lanes[destination.0 as usize]
                        .mailbox
                        .push_back(LaneMessage::Input(Input::Offer { slice, room }));
                }
                Output::Read(_) => {}
                Output::Poison { destination, poison } => {
                    self.unreadable.put(UnreadableEvent { destination, poison: Box::new(poison) });
                }
            }
        }
    }

    /// Notes events that are routed while processors are removed.
    fn excuse(&self, destination: DestinationId, slice: &BatchSlice, outside: &mut Outside) {
        if destination.0 as usize != WITNESS {
            return;
        }
        for lane in REMOVABLE.into_iter().filter(|lane| self.lanes[*lane].presence != Presence::Configured) {
            let key = |i: usize| slice.batch.records[i].key.expect("all have one") as usize;
            outside.targets[lane].excused.extend(slice.selection.iter().map(key));
        }
    }

    fn store_unreadable(&mut self, now_us: i64) {
        let group = self.unreadable.take_group();
        if !group.is_empty() {
            let write = |attempt: &Attempt<UnreadableEvent>| {
                driver::poison_write(&attempt.item.poison, now_us, LANES)
            };
            self.jobs.push_back((group.iter().map(write).collect(), Reply::Unreadable(group)));
        }
    }

    /// Handles a message to a destination and performs its engine's actions, as the driver does.
    pub(super) fn handle(&mut self, at: usize, message: LaneMessage, now_us: i64) {
        let mut actions = Vec::new();
        let lane = &mut self.lanes[at];
        // A driver that ends takes only the answers to its requests.
        let is_ending = lane.presence == Presence::Ending;
        if is_ending && !matches!(message, LaneMessage::Input(Input::Done { .. })) {
            return;
        }
        let now = Duration::from_micros((now_us - BASE_US) as u64);
        match message {
            LaneMessage::Input(input) => lane.engine.step(now, input, &mut actions),
            LaneMessage::Removed => lane.spool_jobs.removed(),
            LaneMessage::RowsAdded => {
                let rows = lane.rows_added.take();
                lane.engine.step(now, Input::Added { rows }, &mut actions);
            }
            LaneMessage::DeadLettered(letters, is_full) => {
                lane.letters.returned();
                for letter in letters {
                    let letter = lane.letters.stored(letter);
                    let end = if is_full { Input::LetterRefused } else { Input::LetterStored };
                    lane.engine.step(now, end(letter.into()), &mut actions);
                }
            }
            LaneMessage::Adoptions => {
                for (from, letter) in lane.adoptions.take() {
                    let (ticket, slice) = (lane.next_ticket, letter.slice.clone());
                    lane.next_ticket += 1;
                    lane.adopted.insert(ticket, (from, letter));
                    let room = Room { share: 1_500, scarce: ticket.is_multiple_of(2), alone: false };
                    lane.engine.step(now, Input::Adopt { ticket, slice, room }, &mut actions);
                }
            }
            LaneMessage::AdoptionEnds => {
                for end in lane.ends.take() {
                    match end {
                        AdoptionEnd::Adopted(letter) => {
                            lane.engine.step(now, Input::LetterStored(letter), &mut actions);
                        }
                        AdoptionEnd::Refused(letter) => lane.letters.put(*letter),
                    }
                }
            }
            LaneMessage::Replay { letter, attempts, slice } => {
                if lane.replays.insert(letter, attempts).is_none() {
                    lane.engine.step(now, Input::Replay { letter, slice }, &mut actions);
                }
            }
        }
        self.carry_out(at, actions, now_us);
        if is_ending {
            self.stop(at, now_us);
        }
        assert!(self.lanes[at].own_messages() <= OWN_MESSAGES_MAX, "{}", name(at));
        let jobs = self.jobs.iter().filter(|(_, reply)| reply.lane() == Some(at)).count();
        assert!(jobs <= DRIVER_JOBS_MAX, "{jobs} jobs of {}", name(at));
        assert!(self.settled <= 1, "one message stands for all settlements");
    }

    pub(super) fn carry_out(&mut self, at: usize, actions: Vec<Action>, now_us: i64) {
        if actions.iter().any(|action| matches!(action, Action::Append { .. })) {
            self.remove(at, true);
        }
        let lane = &mut self.lanes[at];
        let name = name(at);
        let (mut adoptions, mut ends) = (Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Send { id, request } => lane.send(id, request),
                Action::Settle(slice) => {
                    let settled = (DestinationId(at as u32), slice);
                    self.settled += usize::from(self.settlements.put(|all| all.push(settled)));
                }
                Action::Drop(_) => unreachable!("the policy is to spill"),
                Action::DeadLetter(letter) => match (letter.origin, sink_of(at)) {
                    (Origin::Adopted(ticket), _) => {
                        let (from, letter) = lane.adopted.remove(&ticket).expect("told once");
                        ends.push((from, AdoptionEnd::Refused(letter)));
                    }
                    (_, Some(sink)) => adoptions.push((sink, Box::new(letter))),
                    (_, None) => lane.letters.put(letter),
                },
                Action::Adopted(ticket) => {
                    let (from, letter) = lane.adopted.remove(&ticket).expect("told once");
                    ends.push((from, AdoptionEnd::Adopted(letter)));
                }
                Action::Replayed { letter, end } => {
                    let before = lane.replays.remove(&letter).expect("told once");
                    let write = match end {
                        ReplayEnd::Delivered => Write::DeadLetterRemove { rows: vec![letter] },
                        ReplayEnd::PutOff => continue,
                        ReplayEnd::Failed { failure, attempts } => Write::DeadLetterAgain {
                            row: letter,
                            reason: failure.reason,
                            status: failure.status,
                            attempts: before + attempts,
                            last_us: now_us,
                        },
                    };
                    self.jobs.push_back((vec![write], Reply::Replayed));
                }
                Action::Append { ticket, slices } => {
                    let writes = driver::spool_writes(&name, &OVERFLOW, &slices).expect("it was decoded");
                    self.jobs.push_back((writes, Reply::Appended(at, ticket)));
                }
                Action::Fetch { spool, after, bytes } => {
                    lane.spool_jobs.fetches.push((spool, after, bytes));
                }
                Action::Unspool(row) => lane.spool_jobs.row(row),
                Action::UnspoolSome { row, gone } => lane.spool_jobs.part(row, gone),
            }
        }
        let fetches = std::mem::take(&mut lane.spool_jobs.fetches);
        self.remove(at, !fetches.is_empty());
        for (spool, after, bytes) in fetches {
            self.jobs.push_back((Vec::new(), Reply::Fetch { lane: at, spool, after, bytes }));
        }
        for (sink, letter) in adoptions {
            let sink = &mut self.lanes[sink];
            if sink.adoptions.put(|all| all.push((at, letter))) {
                sink.mailbox.push_back(LaneMessage::Adoptions);
            }
        }
        for (from, end) in ends {
            let from = &mut self.lanes[from];
            if from.ends.put(|all| all.push(end)) {
                from.mailbox.push_back(LaneMessage::AdoptionEnds);
            }
        }
        let letters = self.lanes[at].letters.take_group();
        if !letters.is_empty() {
            let write = |at: &Attempt<FailedEvent>| driver::dead_letter_write(&name, &at.item, now_us, LANES);
            let writes = letters.iter().map(write).collect::<Result<_, _>>().expect("it was decoded");
            self.jobs.push_back((writes, Reply::Message(at, LaneMessage::DeadLettered(letters, false))));
        }
    }

    /// Gives removals of a lane's spool rows to the store.
    pub(super) fn remove(&mut self, at: usize, next: bool) {
        let writes = self.lanes[at].spool_jobs.due(next);
        if !writes.is_empty() {
            self.jobs.push_back((writes, Reply::Message(at, LaneMessage::Removed)));
        }
    }

    /// Does the next job of the store. If the store is full, it refuses appends to spools or dead
    /// letters. If not all is well, it also refuses moves.
    pub(super) fn job(&mut self, outside: &Outside) -> Result<(), ()> {
        let now_us = outside.now_us;
        let Some((writes, reply)) = self.jobs.pop_front() else { return Ok(()) };
        let reply = match reply {
            Reply::Appended(lane, _) if outside.full => {
                self.lanes[lane].mailbox.push_back(LaneMessage::Input(Input::Refused));
                return Ok(());
            }
            Reply::Message(lane, LaneMessage::DeadLettered(letters, _)) if outside.letters_full => {
                self.lanes[lane].mailbox.push_back(LaneMessage::DeadLettered(letters, true));
                return Ok(());
            }
            Reply::Undecided(job) if outside.full && job.needs_room(outside.well) => {
                self.undecided.push_back(job.reply(false));
                return Ok(());
            }
            reply => reply,
        };
        if !writes.is_empty() {
            self.store.apply(&writes).map_err(|_| ())?;
        }
        match reply {
            Reply::Replayed => {}
            Reply::Undecided(AwaitedJob::Fetch) => {
                let row = self.first_undecided().map_err(|_| ())?;
                self.undecided.push_back(undecided::UndecidedReply::Fetched(row));
            }
            Reply::Undecided(job) => self.undecided.push_back(job.reply(true)),
            Reply::Checkpointed => self.checkpointing = false,
            Reply::Message(lane, message) => self.lanes[lane].mailbox.push_back(message),
            Reply::Appended(lane, ticket) => {
                self.lanes[lane].mailbox.push_back(LaneMessage::Input(Input::Appended { ticket }));
            }
            Reply::Unreadable(group) => {
                self.unreadable.returned();
                for attempt in group {
                    let UnreadableEvent { destination, poison } = self.unreadable.stored(attempt);
                    let slice = BatchSlice { batch: Arc::new(poison.batch), selection: Selection::one(0) };
                    self.core.settled(destination, &slice);
                }
                self.store_unreadable(now_us);
            }
            Reply::Replay(lane, letter) => {
                let Some(whole) = self.store.dead_letter(letter).map_err(|_| ())? else { return Ok(()) };
                let DeadLetterPayload::Event(blob) = whole.payload else { return Ok(()) };
                if whole.facts.destination == name(lane) {
                    let batch = codec::decode(&blob, |_| Some(0)).expect("what was written");
                    let selection = Selection::first(batch.records.len());
                    let slice = BatchSlice { batch: Arc::new(batch), selection };
                    let attempts = whole.facts.attempts;
                    self.lanes[lane].mailbox.push_back(LaneMessage::Replay { letter, attempts, slice });
                }
            }
            Reply::Fetch { lane, spool, after, bytes } => {
                let name = spool.name(&name(lane));
                let rows = self.store.peek(&name, after.0, bytes.min(2_000) as u64).map_err(|_| ())?;
                let rows = rows
                    .into_iter()
                    .map(|row| {
                        let selection = row.left();
                        let batch = codec::decode(&row.blob, |_| Some(0)).expect("what was written");
                        (SpoolRow(row.row), BatchSlice { batch: Arc::new(batch), selection })
                    })
                    .collect();
                self.lanes[lane].mailbox.push_back(LaneMessage::Input(Input::Fetched { spool, rows }));
            }
        }
        Ok(())
    }

    pub(super) fn is_quiet(&self, outside: &Outside) -> bool {
        self.reader.has_read_all(outside)
            && self.to_parse.is_empty()
            && self.parsed.is_empty()
            && self.jobs.is_empty()
            && self.settled == 0
            && self.undecided.is_empty()
            && self.core.is_settled()
            && self.store.spools().values().all(|size| size.rows == 0)
            && self.lanes.iter().all(|lane| lane.is_quiet())
            && self.replayable(outside).is_empty()
    }
}

impl Reply {
    /// The lane that the job belongs to. Jobs of replays have a bound of their own.
    pub(super) fn lane(&self) -> Option<usize> {
        match self {
            Reply::Message(lane, _) | Reply::Appended(lane, _) | Reply::Fetch { lane, .. } => Some(*lane),
            Reply::Checkpointed
            | Reply::Unreadable(_)
            | Reply::Undecided(_)
            | Reply::Replay(..)
            | Reply::Replayed => None,
        }
    }
}
