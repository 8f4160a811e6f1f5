//! A simulated vCenter in paused time: its history, sessions and collectors, and every fault that
//! it can show.
//!
//! It records violations: a client that reads a collector again after a failed read, or that logs
//! out with open collectors.

mod api;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::source::vcenter::client::{CallError, Said};
use vsphere::api::{EventFilterSpec, EventInfo, EventPosition, Fault, FaultKind, MoRef, format_us};
use vsphere::{PageBody, Wire};

/// vCenter's time when the simulation starts, microseconds since 1970 UTC.
pub const START_US: i64 = 1_795_306_000_000_000;
pub const INSTANCE: Uuid = Uuid::from_u128(7);

/// A fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The server carries out the call; the answer is lost.
    AnswerLost,
    /// The server carries out the call; the answer comes after the client's time-out.
    TimesOut,
    /// The server carries out the call; a proxy answers 502 in its place.
    BadGateway,
    /// Nothing was sent.
    NoConnection,
    /// The server refuses.
    Fault(FaultKind),
}

/// The reads that are answered with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sick {
    Never,
    /// Every second read: one of two nodes behind a balancer is down.
    EverySecond,
    /// The reads without events.
    AtTheEnd,
}

#[derive(Clone, Copy, Debug)]
pub struct FakeEvent {
    pub key: i32,
    pub created_us: i64,
    /// The time from which reads return it.
    pub visible_us: i64,
    pub readable: bool,
    pub poison: bool,
    /// True if vCenter refuses every page with it.
    pub unsendable: bool,
    /// Length of its user name, in bytes.
    pub user_bytes: usize,
}

impl FakeEvent {
    /// Returns true if it can be read and decoded.
    pub fn is_deliverable(&self) -> bool {
        self.readable && !self.poison && !self.unsendable
    }
}

#[derive(Debug)]
struct Collector {
    session: u64,
    begin_us: i64,
    end_us: i64,
    /// Time and place of the last event returned.
    cursor: Option<(i64, usize)>,
    /// Highest key returned. A collector goes by keys.
    high_key: i32,
    /// True after a failed read. The collector must not be read again.
    spoiled: bool,
}

#[derive(Debug)]
pub struct World {
    started: Instant,
    /// In order of creation.
    pub events: Vec<FakeEvent>,
    /// Indices of the events, sorted by time.
    history: Vec<usize>,
    next_key: i32,
    pub password: String,
    pub instance: Uuid,
    session: Option<u64>,
    sessions: u64,
    collectors: HashMap<String, Collector>,
    names: u64,
    /// Faults of the next calls of a method, in order.
    pub mishaps: HashMap<&'static str, VecDeque<Mishap>>,
    pub calls: BTreeMap<&'static str, u64>,
    /// Times of the logins; true if the login was accepted.
    pub logins: Vec<(Instant, bool)>,
    pub logged_out: bool,
    pub wakes: bool,
    /// True if the wake-up call does not see new events.
    pub wakes_blind: bool,
    pub tells_latest: bool,
    /// The event types that it describes.
    pub event_info: Vec<EventInfo>,
    pub collectors_max: usize,
    /// Forbidden actions of the client.
    pub violations: Vec<String>,
    pub latency: Duration,
    /// True if every read is refused.
    pub refuses: bool,
    /// True if a refused page moves the server's cursor.
    pub refusals_move: bool,
    /// True if no connection can be opened.
    pub away: bool,
    /// True if connections stay open and no call is answered, as of a stopped virtual machine.
    pub frozen: bool,
    /// The reads that a proxy answers with 503.
    pub sick: Sick,
    /// The bandwidth of the link for pages.
    pub link_bytes_per_second: Option<u64>,
    /// The time after which the link breaks a page, except every `link_holds`th one.
    pub link_breaks_after: Duration,
    pub link_holds: u64,
    /// The life of a connection that carries pages.
    pub link_life: Duration,
    /// Maximum number of events in the answer to a query. A larger answer is refused.
    pub query_max: usize,
    /// Number of events that each read asked for.
    pub asked: Vec<usize>,
    /// vCenter's clock minus the simulated time.
    pub clock_ahead_us: i64,
    pub router_clock_ahead_us: i64,
    /// True if a collector may exist whose name was lost, or that could not be destroyed.
    leaky: bool,
    /// The most collectors that were open at once.
    pub collectors_peak: usize,
}

#[derive(Clone, Debug)]
pub struct Fake(pub Arc<Mutex<World>>);

impl Fake {
    pub fn new() -> Fake {
        Fake(Arc::new(Mutex::new(World {
            started: Instant::now(),
            events: Vec::new(),
            history: Vec::new(),
            next_key: 1,
            password: "right".to_string(),
            instance: INSTANCE,
            session: None,
            sessions: 0,
            collectors: HashMap::new(),
            names: 0,
            mishaps: HashMap::new(),
            calls: BTreeMap::new(),
            logins: Vec::new(),
            logged_out: false,
            wakes: true,
            wakes_blind: false,
            tells_latest: true,
            event_info: Vec::new(),
            collectors_max: 32,
            violations: Vec::new(),
            latency: Duration::from_millis(2),
            refuses: false,
            refusals_move: false,
            away: false,
            frozen: false,
            sick: Sick::Never,
            link_bytes_per_second: None,
            link_breaks_after: Duration::MAX,
            link_holds: u64::MAX,
            link_life: Duration::MAX,
            query_max: usize::MAX,
            asked: Vec::new(),
            clock_ahead_us: 0,
            router_clock_ahead_us: 0,
            leaky: false,
            collectors_peak: 0,
        })))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Waits for the latency of a call, counts the call, and returns its fault.
    async fn begin(&self, method: &'static str) -> Option<Mishap> {
        let latency = self.world().latency;
        sleep(latency).await;
        let mut world = self.world();
        *world.calls.entry(method).or_default() += 1;
        let mishap = match (world.away, world.frozen) {
            (true, _) => Some(Mishap::NoConnection),
            (false, true) => Some(Mishap::TimesOut),
            (false, false) => world.mishaps.get_mut(method).and_then(VecDeque::pop_front),
        };
        world.leaky |= mishap.is_some() && method != "ReadNextEvents";
        mishap
    }

    /// Carries out a call with its fault, if it has one.
    async fn call<T>(
        &self,
        method: &'static str,
        act: impl FnOnce(&mut World) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        match self.begin(method).await {
            None => act(&mut self.world()),
            Some(Mishap::NoConnection) => Err(no_connection()),
            Some(Mishap::Fault(kind)) => Err(fault(method, kind)),
            Some(Mishap::TimesOut) if self.world().frozen => {
                sleep(Duration::from_secs(60)).await;
                Err(CallError::Timeout { method, after: Duration::from_secs(60) })
            }
            Some(mishap) => {
                let done = act(&mut self.world());
                if mishap == Mishap::TimesOut {
                    sleep(Duration::from_secs(60)).await;
                }
                done?;
                Err(match mishap {
                    Mishap::TimesOut => CallError::Timeout { method, after: Duration::from_secs(60) },
                    Mishap::BadGateway => CallError::Foreign {
                        method,
                        status: 502,
                        excerpt: String::new(),
                        advice: "the vCenter's service is starting or down",
                    },
                    _ => CallError::Lost { method, reason: Said::new("reset") },
                })
            }
        }
    }
}

impl Fake {
    /// Carries a page of `bytes` over the link. Returns the time that it took.
    async fn carry(&self, bytes: usize) -> Result<Duration, CallError> {
        let (rate, breaks_after, holds) = {
            let world = self.world();
            let age = world.started.elapsed().as_nanos() % world.link_life.as_nanos();
            let left = world.link_life.saturating_sub(Duration::from_nanos(age as u64));
            let holds = world.calls_of("ReadNextEvents").is_multiple_of(world.link_holds);
            (world.link_bytes_per_second, world.link_breaks_after.min(left), holds)
        };
        let Some(rate) = rate else { return Ok(Duration::ZERO) };
        let takes = Duration::from_micros(bytes as u64 * 1_000_000 / rate);
        if takes > breaks_after && !holds {
            sleep(breaks_after).await;
            return Err(CallError::Lost { method: "ReadNextEvents", reason: Said::new("reset") });
        }
        sleep(takes).await;
        Ok(takes)
    }
}

fn no_connection() -> CallError {
    CallError::Connect { host: "fake".to_string(), reason: "refused".to_string() }
}

pub fn fault(method: &'static str, kind: FaultKind) -> CallError {
    let fault = Fault { kind, class: format!("{kind:?}"), message: String::new() };
    CallError::refused(method, &fault)
}

impl World {
    pub fn now_us(&self) -> i64 {
        START_US + self.started.elapsed().as_micros() as i64
    }

    pub fn vcenter_now_us(&self) -> i64 {
        self.now_us() + self.clock_ahead_us
    }

    /// Adds an event that is created now.
    pub fn append(&mut self) -> &mut FakeEvent {
        let now_us = self.vcenter_now_us();
        self.append_at(now_us)
    }

    pub fn append_at(&mut self, created_us: i64) -> &mut FakeEvent {
        let event = FakeEvent {
            key: self.next_key,
            created_us,
            visible_us: created_us,
            readable: true,
            poison: false,
            unsendable: false,
            user_bytes: 1,
        };
        self.next_key = self.next_key.wrapping_add(1);
        let at = self.history.partition_point(|place| self.events[*place].created_us <= created_us);
        self.history.insert(at, self.events.len());
        self.events.push(event);
        self.events.last_mut().unwrap()
    }

    /// Adds `count` events before now, one per millisecond.
    pub fn history(&mut self, count: i64) {
        let now_us = self.vcenter_now_us();
        for back in (0..count).rev() {
            self.append_at(now_us - 1_000 * (back + 1));
        }
    }

    pub fn set_next_key(&mut self, key: i32) {
        self.next_key = key;
    }

    /// Replaces the answer to a read by a 503, if `sick` says so.
    fn sicken(&self, page: Result<Option<PageBody>, CallError>) -> Result<Option<PageBody>, CallError> {
        let is_sick = match self.sick {
            Sick::Never => false,
            Sick::EverySecond => self.calls_of("ReadNextEvents").is_multiple_of(2),
            Sick::AtTheEnd => matches!(page, Ok(None)),
        };
        let (excerpt, advice) = (String::new(), "the vCenter's service is starting or down");
        match is_sick {
            true => Err(CallError::Foreign { method: "ReadNextEvents", status: 503, excerpt, advice }),
            false => page,
        }
    }

    pub fn kill_session(&mut self) {
        self.session = None;
        self.collectors.clear();
    }

    pub fn destroy_collectors(&mut self) {
        self.collectors.clear();
    }

    pub fn open_collectors(&self) -> usize {
        self.collectors.len()
    }

    pub fn go_wrong(&mut self, method: &'static str, mishaps: &[Mishap]) {
        self.mishaps.entry(method).or_default().extend(mishaps);
    }

    pub fn calls_of(&self, method: &'static str) -> u64 {
        self.calls.get(method).copied().unwrap_or(0)
    }

    fn authenticated(&self, method: &'static str) -> Result<u64, CallError> {
        self.session.ok_or_else(|| fault(method, FaultKind::NotAuthenticated))
    }

    /// The visible events between two times, in the order of vCenter's history: by time, then by
    /// index.
    fn visible(&self, begin_us: i64, end_us: i64) -> impl DoubleEndedIterator<Item = (usize, FakeEvent)> {
        let now_us = self.vcenter_now_us();
        let at = |us: i64, inclusive: bool| {
            self.history.partition_point(|place| {
                let created_us = self.events[*place].created_us;
                created_us < us || inclusive && created_us == us
            })
        };
        self.history[at(begin_us, false)..at(end_us, true)]
            .iter()
            .map(|place| (*place, self.events[*place]))
            .filter(move |(_, event)| event.visible_us <= now_us)
    }

    fn latest(&self) -> Option<EventPosition> {
        let (_, event) = self.visible(i64::MIN, i64::MAX).next_back()?;
        Some(EventPosition { key: event.key, created_us: event.created_us })
    }

    fn create(&mut self, spec: &EventFilterSpec) -> Result<MoRef, CallError> {
        let method = "CreateCollectorForEvents";
        let session = self.authenticated(method)?;
        if self.collectors.len() >= self.collectors_max {
            return Err(fault(method, FaultKind::InvalidState));
        }
        self.names += 1;
        let name = format!("c{}", self.names);
        let collector = Collector {
            session,
            begin_us: spec.begin_us.unwrap_or(i64::MIN),
            end_us: spec.end_us.unwrap_or(i64::MAX),
            cursor: None,
            high_key: i32::MIN,
            spoiled: false,
        };
        self.collectors.insert(name.clone(), collector);
        self.collectors_peak = self.collectors_peak.max(self.collectors.len());
        Ok(MoRef::new("EventHistoryCollector", &name))
    }

    fn read(&mut self, reference: &MoRef, count: usize) -> Result<Option<PageBody>, CallError> {
        let method = "ReadNextEvents";
        self.asked.push(count);
        let session = self.authenticated(method)?;
        let gone = || fault(method, FaultKind::ManagedObjectNotFound);
        let collector = self.collectors.get(&reference.id).ok_or_else(gone)?;
        if collector.session != session {
            return Err(gone());
        }
        if collector.spoiled {
            self.violations.push(format!("{} was read again after a failure", reference.id));
        }
        let collector = self.collectors.get(&reference.id).ok_or_else(gone)?;
        let page: Vec<_> = self
            .visible(
                collector.begin_us.max(collector.cursor.map_or(i64::MIN, |cursor| cursor.0)),
                collector.end_us,
            )
            .filter(|(place, event)| {
                collector.cursor.is_none_or(|cursor| (event.created_us, *place) > cursor)
            })
            // vCenter's collectors go by keys, so negative keys count as read.
            .filter(|(_, event)| event.key >= 0 && event.key > collector.high_key)
            .take(count)
            .collect();
        let refused = self.refuses || page.iter().any(|(_, event)| event.unsendable);
        if refused && !self.refusals_move {
            return Err(fault(method, FaultKind::Other));
        }
        let readable: Vec<_> =
            page.iter().filter(|(_, event)| event.readable).map(|(_, event)| *event).collect();
        if readable.is_empty() {
            // A page of unreadable events only looks like the end, and the cursor stays (govmomi's
            // issue 3450).
            return Ok(None);
        }
        if let Some(collector) = self.collectors.get_mut(&reference.id) {
            collector.cursor = page.last().map(|(place, event)| (event.created_us, *place));
            collector.high_key = page.iter().map(|(_, event)| event.key).max().unwrap_or(i32::MIN);
        }
        if refused {
            return Err(fault(method, FaultKind::Other));
        }
        Ok(Some(envelope("ReadNextEvents", &readable)))
    }
}

fn envelope(method: &str, events: &[FakeEvent]) -> PageBody {
    let mut xml = format!(
        "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><{method}Response xmlns=\"urn:vim25\">"
    );
    for event in events {
        let end = if event.poison { "kez" } else { "key" };
        write!(
            xml,
            "<returnval xsi:type=\"VmPoweredOnEvent\"><key>{}</{end}><chainId>1</chainId><createdTime>{}</createdTime>\
             <userName>{}</userName></returnval>",
            event.key,
            format_us(event.created_us),
            "u".repeat(event.user_bytes)
        )
        .unwrap();
    }
    write!(xml, "</{method}Response></soapenv:Body></soapenv:Envelope>").unwrap();
    PageBody { wire: Wire::Soap, bytes: xml.into() }
}
