//! The patterns of all routes, compiled into one matcher. Each event is matched once, whatever the
//! number of routes.

use std::sync::Arc;

use crate::cloudevents::{PatternScratch, asks_for_severity, pattern_event};
use crate::event::{Batch, Selection};
use crate::pipeline::settings::RouteSettings;
use eventpattern::{Matcher, Needs, PatternError, PatternId, PatternSet, Root};

/// The matcher, and the events of a batch that each route's pattern takes.
pub(super) struct Patterns {
    matcher: Matcher,
    needs: Needs,
    asks_for_severity: bool,
    matched: Vec<PatternId>,
    /// By route.
    taken: Vec<Selection>,
}

impl Patterns {
    /// Compiles the patterns. `None` if no route has one.
    pub fn of(routes: &[RouteSettings]) -> Result<Option<Self>, Vec<PatternError>> {
        let patterns: Vec<(PatternId, serde_json::Value)> =
            routes.iter().zip(0..).filter_map(|(route, id)| Some((id, route.pattern.clone()?))).collect();
        let set = PatternSet::compile(Root::CloudEvent, &patterns)?;
        Ok((!set.is_empty()).then(|| Patterns {
            needs: set.needs(),
            asks_for_severity: patterns.iter().any(|(_, pattern)| asks_for_severity(pattern)),
            matcher: Arc::new(set).matcher(),
            matched: Vec::new(),
            taken: vec![Selection::EMPTY; routes.len()],
        }))
    }

    /// Finds the events of `offered` that each route takes.
    pub fn step(&mut self, batch: &Batch, offered: &Selection) {
        self.taken.fill(Selection::EMPTY);
        let mut scratch = PatternScratch::new(self.asks_for_severity);
        for i in offered.iter() {
            self.matcher.matches(&pattern_event(batch, i, self.needs, &mut scratch), &mut self.matched);
            for route in &self.matched {
                self.taken[*route as usize].insert(i);
            }
        }
    }

    /// Events of the last batch that the route at `at` takes.
    pub fn taken(&self, at: usize) -> Selection {
        self.taken[at]
    }
}
