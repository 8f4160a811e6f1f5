//! Accepts every event and drops it, to measure the cost of the router itself.

use std::sync::Arc;

use super::settings::{KindSettings, MakeError};
use super::{BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits};
use crate::cloudevents::Envelope;
use crate::config::declare::*;

settings! {
    /// Accepts every event and drops it, for measurements.
    #[derive(Clone, Debug, PartialEq)]
    pub struct BlackholeConfig in "", with defaults {}
}

impl KindSettings for BlackholeConfig {
    fn make(&self, _: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(Blackhole))
    }

    fn shown(&self) -> String {
        String::new()
    }
}

#[derive(Debug, Default)]
pub struct Blackhole;

impl Processor for Blackhole {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: usize::MAX, bytes_max: usize::MAX, partial: false }
    }

    fn deliver<'a>(&'a self, _: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(std::future::ready(DeliveryOutcome::Delivered))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("accepts every event and drops it".into())))
    }
}
