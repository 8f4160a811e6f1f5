//! Which event buses an event goes to. A bus is a destination.
//!
//! The rules are matched here as EventBridge would match them, so that only events that a rule asks for leave. Where that cannot be decided here,
//! the event is forwarded and EventBridge decides.

use std::sync::Arc;

use tokio::sync::watch;

use super::rules::{Bus, RuleSet, unnamed};
use crate::cloudevents::{PatternScratch, pattern_event};
use crate::event::{Batch, Payload, Selection};
use crate::processor::{Matches, Selector};
use eventpattern::{Matcher, Needs, PatternId, PatternSet, Root};

/// The event buses of one processor, as the routing thread sees them. A bus's part is its place in
/// the configuration.
pub struct BusSelector {
    /// Where the rules come from, for the log.
    target: String,
    rules: watch::Receiver<Arc<RuleSet>>,
    /// The rules that `buses` was made of.
    current: Arc<RuleSet>,
    buses: Vec<Compiled>,
    matched: Vec<PatternId>,
}

/// The rules of one bus.
enum Compiled {
    Everything,
    Nothing,
    Rules { matcher: Box<Matcher>, needs: Needs, account: String },
}

impl BusSelector {
    /// `target`: where the rules come from, for the log.
    pub fn new(target: &str, rules: watch::Receiver<Arc<RuleSet>>) -> Self {
        let current = Arc::clone(&rules.borrow());
        let buses = compiled(target, &current);
        BusSelector { target: target.into(), rules, current, buses, matched: Vec::new() }
    }
}

impl Selector for BusSelector {
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches) {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        if !Arc::ptr_eq(&rules, &self.current) {
            self.buses = compiled(&self.target, &rules);
            self.current = rules;
        }
        let mut scratch = PatternScratch::default();
        for (subscriber, bus) in (0..).zip(&mut self.buses) {
            let taken = match bus {
                Compiled::Everything => *offered,
                Compiled::Nothing => continue,
                Compiled::Rules { matcher, needs, account } => offered
                    .iter()
                    .filter(|i| {
                        let record = &batch.records[*i];
                        // Its `detail-type` will be another attribute's value: EventBridge decides.
                        if record.subject.is_empty() && !record.attributes.is_empty() {
                            return true;
                        }
                        let mut event = pattern_event(batch, *i, *needs, &mut scratch);
                        (event.account, event.region) = (&**account, &*self.current.region);
                        if self.current.payload == Payload::Xml && record.attributes.is_empty() {
                            event.datacontenttype = "application/xml";
                        }
                        matcher.matches(&event, &mut self.matched);
                        !self.matched.is_empty()
                    })
                    .collect(),
            };
            let name = || Arc::clone(&self.current.buses[subscriber as usize].function);
            matches.add(subscriber, &name, &taken);
        }
    }

    fn configured(&self) -> Vec<Arc<str>> {
        self.current.buses.iter().map(|bus| Arc::clone(&bus.function)).collect()
    }

    /// Events stored under the processor's own name may be for any of several buses: then they get
    /// a destination that keeps them and says so.
    fn restored(&self, name: &str) -> Option<Arc<str>> {
        let buses = self.current.buses.iter().map(|bus| &*bus.name);
        name.is_empty().then(|| unnamed(buses).unwrap_or_default().into())
    }

    fn count(&self) -> usize {
        self.buses.len()
    }
}

fn compiled(target: &str, rules: &RuleSet) -> Vec<Compiled> {
    rules.buses.iter().map(|bus| Compiled::new(target, bus, rules.payload)).collect()
}

impl Compiled {
    fn new(target: &str, bus: &Bus, payload: Payload) -> Self {
        if bus.everything {
            return Compiled::Everything;
        }
        if bus.rules.is_empty() {
            return Compiled::Nothing;
        }
        let patterns: Vec<_> = (0..).zip(bus.rules.iter().map(|rule| rule.pattern.clone())).collect();
        let (set, errors) = PatternSet::compile_lenient(Root::AwsEvent, &patterns);
        for error in errors {
            let rule = bus.rules.get(error.pattern as usize).map_or("", |rule| &rule.name);
            tracing::warn!(endpoint = target, bus = bus.name, rule, %error, "a rule's pattern cannot be matched here; all events are forwarded for it");
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
            needs: set.needs(),
            matcher: Box::new(Arc::new(set).matcher()),
            account: bus.account.clone().unwrap_or_default(),
        }
    }
}
