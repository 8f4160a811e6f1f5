//! The box "try a pattern": matches a pattern against the recent events.

use std::sync::Arc;

use crate::cloudevents::{SEVERITIES_UNREAD, asks_for_severity};
use eventpattern::{Event, ExtensionValue, PatternSet, Root};
use serde::Serialize;
use serde_json::Value;

use crate::admin::model::RecentEventStatus;
use crate::limits::{PAGE_PATTERN_REASONS_MAX, REASON_BYTES_MAX};
use crate::outside;

/// The result of a try.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tried {
    pub matched: Vec<MatchedEvent>,
    /// The reasons why the latest event does not match, if none matches.
    pub reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct MatchedEvent {
    subject: String,
    source: String,
    read: String,
    /// The event as indented JSON.
    event: String,
}

/// Tries a pattern. `reads_severities`: the router knows the severities of events.
///
/// # Errors
/// Returns the first error of the pattern, in words.
pub(super) fn try_pattern(
    text: &str,
    events: &[RecentEventStatus],
    reads_severities: bool,
) -> Result<Tried, String> {
    let shown = |error: &dyn std::fmt::Display| outside::display(error, REASON_BYTES_MAX);
    let pattern: Value =
        serde_json::from_str(text).map_err(|error| format!("this is no JSON: {}", shown(&error)))?;
    let set = PatternSet::compile(Root::CloudEvent, &[(0, pattern.clone())])
        .map_err(|errors| errors.first().map_or_else(|| "no pattern".to_owned(), |error| shown(error)))?;
    if asks_for_severity(&pattern) && !reads_severities {
        return Err(SEVERITIES_UNREAD.to_owned());
    }
    let mut matcher = Arc::new(set).matcher();
    let mut tried = Tried::default();
    let mut found = Vec::new();
    for recent in events {
        found.clear();
        with_event(&recent.event, |event| matcher.matches(event, &mut found));
        if !found.is_empty() {
            tried.matched.push(MatchedEvent {
                subject: text_of(&recent.event, "subject").to_owned(),
                source: recent.source.clone(),
                read: recent.read.clone(),
                event: indented(&recent.event),
            });
        }
    }
    if let (true, Some(latest)) = (tried.matched.is_empty(), events.first()) {
        let explained =
            with_event(&latest.event, |event| eventpattern::explain(Root::CloudEvent, &pattern, event));
        if let Ok(eventpattern::Explanation::Refused(reasons)) = explained {
            let reasons = reasons.iter().take(PAGE_PATTERN_REASONS_MAX);
            tried.reasons = reasons.map(|reason| shown(reason)).collect();
        }
    }
    Ok(tried)
}

/// An event as indented JSON, safe to show.
pub(super) fn indented(event: &Value) -> String {
    outside::lines(&serde_json::to_string_pretty(event).unwrap_or_default())
}

fn text_of<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

/// Calls `work` with a structured CloudEvent in the form of the pattern engine.
fn with_event<T>(event: &Value, work: impl FnOnce(&Event<'_>) -> T) -> T {
    const ATTRIBUTES: [&str; 8] =
        ["id", "source", "specversion", "type", "subject", "time", "data", "datacontenttype"];
    let data = serde_json::to_vec(&event["data"]).unwrap_or_default();
    let members = event.as_object().into_iter().flatten();
    let extensions: Vec<_> = members
        .filter(|(name, _)| !ATTRIBUTES.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str(), extension(value)?)))
        .collect();
    work(&Event {
        source: text_of(event, "source"),
        event_type: text_of(event, "type"),
        subject: text_of(event, "subject"),
        id: text_of(event, "id"),
        time: text_of(event, "time"),
        datacontenttype: text_of(event, "datacontenttype"),
        extensions: &extensions,
        data: &data,
        ..Event::default()
    })
}

fn extension(value: &Value) -> Option<ExtensionValue<'_>> {
    match value {
        Value::String(text) => Some(ExtensionValue::Text(text)),
        Value::Bool(is) => Some(ExtensionValue::Boolean(*is)),
        value => value.as_i64().map(ExtensionValue::Integer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recent(subject: &str) -> RecentEventStatus {
        let event = json!({"id": "1", "source": "https://vc/sdk", "type": "t", "subject": subject,
            "data": {"Vm": {"Name": "web-1"}}, "datacontenttype": "application/json", "site": "b"});
        RecentEventStatus { source: "vc".into(), read: "now".into(), event }
    }

    #[test]
    fn a_pattern_is_tried_on_attributes_extensions_and_data() {
        let events = [recent("VmPoweredOnEvent"), recent("VmPoweredOffEvent")];
        let check = |pattern: Value, expected: usize| {
            let tried = try_pattern(&pattern.to_string(), &events, false).expect("a pattern");
            assert_eq!(tried.matched.len(), expected, "{pattern}: {tried:?}");
            assert_eq!(tried.reasons.is_empty(), expected > 0, "{pattern}: {tried:?}");
        };
        check(json!({"subject": ["VmPoweredOnEvent"]}), 1);
        check(json!({"data": {"Vm": {"Name": [{"prefix": "web"}]}}}), 2);
        check(json!({"site": ["b"]}), 2);
        check(json!({"subject": ["Other"]}), 0);
    }

    #[test]
    fn an_error_is_told_in_words() {
        let severity = r#"{"category": ["error"]}"#;
        assert!(try_pattern(severity, &[], false).unwrap_err().contains("severity"));
        assert!(try_pattern(severity, &[], true).is_ok());
        assert!(try_pattern("{", &[], true).unwrap_err().contains("no JSON"));
        assert!(!try_pattern(r#"{"subject": "text"}"#, &[], true).unwrap_err().is_empty());
    }
}
