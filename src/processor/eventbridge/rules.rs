//! The rules of the event buses: which events EventBridge would do anything with.
//!
//! ```text
//! ListRules, page by page ── every 5 min ── RuleSet ── watch ──► routing, which matches each event as AWS would see it
//! ```
//!
//! What cannot be known before EventBridge has the event (its AWS id, and on another account's bus the account) is taken out of a pattern:
//! such an event is forwarded, and EventBridge decides.

use std::sync::Arc;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::RuleState;
use serde_json::Value;

use super::fault;
use crate::config::EventBus;
use crate::event::envelope::{Rendering, push_escaped};
use crate::limits::RULES_MAX;
use crate::processor::{Failure, Fault};

/// The rules of all buses at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// 0 until the rules were read once, then counted up with each change.
    pub generation: u64,
    pub region: String,
    pub buses: Vec<Bus>,
}

/// An event bus: a destination of its own where there are several.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Name or ARN, as configured.
    pub name: String,
    /// What [`Request::function`](crate::processor::Request) names this bus by; empty for the only bus.
    pub function: Arc<str>,
    /// The account that its rules are in; `None` without rules.
    pub account: Option<String>,
    /// Every event goes there; `rules` is empty.
    pub everything: bool,
    /// An event that matches one of them goes there.
    pub rules: Vec<Rule>,
}

/// An enabled rule with an event pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub arn: String,
    /// An EventBridge pattern over the whole AWS event ([`RuleSet::aws_event`]).
    pub pattern: Value,
}

/// What a configured bus is called in requests.
pub fn function_of(bus: &EventBus, buses: usize) -> Arc<str> {
    if buses == 1 { "".into() } else { bus.name.as_str().into() }
}

impl RuleSet {
    /// Appends event `i` as EventBridge hands it to rules: what [`Rule::pattern`] is matched against.
    pub fn aws_event(&self, bus: &Bus, rendering: &Rendering<'_>, i: usize, out: &mut Vec<u8>) {
        let seconds = rendering.time_us(i).div_euclid(1_000_000);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string();
        let mut member = |name: &str, value: &[u8]| {
            out.extend_from_slice(if name == "version" { b"{\"" } else { b",\"" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":\"");
            push_escaped(out, value);
            out.push(b'"');
        };
        member("version", b"0");
        member("detail-type", rendering.detail_type(i).as_bytes());
        member("source", rendering.source().as_bytes());
        if let Some(account) = &bus.account {
            member("account", account.as_bytes());
        }
        member("time", time.as_bytes());
        member("region", self.region.as_bytes());
        out.extend_from_slice(b",\"resources\":[],\"detail\":");
        rendering.structured(i, out);
        out.push(b'}');
    }
}

/// Reads the rules of one bus.
pub async fn read(client: &Client, target: &str, bus: &EventBus, function: Arc<str>) -> Result<Bus, Failure> {
    let mut found = Bus {
        name: bus.name.clone(),
        function,
        account: None,
        everything: bus.forward_all,
        rules: Vec::new(),
    };
    if bus.forward_all {
        return Ok(found);
    }
    let foreign = bus.name.starts_with("arn:");
    let mut missing: Vec<&String> = bus.rules.iter().collect();
    let (mut next, mut seen) = (None, 0);
    loop {
        let page = client.list_rules().event_bus_name(&bus.name).limit(100).set_next_token(next).send().await;
        let page = page.map_err(|error| fault::of_call(target, &error))?;
        for rule in page.rules() {
            seen += 1;
            let (name, arn) = (rule.name().unwrap_or_default(), rule.arn().unwrap_or_default());
            let wanted = |configured: &&String| *configured == name || *configured == arn;
            if !bus.rules.is_empty() && !bus.rules.iter().any(|configured| wanted(&configured)) {
                continue;
            }
            missing.retain(|configured| !wanted(configured));
            if found.account.is_none() {
                found.account = arn.split(':').nth(4).map(String::from);
            }
            // A disabled rule does nothing, and a scheduled one nothing with events.
            let Some(pattern) = rule.event_pattern().filter(|_| rule.state() != Some(&RuleState::Disabled))
            else {
                continue;
            };
            let pattern = decidable(pattern, foreign).map_err(|error| {
                unusable(target, &format!("the pattern of rule `{name}` is not JSON: {error}"))
            })?;
            found.rules.push(Rule { name: name.into(), arn: arn.into(), pattern });
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

/// The pattern without what only EventBridge can know.
fn decidable(pattern: &str, foreign: bool) -> Result<Value, serde_json::Error> {
    let mut pattern: Value = serde_json::from_str(pattern)?;
    if let Some(members) = pattern.as_object_mut() {
        members.remove("id");
        if foreign {
            members.remove("account");
        }
    }
    Ok(pattern)
}

fn unusable(target: &str, what: &str) -> Failure {
    Failure { fault: Fault::Target, status: None, reason: format!("{target}: {what}"), wait: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_eventbridge_knows_is_taken_out_of_a_pattern() {
        let pattern = r#"{"id":["x"],"account":["1"],"detail":{"id":["y"]}}"#;
        assert_eq!(decidable(pattern, false).unwrap(), json!({"account": ["1"], "detail": {"id": ["y"]}}));
        assert_eq!(decidable(pattern, true).unwrap(), json!({"detail": {"id": ["y"]}}));
        assert!(decidable("{", false).is_err());
    }
}
