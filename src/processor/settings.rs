//! The settings of one kind of processor, as the rest of the router sees them.
//!
//! A kind is registered by one line in `settings::processor`. Everything that differs between kinds
//! is asked of this trait, so that no other part of the router lists them.

use std::sync::Arc;

use crate::cloudevents::Envelope;
use crate::cloudevents::settings::EnvelopeOptions;
use crate::config::check::Env;
use crate::config::found::CheckedMap;
use crate::config::problem::Problems;
use crate::processor::Processor;

/// The reason why a processor cannot be made.
pub type MakeError = Box<dyn std::error::Error + Send + Sync>;

/// Makes processors of one kind, and describes them.
pub(crate) trait KindSettings {
    /// Makes the processor. Nothing is opened or contacted yet.
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError>;

    /// The address of the target for people to see, without secrets; empty if it has none.
    fn shown(&self) -> String;

    /// Adds what the environment says, and checks what depends on it.
    fn complete(
        &mut self,
        _envelope: &mut EnvelopeOptions,
        _found: &CheckedMap,
        _env: Env<'_>,
        _problems: &mut Problems,
    ) {
    }

    /// Returns true if functions or rules decide which events the processor takes.
    fn selects(&self) -> bool {
        false
    }
}
