//! CloudEvents 1.0: how an event of a batch is written for a target, and the names by which functions
//! ask for events.

mod category;
pub mod envelope;
mod own;
mod pattern;
mod text;
pub mod topic;

pub use category::{class_of, type_of};
pub use envelope::{Envelope, EnvelopeError, EnvelopeOptions, size_estimate};
pub use pattern::{PatternScratch, pattern_event};
