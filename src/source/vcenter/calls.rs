//! The calls of a source to its vCenter: within `maxCallsPerSecond`, counted, with the time-out and
//! the page size that suit the connection. A vCenter that answers nothing is noticed here.

use std::future::Future;
use std::pin::pin;
use std::sync::PoisonError;

use tokio::time::{Instant, timeout};

use super::api::EventApi;
use super::client::CallError;
use super::limits::SILENCE_TOLD;
use super::link::Link;
use super::page_size::PageSize;
use super::read_timeout::ReadTimeout;
use super::status::Method;
use vsphere::PageBody;
use vsphere::api::MoRef;

impl<A: EventApi> Link<A> {
    /// Makes one call within `maxCallsPerSecond` and counts it.
    pub async fn call<T>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        self.slots.take().await;
        let asked = Instant::now();
        let mut call = pin!(call);
        let answer = match timeout(SILENCE_TOLD, call.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.look_at_silence(method);
                call.await
            }
        };
        self.log_call(method, asked, answer.as_ref().err());
        self.note_call(method, answer.as_ref().err());
        answer
    }

    /// Notes a failure if vCenter has answered no call for `SILENCE_TOLD`. A wait for updates may
    /// take longer. So may a page over a slow link, which has a time-out of its own.
    fn look_at_silence(&self, method: Method) {
        let is_silent = self.status.since_answer().is_none_or(|silence| silence >= SILENCE_TOLD);
        if is_silent && method != Method::WaitForUpdatesEx && !self.status.is_page_coming() {
            let seconds = SILENCE_TOLD.as_secs();
            self.failed(format!("{}: vCenter has not answered for {seconds} s", method.as_str()));
        }
    }

    fn note_call(&self, method: Method, error: Option<&CallError>) {
        self.status.count_call(method, error.is_some());
        if error.is_none_or(|error| error.fault().is_some()) {
            self.status.set_answered();
        }
    }

    fn log_call(&self, method: Method, asked: Instant, error: Option<&CallError>) {
        let took_ms = asked.elapsed().as_millis() as u64;
        tracing::debug!(source = %self.name, method = method.as_str(), took_ms, error = error.map(tracing::field::display), "called vCenter");
    }

    /// The number of events to ask for in one read: `wanted`, or fewer if the connection cannot
    /// carry that many.
    pub fn page_events(&self, wanted: u32) -> u32 {
        self.page_size().limit(wanted)
    }

    /// Reads the next page of a collector. The read times out if it is silent for much longer than
    /// usual for this vCenter.
    pub async fn read_next(&self, collector: &MoRef, events: u32) -> Result<Option<PageBody>, CallError> {
        let silence_max = self.read_timeout().silence_max(self.settings.timeouts.call);
        self.slots.take().await;
        let asked = Instant::now();
        let coming = self.status.read();
        let answer = self.api.read_next(collector, events, silence_max).await;
        drop(coming);
        self.log_call(Method::ReadNextEvents, asked, answer.as_ref().err());
        self.note_call(Method::ReadNextEvents, answer.as_ref().err());
        match answer {
            Ok(read) => {
                self.read_timeout().arrived(read.silence);
                let bytes = read.page.as_ref().map_or(0, |page| page.bytes.len());
                self.page_size().arrived(events, bytes, read.transfer);
                Ok(read.page)
            }
            Err(error) => {
                if error.is_timeout() {
                    self.read_timeout().timed_out();
                    self.page_size().timed_out(events);
                } else if matches!(error, CallError::Lost { .. }) {
                    self.page_size().broke_off(events, asked.elapsed());
                }
                Err(error)
            }
        }
    }

    fn read_timeout(&self) -> std::sync::MutexGuard<'_, ReadTimeout> {
        self.read_timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page_size(&self) -> std::sync::MutexGuard<'_, PageSize> {
        self.page_size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
