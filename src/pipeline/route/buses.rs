//! Which events go to which event bus of an EventBridge processor: part of routing. A bus is a destination.
//!
//! The rules are matched here as EventBridge would match them, so that only events that a rule asks for leave. Where that cannot be decided here,
//! the event is forwarded and EventBridge decides.

use std::sync::Arc;

use tokio::sync::watch;

use super::Routed;
use crate::cloudevents::type_of;
use crate::event::{Batch, Payload, Selection};
use crate::pattern::{Facts, Matcher, PatternId, PatternSet, Root};
use crate::pipeline::destination::{DestinationId, Destinations};
use crate::processor::eventbridge::rules::{Bus, RuleSet, unnamed};

/// The event buses of one processor, as the route stage sees them.
pub struct Buses {
    processor: usize,
    name: String,
    rules: watch::Receiver<Arc<RuleSet>>,
    /// What `buses` was made of.
    current: Arc<RuleSet>,
    buses: Vec<Compiled>,
    /// By the bus's place in the configuration, which never changes while the process runs.
    destinations: Vec<DestinationId>,
    matched: Vec<PatternId>,
}

/// The rules of one bus.
enum Compiled {
    Everything,
    Nothing,
    Rules { matcher: Box<Matcher>, account: String },
}

impl Buses {
    /// Of the processor with this index and name.
    pub fn new(
        processor: usize,
        name: &str,
        rules: watch::Receiver<Arc<RuleSet>>,
        destinations: &mut Destinations,
    ) -> Self {
        let current = Arc::clone(&rules.borrow());
        let destinations =
            current.buses.iter().map(|bus| destinations.intern(processor, name, &bus.function)).collect();
        let buses = compiled(name, &current);
        Buses { processor, name: name.into(), rules, current, buses, destinations, matched: Vec::new() }
    }

    /// The destination of what the store has under the processor's own name: where it may be for any of several buses, one that keeps it and says so.
    pub(super) fn unnamed(&self, destinations: &mut Destinations) -> DestinationId {
        let bus = unnamed(self.current.buses.iter().map(|bus| &*bus.name)).unwrap_or_default();
        destinations.intern(self.processor, &self.name, bus)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub fn count(&self) -> usize {
        self.destinations.len()
    }

    /// Routes the events of `offered`.
    pub fn step(&mut self, batch: &Batch, offered: &Selection, routed: &mut Routed) {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        if !Arc::ptr_eq(&rules, &self.current) {
            self.buses = compiled(&self.name, &rules);
            self.current = rules;
        }
        for (bus, destination) in self.buses.iter_mut().zip(&self.destinations) {
            match bus {
                Compiled::Everything => routed.add(*destination, offered),
                Compiled::Nothing => {}
                Compiled::Rules { matcher, account } => {
                    let mut taken = Selection::EMPTY;
                    for i in offered.iter() {
                        let record = &batch.records[i];
                        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
                        let facts = Facts {
                            source: &batch.source.url,
                            kind: type_of(record.category),
                            subject: batch.text(record.subject),
                            id: record.id.hyphenated().encode_lower(&mut id),
                            datacontenttype: match self.current.payload {
                                Payload::Xml => "application/xml",
                                Payload::Pascal | Payload::ViJson => "application/json",
                            },
                            account,
                            region: &self.current.region,
                            data: batch.bytes(record.data),
                            ..Facts::default()
                        };
                        matcher.matches(&facts, &mut self.matched);
                        if !self.matched.is_empty() {
                            taken.insert(i);
                        }
                    }
                    routed.add(*destination, &taken);
                }
            }
        }
    }
}

fn compiled(processor: &str, rules: &RuleSet) -> Vec<Compiled> {
    rules.buses.iter().map(|bus| Compiled::new(processor, bus, rules.payload)).collect()
}

impl Compiled {
    fn new(processor: &str, bus: &Bus, payload: Payload) -> Self {
        if bus.everything {
            return Compiled::Everything;
        }
        if bus.rules.is_empty() {
            return Compiled::Nothing;
        }
        let patterns: Vec<_> = (0..).zip(bus.rules.iter().map(|rule| rule.pattern.clone())).collect();
        let (set, errors) = PatternSet::compile_what_can_be(Root::AwsEvent, &patterns);
        for error in errors {
            let rule = bus.rules.get(error.pattern as usize).map_or("", |rule| &rule.name);
            tracing::warn!(processor, bus = bus.name, rule, %error, "a rule's pattern cannot be matched here; all events are forwarded for it");
        }
        // The envelope's time and extensions are the processor's to render: a rule that asks for them is EventBridge's to decide.
        if set.needs().time || set.needs().extensions {
            return Compiled::Everything;
        }
        // Here `data` is the PascalCase JSON: a rule about another spelling of it, too.
        if payload != Payload::Pascal && set.needs().data {
            return Compiled::Everything;
        }
        Compiled::Rules {
            matcher: Box::new(Arc::new(set).matcher()),
            account: bus.account.clone().unwrap_or_default(),
        }
    }
}
