//! A processor around another one: it decides about requests, and leaves everything else to it.

use std::sync::Arc;

use super::{
    BatchSlice, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits, Selector,
};
use crate::supervise::Supervisor;

/// The delivery of a [`WrappedProcessor`].
pub trait Wrapping: Send + Sync + 'static {
    /// Delivers a request by `inner`, or not.
    fn deliver<'a>(
        &'a self,
        inner: &'a dyn Processor,
        request: &'a DeliveryRequest,
    ) -> BoxFuture<'a, DeliveryOutcome>;
}

/// A processor whose requests pass through a [`Wrapping`].
pub struct WrappedProcessor<W> {
    inner: Arc<dyn Processor>,
    wrapping: W,
}

impl<W: Wrapping> WrappedProcessor<W> {
    pub fn around(inner: Arc<dyn Processor>, wrapping: W) -> Arc<dyn Processor> {
        Arc::new(WrappedProcessor { inner, wrapping })
    }
}

impl<W: Wrapping> Processor for WrappedProcessor<W> {
    fn request_limits(&self) -> RequestLimits {
        self.inner.request_limits()
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        self.wrapping.deliver(&*self.inner, request)
    }

    fn start(self: Arc<Self>, supervisor: &Supervisor, name: &str) {
        Arc::clone(&self.inner).start(supervisor, name);
    }

    fn restore(&self, functions: Vec<Arc<str>>) {
        self.inner.restore(functions);
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        self.inner.ready()
    }

    fn selector(&self) -> Option<Box<dyn Selector>> {
        self.inner.selector()
    }

    fn preview(&self, slice: &BatchSlice, i: usize, function: &str) -> Option<String> {
        self.inner.preview(slice, i, function)
    }

    fn reopen(&self) -> bool {
        self.inner.reopen()
    }

    fn address(&self, function: &str) -> Option<String> {
        self.inner.address(function)
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        self.inner.check()
    }
}
