//! Reads the rules of event buses, so that routing can leave out events that no rule wants.
//!
//! ```text
//! ListRules, page by page ── every 5 min ── RuleSet ── watch ──► routing, which matches each
//!                                                                event as AWS would see it
//! ```
//!
//! A bus that is named by its ARN may belong to another account. Then the account that AWS writes
//! into the event is unknown here, and routing forwards an event if only the account would decide.

use std::sync::Arc;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::RuleState;
use serde_json::Value;

use super::blame;
use crate::cloudevents::settings::{EnvelopeOptions, EventFormat, IdForm, Payload};
use crate::limits::RULES_MAX;
use crate::processor::eventbridge::settings::EventBus;
use crate::processor::{Blame, Failure};

/// The rules of all buses at one point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSet {
    /// 0 until the rules were read once, then incremented with each change.
    pub generation: u64,
    pub region: String,
    /// The format of `data` in the events that AWS sees.
    pub payload: Payload,
    /// True if AWS sees other attributes than routing does (`format`, `eventId`).
    pub other_attributes: bool,
    pub buses: Vec<Bus>,
}

/// An event bus: a destination of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Name or ARN, as configured.
    pub name: String,
    /// The name of this bus in [`DeliveryRequest::function`](crate::processor::DeliveryRequest).
    pub function: Arc<str>,
    /// The account that AWS writes into events, if it is known.
    pub account: Option<String>,
    /// True if every event goes to this bus; `rules` is empty then.
    pub everything: bool,
    /// An event goes to this bus if it matches any of them.
    pub rules: Vec<EventRule>,
}

/// An enabled rule with an event pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRule {
    pub name: String,
    pub arn: String,
    /// An EventBridge pattern over the whole AWS event, whose `detail` is the CloudEvent.
    pub pattern: Value,
}

impl RuleSet {
    /// The buses of a configuration, before their rules are read.
    pub fn unread(region: &str, envelope: &EnvelopeOptions, buses: &[EventBus]) -> Self {
        let unread = buses.iter().map(|bus| Bus {
            name: bus.name.clone(),
            function: bus.name.as_str().into(),
            account: None,
            everything: bus.forward_all,
            rules: Vec::new(),
        });
        RuleSet {
            generation: 0,
            region: region.into(),
            payload: envelope.payload,
            other_attributes: envelope.format != EventFormat::Router || envelope.event_id != IdForm::Uuid,
            buses: unread.collect(),
        }
    }
}

/// The bus for events that the store has under the processor's own name, as earlier releases stored
/// them for a single bus. It is the only bus, or else the account's default bus. `None` if it may
/// be any of several.
pub fn unnamed<'a>(mut buses: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = buses.next()?;
    let Some(second) = buses.next() else { return Some(first) };
    [first, second]
        .into_iter()
        .chain(buses)
        .find(|bus| *bus == "default" || bus.ends_with(":event-bus/default"))
}

/// Reads the rules of one bus.
pub async fn read(client: &Client, target: &str, bus: &EventBus, unread: &Bus) -> Result<Bus, Failure> {
    let mut found = Bus { account: None, rules: Vec::new(), ..unread.clone() };
    if bus.forward_all {
        return Ok(found);
    }
    // Read page by page, and keep the wanted rules that have a pattern.
    let foreign = bus.name.starts_with("arn:");
    let mut missing: Vec<&String> = bus.rules.iter().collect();
    let (mut next, mut seen) = (None, 0);
    loop {
        let page = client.list_rules().event_bus_name(&bus.name).limit(100).set_next_token(next).send().await;
        let page = page.map_err(|error| blame::of_call(target, &error))?;
        for rule in page.rules() {
            seen += 1;
            let (name, arn) = (rule.name().unwrap_or_default(), rule.arn().unwrap_or_default());
            let wanted = |configured: &&String| *configured == name || *configured == arn;
            if !bus.rules.is_empty() && !bus.rules.iter().any(|configured| wanted(&configured)) {
                continue;
            }
            missing.retain(|configured| !wanted(configured));
            if found.account.is_none() && !foreign {
                found.account = arn.split(':').nth(4).map(String::from);
            }
            // Skip disabled rules, and scheduled ones, which have no pattern.
            let Some(pattern) = rule.event_pattern().filter(|_| rule.state() != Some(&RuleState::Disabled))
            else {
                continue;
            };
            let pattern = serde_json::from_str(pattern).map_err(|error| {
                unusable(target, &format!("cannot parse the pattern of rule `{name}`: {error}"))
            })?;
            found.rules.push(EventRule { name: name.into(), arn: arn.into(), pattern });
        }
        next = page.next_token().map(String::from);
        if next.is_none() {
            break;
        }
        if seen >= RULES_MAX {
            return Err(unusable(
                target,
                &format!("bus `{}` has more than {RULES_MAX} rules; name those to use in `rules`", bus.name),
            ));
        }
    }
    match missing.first() {
        None => Ok(found),
        // Without this rule, its events would be dropped silently.
        Some(rule) => Err(unusable(
            target,
            &format!("there is no rule `{rule}` on bus `{}`; create it or correct `rules`", bus.name),
        )),
    }
}

fn unusable(target: &str, what: &str) -> Failure {
    Failure::new(Blame::Target, format!("{target}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_has_its_own_name_alone_or_among_others() {
        let bus = |name: &str| EventBus { name: name.into(), rules: Vec::new(), forward_all: true };
        for names in [&["default"][..], &["default", "audit"]] {
            let buses: Vec<_> = names.iter().map(|name| bus(name)).collect();
            let read = RuleSet::unread("eu-central-1", &EnvelopeOptions::default(), &buses);
            assert_eq!(read.buses.iter().map(|bus| &*bus.function).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn an_event_without_a_bus_goes_to_the_only_or_the_default_one() {
        let arn = "arn:aws:events:eu-central-1:123456789012:event-bus/default";
        let check = |buses: &[&'static str], expected| {
            assert_eq!(unnamed(buses.iter().copied()), expected, "{buses:?}")
        };
        check(&["audit"], Some("audit"));
        check(&["audit", "default"], Some("default"));
        check(&["default", "audit", "x"], Some("default"));
        check(&["audit", "x", arn], Some(arn));
        check(&["audit", "x"], None);
        check(&[], None);
    }
}
