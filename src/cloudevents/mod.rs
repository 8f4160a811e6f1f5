//! CloudEvents 1.0: events of a batch rendered for a target ([`envelope`]), seen by EventBridge
//! patterns ([`pattern_event`]), and selected by the topics of OpenFaaS functions ([`topic`]).

pub mod envelope;
mod generated;
mod own;
mod pattern;
pub mod settings;
mod text;
pub mod topic;

pub use crate::cloudevents::settings::EnvelopeOptions;
pub use crate::event::{class_of, type_of};
pub use envelope::{Envelope, EnvelopeError, size_estimate};
pub use pattern::{PatternScratch, SEVERITIES_UNREAD, asks_for_severity, pattern_event};
pub use text::is_encoded_in_headers;
