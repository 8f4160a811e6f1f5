//! Selectors: which of a processor's own destinations an event goes to.
//!
//! Most processors are one destination and take what routes give them. OpenFaaS has a destination for
//! each function, EventBridge one for each event bus: each is a *part* of its processor, and a
//! selector says which parts want an event. The pipeline knows parts by number and name only.
//!
//! INVARIANT: a part keeps its number for as long as its selector lives.

use std::sync::Arc;

use crate::event::{Batch, Selection};

/// A part of a processor: a function, an event bus. Small and dense, given out by the selector.
pub type SubscriberId = u32;

/// Takes what a [`Selector`] picked.
pub trait Matches {
    /// These events go to `subscriber`. The name is asked for when the part is seen for the first time.
    fn add(&mut self, subscriber: SubscriberId, name: &dyn Fn() -> Arc<str>, events: &Selection);
}

/// Picks the parts of one processor that want an event. Belongs to the routing thread, and never
/// waits.
pub trait Selector: Send {
    /// Adds the `offered` events of `batch` to the parts that want them.
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches);

    /// The parts that the configuration names, by number. They are destinations from the start.
    fn configured(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// Where parts come and go: the names of those that events may go to now or soon. A checkpoint
    /// names them, so that the next run waits for them. `None` where all parts are configured.
    fn listed(&self) -> Option<Vec<Arc<str>>> {
        None
    }

    /// The part that a former run stored under `name`, which is empty where it stored the
    /// processor's own name; `None` if no part can stand for it.
    fn restored(&self, name: &str) -> Option<Arc<str>>;

    /// How many parts events may go to. More than two are two: the pipeline asks whether a
    /// destination is alone.
    fn count(&self) -> usize;
}
