//! The patterns of all routes, matched together: once an event, whatever the number of routes.

use std::sync::Arc;

use crate::cloudevents::{PatternScratch, pattern_event};
use crate::event::{Batch, Selection};
use crate::pipeline::settings::RouteSettings;
use eventpattern::{Matcher, Needs, PatternError, PatternId, PatternSet, Root};

/// Which events of a batch each route's pattern takes.
pub(super) struct Patterns {
    matcher: Matcher,
    needs: Needs,
    matched: Vec<PatternId>,
    /// By route.
    taken: Vec<Selection>,
}

impl Patterns {
    /// `None` where no route has a pattern.
    pub fn of(routes: &[RouteSettings]) -> Result<Option<Self>, Vec<PatternError>> {
        let patterns: Vec<(PatternId, serde_json::Value)> =
            routes.iter().zip(0..).filter_map(|(route, id)| Some((id, route.pattern.clone()?))).collect();
        let set = PatternSet::compile(Root::CloudEvent, &patterns)?;
        Ok((!set.is_empty()).then(|| Patterns {
            needs: set.needs(),
            matcher: Arc::new(set).matcher(),
            matched: Vec::new(),
            taken: vec![Selection::EMPTY; routes.len()],
        }))
    }

    /// Finds what each route takes of `offered`.
    pub fn step(&mut self, batch: &Batch, offered: &Selection) {
        self.taken.fill(Selection::EMPTY);
        let mut scratch = PatternScratch::default();
        for i in offered.iter() {
            self.matcher.matches(&pattern_event(batch, i, self.needs, &mut scratch), &mut self.matched);
            for route in &self.matched {
                self.taken[*route as usize].insert(i);
            }
        }
    }

    /// What the route at `at` takes of the last batch.
    pub fn taken(&self, at: usize) -> Selection {
        self.taken[at]
    }
}
