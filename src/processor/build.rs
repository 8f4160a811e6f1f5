//! From a processor's configuration to the processor: one line a kind.

use std::sync::Arc;

use super::Processor;
use super::blackhole::Blackhole;
use super::cloudevents::CloudEvents;
use super::console::Console;
use super::eventbridge::EventBridge;
use super::openfaas::OpenFaas;
use crate::cloudevents::{Envelope, EnvelopeError, EnvelopeOptions};
use crate::config::{self, ProcessorKind};
use crate::net::HttpError;

/// A processor that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("processor `{name}`: {cause}")]
    Envelope { name: String, cause: EnvelopeError },
    #[error("processor `{name}`: {cause}")]
    Http { name: String, cause: Box<HttpError> },
}

/// Makes a processor of its configuration.
pub fn build(processor: &config::ProcessorConfig) -> Result<Arc<dyn Processor>, BuildError> {
    let name = || processor.name.clone();
    let envelope = Envelope::new(envelope_options(&processor.delivery))
        .map_err(|cause| BuildError::Envelope { name: name(), cause })?;
    Ok(match &processor.kind {
        ProcessorKind::CloudEvents(settings) => Arc::new(
            CloudEvents::new(settings, envelope)
                .map_err(|cause| BuildError::Http { name: name(), cause: Box::new(cause) })?,
        ),
        ProcessorKind::Console => Arc::new(Console::new(envelope)),
        ProcessorKind::Blackhole => Arc::new(Blackhole),
        ProcessorKind::OpenFaas(settings) => Arc::new(
            OpenFaas::new(settings, envelope)
                .map_err(|cause| BuildError::Http { name: name(), cause: Box::new(cause) })?,
        ),
        ProcessorKind::EventBridge(settings) => Arc::new(
            EventBridge::new(settings, envelope)
                .map_err(|cause| BuildError::Http { name: name(), cause: Box::new(cause) })?,
        ),
    })
}

/// How a processor with these settings writes its events.
pub fn envelope_options(delivery: &config::DeliveryPolicy) -> EnvelopeOptions {
    EnvelopeOptions {
        time: delivery.time,
        payload: delivery.payload,
        extensions: delivery.extensions.clone(),
    }
}
