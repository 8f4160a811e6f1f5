//! Route: which destinations each event goes to. Fixed here, once; what follows only carries it out.
//!
//! Within a source's batch a destination gets each event at most once, however many routes name it.

use std::sync::Arc;

use super::destination::{DestinationId, Destinations};
use crate::config;
use crate::event::{Batch, Selection};
use crate::pattern::{Facts, Matcher, Needs, PatternId, PatternSet, Root};

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
                    Reach::Selected(select) => select.select(batch, &offered, destinations, &mut routed),
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
