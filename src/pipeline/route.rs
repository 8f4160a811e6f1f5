//! Route: which destinations each event goes to. Fixed here, once; what follows only carries it out.
//!
//! Within a source's batch a destination gets each event at most once, however many routes name it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::buses::Buses;
use super::destination::{DestinationId, Destinations};
use crate::config;
use crate::event::{Batch, Selection};
use crate::processor::openfaas::topics::{FunctionId, TopicLookup, TopicMap};
use crate::pattern::{Facts, Matcher, Needs, PatternId, PatternSet, Root};

/// How a processor picks among the events that a route gives it.
pub enum Reach {
    /// All of them, to the one destination that the processor is.
    Whole(DestinationId),
    /// Each function what its topics name; a function is a destination.
    Functions(Functions),
    /// Each event bus what one of its rules matches; a bus is a destination.
    Buses(Buses),
}

/// The functions of one processor, as the route stage sees them.
pub struct Functions {
    processor: usize,
    name: String,
    topics: watch::Receiver<Arc<TopicMap>>,
    lookup: TopicLookup,
    destinations: FxHashMap<FunctionId, DestinationId>,
}

impl Functions {
    /// Of the processor with this index and name.
    pub fn new(processor: usize, name: &str, topics: watch::Receiver<Arc<TopicMap>>) -> Self {
        Functions { processor, name: name.into(), topics, lookup: TopicLookup::default(), destinations: FxHashMap::default() }
    }

    fn step(&mut self, batch: &Batch, offered: &Selection, destinations: &mut Destinations, routed: &mut Routed) {
        let map = Arc::clone(&self.topics.borrow_and_update());
        self.lookup.update(&map);
        for i in offered.iter() {
            let record = &batch.records[i];
            for function in self.lookup.functions(record.category, batch.text(record.subject)).iter() {
                let destination = *self.destinations.entry(*function).or_insert_with(|| {
                    let name = map.function(*function).map_or("", |function| &function.name);
                    destinations.intern(self.processor, &self.name, name)
                });
                routed.add(destination, &Selection::one(i));
            }
        }
    }

    /// The destination of a function that a former run knew under `name`, whether or not the gateway has it now.
    fn named(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let function = name.strip_prefix(&self.name)?.strip_prefix('/')?;
        Some(destinations.intern(self.processor, &self.name, function))
    }
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

/// A route whose pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    pub route: String,
    /// The line of the pattern in the configuration.
    pub line: usize,
    pub cause: String,
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
    reach: Vec<Reach>,
    patterns: Option<Patterns>,
}

/// The patterns of all routes, matched together.
struct Patterns {
    matcher: Matcher,
    needs: Needs,
    matched: Vec<PatternId>,
    /// By rule: the events of the batch at hand that its pattern takes.
    taken: Vec<Selection>,
}

/// What is wrong with the patterns of `config`.
pub fn check(config: &config::Config) -> Vec<RouteError> {
    compile(config).err().unwrap_or_default()
}

fn compile(config: &config::Config) -> Result<PatternSet, Vec<RouteError>> {
    let patterns: Vec<(PatternId, serde_json::Value)> = config
        .routes
        .iter()
        .zip(0..)
        .filter_map(|(route, id)| Some((id, route.pattern.clone()?)))
        .collect();
    PatternSet::compile(Root::CloudEvent, &patterns).map_err(|errors| {
        let located = errors.into_iter().filter_map(|error| {
            let route = config.routes.get(error.pattern as usize)?;
            Some(RouteError { route: route.name.clone(), line: route.line, cause: error.to_string() })
        });
        located.collect()
    })
}

impl Route {
    /// `reach` by processor index. Errors: every pattern that cannot be compiled.
    pub fn new(config: &config::Config, reach: Vec<Reach>) -> Result<Self, Vec<RouteError>> {
        let set = compile(config)?;
        let index = |name: &String| config.processors.iter().position(|processor| processor.name == *name);
        let rules = config
            .routes
            .iter()
            .map(|route| Rule {
                sources: config.sources.iter().map(|source| route.sources.contains(&source.name)).collect(),
                has_pattern: route.pattern.is_some(),
                processors: route.processors.iter().filter_map(index).collect(),
            })
            .collect();
        let patterns = (!set.is_empty()).then(|| Patterns {
            needs: set.needs(),
            matcher: Arc::new(set).matcher(),
            matched: Vec::new(),
            taken: vec![Selection::EMPTY; config.routes.len()],
        });
        Ok(Route { rules, reach, patterns })
    }

    /// The destination that a former run knew under `name`: `None` where its processor is not configured any more.
    pub fn destination(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let known = destinations.by_name(name);
        known.or_else(|| {
            self.reach.iter().find_map(|reach| match reach {
                Reach::Whole(_) => None,
                Reach::Functions(functions) => functions.named(name, destinations),
                Reach::Buses(buses) => buses.named(name, destinations),
            })
        })
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
                Some(patterns) if rule.has_pattern => patterns.taken[at],
                _ => fresh,
            };
            for processor in &rule.processors {
                match &mut self.reach[*processor] {
                    Reach::Whole(destination) => routed.add(*destination, &offered),
                    Reach::Functions(functions) => functions.step(batch, &offered, destinations, &mut routed),
                    Reach::Buses(buses) => buses.step(batch, &offered, &mut routed),
                }
            }
        }
        routed
    }
}

impl Patterns {
    /// Finds which of `offered` each rule takes.
    fn step(&mut self, batch: &Batch, offered: &Selection) {
        self.taken.fill(Selection::EMPTY);
        for i in offered.iter() {
            let record = &batch.records[i];
            let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
            let facts = Facts {
                source: &batch.source.url,
                kind: record.category.cloudevents_type(),
                subject: batch.text(record.subject),
                id: if self.needs.id { record.id.hyphenated().encode_lower(&mut id) } else { "" },
                time: batch.text(record.created_text),
                datacontenttype: "application/json",
                data: batch.bytes(record.data),
                ..Facts::default()
            };
            self.matcher.matches(&facts, &mut self.matched);
            for rule in &self.matched {
                self.taken[*rule as usize].insert(i);
            }
        }
    }
}
