//! Counts what arrived against what was created: missing, repeated (with the old id or a new one), out of order, how late.
//!
//! With [`Verifier::comparing`] the content is verified too: of all of the first [`COMPARED_FIRST`] events of a receiver, then of one
//! in [`COMPARED_SHARE`], chosen by a hash of the event's number, so that every class has its turn.
//!
//! Per source one bit an event, so that tens of millions cost megabytes; which event a delivery is follows from its key and
//! createdTime ([`crate::truth`]). The order that is checked is that of the first sight of each event.

mod compare;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock};

use hdrhistogram::Histogram;
use hyper::header::HeaderMap;
use uuid::Uuid;

pub use self::compare::{COMPARED_FIRST, COMPARED_SHARE};
use self::compare::{Comparison, ToCompare};
use crate::content::{Contents, Delivery, Entry, SpecialContent};
use crate::scan::{self, Delivered, Times};
use crate::sync::lock;
pub use crate::tally::{Latency, Overtaken, Report, SourceReport, Tally};
use crate::truth::{Truth, event_id, index_of};
use crate::vcenter::{Exceptions, MixError, Model, VCenter};

/// Examples of faults that a report shows: enough to look for a pattern, few enough to read.
const EXAMPLES_MAX: usize = 10;
/// Highest latency that is told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Events under way that are looked at to count their entities: at 50 ns each a millisecond at most.
const LOOK_MAX: usize = 20_000;

/// How far deliveries may be ahead of a truth that is fetched now and then: 20 s at 500,000 events/s.
const AHEAD_MAX: u64 = 10_000_000;

/// Where the truth about a source comes from.
pub trait Witness: Send + Sync {
    fn truth(&self) -> Truth;
    /// Changes when the truth changed in more than the number of events.
    fn generation(&self) -> u64;

    /// Events that exist: cheap, asked for with every delivery of new events.
    fn produced(&self) -> u64;

    /// Key and createdTime (microseconds since 1970) of an event, if the witness can tell them for each.
    fn created(&self, _index: u64) -> Option<(i32, i64)> {
        None
    }

    /// The content of an event that is not from the model, if the witness knows it.
    fn special(&self, _index: u64) -> Option<SpecialContent> {
        None
    }

    /// Whether [`Witness::truth`] is of this moment. If not, an event may arrive before the truth knows it.
    fn is_current(&self) -> bool {
        true
    }
}

impl Witness for VCenter {
    fn truth(&self) -> Truth {
        VCenter::truth(self)
    }

    fn generation(&self) -> u64 {
        self.truth_generation()
    }

    fn produced(&self) -> u64 {
        VCenter::produced(self)
    }

    fn created(&self, index: u64) -> Option<(i32, i64)> {
        VCenter::created(self, index)
    }

    fn special(&self, index: u64) -> Option<SpecialContent> {
        VCenter::special(self, index)
    }
}

/// A truth that is fetched from another process (`GET /testbed/truth`) now and then, and once more before the report.
impl Witness for Mutex<Truth> {
    fn truth(&self) -> Truth {
        lock(self).clone()
    }

    fn generation(&self) -> u64 {
        lock(self).generation
    }

    fn produced(&self) -> u64 {
        lock(self).produced
    }

    fn is_current(&self) -> bool {
        false
    }
}

/// Which part of a run a latency belongs to. The time of receipt decides, so an event that was
/// created during the warm-up and received after it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measured,
}

/// Which events of a source must arrive.
pub type Expect = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// Takes deliveries from any number of connections; cheap enough for a million events a second and core.
#[derive(Default)]
pub struct Verifier {
    /// Parse every body as JSON and check the envelope.
    pub strict: bool,
    comparison: Comparison,
    sources: RwLock<Vec<(String, Arc<Mutex<Source>>)>>,
    strays: Mutex<Strays>,
}

#[derive(Default)]
struct Strays {
    by_source: HashMap<String, u64>,
    unreadable: u64,
}

struct Source {
    witness: Arc<dyn Witness>,
    truth: Truth,
    model: Arc<Model>,
    contents: Option<Arc<Contents>>,
    url: String,
    expect_from: u64,
    expect: Option<Expect>,
    seen: Vec<u64>,
    newest: Option<u64>,
    lanes: Vec<u64>,
    /// Latencies since they were last taken.
    latency: Histogram<u64>,
    /// Latencies that were taken, and count.
    latency_measured: Histogram<u64>,
    /// Latencies that were taken as part of the warm-up.
    latency_warm_up: Histogram<u64>,
    tally: Tally,
}

impl Verifier {
    pub fn new() -> Verifier {
        Verifier::default()
    }

    /// A verifier that parses every body.
    pub fn strict() -> Verifier {
        Verifier { strict: true, ..Verifier::default() }
    }

    /// Verifies a vCenter of this process from its first event on.
    pub fn watch(&self, vcenter: &VCenter) {
        // A running vCenter's model compiled once already.
        let added = self.add(&vcenter.url(), Arc::new(vcenter.clone()), 0, None);
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// Verifies a source: deliveries with this URL (or, since a router may write another host name, with its port), events
    /// from `expect_from` on that `expect` chooses.
    ///
    /// # Errors
    /// The truth names an unknown mix of events.
    pub fn add(
        &self,
        url: &str,
        witness: Arc<dyn Witness>,
        expect_from: u64,
        expect: Option<Expect>,
    ) -> Result<(), MixError> {
        let truth = witness.truth();
        let model = Arc::new(Model::new(truth.model.clone())?);
        let contents = self.comparison.form.map(|form| Arc::new(Contents::new(Arc::clone(&model), form)));
        let lanes = vec![0; model.lanes()];
        let source = Source {
            url: url.to_owned(),
            witness,
            truth,
            model,
            contents,
            expect_from,
            expect,
            seen: Vec::new(),
            newest: None,
            lanes,
            latency: new_histogram(),
            latency_measured: new_histogram(),
            latency_warm_up: new_histogram(),
            tally: Tally::default(),
        };
        let mut sources = self.sources.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        sources.retain(|(known, _)| known != url);
        sources.push((url.to_owned(), Arc::new(Mutex::new(source))));
        Ok(())
    }

    fn find(&self, url: &[u8]) -> Option<Arc<Mutex<Source>>> {
        let sources = self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let exact = sources.iter().find(|(known, _)| known.as_bytes() == url);
        let found = exact.or_else(|| {
            let port = port_of(url)?;
            sources.iter().find(|(known, _)| port_of(known.as_bytes()) == Some(port))
        });
        found.map(|(_, source)| Arc::clone(source))
    }

    /// A structured or batched body, received at `now_us`. Returns how many events it held, those that cannot be read included.
    pub fn body(&self, body: &[u8], now_us: i64) -> u64 {
        self.body_of(body, None, now_us)
    }

    /// The `Detail` of an entry of PutEvents, with what stands around it.
    pub fn entry(&self, detail: &[u8], entry: Entry<'_>, now_us: i64) -> u64 {
        self.body_of(detail, Some(entry), now_us)
    }

    fn body_of(&self, body: &[u8], entry: Option<Entry<'_>>, now_us: i64) -> u64 {
        let mut run = Run::new(self, entry, now_us);
        if self.strict {
            scan::scan_strict(body, |delivered| run.take(delivered, None));
        } else {
            scan::scan(body, &mut Times::default(), |delivered| run.take(delivered, None));
        }
        run.compare_later(body);
        let Run { source, count, .. } = run;
        if let Some(source) = source {
            lock(&source).tally.bytes += body.len() as u64;
        }
        count
    }

    /// An event in binary mode: attributes from headers, `data` the body.
    pub fn binary(&self, headers: &HeaderMap, data: &[u8], now_us: i64) {
        let header = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let read = if self.strict {
            scan::strict_data(data)
        } else {
            // The strict way takes JSON with white space, too.
            scan::key_and_time(data, &mut Times::default(), &mut 0).or_else(|| scan::strict_data(data))
        };
        let (id, source) = (header("ce-id"), header("ce-source"));
        let delivered = read.map(|(key, created_us)| Delivered { id, source, key, created_us, event: None });
        let mut run = Run::new(self, None, now_us);
        run.take(delivered, Some(Delivery::Binary { headers, data }));
        if let Some(source) = run.source {
            lock(&source).tally.bytes += data.len() as u64;
        }
    }

    /// Counts so far without looking for what is missing: cheap, for progress.
    pub fn progress(&self) -> Tally {
        let sources = self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut total = Tally::default();
        for (_, source) in sources.iter() {
            total.add(&lock(source).tally);
        }
        total
    }

    /// Latency over all sources since the last call.
    pub fn take_latency(&self) -> Latency {
        take_latency_of([self], Phase::Measured)
    }

    /// The verdict: what should have arrived by now and did not is missing.
    pub fn report(&self) -> Report {
        report_of([self])
    }

    fn add_latency(&self, phase: Phase, all: &mut Histogram<u64>) {
        let sources = self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (_, source) in sources.iter() {
            let mut source = lock(source);
            let Source { latency, latency_measured, latency_warm_up, .. } = &mut *source;
            let taken = match phase {
                Phase::WarmUp => latency_warm_up,
                Phase::Measured => latency_measured,
            };
            // Adding fails only where the bounds differ; all histograms here have the same ones.
            let _ = all.add(&*latency);
            let _ = taken.add(&*latency);
            latency.reset();
        }
    }

    fn add_report(&self, report: &mut Report, all: &mut Histogram<u64>, warm_up: &mut Histogram<u64>) {
        let sources = self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (url, source) in sources.iter() {
            let mut source = lock(source);
            source.truth = source.witness.truth();
            source.count_missing();
            report.total.add(&source.tally);
            let mut latency = source.latency_measured.clone();
            // The bounds are the same, see `add_latency`.
            let _ = latency.add(&source.latency);
            let _ = all.add(&latency);
            let _ = warm_up.add(&source.latency_warm_up);
            report.sources.push(SourceReport {
                source: url.clone(),
                tally: source.tally.clone(),
                latency: Latency::of(&latency),
            });
        }
        let strays = lock(&self.strays);
        for (source, count) in &strays.by_source {
            *report.stray_sources.entry(source.clone()).or_default() += count;
        }
        report.unreadable += strays.unreadable;
    }

    /// Entities with an event that exists and has not arrived, over all sources; of what is under way the oldest [`LOOK_MAX`]
    /// events are looked at.
    pub fn entities_waiting(&self) -> u64 {
        let sources = self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        sources.iter().map(|(_, source)| lock(source).entities_waiting()).sum()
    }

    /// Whether this event arrived.
    pub fn has(&self, source: &str, index: u64) -> bool {
        self.find(source.as_bytes()).is_some_and(|source| lock(&source).is_seen(index))
    }
}

/// The verdict over receivers each of which was to get every event.
pub fn report_of<'v>(verifiers: impl IntoIterator<Item = &'v Verifier>) -> Report {
    let (mut report, mut all, mut warm_up) = (Report::default(), new_histogram(), new_histogram());
    for verifier in verifiers {
        verifier.add_report(&mut report, &mut all, &mut warm_up);
    }
    (report.latency, report.warm_up) = (Latency::of(&all), Latency::of(&warm_up));
    report
}

/// Latency over all sources and receivers since the last call, which belongs to this phase of the
/// run.
pub fn take_latency_of<'v>(verifiers: impl IntoIterator<Item = &'v Verifier>, phase: Phase) -> Latency {
    let mut all = new_histogram();
    for verifier in verifiers {
        verifier.add_latency(phase, &mut all);
    }
    Latency::of(&all)
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds that the histogram takes")
}

fn port_of(url: &[u8]) -> Option<&[u8]> {
    let authority = &url[url.windows(3).position(|part| part == b"://")? + 3..];
    let authority = &authority[..memchr::memchr(b'/', authority).unwrap_or(authority.len())];
    Some(&authority[memchr::memrchr(b':', authority)? + 1..])
}

/// The events of one body; most have the source of the one before.
struct Run<'a> {
    verifier: &'a Verifier,
    entry: Option<Entry<'a>>,
    source: Option<Arc<Mutex<Source>>>,
    url: Vec<u8>,
    now_us: i64,
    count: u64,
    /// Events that are to be compared, with their place in the body, where its bytes did not show where they begin.
    later: Vec<(usize, Arc<Mutex<Source>>, ToCompare)>,
}

impl<'a> Run<'a> {
    fn new(verifier: &'a Verifier, entry: Option<Entry<'a>>, now_us: i64) -> Run<'a> {
        Run { verifier, entry, source: None, url: Vec::new(), now_us, count: 0, later: Vec::new() }
    }

    fn take(&mut self, delivered: Option<Delivered<'_>>, whole: Option<Delivery<'_>>) {
        self.count += 1;
        let Some(delivered) = delivered else {
            lock(&self.verifier.strays).unreadable += 1;
            return;
        };
        if self.source.is_none() || self.url != delivered.source {
            self.source = self.verifier.find(delivered.source);
            self.url = delivered.source.to_vec();
            if let Some(source) = &self.source {
                // Once a body: a restore that came before these events must be known, or their keys name older ones.
                lock(source).refresh();
            }
        }
        let Some(source) = &self.source else {
            let source = String::from_utf8_lossy(delivered.source).into_owned();
            *lock(&self.verifier.strays).by_source.entry(source).or_default() += 1;
            return;
        };
        let to_compare = lock(source).take(&delivered, self.now_us, self.verifier);
        let Some(to_compare) = to_compare else { return };
        match whole.or(delivered.event.map(Delivery::Structured)) {
            Some(delivery) => self.verifier.compare_one(source, &to_compare, delivery, self.entry),
            None => self.later.push((self.count as usize - 1, Arc::clone(source), to_compare)),
        }
    }
}

impl Source {
    fn is_seen(&self, index: u64) -> bool {
        self.seen.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Which event this is; looks at the truth again if it is newer than what is known.
    fn index_of(&mut self, delivered: &Delivered<'_>) -> Option<u64> {
        let known = |source: &Source| {
            let ahead = if source.witness.is_current() { 0 } else { AHEAD_MAX };
            let limit = source.truth.produced + ahead;
            index_of(&source.truth.spans, limit, delivered.key, delivered.created_us)
        };
        known(self).or_else(|| {
            self.refresh();
            self.truth.produced = self.witness.produced();
            known(self)
        })
    }

    fn refresh(&mut self) {
        if self.witness.generation() != self.truth.generation {
            self.truth = self.witness.truth();
        }
    }

    /// Counts a delivery; what is to be compared of it.
    fn take(&mut self, delivered: &Delivered<'_>, now_us: i64, verifier: &Verifier) -> Option<ToCompare> {
        self.tally.delivered += 1;
        let Some(index) = self.index_of(delivered) else {
            self.tally.unknown += 1;
            return None;
        };
        let id = event_id(&self.truth.instance_uuid, delivered.key, delivered.created_us);
        let same_id = Uuid::try_parse_ascii(delivered.id).is_ok_and(|delivered| delivered == id);
        self.tally.wrong_ids += u64::from(!same_id);
        let (word, bit) = ((index / 64) as usize, 1u64 << (index % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        let is_first = self.seen[word] & bit == 0;
        if is_first {
            self.seen[word] |= bit;
            self.tally.unique += 1;
            self.check_order(index, delivered.key, now_us);
            if index < self.truth.live_from {
                self.tally.from_backlog += 1;
            } else {
                let latency_us = now_us - (delivered.created_us - self.truth.clock_offset_us);
                self.latency.saturating_record(latency_us.max(1) as u64);
            }
        } else {
            self.tally.duplicates += u64::from(same_id);
        }
        verifier
            .comparison
            .wants(index)
            .then(|| self.to_compare(index, delivered, is_first, now_us))
            .flatten()
    }

    fn check_order(&mut self, index: u64, key: i32, now_us: i64) {
        let in_source = self.newest.is_none_or(|newest| newest < index);
        if in_source {
            self.newest = Some(index);
        }
        // A special event is about something else than the model says: neither may it be overtaken in that lane, nor overtake.
        let special = self.truth.exceptions.special.binary_search(&index).is_ok();
        let overtaken_by = self.model.lane(index).filter(|_| !special).and_then(|lane| {
            let newest = &mut self.lanes[lane];
            let before = *newest;
            *newest = before.max(index + 1);
            (before > index).then(|| before - 1)
        });
        if in_source && overtaken_by.is_none() {
            return;
        }
        self.refresh();
        let exceptions = &self.truth.exceptions;
        if holds(&exceptions.late, index) {
            self.tally.late += 1;
            return;
        }
        if !in_source {
            self.tally.out_of_order += 1;
            if self.tally.out_of_order_keys.len() < EXAMPLES_MAX {
                self.tally.out_of_order_keys.push(key);
            }
        }
        if let Some(by) = overtaken_by {
            self.tally.out_of_order_in_entity += 1;
            if self.tally.overtaken_in_entity.len() < EXAMPLES_MAX {
                self.tally.overtaken_in_entity.push(Overtaken { index, key, by, received_us: now_us });
            }
        }
    }

    /// See [`Verifier::entities_waiting`].
    fn entities_waiting(&mut self) -> u64 {
        self.refresh();
        let produced = self.witness.produced();
        let Exceptions { unreadable, withdrawn, hidden, .. } = &self.truth.exceptions;
        let never_comes = |index| [unreadable, withdrawn, hidden].iter().any(|ranges| holds(ranges, index));
        let mut waiting = HashSet::new();
        let mut looked = 0;
        for word in (self.expect_from / 64)..produced.div_ceil(64) {
            let bits = self.seen.get(word as usize).copied().unwrap_or_default();
            if bits == u64::MAX {
                continue;
            }
            for index in word * 64..((word + 1) * 64).min(produced) {
                if bits & (1 << (index % 64)) == 0 && !never_comes(index) {
                    waiting.extend(self.model.lane(index));
                    looked += 1;
                }
            }
            if looked >= LOOK_MAX {
                break;
            }
        }
        waiting.len() as u64
    }

    fn count_missing(&mut self) {
        let exceptions = &self.truth.exceptions;
        let mut missing = 0;
        let mut expected = 0;
        let mut keys = Vec::new();
        let mut unexpected = 0;
        for range in &exceptions.unreadable {
            unexpected += range.clone().filter(|index| self.is_seen(*index)).count() as u64;
        }
        unexpected += exceptions.malformed.iter().filter(|index| self.is_seen(**index)).count() as u64;
        for word in (self.expect_from / 64)..self.truth.produced.div_ceil(64) {
            let first = (word * 64).max(self.expect_from);
            let end = ((word + 1) * 64).min(self.truth.produced);
            let bits = self.seen.get(word as usize).copied().unwrap_or_default();
            let is_plain = || {
                ![&exceptions.unreadable, &exceptions.withdrawn, &exceptions.hidden]
                    .iter()
                    .any(|ranges| touches(ranges, first, end))
                    && exceptions.malformed.partition_point(|index| *index < first)
                        == exceptions.malformed.partition_point(|index| *index < end)
            };
            // Nearly every word of a good run, and of what a target is behind by: an hour's events are looked at again and again.
            if self.expect.is_none()
                && (bits == u64::MAX || (bits == 0 && keys.len() == EXAMPLES_MAX && is_plain()))
            {
                expected += end - first;
                missing += if bits == 0 { end - first } else { 0 };
                continue;
            }
            for index in first..end {
                let seen = bits & (1 << (index % 64)) != 0;
                let excused = holds(&exceptions.unreadable, index)
                    || holds(&exceptions.withdrawn, index)
                    || holds(&exceptions.hidden, index)
                    || exceptions.malformed.binary_search(&index).is_ok()
                    || self.expect.as_ref().is_some_and(|expect| !expect(index));
                if excused {
                    continue;
                }
                expected += 1;
                if !seen {
                    missing += 1;
                    if keys.len() < EXAMPLES_MAX {
                        keys.push(self.key(index));
                    }
                }
            }
        }
        self.tally.missing = missing;
        self.tally.expected = expected;
        self.tally.unexpected = unexpected;
        self.tally.missing_keys = keys;
    }

    fn key(&self, index: u64) -> i32 {
        let spans = &self.truth.spans;
        let at = spans.partition_point(|span| span.first <= index).saturating_sub(1);
        spans.get(at).map_or(0, |span| span.key_base.wrapping_add((index - span.first) as u32 as i32))
    }
}

/// Whether one of these ranges has something from `first` up to `end`.
fn touches(ranges: &[Range<u64>], first: u64, end: u64) -> bool {
    // Sorted: they were added as the history grew.
    let at = ranges.partition_point(|range| range.end <= first);
    ranges.get(at).is_some_and(|range| range.start < end)
}

fn holds(ranges: &[Range<u64>], index: u64) -> bool {
    touches(ranges, index, index + 1)
}
