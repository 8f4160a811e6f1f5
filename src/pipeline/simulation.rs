//! The whole pipeline in one thread, from a seed: a vCenter, the reading of it, every stage that runs in earnest, targets and a disk, under a clock of
//! its own. What goes wrong is drawn from the seed: lost and garbled answers, events visible late, targets that fail or forget to acknowledge, stores
//! that fail, crashes of the router at any step.
//!
//! ```text
//!  vCenter ─► reader ─► Parse ─► Core (order, route, settle) ─► Delivery, one a destination ─► targets
//!                                  │    ▲                          │    ▲
//!                                  └────┴── MemoryStore ◄──────────┘────┘   ◄── a crash leaves only the disk, the vCenter and what targets have
//! ```
//!
//! `EVENT_ROUTER_SEEDS=100000 cargo test --release simulation` tries more; `EVENT_ROUTER_SEED=7` only that one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::core::{Core, Output};
use super::deliver::{Action, DeadLetter, Delivery, Input, Room, SpoolKey, SpoolRow, Spooled};
use super::destination::{DestinationId, Destinations};
use super::driver;
use super::parse::{Parse, Parsed, Poison};
use super::route::{Reach, Route};
use crate::config::{self, Ordering, Retry};
use crate::durable::{DeadLetterFilter, Failing, MemoryDisk, MemoryStore, Storage, Write, codec};
use crate::event::Selection;
use crate::processor::{Failure, Fault, Outcome, Piece, Request, Shape};
use crate::source::{Found, Page, Verdict, Wire};

const BASE_US: i64 = 1_700_000_000_000_000;
const OVERLAP_US: i64 = 60_000_000;
/// An event is visible so much after its creation at most: within what the sweep looks at.
const LATE_US: i64 = 20_000_000;
const SWEEP_INTERVAL_US: i64 = 8_000_000;
const OVERFLOW: config::Overflow =
    config::Overflow { policy: config::OverflowPolicy::Spill, bytes_max: u64::MAX, free_disk_floor: 0 };
const EVENTS: usize = 60;
const ENTITIES: usize = 4;
/// Steps in which things go wrong; then all is well, and everything has to arrive.
const TROUBLED_STEPS: usize = 1_200;
const STEPS_MAX: usize = 60_000;
const SEEDS: u64 = 300;

#[derive(Clone, Copy)]
struct Event {
    created_us: i64,
    visible_us: i64,
    entity: usize,
    /// No decoder reads it.
    unreadable: bool,
}

impl Event {
    fn is_late(&self) -> bool {
        self.visible_us > self.created_us
    }
}

/// What outlives the router.
struct Outside {
    random: SmallRng,
    now_us: i64,
    vcenter: Vec<Event>,
    disk: MemoryDisk,
    targets: Vec<Target>,
    well: bool,
}

/// Keys and ids as they came; a key is the event's index.
#[derive(Default)]
struct Target {
    down: bool,
    received: Vec<(usize, Uuid)>,
    /// Never takes these.
    refuses: BTreeSet<usize>,
}

/// The router, from one start to its crash.
struct Inside {
    core: Core,
    parse: Parse,
    reader: Reader,
    to_parse: VecDeque<Page>,
    parsed: Vec<Parsed>,
    store: MemoryStore,
    jobs: VecDeque<(Vec<Write>, Reply)>,
    lanes: Vec<Lane>,
    settled: VecDeque<(DestinationId, Piece)>,
    checkpointing: bool,
}

/// A destination: engine, mailbox, requests under way.
struct Lane {
    engine: Delivery,
    mail: VecDeque<Mail>,
    under_way: Vec<(u64, Request)>,
}

enum Mail {
    Input(Input),
    DeadLettered(Box<DeadLetter>),
}

/// What happens when a job of the store is done.
enum Reply {
    Checkpointed,
    Mail(usize, Mail),
    Fetch { lane: usize, spool: SpoolKey, after: SpoolRow, bytes: usize },
    Poison(DestinationId, Box<Poison>),
    Nothing,
}

/// Reads as the vCenter source does: ahead of the verdicts; after a lost answer from the position less the overlap; after an undecodable page event by
/// event; and now and then the trailing window again, for what became visible late.
struct Reader {
    info: Arc<crate::event::SourceInfo>,
    begin_us: i64,
    next: usize,
    /// The sweep's own way through the window it re-reads, never past the position.
    sweep: Option<std::ops::Range<usize>>,
    sweep_due_us: i64,
    number: u64,
    reading: u64,
    position_us: i64,
    /// Events to be read one at a time.
    careful: usize,
    in_flight: VecDeque<(u64, usize, Option<Verdict>)>,
    verdicts: (mpsc::UnboundedSender<Verdict>, mpsc::UnboundedReceiver<Verdict>),
}

fn ordering(lane: usize) -> Ordering {
    [Ordering::Source, Ordering::Entity, Ordering::None][lane]
}

fn engine(lane: usize, spooled: Spooled, seed: u64) -> Delivery {
    let policy = config::Delivery {
        ordering: ordering(lane),
        retry: Retry { attempts: 1_000, max_age: Duration::MAX, ..Retry::default() },
        ..config::Delivery::default()
    };
    let shape = Shape { events_max: [5, 1, 10][lane], bytes_max: 1 << 20, partial: lane == 2 };
    Delivery::new(policy, shape, "", spooled, seed)
}

fn routes() -> config::Config {
    let vcenter = config::Vcenter::new("https://vc/sdk", "u", config::Secret::inline("p"));
    let source = config::Source { name: "vc".into(), kind: config::SourceKind::Vcenter(vcenter) };
    let processors = (0..3).map(|n| config::Processor {
        name: format!("p{n}"),
        kind: config::ProcessorKind::Blackhole,
        delivery: config::Delivery::default(),
    });
    config::Config::new(config::State::Ephemeral, vec![source], processors.collect())
}

impl Outside {
    fn chance(&mut self, percent: u32) -> bool {
        !self.well && self.random.random_range(0..100) < percent
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn create(&mut self) {
        let unreadable = self.chance(3);
        let late = !unreadable && self.chance(10);
        let delay = if late { self.random.random_range(1..LATE_US) } else { 0 };
        let entity = self.below(ENTITIES);
        let created_us = self.now_us;
        self.vcenter.push(Event { created_us, visible_us: created_us + delay, entity, unreadable });
    }

    fn page(&mut self, keys: &[usize], may_garble: bool) -> Bytes {
        let mut xml = String::from(
            r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><ReadNextEventsResponse xmlns="urn:vim25">"#,
        );
        for key in keys {
            let event = self.vcenter[*key];
            let time = jiff::Timestamp::from_microsecond(event.created_us).expect("within the calendar");
            let broken = if event.unreadable { "<odd></strange>" } else { "" };
            let entity = event.entity;
            xml.push_str(&format!(
                r#"<returnval xsi:type="VmPoweredOnEvent"><key>{key}</key><chainId>{key}</chainId><createdTime>{time:.6}</createdTime><userName>u</userName>{broken}<vm><name>v</name><vm type="VirtualMachine">vm-{entity}</vm></vm><template>false</template></returnval>"#
            ));
        }
        xml.push_str("</ReadNextEventsResponse></soapenv:Body></soapenv:Envelope>");
        // Only one of several is worth another look: a garbled answer of one event would be taken for the event's fault.
        if may_garble && keys.len() > 1 && self.chance(4) {
            xml.truncate(xml.len() - 20);
        }
        Bytes::from(xml)
    }

    /// A target's answer, as the router sees it.
    fn answer(&mut self, lane: usize, request: &Request) -> Outcome {
        let failure = |fault| Failure::new(fault, "as the seed says");
        let (retryable, unacknowledged) = (self.chance(5), self.chance(5));
        let target = &mut self.targets[lane];
        if target.down && !self.well {
            return Outcome::Failed(failure(Fault::Target));
        }
        if retryable {
            return Outcome::Failed(failure(Fault::Retryable));
        }
        let events: Vec<(usize, Uuid)> = request.events().map(received).collect();
        let refused: Vec<bool> = events.iter().map(|(key, _)| target.refuses.contains(key)).collect();
        if lane == 2 {
            target
                .received
                .extend(events.iter().zip(&refused).filter(|(_, refused)| !**refused).map(|(e, _)| *e));
            return Outcome::Partial(
                refused.into_iter().map(|refused| refused.then(|| failure(Fault::Permanent))).collect(),
            );
        }
        if refused.contains(&true) {
            return Outcome::Failed(failure(Fault::Permanent));
        }
        target.received.extend(events);
        if unacknowledged { Outcome::Failed(failure(Fault::Target)) } else { Outcome::Delivered }
    }
}

fn received((batch, at): (&crate::event::Batch, usize)) -> (usize, Uuid) {
    let record = &batch.records[at];
    (record.key.expect("all have one") as usize, record.id)
}

impl Inside {
    fn start(outside: &mut Outside) -> Inside {
        let mut destinations = Destinations::default();
        let reach = (0..3).map(|n| Reach::Whole(destinations.intern(n, &format!("p{n}"), ""))).collect();
        let route = Route::new(&routes(), reach).expect("no patterns");
        let mut core = Core::new(vec![("vc".into(), OVERLAP_US)], route, destinations);
        let mut store = MemoryStore::open(&outside.disk);
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
        let lanes = (0..3)
            .map(|n| {
                let rows = spooled.remove(&format!("p{n}")).unwrap_or_default();
                let mail = VecDeque::from([Mail::Input(Input::Tick)]);
                Lane { engine: engine(n, rows, outside.random.random()), mail, under_way: Vec::new() }
            })
            .collect();
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
            settled: VecDeque::new(),
            checkpointing: false,
        }
    }

    /// Does one thing. `Err`: the store failed, and the process has to end.
    fn step(&mut self, outside: &mut Outside) -> Result<(), ()> {
        let lane = outside.below(3);
        match outside.below(10) {
            0 => self.reader.step(outside, &mut self.to_parse),
            1 => {
                if let Some(page) = self.to_parse.pop_front() {
                    self.parsed.push(self.parse.step(page).0);
                }
            }
            // Two decoders: a page may overtake the one before it.
            2 if !self.parsed.is_empty() => {
                let at = outside.below(self.parsed.len().min(2));
                let parsed = self.parsed.remove(at);
                self.page(parsed, outside);
            }
            3 => {
                if let Some((destination, piece)) = self.settled.pop_front() {
                    self.core.settled(destination, &piece);
                }
            }
            4 => return self.job(),
            5 => {
                if let Some(mail) = self.lanes[lane].mail.pop_front() {
                    self.mail(lane, mail, outside.now_us);
                }
            }
            6 if !self.lanes[lane].under_way.is_empty() => {
                let at = outside.below(self.lanes[lane].under_way.len());
                let (id, request) = self.lanes[lane].under_way.swap_remove(at);
                let outcome = outside.answer(lane, &request);
                self.mail(lane, Mail::Input(Input::Done { request: id, outcome }), outside.now_us);
            }
            7 => self.mail(lane, Mail::Input(Input::Tick), outside.now_us),
            8 if !self.checkpointing => {
                let writes = self.core.checkpoints();
                if !writes.is_empty() {
                    self.checkpointing = true;
                    let job = writes.into_iter().map(Write::Checkpoint).collect();
                    self.jobs.push_back((job, Reply::Checkpointed));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn page(&mut self, parsed: Parsed, outside: &mut Outside) {
        let mut outputs = Vec::new();
        self.core.page(parsed, &mut outputs);
        for output in outputs {
            match output {
                Output::Offer { destination, piece } => {
                    let room = Room { share: 1_500, scarce: outside.chance(50), alone: false };
                    self.lanes[destination.0 as usize]
                        .mail
                        .push_back(Mail::Input(Input::Offer { piece, room }));
                }
                Output::Poison { destination, poison } => {
                    let write = driver::poison_write(&poison, outside.now_us);
                    self.jobs.push_back((vec![write], Reply::Poison(destination, Box::new(poison))));
                }
            }
        }
    }

    /// Carries out what a destination's engine says, as its driver does.
    fn mail(&mut self, at: usize, mail: Mail, now_us: i64) {
        let mut actions = Vec::new();
        let lane = &mut self.lanes[at];
        let now = Duration::from_micros((now_us - BASE_US) as u64);
        match mail {
            Mail::Input(input) => lane.engine.step(now, input, &mut actions),
            Mail::DeadLettered(letter) => lane.engine.dead_letter_stored(&letter, &mut actions),
        }
        let name = format!("p{at}");
        let mut unspooled = Vec::new();
        for action in actions {
            match action {
                Action::Send { id, request } => lane.under_way.push((id, request)),
                Action::Settle(piece) => self.settled.push_back((DestinationId(at as u32), piece)),
                Action::Drop(_) | Action::Replayed { .. } | Action::Adopted(_) => {
                    unreachable!("the policy is to spill, nothing is replayed and nothing adopted")
                }
                Action::DeadLetter(letter) => {
                    let write = driver::dead_letter_write(&name, &letter, now_us).expect("it was decoded");
                    self.jobs.push_back((vec![write], Reply::Mail(at, Mail::DeadLettered(Box::new(letter)))));
                }
                Action::Append { ticket, pieces } => {
                    let writes = driver::spool_writes(&name, &OVERFLOW, &pieces).expect("it was decoded");
                    self.jobs.push_back((writes, Reply::Mail(at, Mail::Input(Input::Appended { ticket }))));
                }
                Action::Fetch { spool, after, bytes } => {
                    self.jobs.push_back((Vec::new(), Reply::Fetch { lane: at, spool, after, bytes }));
                }
                Action::Unspool(SpoolRow(row)) => unspooled.push(row),
            }
        }
        // All of a step at once: rows that were written anew must not leave one by one, or the rest would come before what has left.
        if !unspooled.is_empty() {
            self.jobs.push_back((vec![Write::SpoolRemove { rows: unspooled }], Reply::Nothing));
        }
    }

    /// The store does its next job.
    fn job(&mut self) -> Result<(), ()> {
        let Some((writes, reply)) = self.jobs.pop_front() else { return Ok(()) };
        if !writes.is_empty() {
            self.store.apply(&writes).map_err(|_| ())?;
        }
        match reply {
            Reply::Nothing => {}
            Reply::Checkpointed => self.checkpointing = false,
            Reply::Mail(lane, mail) => self.lanes[lane].mail.push_back(mail),
            Reply::Poison(destination, poison) => {
                let piece = Piece { batch: Arc::new(poison.batch), picks: Selection::one(0) };
                self.core.settled(destination, &piece);
            }
            Reply::Fetch { lane, spool, after, bytes } => {
                let name = spool.name(&format!("p{lane}"));
                let rows = self.store.peek(&name, after.0, bytes.min(2_000) as u64).map_err(|_| ())?;
                let rows = rows
                    .into_iter()
                    .map(|row| {
                        let picks = row.left();
                        let batch = codec::decode(&row.blob, |_| Some(0)).expect("what was written");
                        (SpoolRow(row.row), Piece { batch: Arc::new(batch), picks })
                    })
                    .collect();
                self.lanes[lane].mail.push_back(Mail::Input(Input::Fetched { spool, rows }));
            }
        }
        Ok(())
    }

    fn is_quiet(&self, outside: &Outside) -> bool {
        self.reader.has_read_all(outside)
            && self.to_parse.is_empty()
            && self.parsed.is_empty()
            && self.jobs.is_empty()
            && self.settled.is_empty()
            && self.core.is_settled()
            && self.store.spools().values().all(|size| size.rows == 0)
            && self.lanes.iter().all(|lane| lane.mail.is_empty() && lane.engine.is_idle())
    }
}

impl Reader {
    fn has_read_all(&self, outside: &Outside) -> bool {
        self.next >= outside.vcenter.len() && self.sweep.is_none() && self.in_flight.is_empty()
    }

    fn step(&mut self, outside: &mut Outside, pages: &mut VecDeque<Page>) {
        self.take_verdicts(pages, outside);
        if pages.len() > 4 {
            return;
        }
        if self.sweep.is_none() && outside.now_us >= self.sweep_due_us {
            self.sweep_due_us = outside.now_us + SWEEP_INTERVAL_US;
            let from_us = self.position_us - OVERLAP_US;
            let end = first_since(outside, self.position_us + 1);
            self.sweep = Some(first_since(outside, from_us.max(self.begin_us))..end);
        }
        // What cannot be decoded is the reader's: it has met it before, since only readable events are late here.
        if let Some(window) = self.sweep.take() {
            let (mut keys, next) = visible(outside, window.clone(), 20);
            keys.retain(|key| !outside.vcenter[*key].unreadable);
            self.sweep = (next > window.start && next < window.end).then_some(next..window.end);
            if !keys.is_empty() {
                let body = outside.page(&keys, false);
                let (ignored, _) = mpsc::unbounded_channel();
                self.push(pages, body, None, None, outside.now_us, ignored);
            }
            return;
        }
        if self.careful > 0 && !self.in_flight.is_empty() {
            return;
        }
        let size = if self.careful > 0 { 1 } else { 1 + outside.below(8) };
        let (keys, end) = visible(outside, self.next..outside.vcenter.len(), size);
        self.next = end;
        if keys.is_empty() {
            return;
        }
        if outside.chance(8) {
            // The answer is lost, and the server's cursor has moved.
            return self.rewind(outside);
        }
        let body = outside.page(&keys, true);
        let reading = (self.careful == 0).then_some(self.reading);
        let number = self.push(pages, body, reading, None, outside.now_us, self.verdicts.0.clone());
        self.in_flight.push_back((number, keys[0], None));
    }

    fn push(
        &mut self,
        pages: &mut VecDeque<Page>,
        body: Bytes,
        reading: Option<u64>,
        poison: Option<String>,
        now_us: i64,
        verdicts: mpsc::UnboundedSender<Verdict>,
    ) -> u64 {
        let number = self.number;
        self.number += 1;
        pages.push_back(Page {
            source: Arc::clone(&self.info),
            number,
            reading,
            produced_us: now_us,
            wire: Wire::Soap,
            body,
            poison,
            permit: Default::default(),
            verdicts,
        });
        number
    }

    /// Begins again at the position less the overlap.
    fn rewind(&mut self, outside: &Outside) {
        self.reading += 1;
        self.next = first_since(outside, (self.position_us - OVERLAP_US / 4).max(self.begin_us));
    }

    fn take_verdicts(&mut self, pages: &mut VecDeque<Page>, outside: &mut Outside) {
        while let Ok(verdict) = self.verdicts.1.try_recv() {
            if let Some(page) = self.in_flight.iter_mut().find(|(number, ..)| *number == verdict.page) {
                page.2 = Some(verdict);
            }
        }
        while let Some((_, _, Some(_))) = self.in_flight.front() {
            let Some((_, key, Some(verdict))) = self.in_flight.pop_front() else { return };
            match verdict.found {
                Ok(facts) => {
                    self.position_us = self.position_us.max(facts.newest_us.unwrap_or_default());
                    self.careful = self.careful.saturating_sub(1);
                }
                Err(error) if self.careful > 0 => {
                    self.careful -= 1;
                    let body = outside.page(&[key], false);
                    let (ignored, _) = mpsc::unbounded_channel();
                    self.push(pages, body, None, Some(error.to_string()), outside.now_us, ignored);
                }
                Err(_) => {
                    self.careful = 40;
                    self.in_flight.clear();
                    self.rewind(outside);
                }
            }
        }
    }
}

/// The first event created at `us` or later.
fn first_since(outside: &Outside, us: i64) -> usize {
    outside.vcenter.partition_point(|event| event.created_us < us)
}

/// Up to `count` events of `range` that can be seen now, and where the cursor then stands: behind the last of them.
fn visible(outside: &Outside, range: std::ops::Range<usize>, count: usize) -> (Vec<usize>, usize) {
    let is_visible = |key: &usize| outside.vcenter[*key].visible_us <= outside.now_us;
    let next = range.start;
    let keys: Vec<usize> = range.filter(is_visible).take(count).collect();
    let next = keys.last().map_or(next, |last| last + 1);
    (keys, next)
}

/// Plays a seed to its end; panics where a promise is broken.
fn play(seed: u64) {
    let mut outside = Outside {
        random: SmallRng::seed_from_u64(seed),
        now_us: BASE_US,
        vcenter: Vec::new(),
        disk: MemoryDisk::default(),
        targets: Vec::new(),
        well: false,
    };
    for _ in 0..3 {
        let refuses = (0..EVENTS).filter(|_| outside.chance(3)).collect();
        outside.targets.push(Target { refuses, ..Target::default() });
    }
    let mut inside = Inside::start(&mut outside);
    let mut crashes = 0;
    for step in 0..STEPS_MAX {
        outside.well = step >= TROUBLED_STEPS;
        outside.now_us += outside.random.random_range(0..200_000);
        if outside.vcenter.len() < EVENTS && (outside.well || outside.below(20) == 0) {
            outside.create();
        }
        if outside.below(200) == 0 {
            let at = outside.below(3);
            outside.targets[at].down ^= true;
        }
        if outside.chance(1) && outside.below(4) == 0 {
            let how = if outside.below(2) == 0 { Failing::Before } else { Failing::After };
            outside.disk.fail(0, how);
        }
        let failed = inside.step(&mut outside).is_err();
        if failed || (outside.chance(1) && outside.below(3) == 0) {
            crashes += 1;
            for lane in 0..3 {
                // Whether a target did the work that nobody waits for any more is open.
                for (_, request) in std::mem::take(&mut inside.lanes[lane].under_way) {
                    if outside.below(2) == 0 {
                        outside.answer(lane, &request);
                    }
                }
            }
            outside.disk.mend();
            inside = Inside::start(&mut outside);
        }
        // Whatever is visible late has been so long enough for the sweep to have passed it.
        let last_us = outside.vcenter.last().map_or(0, |event| event.created_us);
        let is_swept = outside.well && outside.now_us > last_us + OVERLAP_US;
        if is_swept && outside.vcenter.len() == EVENTS && inside.is_quiet(&outside) {
            return judge(seed, &outside, &inside, crashes);
        }
    }
    panic!(
        "seed {seed}: stuck after {crashes} crashes: {:?}",
        inside.lanes.iter().map(|l| l.engine.gauges()).collect::<Vec<_>>()
    );
}

fn judge(seed: u64, outside: &Outside, inside: &Inside, crashes: usize) {
    let letters = inside.store.dead_letters(&DeadLetterFilter::default()).expect("readable");
    let mut ids: BTreeMap<usize, Uuid> = BTreeMap::new();
    for (lane, target) in outside.targets.iter().enumerate() {
        let context = format!("seed {seed}, {crashes} crashes, p{lane}");
        let dead: BTreeSet<usize> = letters
            .iter()
            .filter(|letter| letter.facts.destination == format!("p{lane}"))
            .map(|letter| letter.facts.identity.key as usize)
            .collect();
        for key in 0..EVENTS {
            let has = target.received.iter().any(|(received, _)| *received == key);
            match (outside.vcenter[key].unreadable, target.refuses.contains(&key)) {
                (true, _) => assert!(!has && !dead.contains(&key), "{context}: {key} was not readable"),
                (_, true) => assert!(!has && dead.contains(&key), "{context}: {key} is no dead letter"),
                _ => assert!(has && !dead.contains(&key), "{context}: {key} is lost"),
            }
        }
        // Of each scope the first receipts, but for what became visible late.
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (key, id) in &target.received {
            assert_eq!(ids.entry(*key).or_insert(*id), id, "{context}: {key} has another id");
            if !seen.insert(*key) || outside.vcenter[*key].is_late() {
                continue;
            }
            let scope = match ordering(lane) {
                Ordering::Source => 0,
                Ordering::Entity => outside.vcenter[*key].entity,
                Ordering::None => continue,
            };
            let before = last.insert(scope, *key);
            assert!(before.is_none_or(|before| before < *key), "{context}: {key} after {before:?}");
        }
    }
    let unreadable = outside.vcenter.iter().filter(|event| event.unreadable).count();
    let poisons = letters.iter().filter(|letter| letter.facts.destination.is_empty()).count();
    assert!(poisons >= unreadable, "seed {seed}: {poisons} of {unreadable} unreadable events are kept");
}

#[test]
fn nothing_is_lost_or_out_of_order_whatever_the_seed() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("EVENT_ROUTER_SEED") {
        return play(seed);
    }
    for seed in 0..number("EVENT_ROUTER_SEEDS").unwrap_or(SEEDS) {
        play(seed);
    }
}
