//! Selects the event buses that an event goes to. Each bus is a destination.
//!
//! It matches the rules as EventBridge would, so that only events that a rule wants leave the
//! router. Where a match cannot be decided here, the event is forwarded and EventBridge decides.

use std::sync::Arc;

use tokio::sync::watch;

use super::rules::{Bus, RuleSet, unnamed};
use crate::cloudevents::settings::Payload;
use crate::cloudevents::{PatternScratch, pattern_event};
use crate::event::{Batch, Selection};
use crate::processor::{Matches, Selector};
use eventpattern::{Matcher, Needs, PatternId, PatternSet, Root};

/// The event buses of one processor, as the routing thread sees them. The number of a subscriber is
/// the position of the bus in the configuration.
pub struct BusSelector {
    /// The endpoint that the rules come from, for the log.
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
    /// `target` is the endpoint that the rules come from, for the log.
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
                        // Another attribute becomes its `detail-type`, so let EventBridge decide.
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

    fn is_known(&self) -> bool {
        self.rules.borrow().generation > 0
    }

    fn configured(&self) -> Vec<Arc<str>> {
        self.current.buses.iter().map(|bus| Arc::clone(&bus.function)).collect()
    }

    /// Events that are stored under the processor's own name may be for any of several buses. They
    /// get a destination that keeps them and reports this.
    fn restored(&self, name: &str) -> Option<Arc<str>> {
        let buses = self.current.buses.iter().map(|bus| &*bus.name);
        name.is_empty().then(|| unnamed(buses).unwrap_or_default().into())
    }

    fn count(&self) -> usize {
        self.buses.len()
    }
}

fn compiled(target: &str, rules: &RuleSet) -> Vec<Compiled> {
    rules.buses.iter().map(|bus| Compiled::new(target, bus, rules)).collect()
}

impl Compiled {
    fn new(target: &str, bus: &Bus, rules: &RuleSet) -> Self {
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
            tracing::warn!(endpoint = target, bus = bus.name, rule, %error, "cannot match a rule's pattern; forwarding every event");
        }
        // The matcher sees the attributes of `format: router`.
        if rules.other_attributes {
            return Compiled::Everything;
        }
        // Time and extensions are rendered later, so EventBridge must decide rules about them.
        if set.needs().time || set.needs().extensions {
            return Compiled::Everything;
        }
        // The matcher sees `data` as PascalCase JSON, so EventBridge must decide about other
        // formats.
        if rules.payload != Payload::Pascal && set.needs().data {
            return Compiled::Everything;
        }
        Compiled::Rules {
            needs: set.needs(),
            matcher: Box::new(Arc::new(set).matcher()),
            account: bus.account.clone().unwrap_or_default(),
        }
    }
}
