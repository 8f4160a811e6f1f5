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
use crate::limits::EXPLAINED_RULES_MAX;
use crate::processor::{Choice, Matches, Selector};
use eventpattern::{Event, Explanation, Matcher, Needs, PatternId, PatternSet, Root, explain};

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

/// Event `i` as a rule of a bus with this account sees it; `None` if only EventBridge can decide,
/// since another attribute becomes the `detail-type`.
fn rule_event<'s, 'a: 's>(
    batch: &'a Batch,
    i: usize,
    needs: Needs,
    (account, rules): (&'s str, &'s RuleSet),
    scratch: &'s mut PatternScratch<'a>,
) -> Option<Event<'s>> {
    let record = &batch.records[i];
    if record.subject.is_empty() && !record.attributes.is_empty() {
        return None;
    }
    let mut event = pattern_event(batch, i, needs, scratch);
    (event.account, event.region) = (account, &*rules.region);
    if rules.payload == Payload::Xml && record.attributes.is_empty() {
        event.datacontenttype = "application/xml";
    }
    Some(event)
}

impl BusSelector {
    fn update(&mut self) {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        if !Arc::ptr_eq(&rules, &self.current) {
            self.buses = compiled(&self.target, &rules);
            self.current = rules;
        }
    }
}

impl Selector for BusSelector {
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches) {
        self.update();
        let current = Arc::clone(&self.current);
        let mut scratch = PatternScratch::default();
        for (subscriber, bus) in (0..).zip(&mut self.buses) {
            let taken = match bus {
                Compiled::Everything => *offered,
                Compiled::Nothing => continue,
                Compiled::Rules { matcher, needs, account } => offered
                    .iter()
                    .filter(|i| {
                        let seen_as = (&**account, &*current);
                        let Some(event) = rule_event(batch, *i, *needs, seen_as, &mut scratch) else {
                            return true;
                        };
                        matcher.matches(&event, &mut self.matched);
                        !self.matched.is_empty()
                    })
                    .collect(),
            };
            let name = || Arc::clone(&self.current.buses[subscriber as usize].function);
            matches.add(subscriber, &name, &taken);
        }
    }

    fn explain(&mut self, batch: &Batch, i: usize) -> Vec<Choice> {
        self.update();
        let mut scratch = PatternScratch::default();
        let mut choices = Vec::new();
        for (bus, compiled) in self.current.buses.iter().zip(&self.buses) {
            let refusal = match compiled {
                Compiled::Everything => None,
                Compiled::Nothing => Some("the bus has no enabled rule with a pattern".to_owned()),
                Compiled::Rules { needs, account, .. } => {
                    rule_event(batch, i, *needs, (account, &self.current), &mut scratch)
                        .and_then(|event| refusal(bus, &event))
                }
            };
            choices.push(Choice { name: Arc::clone(&bus.function), refusal });
        }
        choices
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

/// The reasons why no rule of `bus` wants the event; `None` if one may want it.
fn refusal(bus: &Bus, event: &Event<'_>) -> Option<String> {
    let mut reasons = Vec::new();
    for rule in &bus.rules {
        // A pattern that cannot be compiled here counts as matching.
        let Ok(Explanation::Refused(refused)) = explain(Root::AwsEvent, &rule.pattern, event) else {
            return None;
        };
        if reasons.len() < EXPLAINED_RULES_MAX {
            let first = refused.first().map(ToString::to_string).unwrap_or_default();
            reasons.push(format!("rule `{}`: {first}", rule.name));
        }
    }
    let more = bus.rules.len() - reasons.len();
    let more = if more == 0 { String::new() } else { format!("; and {more} more rules") };
    Some(reasons.join("; ") + &more)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::EventRule;
    use super::*;
    use crate::cloudevents::EnvelopeOptions;
    use crate::config::declare::defaults;
    use crate::event::testing::batch;
    use crate::processor::SubscriberId;

    #[derive(Default)]
    struct Found(Vec<String>);

    impl Matches for Found {
        fn add(&mut self, _: SubscriberId, name: &dyn Fn() -> Arc<str>, events: &Selection) {
            self.0.extend((!events.is_empty()).then(|| name().to_string()));
        }
    }

    #[test]
    fn explanations_agree_with_the_selection() {
        let bus = |name: &str, everything, patterns: &[serde_json::Value]| Bus {
            name: name.into(),
            function: name.into(),
            account: None,
            everything,
            rules: patterns
                .iter()
                .map(|pattern| EventRule { name: "r".into(), arn: String::new(), pattern: pattern.clone() })
                .collect(),
        };
        let other = json!({"source": ["aws.ec2"]});
        let ours = json!({"source": [{"suffix": "/sdk"}]});
        let buses = vec![
            bus("all", true, &[]),
            bus("none", false, &[]),
            bus("other", false, std::slice::from_ref(&other)),
            bus("ours", false, &[other.clone(), ours]),
            bus("invalid", false, &[json!({"source": [{"new": 1}]})]),
            bus("many", false, &vec![other; EXPLAINED_RULES_MAX + 2]),
        ];
        let unread = RuleSet::unread("eu-west-1", &defaults::<EnvelopeOptions>(), &[]);
        let (_keep, rules) = watch::channel(Arc::new(RuleSet { generation: 1, buses, ..unread }));
        let mut selector = BusSelector::new("https://events", rules);
        let batch = batch(0, &[(1, 1)]);
        let mut found = Found::default();
        selector.select(&batch, &Selection::one(0), &mut found);
        let choices = selector.explain(&batch, 0);
        let taken = choices.iter().filter(|choice| choice.refusal.is_none());
        assert_eq!(taken.map(|choice| choice.name.to_string()).collect::<Vec<_>>(), found.0);
        assert_eq!(found.0, ["all", "ours", "invalid"]);
        let reasons: Vec<_> = choices.iter().filter_map(|choice| choice.refusal.as_deref()).collect();
        assert_eq!(
            reasons[..2],
            [
                "the bus has no enabled rule with a pattern",
                r#"rule `r`: `$.source` allows ["aws.ec2"]; the event has "https://vc/sdk""#
            ]
        );
        assert!(reasons[2].ends_with("; and 2 more rules"), "{reasons:?}");
    }
}
