//! Selectors choose among a processor's own destinations.
//!
//! Most processors are a single destination and take every event that a route gives them. OpenFaaS
//! has a destination for each function, EventBridge one for each event bus. These are the
//! *subscribers* of the processor, and its selector matches events with them. The pipeline knows
//! subscribers only by number and name.
//!
//! INVARIANT: a subscriber keeps its number for as long as its selector lives.

use std::sync::Arc;

use crate::event::{Batch, Selection};

/// The number of a subscriber, which is a function or an event bus. Selectors assign small, dense
/// numbers.
pub type SubscriberId = u32;

/// Collects the matches of a [`Selector`].
pub trait Matches {
    /// Adds events for `subscriber`. `name` is called only when the subscriber appears for the
    /// first time.
    fn add(&mut self, subscriber: SubscriberId, name: &dyn Fn() -> Arc<str>, events: &Selection);
}

/// The decision about one event and one subscriber, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The subscriber's name.
    pub name: Arc<str>,
    /// The reason why the subscriber does not get the event; `None` if it gets it.
    pub refusal: Option<String>,
}

/// Finds the subscribers of one processor that want an event. It runs on the routing thread, and
/// never waits.
pub trait Selector: Send {
    /// Adds the `offered` events of `batch` to `matches`, for each subscriber that wants them.
    /// While the registry is not [known](Selector::is_known), the answer means nothing.
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches);

    /// Explains the decision about event `i` of `batch` for each known subscriber. It agrees with
    /// [`Selector::select`]. Not for the routing thread: it allocates.
    fn explain(&mut self, _batch: &Batch, _i: usize) -> Vec<Choice> {
        Vec::new()
    }

    /// Returns true once the registry of subscribers and their wishes is known in this run. It
    /// stays known. Until then nobody can say which subscribers want an event.
    fn is_known(&self) -> bool;

    /// The subscribers in the configuration, by number. They are destinations from the start.
    fn configured(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The names of discovered subscribers that events may go to now or soon. A checkpoint stores
    /// them, so that the next run waits for them. `None` if all subscribers are configured.
    fn listed(&self) -> Option<Vec<Arc<str>>> {
        None
    }

    /// The subscriber for events that an earlier run stored under `name`; empty for the processor's
    /// own name. `None` if no subscriber can take them.
    fn restored(&self, name: &str) -> Option<Arc<str>>;

    /// Number of subscribers that events may go to. It need not exceed two: the pipeline only asks
    /// whether a destination is the only one.
    fn count(&self) -> usize;
}
