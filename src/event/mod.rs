//! The data that flows through the router: a [`Batch`] is one page of events, a [`Record`] one
//! event.
//!
//! ```text
//! Batch ─┬─ arena: one run of bytes with the JSON and the names of all events
//!        ├─ records: one Record an event, of fixed size, with spans into the arena
//!        └─ source, page number, time of reading, share of the byte budget
//! ```
//!
//! An [`Identity`] distinguishes the events of one source. A [`Selection`] is a set of events
//! within one batch: stages and destinations pass the shared batch on with a selection, never
//! single events.
//!
//! INVARIANT: nothing here allocates per event, and nothing here reads a clock.

mod attributes;
mod batch;
mod category;
mod identity;
pub mod limits;
mod pushed;
mod selection;
mod sent;
pub mod severity;
mod sha1_lanes;
#[cfg(test)]
pub mod testing;

pub use attributes::{Attributes, Extension, ExtensionKind};
pub use batch::{Batch, Failed, Record, SourceInfo, lane_of};
pub use category::{class_of, type_of};
pub use identity::{Identity, event_id, identify, minute_of};
pub use pushed::{PUSHED_INSTANCE, PushedEvent};
pub use selection::Selection;
pub use severity::{Severity, TypeSeverities};
pub use vsphere::{Category, Span};
