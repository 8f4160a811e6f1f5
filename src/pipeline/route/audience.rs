//! The audience of a processor: its destinations.
//!
//! A route gives an event to a processor. The audience then chooses among the processor's
//! destinations.

use std::sync::Arc;

use super::Routed;
use crate::event::{Batch, Selection};
use crate::pipeline::destination::{
    DestinationId, Destinations, name_of, split_name, undecided_name, undecided_processor,
};
use crate::pipeline::undecided::Undecided;
use crate::processor::{BatchSlice, Matches, Selector, SubscriberId};

/// The destinations of one processor.
pub struct Audience {
    processor: usize,
    name: String,
    targets: Targets,
    /// The selector of changed settings, while its registry is not known.
    next: Option<Box<dyn Selector>>,
    undecided: Undecided,
    is_removed: bool,
}

enum Targets {
    /// The processor is a single destination, which takes every event.
    Whole(DestinationId),
    /// Each subscriber of the processor is a destination. Its selector chooses among them.
    Subscribers { selector: Box<dyn Selector>, known: SubscriberDestinations },
}

impl Targets {
    fn new(
        processor: usize,
        name: &str,
        selector: Option<Box<dyn Selector>>,
        destinations: &mut Destinations,
    ) -> Self {
        let Some(selector) = selector else {
            return Targets::Whole(destinations.intern(processor, name, ""));
        };
        let configured = selector.configured();
        let ids = configured.iter().map(|subscriber| Some(destinations.intern(processor, name, subscriber)));
        Targets::Subscribers { known: SubscriberDestinations(ids.collect()), selector }
    }
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
        let undecided = Undecided::new(selector.is_none());
        let targets = Targets::new(processor, name, selector, destinations);
        Audience { processor, name: name.into(), targets, next: None, undecided, is_removed: false }
    }

    /// Takes over the selector of changed settings. If the processor is live, its last registry
    /// decides until the new one is known: events must not wait for it on disk, ahead of those that
    /// wait in memory.
    pub(super) fn change(&mut self, selector: Option<Box<dyn Selector>>, destinations: &mut Destinations) {
        self.is_removed = false;
        self.next = None;
        match selector {
            Some(selector) if self.undecided.is_live() && !selector.is_known() => self.next = Some(selector),
            selector => self.targets = Targets::new(self.processor, &self.name, selector, destinations),
        }
    }

    pub(super) fn remove(&mut self) {
        self.is_removed = true;
        self.next = None;
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Adds the destinations of the `offered` events. While the processor is undecided, this is its
    /// pseudo-destination.
    pub(super) fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        if self.undecided.is_live() {
            self.decide(batch, offered, destinations, routed);
        } else {
            routed.add(self.pseudo_destination(destinations), offered);
        }
    }

    /// Adds the real destinations of the `offered` events.
    fn decide(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        let Audience { processor, name, targets, .. } = self;
        match targets {
            Targets::Whole(destination) => routed.add(*destination, offered),
            Targets::Subscribers { selector, known } => {
                let mut matches = MatchCollector { processor: *processor, name, known, destinations, routed };
                selector.select(batch, offered, &mut matches);
            }
        }
    }

    /// The real destinations of events that left the spool of the pseudo-destination.
    pub(super) fn destinations_of(
        &mut self,
        slice: &BatchSlice,
        destinations: &mut Destinations,
    ) -> Vec<(DestinationId, Selection)> {
        let mut routed = Routed::default();
        self.decide(&slice.batch, &slice.selection, destinations, &mut routed);
        routed.all
    }

    /// The queue of events that wait for the registry.
    pub(super) fn undecided(&mut self) -> &mut Undecided {
        &mut self.undecided
    }

    /// The selector among the destinations; `None` if there is only one.
    pub(super) fn selector(&mut self) -> Option<&mut dyn Selector> {
        match &mut self.targets {
            Targets::Whole(_) => None,
            Targets::Subscribers { selector, .. } => Some(&mut **selector),
        }
    }

    /// Returns true if the registry is known.
    pub(super) fn is_known(&self) -> bool {
        match &self.targets {
            Targets::Whole(_) => true,
            Targets::Subscribers { selector, .. } => selector.is_known(),
        }
    }

    /// Makes the processor live once its registry is known and no event waits for it. Switches to
    /// the selector of changed settings once its registry is known.
    pub(super) fn go_live(&mut self, destinations: &mut Destinations) {
        if let Some(selector) = self.next.take_if(|next| next.is_known()) {
            self.targets = Targets::new(self.processor, &self.name, Some(selector), destinations);
        }
        if !self.undecided.is_live() && self.is_known() {
            self.undecided.go_live();
        }
    }

    pub(super) fn pseudo_destination(&self, destinations: &mut Destinations) -> DestinationId {
        destinations.intern_undecided(self.processor, &self.name)
    }

    /// Returns true if `name` is that of the pseudo-destination of a configured processor.
    pub(super) fn is_undecided_name(&self, name: &str) -> bool {
        !self.is_removed && undecided_processor(name) == Some(&self.name)
    }

    pub(super) fn undecided_name(&self) -> String {
        undecided_name(&self.name)
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
        if self.is_removed {
            return None;
        }
        if self.is_undecided_name(name) {
            return Some(self.pseudo_destination(destinations));
        }
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
