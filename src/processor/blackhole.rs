//! Accepts every event and drops it, to measure the cost of the router itself.

use super::{BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits};

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
