//! Takes everything and keeps nothing: what the router itself costs, without a target.

use super::{BoxFuture, Failure, Outcome, Processor, Request, Shape};

#[derive(Debug, Default)]
pub struct Blackhole;

impl Processor for Blackhole {
    fn shape(&self) -> Shape {
        Shape { events_max: usize::MAX, bytes_max: usize::MAX, partial: false }
    }

    fn deliver<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Outcome> {
        Box::pin(std::future::ready(Outcome::Delivered))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("takes everything and keeps nothing".into())))
    }
}
