//! The settings of a route.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::ProcessorConfig;
use crate::config::SecretError;
use crate::config::declare::*;
use crate::event::Severity;
use crate::source::settings::SourceConfig;

/// A route: events of `sources` that match `pattern` and `severity` go to `processors`, unless they
/// are older than `max_age`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfig {
    pub name: String,
    /// Names, at least one.
    pub sources: Vec<String>,
    /// An EventBridge pattern over the CloudEvent; `None` matches everything.
    pub pattern: Option<Json>,
    /// Words of vSphere, in any order; empty for all.
    pub severity: Vec<String>,
    /// Age from which on an event is not sent, at the time when it is read.
    pub max_age: Option<Duration>,
    /// The line of the pattern, or else of the route, for errors in the pattern.
    pub line: usize,
    /// Names, at least one.
    pub processors: Vec<String>,
}

const NAMES: FieldType = FieldType::NonEmpty(&NAME);
const SEVERITIES: FieldType = FieldType::NonEmpty(&text(&SEVERITY));

/// A category of vCenter's event types.
static SEVERITY: TextFormat = TextFormat {
    allowed: "`info`, `warning`, `error` or `user`",
    check: |text| if Severity::of(text).is_some() { Ok(text.into()) } else { Err(SEVERITY.must()) },
    any_scalar: false,
};

/// The attribute that `severity` stands for.
const CATEGORY: &str = "category";

settings! {
    /// A route sends the events of its `sources` that match its `pattern` to its `processors`. If
    /// several routes send an event to the same processor, it arrives there once.
    #[derive(Debug)]
    pub(crate) struct RouteKeys in "routes" {
        /// Name in metrics and in the output of `event-router check`. Default: `route-1` for the
        /// first, and so on.
        name: String = key("name", NAME).or_empty();
        /// Names of sources. Default: all.
        sources: Vec<String> = key("sources", NAMES).also(&["source", "from"]);
        /// Pattern in the language of EventBridge that the CloudEvent must match, such as
        /// `{subject: [VmPoweredOnEvent, {prefix: com.vmware.vc.HA.}]}`. Patterns see the
        /// attributes of `format: router`, and always `severitytext`, `severitynumber` and
        /// `category`. Default: every event.
        pattern: Option<Json> =
            key("pattern", FieldType::Pattern).also(&["filter", "match", "when"]);
        /// vCenter's categories of events to send. Short for `{category: [error, …, {exists:
        /// false}]}` in the pattern, so events of an unknown category are sent too. Default: all.
        severity: Vec<String> = key("severity", SEVERITIES).also(&["severities"]);
        /// Longest time from the creation of an event to its reading by the router. Older events
        /// are counted and not sent, so a target gets no old alarms after an outage of the router.
        /// The clocks of both machines must agree. Default: no limit.
        max_age: Option<Duration> = key("maxAge", duration(SECOND, 365 * DAY));
        /// Names of processors.
        processors: Vec<String> = key("processors", NAMES).required().also(&["processor", "to"]);
    }
    check check_severity;
}

/// Reports a pattern that says something else about the attribute that `severity` stands for.
fn check_severity(found: &CheckedMap, problems: &mut Problems) {
    let names_it =
        matches!(found.value("pattern"), Some(Value::Pattern(pattern)) if pattern.get(CATEGORY).is_some());
    if names_it && found.is_given("severity") {
        let message = "`severity` and a pattern on `category` exclude each other; keep one";
        problems.error(found.line_of("severity"), &found.path_of("severity"), message);
    }
}

/// Name and sources are empty if the file does not name them.
impl FieldValue for RouteConfig {
    fn of(value: &Value) -> Option<Self> {
        let Value::Block(found) = value else { return None };
        let RouteKeys { name, sources, pattern, severity, max_age, processors } = RouteKeys::of(value)?;
        let line = found.line_of("pattern");
        Some(RouteConfig { name, sources, pattern, severity, max_age, line, processors })
    }

    fn out(&self, kind: FieldType) -> Result<Out, SecretError> {
        let RouteConfig { name, sources, pattern, severity, max_age, line: _, processors } = self.clone();
        RouteKeys { name, sources, pattern, severity, max_age, processors }.out(kind)
    }
}

impl RouteConfig {
    /// The pattern together with the one that `severity` stands for.
    pub fn whole_pattern(&self) -> Option<Json> {
        if self.severity.is_empty() {
            return self.pattern.clone();
        }
        let mut pattern = self.pattern.clone().unwrap_or_else(|| json!({}));
        let mut allowed: Vec<Json> = self.severity.iter().map(|word| json!(word)).collect();
        allowed.push(json!({"exists": false}));
        // Only an object passes the check of a file.
        if let Some(members) = pattern.as_object_mut() {
            members.insert(CATEGORY.into(), allowed.into());
        }
        Some(pattern)
    }

    /// The route of a file without routes: from all sources to all processors, except for those
    /// that take dead letters.
    pub fn all(sources: &[SourceConfig], processors: &[ProcessorConfig]) -> Self {
        let takes_dead_letters =
            |name: &str| processors.iter().any(|p| p.delivery.dead_letter.as_deref() == Some(name));
        RouteConfig {
            name: "all".into(),
            sources: sources.iter().map(|source| source.name.clone()).collect(),
            processors: processors
                .iter()
                .map(|processor| processor.name.clone())
                .filter(|name| !takes_dead_letters(name))
                .collect(),
            ..RouteConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_stands_for_a_pattern() {
        let check = |severity: &[&str], pattern: Option<Json>, expected: Option<Json>| {
            let severity = severity.iter().map(|word| (*word).to_owned()).collect();
            let route = RouteConfig { severity, pattern, ..RouteConfig::default() };
            assert_eq!(route.whole_pattern(), expected);
        };
        check(&[], None, None);
        check(&[], Some(json!({"subject": ["A"]})), Some(json!({"subject": ["A"]})));
        check(&["error"], None, Some(json!({"category": ["error", {"exists": false}]})));
        check(
            &["warning", "user"],
            Some(json!({"$or": [{"subject": ["A"]}, {"data": {"Key": [1]}}]})),
            Some(json!({
                "$or": [{"subject": ["A"]}, {"data": {"Key": [1]}}],
                "category": ["warning", "user", {"exists": false}],
            })),
        );
    }
}
