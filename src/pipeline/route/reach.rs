//! How far a processor reaches: which of its destinations an event goes to that a route gives it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::Routed;
use super::patterns::facts;
use crate::event::{Batch, Selection};
use crate::pattern::{Facts, Matcher, Needs, PatternId, PatternSet, Root};
use crate::pipeline::destination::{DestinationId, Destinations};
use crate::processor::Interest;
use crate::processor::eventbridge::rules::{Bus, RuleSet};
use crate::processor::openfaas::topics::{FunctionId, TopicLookup, TopicMap};

/// How a processor picks among the events that a route gives it.
pub enum Reach {
    /// All of them, to the one destination that the processor is.
    Whole(DestinationId),
    /// Each function what its topics name; a function is a destination.
    Functions(Functions),
    /// What matches a rule of one of its event buses; a bus is a destination.
    Buses(Buses),
}

impl Reach {
    /// Of the processor with this index and name.
    pub fn new(processor: usize, name: &str, interest: Interest, destinations: &mut Destinations) -> Self {
        match interest {
            Interest::Everything => Reach::Whole(destinations.intern(processor, name, "")),
            Interest::Functions(topics) => Reach::Functions(Functions {
                processor,
                name: name.into(),
                topics,
                lookup: TopicLookup::default(),
                destinations: FxHashMap::default(),
            }),
            Interest::Rules(rules) => Reach::Buses(Buses {
                processor,
                name: name.into(),
                rules,
                current: Arc::default(),
                buses: Vec::new(),
            }),
        }
    }

    pub(super) fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        match self {
            Reach::Whole(destination) => routed.add(*destination, offered),
            Reach::Functions(functions) => functions.step(batch, offered, destinations, routed),
            Reach::Buses(buses) => buses.step(batch, offered, destinations, routed),
        }
    }

    /// The destination of this processor that a former run knew under `name`, whether or not its target has it now.
    pub(super) fn named(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let (processor, processor_name) = match self {
            Reach::Whole(_) => return None,
            Reach::Functions(functions) => (functions.processor, &functions.name),
            Reach::Buses(buses) => (buses.processor, &buses.name),
        };
        let function = name.strip_prefix(processor_name.as_str())?;
        let function = if function.is_empty() { "" } else { function.strip_prefix('/')? };
        Some(destinations.intern(processor, processor_name, function))
    }
}

/// The functions of one processor.
pub struct Functions {
    processor: usize,
    name: String,
    topics: watch::Receiver<Arc<TopicMap>>,
    lookup: TopicLookup,
    destinations: FxHashMap<FunctionId, DestinationId>,
}

impl Functions {
    fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
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
}

/// The event buses of one processor.
pub struct Buses {
    processor: usize,
    name: String,
    rules: watch::Receiver<Arc<RuleSet>>,
    current: Arc<RuleSet>,
    buses: Vec<BusMatcher>,
}

struct BusMatcher {
    destination: DestinationId,
    account: String,
    /// `None`: everything goes there.
    rules: Option<(Matcher, Needs)>,
}

impl Buses {
    fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        if !Arc::ptr_eq(&rules, &self.current) {
            self.buses = rules.buses.iter().map(|bus| self.bus(bus, destinations)).collect();
            self.current = rules;
        }
        let mut matched: Vec<PatternId> = Vec::new();
        for bus in &mut self.buses {
            let Some((matcher, needs)) = &mut bus.rules else {
                routed.add(bus.destination, offered);
                continue;
            };
            let mut taken = Selection::EMPTY;
            for i in offered.iter() {
                let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
                let known = facts(batch, i, *needs, &mut id);
                matcher.matches(
                    &Facts { account: &bus.account, region: &self.current.region, ..known },
                    &mut matched,
                );
                if !matched.is_empty() {
                    taken.insert(i);
                }
            }
            routed.add(bus.destination, &taken);
        }
    }

    fn bus(&self, bus: &Bus, destinations: &mut Destinations) -> BusMatcher {
        let rules = (!bus.everything).then(|| {
            let patterns: Vec<_> = bus.rules.iter().map(|rule| (0, rule.pattern.clone())).collect();
            let (set, errors) = PatternSet::compile_what_can_be(Root::AwsEvent, &patterns);
            for error in errors {
                tracing::warn!(processor = %self.name, bus = %bus.name, %error, "a rule's pattern cannot be read here; all events are forwarded for EventBridge to decide");
            }
            let needs = set.needs();
            (Arc::new(set).matcher(), needs)
        });
        BusMatcher {
            destination: destinations.intern(self.processor, &self.name, &bus.function),
            account: bus.account.clone().unwrap_or_default(),
            rules,
        }
    }
}
