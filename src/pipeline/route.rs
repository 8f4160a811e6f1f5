//! Route: which destinations each event goes to. Fixed here, once; what follows only carries it out.
//!
//! Within a source's batch a destination gets each event at most once, however many routes name it.

use std::sync::Arc;

use super::destination::{DestinationId, Destinations};
use crate::config;
use crate::event::{Batch, Selection};

/// How a processor picks among the events that a route gives it.
pub enum Reach {
    /// All of them, to the one destination that the processor is.
    Whole(DestinationId),
    /// To the destinations that a selector names: functions by topic, rules by pattern.
    Selected(Box<dyn Select>),
}

/// Chooses destinations event by event: a processor with functions, or with rules of its own.
pub trait Select: Send {
    /// Whether a destination of this name is one of this processor's, now or later.
    fn may_reach(&self, name: &str) -> bool;

    /// Adds the events of `offered` to the destinations that take them.
    fn select(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        out: &mut Routed,
    );
}

/// Matches a route's pattern.
pub trait Matches: Send {
    /// The events of `offered` that the pattern takes.
    fn matching(&mut self, batch: &Batch, offered: &Selection) -> Selection;
}

/// Where the events of one batch go.
#[derive(Debug, Default)]
pub struct Routed(pub Vec<(DestinationId, Selection)>);

impl Routed {
    /// Adds events to a destination.
    pub fn add(&mut self, destination: DestinationId, picks: &Selection) {
        if picks.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|(other, _)| *other == destination) {
            Some((_, all)) => all.add(picks),
            None => self.0.push((destination, *picks)),
        }
    }
}

struct Rule {
    /// By source index.
    sources: Vec<bool>,
    pattern: Option<Box<dyn Matches>>,
    /// Processor indices.
    processors: Vec<usize>,
}

/// The route stage.
pub struct Route {
    rules: Vec<Rule>,
    reach: Vec<Reach>,
}

impl Route {
    /// `reach` by processor index; `compile` makes a matcher of a route's pattern.
    pub fn new<E>(
        config: &config::Config,
        reach: Vec<Reach>,
        mut compile: impl FnMut(&config::Route, &serde_json::Value) -> Result<Box<dyn Matches>, E>,
    ) -> Result<Self, E> {
        let index = |name: &String| config.processors.iter().position(|processor| processor.name == *name);
        let rules = config
            .routes
            .iter()
            .map(|route| {
                Ok(Rule {
                    sources: config
                        .sources
                        .iter()
                        .map(|source| route.sources.contains(&source.name))
                        .collect(),
                    pattern: route.pattern.as_ref().map(|pattern| compile(route, pattern)).transpose()?,
                    processors: route.processors.iter().filter_map(index).collect(),
                })
            })
            .collect::<Result<_, E>>()?;
        Ok(Route { rules, reach })
    }

    /// Whether a destination of this name can still come up: a function of a processor that looks its functions up.
    pub fn may_reach(&self, name: &str) -> bool {
        self.reach.iter().any(|reach| matches!(reach, Reach::Selected(select) if select.may_reach(name)))
    }

    /// Where the events of `batch` go. Events that a former run had routed (`replays`) go where they are still owed, and nowhere else.
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
                if let Some(destination) = destinations.by_name(name) {
                    routed.add(destination, &one);
                }
            }
        }
        for rule in &mut self.rules {
            if !rule.sources.get(batch.source.index).copied().unwrap_or(false) {
                continue;
            }
            let offered = match &mut rule.pattern {
                None => fresh,
                Some(pattern) => pattern.matching(batch, &fresh),
            };
            for processor in &rule.processors {
                match &mut self.reach[*processor] {
                    Reach::Whole(destination) => routed.add(*destination, &offered),
                    Reach::Selected(select) => select.select(batch, &offered, destinations, &mut routed),
                }
            }
        }
        routed
    }
}
