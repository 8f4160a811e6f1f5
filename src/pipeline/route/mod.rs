//! Route: which destinations each event goes to. Fixed here, once; what follows only carries it
//! out.
//!
//! Within a source's batch a destination gets each event at most once, however many routes name it.

mod audience;
mod patterns;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use self::audience::Audience;
use self::patterns::Patterns;
use super::destination::{DestinationId, Destinations};
use super::settings::RouteSettings;
use crate::event::{Batch, Selection};
use crate::processor::Selector;
use eventpattern::PatternError;

/// Where the events of one batch go.
#[derive(Debug, Default)]
pub struct Routed {
    /// Each destination once, in the order in which they were met.
    pub all: Vec<(DestinationId, Selection)>,
    /// Where each of them is in `all`: a page may go to thousands of functions.
    places: FxHashMap<DestinationId, usize>,
}

impl Routed {
    /// Adds events to a destination.
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
    /// By source index.
    sources: Vec<bool>,
    /// Whether it has a pattern; the pattern's number is the rule's.
    has_pattern: bool,
    /// Processor indices.
    processors: Vec<usize>,
}

/// The route stage.
pub struct Route {
    rules: Vec<Rule>,
    audiences: Vec<Audience>,
    patterns: Option<Patterns>,
}

impl Route {
    /// `processors`: name and selector, by index.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled; a configuration that was loaded from a file has none.
    pub fn new<'a>(
        routes: &[RouteSettings],
        processors: impl IntoIterator<Item = (&'a str, Option<Box<dyn Selector>>)>,
        destinations: &mut Destinations,
    ) -> Result<Self, Vec<PatternError>> {
        let patterns = Patterns::of(routes)?;
        let rules = routes
            .iter()
            .map(|route| Rule {
                sources: route.sources.clone(),
                has_pattern: route.pattern.is_some(),
                processors: route.processors.clone(),
            })
            .collect();
        let processors = processors.into_iter().enumerate();
        let audiences =
            processors.map(|(at, (name, selector))| Audience::new(at, name, selector, destinations));
        Ok(Route { rules, audiences: audiences.collect(), patterns })
    }

    /// Destinations that events may go to, with or without an event so far. Of a processor's
    /// functions two at most: enough to tell whether one is alone.
    pub fn reached(&self) -> usize {
        let routed = |at: &usize| self.rules.iter().any(|rule| rule.processors.contains(at));
        (0..self.audiences.len()).filter(routed).map(|at| self.audiences[at].count()).sum()
    }

    /// The destination that a former run knew under `name`: `None` where its processor is not
    /// configured any more.
    pub fn destination(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let known = destinations.by_name(name);
        known.or_else(|| self.audiences.iter().find_map(|audience| audience.named(name, destinations)))
    }

    /// The names of the destinations that events may go to now or soon. Of functions these are the
    /// listed ones: one that is gone is not waited for at the next start.
    pub fn known(&self, destinations: &Destinations) -> Vec<String> {
        let listed: Vec<_> = self
            .audiences
            .iter()
            .filter_map(|audience| Some((audience.processor(), audience.listed()?)))
            .collect();
        let is_listed = |processor| listed.iter().any(|(lists, _)| *lists == processor);
        let others = destinations.iter().filter(|(_, destination)| !is_listed(destination.processor));
        let mut known: Vec<String> = others.map(|(_, destination)| destination.name.to_string()).collect();
        known.extend(listed.into_iter().flat_map(|(_, names)| names));
        known
    }

    /// Where the events of `batch` go. Events that a former run had routed (`replays`) go where
    /// they are still owed, and nowhere else.
    pub fn step(
        &mut self,
        batch: &Batch,
        replays: &[(usize, Vec<Arc<str>>)],
        destinations: &mut Destinations,
    ) -> Routed {
        let mut fresh = Selection::first(batch.records.len());
        let mut routed = Routed::default();
        for (i, owed) in replays {
            let one = Selection::one(*i);
            fresh.remove(&one);
            for name in owed {
                if let Some(destination) = self.destination(name, destinations) {
                    routed.add(destination, &one);
                }
            }
        }
        let source = batch.source.index;
        let takes = |rule: &Rule| rule.sources.get(source).copied().unwrap_or(false);
        if let Some(patterns) = &mut self.patterns
            && self.rules.iter().any(|rule| rule.has_pattern && takes(rule))
        {
            patterns.step(batch, &fresh);
        }
        for (at, rule) in self.rules.iter().enumerate().filter(|(_, rule)| takes(rule)) {
            let offered = match &self.patterns {
                Some(patterns) if rule.has_pattern => patterns.taken(at),
                _ => fresh,
            };
            for processor in &rule.processors {
                self.audiences[*processor].step(batch, &offered, destinations, &mut routed);
            }
        }
        routed
    }
}
