//! What flows through the router: a [`Batch`] is one page that a vCenter returned.
//!
//! ```text
//! Batch ── arena: one run of bytes, every event's JSON and names
//!       ├─ records: one small fixed-size Record an event, spans into the arena
//!       └─ source, page, produced, budget
//! ```
//!
//! Invariant: nothing here allocates per event, and nothing here reads a clock.

mod batch;
pub mod envelope;
mod identity;
mod selection;
mod sha1_lanes;
pub mod topic;

pub use batch::{Batch, Category, Failed, Record, SourceInfo, Span};
pub use envelope::{Envelope, EnvelopeError, EnvelopeOptions};
pub use identity::{Identity, event_id, identify, minute_of};
pub use selection::Selection;
