//! Route: decides the destinations of each event.
//!
//! ```text
//!  batch ─► rules (source and pattern) ─► audiences (processor or subscribers) ─► destinations
//! ```
//!
//! The decision is made here once; later stages only carry it out. A rule names processors, and the
//! audience of a processor chooses among its destinations. Within a batch a destination gets each
//! event at most once, even if several routes name it.

mod audience;
mod explain;
mod patterns;

use std::sync::Arc;

use metrics::counter;
use rustc_hash::FxHashMap;

use self::audience::Audience;
pub use self::explain::RouteRefusal;
use self::patterns::Patterns;
use super::destination::{DestinationId, Destinations, is_meant, undecided_processor};
use super::observe::ObservedRoute;
use super::settings::RouteSettings;
use super::undecided::Undecided;
use crate::event::{Batch, Selection};
use crate::processor::{BatchSlice, Selector};
use crate::telemetry::metrics::{self as names, Total};
use eventpattern::PatternError;

/// Destinations of the events of one batch.
#[derive(Debug, Default)]
pub struct Routed {
    /// Each destination once, in the order in which they were added.
    pub all: Vec<(DestinationId, Selection)>,
    /// Index of each destination in `all`. A page may go to thousands of functions.
    places: FxHashMap<DestinationId, usize>,
}

impl Routed {
    /// Adds events for a destination.
    pub fn add(&mut self, destination: DestinationId, selection: &Selection) {
        if selection.is_empty() {
            return;
        }
        let at = *self.places.entry(destination).or_insert(self.all.len());
        match self.all.get_mut(at) {
            Some((_, all)) => all.add(selection),
            None => self.all.push((destination, *selection)),
        }
    }
}

struct Rule {
    /// True, by source index, if the rule takes that source's events.
    sources: Vec<bool>,
    /// True if the rule has a pattern. The pattern has the number of the rule.
    has_pattern: bool,
    /// Processor indices.
    processors: Vec<usize>,
    counts: ObservedRoute,
    /// Age in microseconds from which on an event is not routed; `None` takes all.
    max_age_us: Option<i64>,
}

impl Rule {
    /// The events among `matched` that are not too old, by the time when they were read. The others
    /// are counted.
    fn young(&self, batch: &Batch, matched: Selection) -> Selection {
        let Some(max_age_us) = self.max_age_us else { return matched };
        let begin_us = batch.produced_us.saturating_sub(max_age_us);
        let is_young =
            |i: &usize| batch.records[*i].created_us.is_none_or(|created_us| created_us >= begin_us);
        let young: Selection = matched.iter().filter(is_young).collect();
        self.counts.expired.increment((matched.len() - young.len()) as u64);
        young
    }
}

/// The compiled routes of a configuration.
pub struct CompiledRoutes {
    all: Vec<Rule>,
    patterns: Option<Patterns>,
}

impl CompiledRoutes {
    /// Compiles the routes.
    ///
    /// # Errors
    /// Returns every pattern that cannot be compiled. A configuration that was loaded from a file
    /// has none.
    pub fn new(routes: &[RouteSettings]) -> Result<Self, Vec<PatternError>> {
        let patterns = Patterns::of(routes)?;
        let rule = |route: &RouteSettings| Rule {
            sources: route.sources.clone(),
            has_pattern: route.pattern.is_some(),
            processors: route.processors.clone(),
            counts: counts(&route.name),
            max_age_us: route.max_age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX)),
        };
        Ok(CompiledRoutes { all: routes.iter().map(rule).collect(), patterns })
    }
}

fn counts(route: &str) -> ObservedRoute {
    let total = |metric: &'static str| Total::new(counter!(metric, "route" => route.to_owned()));
    ObservedRoute {
        name: route.to_owned(),
        matched: total(names::ROUTE_EVENTS),
        expired: total(names::ROUTE_EXPIRED),
    }
}

/// The route stage.
pub struct Route {
    rules: CompiledRoutes,
    /// By processor index. A removed processor keeps its place.
    audiences: Vec<Audience>,
    /// The only destination that gets events; `None` for all.
    only: Option<String>,
}

impl Route {
    /// Compiles the routes. `processors` holds name and selector, by index.
    ///
    /// # Errors
    /// As [`CompiledRoutes::new`].
    pub fn new<'a>(
        routes: &[RouteSettings],
        processors: impl IntoIterator<Item = (&'a str, Option<Box<dyn Selector>>)>,
        destinations: &mut Destinations,
    ) -> Result<Self, Vec<PatternError>> {
        let rules = CompiledRoutes::new(routes)?;
        let processors = processors.into_iter().enumerate();
        let audiences =
            processors.map(|(at, (name, selector))| Audience::new(at, name, selector, destinations));
        Ok(Route { rules, audiences: audiences.collect(), only: None })
    }

    /// Leaves out all destinations but one, if one is named.
    pub fn only(self, only: Option<String>) -> Self {
        Route { only, ..self }
    }

    /// Replaces the routes. Events that were routed before keep their destinations. The counts of a
    /// route go on if its name stays.
    pub fn set_rules(&mut self, mut rules: CompiledRoutes) {
        for rule in &mut rules.all {
            let before = self.rules.all.iter().find(|before| before.counts.name == rule.counts.name);
            if let Some(before) = before {
                rule.counts = before.counts.clone();
            }
        }
        self.rules = rules;
    }

    /// The counts of all routes.
    pub fn observed(&self) -> Vec<ObservedRoute> {
        self.rules.all.iter().map(|rule| rule.counts.clone()).collect()
    }

    /// Adds a processor, at the next index or in the place of a removed one. `rows`: as in
    /// [`Route::restore_undecided`].
    pub fn add_processor(
        &mut self,
        at: usize,
        name: &str,
        selector: Option<Box<dyn Selector>>,
        rows: impl Fn(&str) -> u64,
        destinations: &mut Destinations,
    ) {
        let mut audience = Audience::new(at, name, selector, destinations);
        let rows = rows(&audience.undecided_name());
        audience.undecided().restore(rows);
        match self.audiences.get_mut(at) {
            Some(removed) => *removed = audience,
            None => self.audiences.push(audience),
        }
    }

    /// Changes how a processor selects among its destinations. A removed processor is back.
    pub fn change_processor(
        &mut self,
        at: usize,
        selector: Option<Box<dyn Selector>>,
        destinations: &mut Destinations,
    ) {
        self.audiences[at].change(selector, destinations);
    }

    /// Removes a processor. No event goes to it from now on. The routes must not name it any more.
    pub fn remove_processor(&mut self, at: usize) {
        self.audiences[at].remove();
    }

    /// Returns true if a processor was removed.
    pub fn is_removed(&self, at: usize) -> bool {
        self.audiences.get(at).is_some_and(Audience::is_removed)
    }

    /// Number of destinations that events may go to, with or without events so far. The functions
    /// of a processor count as two at most. That is enough to tell whether a destination is alone.
    pub fn reached(&self) -> usize {
        let routed = |at: &usize| self.rules.all.iter().any(|rule| rule.processors.contains(at));
        (0..self.audiences.len()).filter(routed).map(|at| self.audiences[at].count()).sum()
    }

    /// The destination that a former run knew as `name`; `None` if its processor is no longer
    /// configured.
    pub fn destination(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        if let Some(known) = destinations.by_name(name) {
            return (!self.is_removed(destinations.get(known).processor)).then_some(known);
        }
        self.audiences.iter().find_map(|audience| audience.named(name, destinations))
    }

    /// Names of the destinations that events may go to now or soon. For functions these are the
    /// listed ones, so the next start does not wait for a function that is gone.
    pub fn known(&self, destinations: &Destinations) -> Vec<String> {
        let listed: Vec<_> = self
            .audiences
            .iter()
            .filter(|audience| !audience.is_removed())
            .filter_map(|audience| Some((audience.processor(), audience.listed()?)))
            .collect();
        let is_listed = |processor| listed.iter().any(|(lists, _)| *lists == processor);
        let others = destinations.iter().filter(|(_, destination)| {
            !is_listed(destination.processor)
                && !self.is_removed(destination.processor)
                && undecided_processor(&destination.name).is_none()
        });
        let mut known: Vec<String> = others.map(|(_, destination)| destination.name.to_string()).collect();
        known.extend(listed.into_iter().flat_map(|(_, names)| names));
        known
    }

    /// Notes rows that a former run left in the spools of pseudo-destinations. `rows` returns the
    /// number of rows in the spool of this name.
    pub fn restore_undecided(&mut self, rows: impl Fn(&str) -> u64) {
        for audience in &mut self.audiences {
            let rows = rows(&audience.undecided_name());
            audience.undecided().restore(rows);
        }
    }

    /// The queue of a processor that is undecided; `None` if it is live.
    pub fn undecided(&mut self, processor: usize) -> Option<&mut Undecided> {
        self.audiences.get_mut(processor).map(Audience::undecided).filter(|undecided| !undecided.is_live())
    }

    /// The queue of a processor, live or not.
    pub fn undecided_queue(&mut self, processor: usize) -> &mut Undecided {
        self.audiences[processor].undecided()
    }

    /// Returns true if the functions or rules of a processor are known.
    pub fn is_known(&self, processor: usize) -> bool {
        self.audiences[processor].is_known()
    }

    /// Makes each processor live whose registry is known and for which no event waits.
    pub fn go_live(&mut self, destinations: &mut Destinations) {
        self.audiences.iter_mut().for_each(|audience| audience.go_live(destinations));
    }

    /// The pseudo-destination that keeps the events of a processor while it is undecided.
    pub fn pseudo_destination(&self, processor: usize, destinations: &mut Destinations) -> DestinationId {
        self.audiences[processor].pseudo_destination(destinations)
    }

    /// Number of processors.
    pub fn processors(&self) -> usize {
        self.audiences.len()
    }

    /// The real destinations of events of a processor whose registry is known.
    pub fn destinations_of(
        &mut self,
        processor: usize,
        slice: &BatchSlice,
        destinations: &mut Destinations,
    ) -> Vec<(DestinationId, Selection)> {
        self.audiences[processor].destinations_of(slice, destinations)
    }

    /// Routes the events of `batch`. Events that a former run had routed (`replays`) go to the
    /// destinations that they are still owed to, and nowhere else. One that is owed to a
    /// pseudo-destination was never decided, so its processor decides now.
    pub fn step(
        &mut self,
        batch: &Batch,
        replays: &[(usize, Vec<Arc<str>>)],
        destinations: &mut Destinations,
    ) -> Routed {
        self.go_live(destinations);
        let mut fresh = Selection::first(batch.records.len());
        let mut routed = Routed::default();
        let mut never_decided = Vec::new();
        for (i, owed) in replays {
            let one = Selection::one(*i);
            fresh.remove(&one);
            for name in owed {
                let undecided = self.audiences.iter().position(|audience| audience.is_undecided_name(name));
                if let Some(at) = undecided {
                    never_decided.push((at, one));
                } else if let Some(destination) = self.destination(name, destinations) {
                    routed.add(destination, &one);
                }
            }
        }
        // Events that are owed to a function were read before those that nobody could decide, and
        // an undecided processor stores them in this order. A crash between the two must not leave
        // only the newer ones on disk.
        for (at, one) in never_decided {
            self.audiences[at].step(batch, &one, destinations, &mut routed);
        }
        let source = batch.source.index;
        let takes = |rule: &Rule| rule.sources.get(source).copied().unwrap_or(false);
        let CompiledRoutes { all: rules, patterns } = &mut self.rules;
        if let Some(patterns) = patterns
            && rules.iter().any(|rule| rule.has_pattern && takes(rule))
        {
            patterns.step(batch, &fresh);
        }
        for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| takes(rule)) {
            let matched = match patterns {
                Some(patterns) if rule.has_pattern => patterns.taken(at),
                _ => fresh,
            };
            let offered = rule.young(batch, matched);
            rule.counts.matched.increment(offered.len() as u64);
            for processor in &rule.processors {
                self.audiences[*processor].step(batch, &offered, destinations, &mut routed);
            }
        }
        if let Some(only) = &self.only {
            routed.all.retain(|(destination, _)| is_meant(&destinations.get(*destination).name, only));
        }
        routed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::batch;
    use crate::processor::Matches;

    struct Unknown;

    impl Selector for Unknown {
        fn select(&mut self, _: &Batch, _: &Selection, _: &mut dyn Matches) {
            panic!("nobody can choose yet");
        }

        fn is_known(&self) -> bool {
            false
        }

        fn restored(&self, name: &str) -> Option<Arc<str>> {
            Some(name.into())
        }

        fn count(&self) -> usize {
            1
        }
    }

    #[test]
    fn a_route_leaves_out_events_that_were_old_when_they_were_read() {
        let mut destinations = Destinations::default();
        let route = |processor, max_age| RouteSettings {
            sources: vec![true],
            processors: vec![processor],
            max_age,
            ..RouteSettings::default()
        };
        let routes = [route(0, Some(std::time::Duration::from_micros(100))), route(1, None)];
        let mut route =
            Route::new(&routes, [("young", None), ("all", None)], &mut destinations).expect("no patterns");
        let mut batch = batch(0, &[(1, 899), (2, 900), (3, 5_000), (4, 1)]);
        batch.produced_us = 1_000;
        batch.records[3].created_us = None;
        let replays = [(0, vec!["young".into()])];
        let mut routed = |replays: &[_]| -> Vec<(String, Vec<usize>)> {
            let routed = route.step(&batch, replays, &mut destinations);
            let shown = |(id, selection): &(DestinationId, Selection)| {
                (destinations.get(*id).name.to_string(), selection.iter().collect())
            };
            routed.all.iter().map(shown).collect()
        };
        // An event without a time is not old.
        assert_eq!(routed(&[]), [("young".into(), vec![1, 2, 3]), ("all".into(), vec![0, 1, 2, 3])]);
        // Events that a former run has routed are still owed, whatever their age.
        assert_eq!(routed(&replays), [("young".into(), vec![0, 1, 2, 3]), ("all".into(), vec![1, 2, 3])]);
    }

    #[test]
    fn events_owed_to_a_function_come_before_those_that_nobody_decided() {
        let mut destinations = Destinations::default();
        let everything =
            RouteSettings { sources: vec![true], processors: vec![0], ..RouteSettings::default() };
        let unknown: Box<dyn Selector> = Box::new(Unknown);
        let mut route =
            Route::new(&[everything], [("fn", Some(unknown))], &mut destinations).expect("no patterns");
        let replays = [(0, vec!["fn#undecided".into()]), (1, vec!["fn/a".into()])];
        let routed = route.step(&batch(0, &[(1, 1), (2, 2), (3, 3)]), &replays, &mut destinations);
        let found: Vec<(&str, Vec<usize>)> = routed
            .all
            .iter()
            .map(|(id, selection)| (&*destinations.get(*id).name, selection.iter().collect()))
            .collect();
        assert_eq!(found, [("fn/a", vec![1]), ("fn#undecided", vec![0, 2])]);
    }
}
