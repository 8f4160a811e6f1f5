//! The patterns of all routes, matched together: once an event, whatever the number of routes.

use std::sync::Arc;

use crate::cloudevents::type_of;
use crate::event::{Batch, Selection};
use crate::pipeline::settings::RouteSettings;
use eventpattern::{Event, Matcher, Needs, PatternError, PatternId, PatternSet, Root};

/// The event at `i` as patterns see it, without the attributes that the set does not need.
fn pattern_event<'a>(
    batch: &'a Batch,
    i: usize,
    needs: Needs,
    id: &'a mut [u8; uuid::fmt::Hyphenated::LENGTH],
) -> Event<'a> {
    let record = &batch.records[i];
    Event {
        source: &batch.source.url,
        event_type: type_of(record.category),
        subject: batch.text(record.subject),
        id: if needs.id { record.id.hyphenated().encode_lower(id) } else { "" },
        time: if needs.time { batch.text(record.created_text) } else { "" },
        datacontenttype: "application/json",
        data: if needs.data { batch.bytes(record.data) } else { b"" },
        ..Event::default()
    }
}

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
        for i in offered.iter() {
            let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
            self.matcher.matches(&pattern_event(batch, i, self.needs, &mut id), &mut self.matched);
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
