//! The events that a listener asks for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cloudevents::topic::{self, Topic};
use crate::cloudevents::{PatternScratch, asks_for_severity, pattern_event};
use crate::event::Batch;
use crate::limits::{TAP_LISTENERS_MAX, TAP_TYPES_MAX};
use crate::pipeline::destination::split_name;
use eventpattern::{Matcher, Needs, PatternId, PatternSet, Root};

/// A selection of events. The default takes all that are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TapFilter {
    /// An EventBridge pattern over the CloudEvent, with the attributes that routes see.
    pub pattern: Option<Json>,
    /// The name of a source.
    pub source: Option<String>,
    /// Names of types as in the topics of functions, of which one has to match: `VmPoweredOnEvent`,
    /// `vm.powered.*`. Empty for all.
    pub types: Vec<String>,
    /// The name of a destination, or of a processor for all of its destinations: the events of
    /// requests that it has answered are shown instead of those that are read.
    pub to: Option<String>,
    /// True if each event is shown with its request.
    pub with_request: bool,
}

/// The reason why nobody can listen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapRefusal {
    #[error("{TAP_LISTENERS_MAX} others watch events already; end one of them")]
    TooMany,
    #[error("the pattern has errors: {0}")]
    Pattern(String),
    #[error("at most {TAP_TYPES_MAX} types can be named; use a `*` or a pattern")]
    TooManyTypes,
}

impl TapFilter {
    /// Returns true if it wants events of this source when they are read.
    pub(super) fn takes_pages_of(&self, source: &str) -> bool {
        self.to.is_none() && self.takes_source(source)
    }

    /// Returns true if it wants the answered requests of this destination.
    pub(super) fn takes_requests_to(&self, destination: &str) -> bool {
        let Some(to) = &self.to else { return false };
        to == destination
            || split_name(destination).0 == to
            || (to.contains('/')
                && destination.strip_prefix(to.as_str()).is_some_and(|rest| rest.starts_with('.')))
    }

    pub(super) fn takes_source(&self, source: &str) -> bool {
        self.source.as_ref().is_none_or(|wanted| wanted == source)
    }

    pub(super) fn compiled(&self) -> Result<CompiledFilter, TapRefusal> {
        if self.types.len() > TAP_TYPES_MAX {
            return Err(TapRefusal::TooManyTypes);
        }
        let patterns: Vec<(PatternId, Json)> =
            self.pattern.iter().map(|pattern| (0, pattern.clone())).collect();
        let set = PatternSet::compile(Root::CloudEvent, &patterns).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            TapRefusal::Pattern(errors.join("; "))
        })?;
        Ok(CompiledFilter {
            filter: self.clone(),
            types: self.types.iter().map(|name| Topic::parse(name)).collect(),
            needs: set.needs(),
            asks_for_severity: self.pattern.as_ref().is_some_and(asks_for_severity),
            matcher: (!set.is_empty()).then(|| Arc::new(set).matcher()),
            matched: Vec::new(),
        })
    }
}

/// A filter that is ready to match.
pub(super) struct CompiledFilter {
    pub filter: TapFilter,
    types: Vec<Topic>,
    matcher: Option<Matcher>,
    needs: Needs,
    asks_for_severity: bool,
    matched: Vec<PatternId>,
}

impl CompiledFilter {
    /// Returns true if event `i` of `batch` is selected.
    pub fn selects(&mut self, batch: &Batch, i: usize) -> bool {
        if !self.filter.takes_source(&batch.source.name) {
            return false;
        }
        let record = &batch.records[i];
        if !self.types.is_empty() {
            let names = topic::names(record.category, topic::first_name(batch, record));
            let is_named = |topic: &Topic| names.iter().any(|name| !name.is_empty() && topic.matches(name));
            if !self.types.iter().any(is_named) {
                return false;
            }
        }
        let Some(matcher) = &mut self.matcher else { return true };
        let mut scratch = PatternScratch::new(self.asks_for_severity);
        matcher.matches(&pattern_event(batch, i, self.needs, &mut scratch), &mut self.matched);
        !self.matched.is_empty()
    }
}
