//! Makes processors from their configuration: one line for each kind.

use std::sync::Arc;

use crate::cloudevents::{Envelope, EnvelopeError};
use crate::net::HttpError;
use crate::processor::Processor;
use crate::processor::blackhole::Blackhole;
use crate::processor::cloudevents::CloudEvents;
use crate::processor::console::Console;
use crate::processor::eventbridge::EventBridge;
use crate::processor::openfaas::OpenFaas;
use crate::settings::{self, ProcessorKind};

/// A processor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("processor `{name}`: {cause}")]
    Envelope { name: String, cause: EnvelopeError },
    #[error("processor `{name}`: {cause}")]
    Http { name: String, cause: Box<HttpError> },
}

/// Makes a processor from its configuration.
pub fn build(processor: &settings::ProcessorConfig) -> Result<Arc<dyn Processor>, BuildError> {
    let envelope = Envelope::new(processor.delivery.envelope.clone())
        .map_err(|cause| BuildError::Envelope { name: processor.name.clone(), cause })?;
    of_kind(&processor.kind, envelope)
        .map_err(|cause| BuildError::Http { name: processor.name.clone(), cause: Box::new(cause) })
}

fn of_kind(kind: &ProcessorKind, envelope: Envelope) -> Result<Arc<dyn Processor>, HttpError> {
    Ok(match kind {
        ProcessorKind::CloudEvents(settings) => Arc::new(CloudEvents::new(settings, envelope)?),
        ProcessorKind::Console => Arc::new(Console::new(envelope)),
        ProcessorKind::Blackhole => Arc::new(Blackhole),
        ProcessorKind::OpenFaas(settings) => Arc::new(OpenFaas::new(settings, envelope)?),
        ProcessorKind::EventBridge(settings) => Arc::new(EventBridge::new(settings, envelope)?),
    })
}
