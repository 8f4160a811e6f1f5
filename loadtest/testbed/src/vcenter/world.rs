//! All state of a synthetic vCenter: history, sessions and their objects, armed troubles, counters.
//!
//! ```text
//! Shared ┬ model, uuid, name …        constant, read without a lock
//!        ├ world: Mutex<World>        all that changes; `with` and `change` give the clock as well
//!        ├ changed                    wakes the waiters of `WaitForUpdatesEx`
//!        └ pool                       buffers for pages, rendered from a `Page` without the lock
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::clock::Rfc3339;
use super::collector::Collector;
use super::digits::push_int;
use super::history::{History, PlanItem};
use super::model::{Model, WireForm, open_json};
use super::protocol::{self, Fault};
use super::selection::SelectedObject;
use super::trouble::ArmedTrouble;
use super::updates::PropertyCollector;
use super::views::View;
use super::vijson;
use crate::limits::{RETRIEVALS_PER_SESSION_MAX, SESSIONS_MAX};
use crate::pool::Pool;
use crate::sync::lock;

/// A snapshot of the counts of calls and pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Calls by method name; `GET` requests by path.
    pub calls: BTreeMap<String, u64>,
    pub logins: u64,
    pub failed_logins: u64,
    pub sessions_open: usize,
    pub collectors_open: usize,
    /// Largest number of collectors that one session held at once.
    pub collectors_peak: usize,
    /// Number of events in answers of `ReadNextEvents` and `QueryEvents`, repeated ones included.
    pub events_served: u64,
    pub pages_served: u64,
    pub empty_pages: u64,
}

impl Counters {
    /// Number of calls of one method so far.
    pub fn calls_of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or_default()
    }
}

/// A new id for an object that a client of this session creates.
pub(crate) fn new_id(session: &str) -> String {
    format!("session[{session}]{}", Uuid::new_v4())
}

pub(crate) struct Session {
    pub user: String,
    pub user_agent: String,
    pub login_us: i64,
    pub calls: u64,
    last_active: Instant,
    pub collectors: HashMap<String, Collector>,
    pub property_collectors: HashMap<String, PropertyCollector>,
    pub views: HashMap<String, View>,
    /// Unfinished `RetrievePropertiesEx`, by token, oldest first.
    retrievals: VecDeque<(String, Retrieval)>,
}

/// The objects of a `RetrievePropertiesEx` that are still to be sent.
pub(crate) struct Retrieval {
    pub objects: Vec<SelectedObject>,
    /// Number of objects per answer.
    pub page: usize,
}

impl Session {
    /// Keeps the rest of a retrieval and returns its token. If the session keeps too many, the
    /// oldest is dropped.
    pub fn keep_retrieval(&mut self, rest: Retrieval) -> String {
        let token = Uuid::new_v4().to_string();
        if self.retrievals.len() >= RETRIEVALS_PER_SESSION_MAX {
            self.retrievals.pop_front();
        }
        self.retrievals.push_back((token.clone(), rest));
        token
    }

    pub fn take_retrieval(&mut self, token: &str) -> Option<Retrieval> {
        let at = self.retrievals.iter().position(|(known, _)| known == token)?;
        self.retrievals.remove(at).map(|(_, rest)| rest)
    }
}

/// The part of the state that changes. The lock around it is held for the time of one call.
pub(crate) struct World {
    pub history: History,
    pub sessions: HashMap<String, Session>,
    pub user: String,
    pub password: String,
    pub clock_offset_us: i64,
    /// The largest offset so far.
    pub clock_offset_us_max: i64,
    pub armed: Vec<ArmedTrouble>,
    /// Number of events that the next pages repeat.
    pub duplicates: u64,
    /// Indexes of the events that cannot be sent.
    pub unsendable: Vec<u64>,
    /// True if a refused page moves the collector's cursor all the same.
    pub refusals_pass: bool,
    pub gzip: bool,
    pub millis: bool,
    pub counters: Counters,
}

/// A page that can be rendered without the lock.
pub(crate) struct Page {
    pub plan: Vec<PlanItem>,
    pub form: WireForm,
    pub events: u64,
}

impl Page {
    pub fn of_runs(history: &History, runs: &[Range<u64>], form: WireForm) -> Page {
        let mut plan = Vec::new();
        history.plan(runs, &mut plan);
        Page { plan, form, events: runs.iter().map(|run| run.end - run.start).sum() }
    }

    /// A page of events in this order, which need not be that of the history.
    pub fn of_indexes(history: &History, indexes: &[u64], form: WireForm) -> Page {
        let runs: Vec<_> = indexes.iter().map(|index| *index..*index + 1).collect();
        Page::of_runs(history, &runs, form)
    }
}

/// The state of a vCenter that all its connections share.
pub(crate) struct Shared {
    pub model: Model,
    pub uuid: Uuid,
    pub name: String,
    pub session_idle: Duration,
    pub wrap_silences: bool,
    pub world: Mutex<World>,
    /// Notified when something happened that a waiter may have waited for.
    pub changed: Notify,
    pub pool: Pool,
    /// The time of a stopped clock, less [`World::clock_offset_us`].
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

    /// The vCenter's clock. Only [`World::clock_offset_us`] makes it step.
    pub fn now_us(&self, world: &World) -> i64 {
        let running_us = || self.started_us + self.started.elapsed().as_micros() as i64;
        self.frozen_at_us.unwrap_or_else(running_us) + world.clock_offset_us
    }

    /// Runs `act` under the lock, with the time of the vCenter's clock.
    pub fn with<T>(&self, act: impl FnOnce(&mut World, i64) -> T) -> T {
        let mut world = lock(&self.world);
        let now_us = self.now_us(&world);
        act(&mut world, now_us)
    }

    /// As [`Shared::with`], and wakes the clients that wait for updates.
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
                // An event that is not from the model brings its own elements.
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
        self.pool
            .fill(|out| protocol::write_soap_answer(out, method, |out| self.render(out, "returnval", page)))
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
    /// The session with this key, if it lives. Counts as activity.
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

    /// Opens a session and returns its key.
    ///
    /// # Errors
    /// The user or password is wrong, or there are too many sessions.
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
            retrievals: VecDeque::new(),
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

    /// A page of a run of events that exist.
    pub fn page_of_range(&self, range: Range<u64>) -> Page {
        Page::of_runs(&self.history, &[range], WireForm { brief: false, millis: self.millis })
    }

    /// A page of these events, newest first, for a property.
    pub fn page_of(&self, indexes: &[u64], brief: bool) -> Page {
        Page::of_indexes(&self.history, indexes, WireForm { brief, millis: self.millis })
    }
}

/// The `UserSession` of a key that is logged in.
pub(crate) fn user_session_of(world: &World, key: &str, now_us: i64) -> Vec<u8> {
    world
        .sessions
        .get(key)
        .map(|session| super::description::user_session(key, session, now_us))
        .unwrap_or_default()
}
