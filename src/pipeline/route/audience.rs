//! The audience of a processor: its destinations.
//!
//! A route gives an event to a processor. The audience then chooses among the processor's
//! destinations.

use std::sync::Arc;

use super::Routed;
use crate::event::{Batch, Selection};
use crate::pipeline::destination::{DestinationId, Destinations, name_of, split_name};
use crate::processor::{Matches, Selector, SubscriberId};

/// The destinations of one processor.
pub struct Audience {
    processor: usize,
    name: String,
    targets: Targets,
}

enum Targets {
    /// The processor is a single destination, which takes every event.
    Whole(DestinationId),
    /// Each subscriber of the processor is a destination. Its selector chooses among them.
    Subscribers { selector: Box<dyn Selector>, known: SubscriberDestinations },
}

/// Destinations by subscriber number.
#[derive(Default)]
struct SubscriberDestinations(Vec<Option<DestinationId>>);

impl Audience {
    /// Builds the audience of the processor with this index and name.
    pub fn new(
        processor: usize,
        name: &str,
        selector: Option<Box<dyn Selector>>,
        destinations: &mut Destinations,
    ) -> Self {
        let targets = match selector {
            None => Targets::Whole(destinations.intern(processor, name, "")),
            Some(selector) => {
                let configured = selector.configured();
                let ids = configured
                    .iter()
                    .map(|subscriber| Some(destinations.intern(processor, name, subscriber)));
                Targets::Subscribers { known: SubscriberDestinations(ids.collect()), selector }
            }
        };
        Audience { processor, name: name.into(), targets }
    }

    pub(super) fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        let Audience { processor, name, targets } = self;
        match targets {
            Targets::Whole(destination) => routed.add(*destination, offered),
            Targets::Subscribers { selector, known } => {
                let mut matches = MatchCollector { processor: *processor, name, known, destinations, routed };
                selector.select(batch, offered, &mut matches);
            }
        }
    }

    /// Number of destinations; see [`Route::reached`](super::Route::reached).
    pub(super) fn count(&self) -> usize {
        match &self.targets {
            Targets::Whole(_) => 1,
            Targets::Subscribers { selector, .. } => selector.count(),
        }
    }

    /// The destination of this processor that a former run knew as `name`, even if its target does
    /// not list it now.
    pub(super) fn named(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let Targets::Subscribers { selector, .. } = &self.targets else { return None };
        let (processor, subscriber) = split_name(name);
        if processor != self.name {
            return None;
        }
        Some(destinations.intern(self.processor, &self.name, &selector.restored(subscriber)?))
    }

    /// Destination names of the discovered subscribers that events may go to now or soon. `None`
    /// for a processor whose subscribers are configured.
    pub(super) fn listed(&self) -> Option<Vec<String>> {
        let Targets::Subscribers { selector, .. } = &self.targets else { return None };
        let subscribers = selector.listed()?;
        Some(subscribers.iter().map(|subscriber| name_of(&self.name, subscriber)).collect())
    }

    pub(super) fn processor(&self) -> usize {
        self.processor
    }
}

/// Adds the matches of a selector to `routed`.
struct MatchCollector<'a> {
    processor: usize,
    name: &'a str,
    known: &'a mut SubscriberDestinations,
    destinations: &'a mut Destinations,
    routed: &'a mut Routed,
}

impl Matches for MatchCollector<'_> {
    fn add(&mut self, subscriber: SubscriberId, name: &dyn Fn() -> Arc<str>, events: &Selection) {
        let at = subscriber as usize;
        if self.known.0.len() <= at {
            self.known.0.resize(at + 1, None);
        }
        let destination = *self.known.0[at]
            .get_or_insert_with(|| self.destinations.intern(self.processor, self.name, &name()));
        self.routed.add(destination, events);
    }
}
