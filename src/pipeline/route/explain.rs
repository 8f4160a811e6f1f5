//! Explains the decision of the routes about one event, for people.
//!
//! INVARIANT: an explanation and [`Route::step`](super::Route::step) agree about every event.

use std::fmt;
use std::time::Duration;

use super::Audience;
use crate::cloudevents::{PatternScratch, asks_for_severity, pattern_event};
use crate::config::scalar::show_duration;
use crate::event::Batch;
use crate::pipeline::settings::RouteSettings;
use crate::processor::Choice;
use eventpattern::{Explanation, Mismatch, Needs, Root};

/// The reason why a route does not take an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRefusal {
    /// The route is for other sources.
    Source,
    /// The pattern does not match; one reason for each of its alternatives.
    Pattern(Vec<Mismatch>),
    /// The event was older than `maxAge` when it was read.
    TooOld { age: Duration, max_age: Duration },
}

impl fmt::Display for RouteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteRefusal::Source => f.write_str("the route is for other sources"),
            RouteRefusal::Pattern(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                f.write_str(&reasons.join("; or "))
            }
            RouteRefusal::TooOld { age, max_age } => {
                let age = show_duration(Duration::from_secs(age.as_secs()));
                write!(f, "`maxAge` is {}; the event was {age} old when it was read", show_duration(*max_age))
            }
        }
    }
}

impl RouteSettings {
    /// The reason why this route does not take event `i` of `batch`; `None` if it takes it.
    ///
    /// The pattern must be valid, as that of every configuration is.
    pub fn refusal(&self, batch: &Batch, i: usize) -> Option<RouteRefusal> {
        if !self.sources.get(batch.source.index).copied().unwrap_or(false) {
            return Some(RouteRefusal::Source);
        }
        if let Some(pattern) = &self.pattern {
            let needs = Needs { id: true, time: true, extensions: true, data: true };
            let mut scratch = PatternScratch::new(asks_for_severity(pattern));
            let event = pattern_event(batch, i, needs, &mut scratch);
            if let Ok(Explanation::Refused(reasons)) =
                eventpattern::explain(Root::CloudEvent, pattern, &event)
            {
                return Some(RouteRefusal::Pattern(reasons));
            }
        }
        let (max_age, created_us) = (self.max_age?, batch.records[i].created_us?);
        let age_us = batch.produced_us.saturating_sub(created_us);
        let age = Duration::from_micros(u64::try_from(age_us).unwrap_or(0));
        // `Route` compares in whole microseconds.
        (age.as_micros() > max_age.as_micros()).then_some(RouteRefusal::TooOld { age, max_age })
    }
}

impl super::Route {
    /// Explains the choice among the functions or buses of a processor. `None` if the processor is
    /// a single destination, or its registry is not known.
    pub fn choices(&mut self, processor: usize, batch: &Batch, i: usize) -> Option<Vec<Choice>> {
        self.audiences.get_mut(processor)?.choices(batch, i)
    }
}

impl Audience {
    fn choices(&mut self, batch: &Batch, i: usize) -> Option<Vec<Choice>> {
        let selector = self.selector()?;
        selector.is_known().then(|| selector.explain(batch, i))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::super::Route;
    use super::*;
    use crate::event::testing::batch;
    use crate::pipeline::destination::Destinations;

    fn pattern() -> impl Strategy<Value = Option<Json>> {
        let known = [
            json!({"source": ["https://vc/sdk"]}),
            json!({"source": ["x"]}),
            json!({"time": [{"exists": false}]}),
            json!({"category": ["error", {"exists": false}]}),
            json!({"data": {"a": [1]}}),
            json!({"$or": [{"subject": ["x"]}, {"data": {"a": [{"exists": false}]}}]}),
        ];
        prop::option::of(prop::sample::select(known.to_vec()))
    }

    proptest! {
        #[test]
        fn explanations_agree_with_the_routes(
            routes in prop::collection::vec((pattern(), any::<bool>(), prop::option::of(0u64..4)), 1..6),
            created_us in 0i64..8,
        ) {
            let mut destinations = Destinations::default();
            let names: Vec<String> = (0..routes.len()).map(|at| format!("p{at}")).collect();
            let routes: Vec<RouteSettings> = routes
                .into_iter()
                .enumerate()
                .map(|(at, (pattern, from_here, max_age))| RouteSettings {
                    name: format!("r{at}"),
                    sources: vec![from_here],
                    pattern,
                    max_age: max_age.map(Duration::from_micros),
                    processors: vec![at],
                })
                .collect();
            let processors = names.iter().map(|name| (name.as_str(), None));
            let mut route = Route::new(&routes, processors, &mut destinations).unwrap();
            let mut batch = batch(0, &[(1, created_us)]);
            batch.produced_us = 6;
            let routed = route.step(&batch, &[], &mut destinations);
            let mut taken: Vec<usize> =
                routed.all.iter().map(|(id, _)| destinations.get(*id).processor).collect();
            taken.sort_unstable();
            let refusals = routes.iter().map(|route| route.refusal(&batch, 0));
            let explained: Vec<usize> =
                refusals.enumerate().filter(|(_, refusal)| refusal.is_none()).map(|(at, _)| at).collect();
            prop_assert_eq!(taken, explained);
        }
    }
}
