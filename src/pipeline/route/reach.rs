//! How far a processor reaches: which of its destinations an event goes to that a route gives it.

use std::sync::Arc;

use super::Routed;
use crate::event::{Batch, Selection};
use crate::pipeline::destination::{DestinationId, Destinations, name_of, split_name};
use crate::processor::{Part, Picks, Selector};

/// The destinations of one processor.
pub struct Reach {
    processor: usize,
    name: String,
    targets: Targets,
}

enum Targets {
    /// The processor is one destination and takes everything.
    Whole(DestinationId),
    /// Its selector picks among its parts, each of which is a destination.
    Parts { selector: Box<dyn Selector>, known: Known },
}

/// The destinations of parts, by part.
#[derive(Default)]
struct Known(Vec<Option<DestinationId>>);

impl Reach {
    /// Of the processor with this index and name.
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
                let ids = configured.iter().map(|part| Some(destinations.intern(processor, name, part)));
                Targets::Parts { known: Known(ids.collect()), selector }
            }
        };
        Reach { processor, name: name.into(), targets }
    }

    pub(super) fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        let Reach { processor, name, targets } = self;
        match targets {
            Targets::Whole(destination) => routed.add(*destination, offered),
            Targets::Parts { selector, known } => {
                let mut picks = Into { processor: *processor, name, known, destinations, routed };
                selector.select(batch, offered, &mut picks);
            }
        }
    }

    /// Destinations that it is; see [`Route::reached`](super::Route::reached).
    pub(super) fn count(&self) -> usize {
        match &self.targets {
            Targets::Whole(_) => 1,
            Targets::Parts { selector, .. } => selector.count(),
        }
    }

    /// The destination of this processor that a former run knew under `name`, whether or not its
    /// target has it now.
    pub(super) fn named(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let Targets::Parts { selector, .. } = &self.targets else { return None };
        let (processor, part) = split_name(name);
        if processor != self.name {
            return None;
        }
        Some(destinations.intern(self.processor, &self.name, &selector.restored(part)?))
    }

    /// The names of the listed parts that events may go to now or soon, as destinations; `None` of a
    /// processor whose parts are configured.
    pub(super) fn listed(&self) -> Option<Vec<String>> {
        let Targets::Parts { selector, .. } = &self.targets else { return None };
        let parts = selector.listed()?;
        Some(parts.iter().map(|part| name_of(&self.name, part)).collect())
    }

    pub(super) fn processor(&self) -> usize {
        self.processor
    }
}

/// Puts what a selector picks into `routed`.
struct Into<'a> {
    processor: usize,
    name: &'a str,
    known: &'a mut Known,
    destinations: &'a mut Destinations,
    routed: &'a mut Routed,
}

impl Picks for Into<'_> {
    fn add(&mut self, part: Part, name: &dyn Fn() -> Arc<str>, events: &Selection) {
        let at = part as usize;
        if self.known.0.len() <= at {
            self.known.0.resize(at + 1, None);
        }
        let destination = *self.known.0[at]
            .get_or_insert_with(|| self.destinations.intern(self.processor, self.name, &name()));
        self.routed.add(destination, events);
    }
}
