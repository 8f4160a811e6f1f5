//! Event collectors and queries. A filter opens a part of the history, and a collector has a cursor
//! in it.
//!
//! ```text
//!            bounds.start            cursor               bounds.end
//! history ──────┼──────────────────────┼───────────────────────┼────── (after `endTime`)
//!               ◄── ReadPreviousEvents │ ReadNextEvents ──►
//! ```
//!
//! The cursor of a new collector is at the start. `RewindCollector` returns it there, and
//! `ResetCollector` moves it to the end.

use std::collections::HashMap;
use std::ops::Range;

use super::filter::Filter;
use super::history::History;
use super::model::{Model, WireForm};
use super::protocol::Fault;
use super::view::add_run;
use super::world::{Page, Session, Shared, World, new_id};
use crate::limits::{COLLECTORS_PER_SESSION_MAX, LATEST_PAGE_EVENTS, QUERY_EVENTS_DEFAULT};

pub(crate) struct Collector {
    pub filter: Filter,
    cursor: u64,
    /// Number of events that existed when the collector was made.
    born_at: u64,
    /// Size of `latestPage`.
    page_size: usize,
    latest: Vec<u64>,
    /// End of the events that `latest` was chosen from.
    latest_scanned: Option<u64>,
}

impl Collector {
    pub fn set_page_size(&mut self, size: usize) {
        self.page_size = size;
        // A larger page reaches further back than the events in `latest`.
        self.latest.clear();
        self.latest_scanned = None;
    }

    /// The events between which the cursor moves. The end is the newest event, the filter's end, or
    /// the first negative key: a real vCenter's collector returns nothing from there on.
    fn bounds(&self, history: &History, wrap_silences: bool, now_us: i64) -> Range<u64> {
        let produced = history.produced(now_us);
        let mut bounds = self.filter.bounds(history, produced);
        if wrap_silences && let Some(negative) = history.first_negative_key(self.born_at, produced) {
            bounds.end = bounds.end.min(negative);
        }
        bounds
    }
}

impl World {
    /// Creates a collector for a session and returns its id.
    ///
    /// # Errors
    /// The session already has 32 collectors.
    pub fn create_collector(&mut self, session: &str, filter: Filter, now_us: i64) -> Result<String, Fault> {
        let born_at = self.history.produced(now_us);
        let cursor = filter.bounds(&self.history, born_at).start;
        let Some(owner) = self.sessions.get_mut(session) else {
            return Err(Fault::new("NotAuthenticated", "The session is not authenticated."));
        };
        if owner.collectors.len() >= COLLECTORS_PER_SESSION_MAX {
            return Err(Fault::new("InvalidState", "Too many event collectors to create"));
        }
        let id = new_id(session);
        let page_size = filter.max_count.unwrap_or(LATEST_PAGE_EVENTS);
        let collector =
            Collector { filter, cursor, born_at, page_size, latest: Vec::new(), latest_scanned: None };
        owner.collectors.insert(id.clone(), collector);
        self.counters.collectors_peak = self.counters.collectors_peak.max(owner.collectors.len());
        Ok(id)
    }

    /// `ReadNextEvents`. The cursor moves here, whether or not the client gets the answer.
    pub fn read_next(
        &mut self,
        shared: &Shared,
        session: &str,
        id: &str,
        max: u64,
        now_us: i64,
    ) -> Result<Page, Fault> {
        let World { history, sessions, duplicates, unsendable, refusals_pass, counters, .. } = self;
        let collector = collector(sessions, session, id)?;
        history.feed(collector.cursor, max, now_us);
        let Range { start, end } = collector.bounds(history, shared.wrap_silences, now_us);
        let from = collector.cursor.max(start);
        let mut wanted = wanted(&collector.filter, history, &shared.model);
        // A repetition on demand: the page begins with events from before the cursor.
        let repeat = if from < end { (*duplicates).min(from).min(max / 2) } else { 0 };
        let mut runs = Vec::new();
        if repeat > 0 {
            *duplicates -= repeat;
            runs = history.read_forward(from - repeat, from, repeat, now_us, wanted.as_deref_mut()).0;
        }
        let (fresh, cursor) = history.read_forward(from, end, max - repeat, now_us, wanted.as_deref_mut());
        drop(wanted);
        // An event that cannot be sent spoils its whole page, as on a real server.
        let is_refused = fresh.iter().any(|run| unsendable.iter().any(|index| run.contains(index)));
        if !is_refused || *refusals_pass {
            collector.cursor = cursor;
        }
        if is_refused {
            return Err(Fault::new("SystemError", "A general system error occurred"));
        }
        runs.extend(fresh);
        // The page is only planned here. It is rendered later, without the lock.
        let form = WireForm { brief: collector.filter.brief, millis: self.millis };
        let page = Page::of_runs(history, &runs, form);
        counters.pages_served += 1;
        counters.empty_pages += u64::from(page.events == 0);
        counters.events_served += page.events;
        Ok(page)
    }

    /// `ReadPreviousEvents`: the newest event comes first.
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
        let Range { start, end } = collector.bounds(history, shared.wrap_silences, now_us);
        let filter = &collector.filter;
        let (found, cursor) = history.read_backward(collector.cursor.min(end), start, max, now_us, |index| {
            filter.passes(&shared.model, history, index)
        });
        let form = WireForm { brief: filter.brief, millis: self.millis };
        collector.cursor = cursor;
        Ok(Page::of_indexes(history, &found, form))
    }

    /// Moves the cursor before the oldest event, so that `ReadNextEvents` reads all.
    pub fn rewind(&mut self, shared: &Shared, session: &str, id: &str, now_us: i64) -> Result<(), Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        collector.cursor = collector.bounds(history, shared.wrap_silences, now_us).start;
        Ok(())
    }

    /// Moves the cursor behind the newest event, so that `ReadPreviousEvents` reads all.
    pub fn reset(&mut self, shared: &Shared, session: &str, id: &str, now_us: i64) -> Result<(), Fault> {
        let World { history, sessions, .. } = self;
        let collector = collector(sessions, session, id)?;
        collector.cursor = collector.bounds(history, shared.wrap_silences, now_us).end;
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
        let Range { start, end } = collector.bounds(history, shared.wrap_silences, now_us);
        // Only new events are examined. With a filter that no event passes, every call would
        // otherwise scan the whole history.
        let from = collector.latest_scanned.unwrap_or(start).max(start).min(end);
        let filter = &collector.filter;
        let (mut found, _) = history.read_backward(end, from, collector.page_size as u64, now_us, |index| {
            filter.passes(&shared.model, history, index)
        });
        found.append(&mut collector.latest);
        found.truncate(collector.page_size);
        collector.latest = found;
        collector.latest_scanned = Some(end);
        Ok(collector.latest.clone())
    }

    /// `QueryEvents`: the newest `maxCount` events that pass, by default 1,000, in the order of
    /// their keys.
    pub fn query(&mut self, shared: &Shared, filter: &Filter, now_us: i64) -> Page {
        let history = &self.history;
        let Range { start, end } = filter.bounds(history, history.produced(now_us));
        let max = filter.max_count.unwrap_or(QUERY_EVENTS_DEFAULT) as u64;
        let (found, _) = history
            .read_backward(end, start, max, now_us, |index| filter.passes(&shared.model, history, index));
        let mut runs = Vec::new();
        for index in found.into_iter().rev() {
            add_run(&mut runs, index..index + 1);
        }
        let page = Page::of_runs(history, &runs, WireForm { brief: filter.brief, millis: self.millis });
        self.counters.events_served += page.events;
        page
    }
}

type Passes<'a> = Box<dyn FnMut(u64) -> bool + 'a>;

/// A test for the events that pass the filter; `None` if all do, which reads whole runs at once.
fn wanted<'a>(filter: &'a Filter, history: &'a History, model: &'a Model) -> Option<Passes<'a>> {
    if filter.passes_all() {
        return None;
    }
    Some(Box::new(move |index| filter.passes(model, history, index)))
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
