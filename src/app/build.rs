//! Makes processors from their configuration.

use std::sync::Arc;

use crate::cloudevents::{Envelope, EnvelopeError};
use crate::processor::Processor;
use crate::processor::settings::MakeError;
use crate::settings;

/// A processor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("processor `{name}`: {cause}")]
    Envelope { name: String, cause: EnvelopeError },
    #[error("processor `{name}`: {cause}")]
    Processor { name: String, cause: MakeError },
}

/// Makes a processor from its configuration.
pub fn build(processor: &settings::ProcessorConfig) -> Result<Arc<dyn Processor>, BuildError> {
    let envelope = Envelope::new(processor.delivery.envelope.clone())
        .map_err(|cause| BuildError::Envelope { name: processor.name.clone(), cause })?;
    let made = processor.kind.settings().make(envelope);
    made.map_err(|cause| BuildError::Processor { name: processor.name.clone(), cause })
}
