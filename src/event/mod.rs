//! What flows through the router: a [`Batch`] is one page that a vCenter returned.
//!
//! ```text
//! Batch ── arena: one run of bytes, every event's JSON and names
//!       ├─ records: one small fixed-size Record an event, spans into the arena
//!       └─ source, page, produced, budget
//! ```
//!
//! Invariant: nothing here allocates per event, and nothing here reads a clock.

mod attributes;
mod batch;
mod form;
mod identity;
mod pushed;
mod selection;
mod sent;
mod sha1_lanes;
#[cfg(test)]
pub mod testing;

pub use attributes::{Attributes, Extension, ExtensionKind};
pub use batch::{Batch, Failed, Record, SourceInfo, lane_of};
pub use form::{EventTime, Extensions, Payload};
pub use identity::{Identity, event_id, identify, minute_of};
pub use pushed::PushedEvent;
pub use selection::Selection;
pub use vsphere::{Category, Span};
