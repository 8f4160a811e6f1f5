//! The settings of a route.

use super::ProcessorConfig;
use crate::config::SecretError;
use crate::config::declare::*;
use crate::source::settings::SourceConfig;

/// A route: events of `sources` that match `pattern` go to `processors`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    pub name: String,
    /// Names, at least one.
    pub sources: Vec<String>,
    /// An EventBridge pattern over the CloudEvent; `None` matches everything.
    pub pattern: Option<serde_json::Value>,
    /// The line of the pattern, or else of the route, for errors in the pattern.
    pub line: usize,
    /// Names, at least one.
    pub processors: Vec<String>,
}

const NAMES: FieldType = FieldType::NonEmpty(&NAME);

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
        /// `{subject: [VmPoweredOnEvent, {prefix: com.vmware.vc.HA.}]}`. Default: every event.
        pattern: Option<serde_json::Value> =
            key("pattern", FieldType::Pattern).also(&["filter", "match", "when"]);
        /// Names of processors.
        processors: Vec<String> = key("processors", NAMES).required().also(&["processor", "to"]);
    }
}

/// Name and sources are empty if the file does not name them.
impl FieldValue for RouteConfig {
    fn of(value: &Value) -> Option<Self> {
        let Value::Block(found) = value else { return None };
        let RouteKeys { name, sources, pattern, processors } = RouteKeys::of(value)?;
        Some(RouteConfig { name, sources, pattern, line: found.line_of("pattern"), processors })
    }

    fn out(&self, kind: FieldType) -> Result<Out, SecretError> {
        let RouteConfig { name, sources, pattern, line: _, processors } = self.clone();
        RouteKeys { name, sources, pattern, processors }.out(kind)
    }
}

impl RouteConfig {
    /// The route of a file without routes: from all sources to all processors, except for those
    /// that take dead letters.
    pub fn all(sources: &[SourceConfig], processors: &[ProcessorConfig]) -> Self {
        let takes_dead_letters =
            |name: &str| processors.iter().any(|p| p.delivery.dead_letter.as_deref() == Some(name));
        RouteConfig {
            name: "all".into(),
            sources: sources.iter().map(|source| source.name.clone()).collect(),
            pattern: None,
            line: 0,
            processors: processors
                .iter()
                .map(|processor| processor.name.clone())
                .filter(|name| !takes_dead_letters(name))
                .collect(),
        }
    }
}
