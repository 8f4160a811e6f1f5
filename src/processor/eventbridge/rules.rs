//! The rules of the event buses: which events EventBridge would do anything with.
//!
//! ```text
//! ListRules, page by page ── every 5 min ── RuleSet ── watch ──► routing, which matches each event as AWS would see it
//! ```
//!
//! A bus that is named by its ARN may be another account's: then the account that AWS will write into the event is not known here, and routing
//! forwards what only that would decide.

use std::sync::Arc;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::RuleState;
use serde_json::Value;

use super::blame;
use super::credentials::Secrets;
use crate::config::EventBus;
use crate::event::Payload;
use crate::limits::RULES_MAX;
use crate::processor::{Blame, Failure};

/// The rules of all buses at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// 0 until the rules were read once, then counted up with each change.
    pub generation: u64,
    pub region: String,
    /// How AWS will see `data`.
    pub payload: Payload,
    pub buses: Vec<Bus>,
}

/// An event bus: a destination of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Name or ARN, as configured.
    pub name: String,
    /// What [`DeliveryRequest::function`](crate::processor::DeliveryRequest) names this bus by: its name, whether or not there are others.
    pub function: Arc<str>,
    /// The account that AWS will write into events, where it is known.
    pub account: Option<String>,
    /// Every event goes there; `rules` is empty.
    pub everything: bool,
    /// An event that matches one of them goes there.
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
    /// The buses of a configuration, before anything is known of their rules.
    pub fn unread(region: &str, payload: Payload, buses: &[EventBus]) -> Self {
        let unread = buses.iter().map(|bus| Bus {
            name: bus.name.clone(),
            function: bus.name.as_str().into(),
            account: None,
            everything: bus.forward_all,
            rules: Vec::new(),
        });
        RuleSet { generation: 0, region: region.into(), payload, buses: unread.collect() }
    }
}

/// Which of `buses` what the store has under the processor's own name is for, which once was the name of an only bus: the only one, or the account's default
/// bus. `None` where it may be any of several.
pub fn unnamed<'a>(mut buses: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = buses.next()?;
    let Some(second) = buses.next() else { return Some(first) };
    [first, second]
        .into_iter()
        .chain(buses)
        .find(|bus| *bus == "default" || bus.ends_with(":event-bus/default"))
}

/// Reads the rules of one bus.
pub async fn read(
    client: &Client,
    target: &str,
    secrets: &Secrets,
    bus: &EventBus,
    unread: &Bus,
) -> Result<Bus, Failure> {
    let mut found = Bus { account: None, rules: Vec::new(), ..unread.clone() };
    if bus.forward_all {
        return Ok(found);
    }
    let foreign = bus.name.starts_with("arn:");
    let mut missing: Vec<&String> = bus.rules.iter().collect();
    let (mut next, mut seen) = (None, 0);
    loop {
        let page = client.list_rules().event_bus_name(&bus.name).limit(100).set_next_token(next).send().await;
        let page = page.map_err(|error| blame::of_call(target, secrets, &error))?;
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
            // A disabled rule does nothing, and a scheduled one nothing with events.
            let Some(pattern) = rule.event_pattern().filter(|_| rule.state() != Some(&RuleState::Disabled))
            else {
                continue;
            };
            let pattern = serde_json::from_str(pattern).map_err(|error| {
                unusable(target, &format!("the pattern of rule `{name}` is not JSON: {error}"))
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
        // Going on without it would drop its events unseen.
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
    fn a_bus_has_its_own_name_however_many_there_are() {
        let bus = |name: &str| EventBus { name: name.into(), rules: Vec::new(), forward_all: true };
        for names in [&["default"][..], &["default", "audit"]] {
            let buses: Vec<_> = names.iter().map(|name| bus(name)).collect();
            let read = RuleSet::unread("eu-central-1", Payload::Pascal, &buses);
            assert_eq!(read.buses.iter().map(|bus| &*bus.function).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn what_names_no_bus_is_for_the_only_one_or_the_default_one() {
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
