//! Verifies deliveries against the events that a synthetic vCenter made: finds events that are
//! missing, repeated, out of order, wrong or late.
//!
//! ```text
//! body ─► BodyEvents ─► Source ─► Tally ─► Report
//!          │        ├─ witness: the truth
//!        scan       └─ compare: the content
//! ```
//!
//! A target hands over each body with its time of receipt. [`crate::scan`] reads the attributes of
//! the events in it without parsing the rest. [`source`] identifies each event and counts it.
//! [`witness`] supplies the truth; [`compare`] compares the content of some events if that was
//! asked for ([`Verifier::comparing`]). [`report_of`] adds everything up to a verdict.

mod compare;
mod source;
mod witness;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use hdrhistogram::Histogram;
use hyper::header::HeaderMap;

pub use self::compare::{COMPARED_FIRST, COMPARED_SHARE};
use self::compare::{Comparison, ToCompare};
use self::source::Source;
pub use self::witness::Witness;
use crate::content::{Delivery, EntryFields};
use crate::scan::{self, DeliveredEvent, TimeParser};
use crate::sync::lock;
pub use crate::tally::{Latency, Overtaken, Report, SourceReport, Tally};
use crate::vcenter::{MixError, VCenter};

/// Examples of faults in a report: enough to see a pattern, few enough to read.
const EXAMPLES_MAX: usize = 10;
/// Highest recorded latency, in microseconds: an hour. Longer ones count as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// A choice of the events of a source that must arrive.
pub type Expect = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// The part of a run that a latency belongs to. The time of receipt decides, so an event that was
/// created during the warm-up and received after it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measured,
}

/// Verifies deliveries from any number of connections, at up to a million events a second and core.
#[derive(Default)]
pub struct Verifier {
    /// Parses every body as JSON and checks the envelope.
    pub strict: bool,
    comparison: Comparison,
    sources: RwLock<Vec<(String, Arc<Mutex<Source>>)>>,
    strays: Mutex<Strays>,
}

/// Deliveries that belong to no source.
#[derive(Default)]
struct Strays {
    by_source: HashMap<String, u64>,
    unreadable: u64,
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
        // The running vCenter has compiled the same model, so this cannot fail.
        let added = self.add(&vcenter.url(), Arc::new(vcenter.clone()), 0, None);
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// Verifies a source: deliveries with this URL or with its port, since a router may write
    /// another host name. The events from `expect_from` on that `expect` chooses must arrive.
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
        let source = Source::new(url, witness, expect_from, expect, self.comparison.form)?;
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(known, _)| known != url);
        sources.push((url.to_owned(), Arc::new(Mutex::new(source))));
        Ok(())
    }

    fn sources(&self) -> RwLockReadGuard<'_, Vec<(String, Arc<Mutex<Source>>)>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, url: &[u8]) -> Option<Arc<Mutex<Source>>> {
        let sources = self.sources();
        let exact = sources.iter().find(|(known, _)| known.as_bytes() == url);
        let found = exact.or_else(|| {
            let port = port_of(url)?;
            sources.iter().find(|(known, _)| port_of(known.as_bytes()) == Some(port))
        });
        found.map(|(_, source)| Arc::clone(source))
    }

    /// Verifies a structured or batched body that was received at `now_us`. Returns the number of
    /// its events, unreadable ones included.
    pub fn body(&self, body: &[u8], now_us: i64) -> u64 {
        self.body_of(body, None, now_us)
    }

    /// Verifies the `Detail` of an entry of PutEvents, with the entry's other fields.
    pub fn entry(&self, detail: &[u8], entry: EntryFields<'_>, now_us: i64) -> u64 {
        self.body_of(detail, Some(entry), now_us)
    }

    fn body_of(&self, body: &[u8], entry: Option<EntryFields<'_>>, now_us: i64) -> u64 {
        let mut events = BodyEvents::new(self, entry, now_us);
        if self.strict {
            scan::scan_strict(body, |delivered| events.take(delivered, None));
        } else {
            scan::scan(body, &mut TimeParser::default(), |delivered| events.take(delivered, None));
        }
        events.compare_later(body);
        let BodyEvents { source, count, .. } = events;
        if let Some(source) = source {
            lock(&source).tally.bytes += body.len() as u64;
        }
        count
    }

    /// Verifies an event in binary mode: attributes in headers, `data` in the body.
    pub fn binary(&self, headers: &HeaderMap, data: &[u8], now_us: i64) {
        let header = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let read = if self.strict {
            scan::strict_data(data)
        } else {
            // The strict way also reads JSON with white space.
            scan::key_and_time(data, &mut TimeParser::default(), &mut 0).or_else(|| scan::strict_data(data))
        };
        let (id, source) = (header("ce-id"), header("ce-source"));
        let delivered =
            read.map(|(key, created_us)| DeliveredEvent { id, source, key, created_us, event: None });
        let mut events = BodyEvents::new(self, None, now_us);
        events.take(delivered, Some(Delivery::Binary { headers, data }));
        if let Some(source) = events.source {
            lock(&source).tally.bytes += data.len() as u64;
        }
    }

    /// The counts so far, without a search for missing events: cheap enough to show progress.
    pub fn progress(&self) -> Tally {
        let mut total = Tally::default();
        for (_, source) in self.sources().iter() {
            total.add(&lock(source).tally);
        }
        total
    }

    /// Latency over all sources since the last call.
    pub fn take_latency(&self) -> Latency {
        take_latency_of([self], Phase::Measured)
    }

    /// The verdict. An event that should have arrived by now and did not is missing.
    pub fn report(&self) -> Report {
        report_of([self])
    }

    fn add_latency(&self, phase: Phase, all: &mut Histogram<u64>) {
        for (_, source) in self.sources().iter() {
            lock(source).take_latency(phase, all);
        }
    }

    fn add_report(&self, report: &mut Report, all: &mut Histogram<u64>, warm_up: &mut Histogram<u64>) {
        for (_, source) in self.sources().iter() {
            let found = lock(source).report(all, warm_up);
            report.total.add(&found.tally);
            report.sources.push(found);
        }
        let strays = lock(&self.strays);
        for (source, count) in &strays.by_source {
            *report.stray_sources.entry(source.clone()).or_default() += count;
        }
        report.unreadable += strays.unreadable;
    }

    /// Number of entities with an event that exists and has not arrived, over all sources. Of the
    /// events under way only the oldest are examined, a bounded number.
    pub fn entities_waiting(&self) -> u64 {
        self.sources().iter().map(|(_, source)| lock(source).entities_waiting()).sum()
    }

    /// True if this event arrived.
    pub fn has(&self, source: &str, index: u64) -> bool {
        self.find(source.as_bytes()).is_some_and(|source| lock(&source).is_seen(index))
    }
}

/// The verdict over receivers of which each was to get every event.
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

/// The events of one body. Most have the source of the event before, which saves a look-up.
struct BodyEvents<'a> {
    verifier: &'a Verifier,
    entry: Option<EntryFields<'a>>,
    source: Option<Arc<Mutex<Source>>>,
    url: Vec<u8>,
    now_us: i64,
    count: u64,
    /// Events to compare whose first byte the scan could not find, with their place in the body.
    later: Vec<(usize, Arc<Mutex<Source>>, ToCompare)>,
}

impl<'a> BodyEvents<'a> {
    fn new(verifier: &'a Verifier, entry: Option<EntryFields<'a>>, now_us: i64) -> BodyEvents<'a> {
        BodyEvents { verifier, entry, source: None, url: Vec::new(), now_us, count: 0, later: Vec::new() }
    }

    /// Verifies one event. `whole` is the delivery, if it has no other events.
    fn take(&mut self, delivered: Option<DeliveredEvent<'_>>, whole: Option<Delivery<'_>>) {
        self.count += 1;
        let Some(delivered) = delivered else {
            lock(&self.verifier.strays).unreadable += 1;
            return;
        };
        if self.source.is_none() || self.url != delivered.source {
            self.source = self.verifier.find(delivered.source);
            self.url = delivered.source.to_vec();
            if let Some(source) = &self.source {
                // Once for each body: a restore before these events must be known, because their
                // keys would otherwise name older ones.
                lock(source).refresh();
            }
        }
        let Some(source) = &self.source else {
            let source = String::from_utf8_lossy(delivered.source).into_owned();
            *lock(&self.verifier.strays).by_source.entry(source).or_default() += 1;
            return;
        };
        let to_compare = lock(source).take(&delivered, self.now_us, &self.verifier.comparison);
        let Some(to_compare) = to_compare else { return };
        match whole.or(delivered.event.map(Delivery::Structured)) {
            Some(delivery) => self.verifier.compare_one(source, &to_compare, delivery, self.entry),
            None => self.later.push((self.count as usize - 1, Arc::clone(source), to_compare)),
        }
    }
}
