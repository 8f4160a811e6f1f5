//! All state of a synthetic vCenter: history, sessions and what they own, armed troubles, counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::clock::Rfc3339;
use super::filter::Filter;
use super::history::{History, PlanItem};
use super::model::{Form, Model, open_json, push_int};
use super::soap::{self, Fault};
use super::trouble::Armed;
use super::updates::PropertyCollector;
use super::vijson;
use crate::limits::{COLLECTORS_PER_SESSION_MAX, LATEST_PAGE_EVENTS, SESSIONS_MAX};
use crate::pool::Pool;
use crate::sync::lock;

/// What happened so far; a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// By method name; `GET` requests by path.
    pub calls: BTreeMap<String, u64>,
    pub logins: u64,
    pub failed_logins: u64,
    pub sessions_open: usize,
    pub collectors_open: usize,
    /// Most collectors that one session held at once.
    pub collectors_peak: usize,
    /// Events in `ReadNextEvents` and `QueryEvents` answers, repeated ones included.
    pub events_served: u64,
    pub pages_served: u64,
    pub empty_pages: u64,
}

impl Counters {
    /// Calls of one method so far.
    pub fn calls_of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or_default()
    }
}

pub(crate) struct Session {
    pub user: String,
    pub user_agent: String,
    pub login_us: i64,
    pub calls: u64,
    last_active: Instant,
    pub collectors: HashMap<String, Collector>,
    pub property_collectors: HashMap<String, PropertyCollector>,
    pub views: HashMap<String, Vec<super::inventory::Object>>,
}

pub(crate) struct Collector {
    pub filter: Filter,
    pub cursor: u64,
    /// Events that existed when the collector was made.
    pub born_at: u64,
    /// Size of `latestPage`.
    pub page_size: usize,
    latest: Vec<u64>,
    latest_scanned: u64,
}

pub(crate) struct World {
    pub history: History,
    pub sessions: HashMap<String, Session>,
    pub user: String,
    pub password: String,
    pub clock_offset_us: i64,
    pub armed: Vec<Armed>,
    pub duplicates: u64,
    pub gzip: bool,
    pub millis: bool,
    pub counters: Counters,
}

/// A page to be rendered without the lock.
pub(crate) struct Page {
    pub plan: Vec<PlanItem>,
    pub form: Form,
    pub events: u64,
}

pub(crate) struct Shared {
    pub model: Model,
    pub uuid: Uuid,
    pub name: String,
    pub session_idle: Duration,
    pub wrap_silences: bool,
    pub world: Mutex<World>,
    /// Something happened that a waiter may have waited for.
    pub changed: Notify,
    pub pool: Pool,
    /// Where the clock stands still, less [`World::clock_offset_us`].
    pub frozen_at_us: Option<i64>,
    started: Instant,
    started_us: i64,
}

/// Microseconds since 1970 by this machine's clock.
pub(crate) fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

impl Shared {
    pub fn new(
        model: Model,
        uuid: Uuid,
        name: String,
        session_idle: Duration,
        wrap_silences: bool,
        world: World,
    ) -> Shared {
        Shared {
            model,
            uuid,
            name,
            session_idle,
            wrap_silences,
            world: Mutex::new(world),
            changed: Notify::new(),
            pool: Pool::default(),
            frozen_at_us: None,
            started: Instant::now(),
            started_us: wall_us(),
        }
    }

    /// The vCenter's clock. Never steps but by [`World::clock_offset_us`].
    pub fn now_us(&self, world: &World) -> i64 {
        let running_us = || self.started_us + self.started.elapsed().as_micros() as i64;
        self.frozen_at_us.unwrap_or_else(running_us) + world.clock_offset_us
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut World, i64) -> T) -> T {
        let mut world = lock(&self.world);
        let now_us = self.now_us(&world);
        act(&mut world, now_us)
    }

    /// Changes the world and wakes those who wait for updates.
    pub fn change<T>(&self, act: impl FnOnce(&mut World, i64) -> T) -> T {
        let result = self.with(act);
        self.changed.notify_waiters();
        result
    }

    /// Writes a page of events as elements called `element`.
    pub fn render(&self, out: &mut Vec<u8>, element: &str, page: &Page) {
        let mut clock = Rfc3339::default();
        for item in &page.plan {
            match item {
                PlanItem::Run { first, count, key, times } => {
                    for offset in 0..*count {
                        let index = first + offset;
                        let key = key.wrapping_add(offset as u32 as i32);
                        let created_us = times.created_us(index);
                        self.model.render(out, element, index, key, &mut clock, created_us, page.form);
                    }
                }
                PlanItem::Special { key, created_us, special } => {
                    out.push(b'<');
                    out.extend_from_slice(element.as_bytes());
                    out.extend_from_slice(b" xsi:type=\"");
                    out.extend_from_slice(special.class.as_bytes());
                    out.extend_from_slice(b"\"><key>");
                    push_int(out, *key);
                    out.extend_from_slice(b"</key><chainId>");
                    push_int(out, *key);
                    out.extend_from_slice(b"</chainId><createdTime>");
                    out.extend_from_slice(&clock.micros(*created_us));
                    out.extend_from_slice(b"</createdTime>");
                    out.extend_from_slice(&special.tail);
                    out.extend_from_slice(b"</");
                    out.extend_from_slice(element.as_bytes());
                    out.push(b'>');
                }
            }
        }
    }

    /// A whole SOAP answer of `method` that carries a page.
    pub fn page_answer(&self, method: &str, page: &Page) -> Bytes {
        self.pool.fill(|out| soap::respond(out, method, |out| self.render(out, "returnval", page)))
    }

    /// The same page as a VI/JSON array.
    pub fn page_json(&self, page: &Page) -> Bytes {
        self.pool.fill(|out| {
            out.push(b'[');
            self.render_json(out, page);
            out.push(b']');
        })
    }

    fn render_json(&self, out: &mut Vec<u8>, page: &Page) {
        let mut clock = Rfc3339::default();
        for item in &page.plan {
            match item {
                PlanItem::Run { first, count, key, times } => {
                    for offset in 0..*count {
                        let index = first + offset;
                        let key = key.wrapping_add(offset as u32 as i32);
                        self.model.render_json(
                            out,
                            index,
                            key,
                            &mut clock,
                            times.created_us(index),
                            page.form,
                        );
                        out.push(b',');
                    }
                }
                PlanItem::Special { key, created_us, special } => {
                    open_json(out, &special.class, *key, *key);
                    out.extend_from_slice(&clock.micros(*created_us));
                    out.push(b'"');
                    let tail = String::from_utf8_lossy(&special.tail);
                    out.extend_from_slice(vijson::event_fields(&special.class, &tail).as_bytes());
                    out.push(b',');
                }
            }
        }
        if page.events > 0 {
            out.pop();
        }
    }
}

impl World {
    /// The session behind a cookie, if it lives; counts as activity.
    pub fn session(&mut self, key: &str, idle: Duration) -> Option<&mut Session> {
        if self.sessions.get(key)?.last_active.elapsed() > idle {
            self.sessions.remove(key);
            return None;
        }
        let session = self.sessions.get_mut(key)?;
        session.last_active = Instant::now();
        session.calls += 1;
        Some(session)
    }

    /// # Errors
    /// Wrong user or password; too many sessions.
    pub fn login(
        &mut self,
        user: &str,
        password: &str,
        user_agent: &str,
        now_us: i64,
    ) -> Result<String, Fault> {
        if user != self.user || password != self.password {
            self.counters.failed_logins += 1;
            return Err(Fault::invalid_login());
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Fault::new("OutOfBounds", "too many sessions"));
        }
        self.counters.logins += 1;
        let key = Uuid::new_v4().to_string();
        let session = Session {
            user: user.to_owned(),
            user_agent: user_agent.to_owned(),
            login_us: now_us,
            calls: 1,
            last_active: Instant::now(),
            collectors: HashMap::new(),
            property_collectors: HashMap::new(),
            views: HashMap::new(),
        };
        self.sessions.insert(key.clone(), session);
        Ok(key)
    }

    pub fn counters(&self) -> Counters {
        Counters {
            sessions_open: self.sessions.len(),
            collectors_open: self.sessions.values().map(|session| session.collectors.len()).sum(),
            ..self.counters.clone()
        }
    }

    /// # Errors
    /// The session has its 32 already.
    pub fn create_collector(&mut self, session: &str, filter: Filter, now_us: i64) -> Result<String, Fault> {
        let born_at = self.history.produced(now_us);
        let cursor = filter.begin_us.map_or(0, |begin| self.history.first_at_or_after(begin, born_at));
        let Some(owner) = self.sessions.get_mut(session) else {
            return Err(Fault::new("NotAuthenticated", "The session is not authenticated."));
        };
        if owner.collectors.len() >= COLLECTORS_PER_SESSION_MAX {
            return Err(Fault::new("InvalidState", "Too many event collectors to create"));
        }
        let id = format!("session[{session}]{}", Uuid::new_v4());
        let page_size = filter.max_count.unwrap_or(LATEST_PAGE_EVENTS);
        let collector =
            Collector { filter, cursor, born_at, page_size, latest: Vec::new(), latest_scanned: cursor };
        owner.collectors.insert(id.clone(), collector);
        self.counters.collectors_peak = self.counters.collectors_peak.max(owner.collectors.len());
        Ok(id)
    }

    /// Where a collector's view ends: the newest event, its `endTime`, or where negative keys silence it.
    fn end_of(history: &History, collector: &Collector, wrap_silences: bool, now_us: i64) -> u64 {
        let produced = history.produced(now_us);
        let mut end = match collector.filter.end_us {
            Some(end_us) => history.first_at_or_after(end_us.saturating_add(1), produced),
            None => produced,
        };
        if wrap_silences && let Some(negative) = history.first_negative_key(collector.born_at, produced) {
            end = end.min(negative);
        }
        end
    }

    fn begin_of(history: &History, collector: &Collector, now_us: i64) -> u64 {
        collector
            .filter
            .begin_us
            .map_or(0, |begin| history.first_at_or_after(begin, history.produced(now_us)))
    }

    /// `ReadNextEvents`: the cursor moves here, whatever becomes of the answer.
    pub fn read_next(
        &mut self,
        shared: &Shared,
        session: &str,
        id: &str,
        max: u64,
        now_us: i64,
    ) -> Result<Page, Fault> {
        let World { history, sessions, duplicates, counters, .. } = self;
        let collector = collector(sessions, session, id)?;
        collector.cursor = collector.cursor.max(Self::begin_of(history, collector, now_us));
        history.feed(collector.cursor, max, now_us);
        let end = Self::end_of(history, collector, shared.wrap_silences, now_us);
        let from = collector.cursor;
        let mut wanted = wanted(&collector.filter, history, &shared.model);
        let repeat = if from < end { (*duplicates).min(from).min(max / 2) } else { 0 };
        let mut runs = Vec::new();
        if repeat > 0 {
            *duplicates -= repeat;
            runs = history.read_forward(from - repeat, from, repeat, now_us, wanted.as_deref_mut()).0;
        }
        let (fresh, cursor) = history.read_forward(from, end, max - repeat, now_us, wanted.as_deref_mut());
        drop(wanted);
        collector.cursor = cursor;
        runs.extend(fresh);
        let form = Form { brief: collector.filter.brief, millis: self.millis };
        let page = page(history, &runs, form);
        counters.pages_served += 1;
        counters.empty_pages += u64::from(page.events == 0);
        counters.events_served += page.events;
        Ok(page)
    }

    /// `ReadPreviousEvents`: newest first.
    pub fn read_previous(
        &mut self,
        shared: &Shared,
        session: &str,
        id: &str,
        max: u64,
        now_us: i64,
    ) -> Result<Page, Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        let begin = Self::begin_of(history, collector, now_us);
        let end = Self::end_of(history, collector, shared.wrap_silences, now_us);
        let filter = &collector.filter;
        let (found, cursor) = history.read_backward(collector.cursor.min(end), begin, max, now_us, |index| {
            filter.passes(&shared.model, index, history.special(index).map(AsRef::as_ref))
        });
        let form = Form { brief: filter.brief, millis: self.millis };
        collector.cursor = cursor;
        Ok(page_of(history, &found, form))
    }

    /// Before the oldest event: `ReadNextEvents` then reads all.
    pub fn rewind(&mut self, session: &str, id: &str, now_us: i64) -> Result<(), Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        collector.cursor = Self::begin_of(history, collector, now_us);
        Ok(())
    }

    /// Behind the newest event: `ReadPreviousEvents` then reads all.
    pub fn reset(&mut self, shared: &Shared, session: &str, id: &str, now_us: i64) -> Result<(), Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        collector.cursor = Self::end_of(history, collector, shared.wrap_silences, now_us);
        Ok(())
    }

    /// Indexes of a collector's `latestPage`, newest first.
    pub fn latest_page(
        &mut self,
        shared: &Shared,
        session: &str,
        id: &str,
        now_us: i64,
    ) -> Result<Vec<u64>, Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        let end = Self::end_of(history, collector, shared.wrap_silences, now_us);
        let size = collector.page_size.min(collector.filter.max_count.unwrap_or(usize::MAX));
        let begin = Self::begin_of(history, collector, now_us);
        // Only what is new is looked at: a filter that nothing passes would scan the history at every call.
        let from = if collector.latest.is_empty() { begin } else { collector.latest_scanned };
        let from = from.max(begin).min(end);
        if collector.latest_scanned < end || collector.latest.is_empty() {
            let filter = &collector.filter;
            let (mut found, _) = history.read_backward(end, from, size as u64, now_us, |index| {
                filter.passes(&shared.model, index, history.special(index).map(AsRef::as_ref))
            });
            found.append(&mut collector.latest);
            collector.latest = found;
            collector.latest_scanned = end;
        }
        collector.latest.truncate(size);
        Ok(collector.latest.clone())
    }

    /// `QueryEvents`: oldest first, at most `maxCount` or 1,000.
    pub fn query(&mut self, shared: &Shared, filter: &Filter, now_us: i64) -> Page {
        let history = &self.history;
        let produced = history.produced(now_us);
        let begin = filter.begin_us.map_or(0, |begin| history.first_at_or_after(begin, produced));
        let end =
            filter.end_us.map_or(produced, |end| history.first_at_or_after(end.saturating_add(1), produced));
        let max = filter.max_count.unwrap_or(crate::limits::QUERY_EVENTS_DEFAULT) as u64;
        let mut wanted = wanted(filter, history, &shared.model);
        let mut runs = Vec::new();
        let mut at = begin;
        let mut found = 0;
        // Unlike a page, a query skips what may not be seen; and it has no cursor that could be held up.
        while at < end && found < max {
            let (more, cursor) = history.read_forward(at, end, max - found, now_us, wanted.as_deref_mut());
            if cursor == at {
                at = history.veil_end(at, now_us).min(end);
                continue;
            }
            found += more.iter().map(|run| run.end - run.start).sum::<u64>();
            runs.extend(more);
            at = cursor;
        }
        drop(wanted);
        let page = page(history, &runs, Form { brief: filter.brief, millis: self.millis });
        self.counters.events_served += page.events;
        page
    }

    /// A run of events that exist.
    pub fn page_of_range(&self, range: std::ops::Range<u64>) -> Page {
        page(&self.history, &[range], Form { brief: false, millis: self.millis })
    }

    /// These events, newest first, for a property.
    pub fn page_of(&self, indexes: &[u64], brief: bool) -> Page {
        page_of(&self.history, indexes, Form { brief, millis: self.millis })
    }
}

/// The `UserSession` of a key that is logged in.
pub(crate) fn user_session_of(world: &World, key: &str, now_us: i64) -> Vec<u8> {
    world
        .sessions
        .get(key)
        .map(|session| super::content::user_session(key, session, now_us))
        .unwrap_or_default()
}

type Wanted<'a> = Box<dyn FnMut(u64) -> bool + 'a>;

fn wanted<'a>(filter: &'a Filter, history: &'a History, model: &'a Model) -> Option<Wanted<'a>> {
    if filter.passes_all() {
        return None;
    }
    Some(Box::new(move |index| filter.passes(model, index, history.special(index).map(AsRef::as_ref))))
}

fn page(history: &History, runs: &[std::ops::Range<u64>], form: Form) -> Page {
    let mut plan = Vec::new();
    history.plan(runs, &mut plan);
    Page { plan, form, events: runs.iter().map(|run| run.end - run.start).sum() }
}

fn page_of(history: &History, indexes: &[u64], form: Form) -> Page {
    let runs: Vec<_> = indexes.iter().map(|index| *index..*index + 1).collect();
    page(history, &runs, form)
}

pub(crate) fn collector<'a>(
    sessions: &'a mut HashMap<String, Session>,
    session: &str,
    id: &str,
) -> Result<&'a mut Collector, Fault> {
    sessions
        .get_mut(session)
        .and_then(|session| session.collectors.get_mut(id))
        .ok_or_else(|| Fault::not_found("EventHistoryCollector", id))
}
