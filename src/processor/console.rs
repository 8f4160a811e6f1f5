//! One structured CloudEvent a line on stdout.
//!
//! Lines of one request are written in one go and flushed before it counts as delivered. A reader that is slow makes the destination wait; one that is
//! gone fails it (a target's fault: events are kept until the router runs with an open stdout).

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits};
use crate::cloudevents::Envelope;
use crate::limits::{CONSOLE_BYTES_MAX, CONSOLE_TIMEOUT};

/// Writes events as lines.
pub struct Console {
    envelope: Envelope,
    /// Held by a write until it ends, however long after its time-out that is: lines never mix.
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Console {
    /// Writes to stdout.
    pub fn new(envelope: Envelope) -> Self {
        Self::over(envelope, Box::new(io::stdout()))
    }

    /// Writes to `out`.
    pub fn over(envelope: Envelope, out: Box<dyn Write + Send>) -> Self {
        Console { envelope, out: Arc::new(Mutex::new(out)) }
    }

    async fn write(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        let lines = super::lines(&self.envelope, request);
        let written = async {
            let mut out = Arc::clone(&self.out).lock_owned().await;
            // A pipe whose reader sleeps blocks the thread, which must not be one of the runtime's few.
            let write = move || out.write_all(&lines).and_then(|()| out.flush());
            tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
        };
        let reason = match tokio::time::timeout(CONSOLE_TIMEOUT, written).await {
            Ok(Ok(())) => return DeliveryOutcome::Delivered,
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                "stdout was closed by its reader; start the router again with an open stdout".to_string()
            }
            Ok(Err(error)) => format!("cannot write to stdout: {error}"),
            Err(_) => format!("the reader of stdout took nothing within {} s", CONSOLE_TIMEOUT.as_secs()),
        };
        DeliveryOutcome::Failed(Failure::new(Blame::Target, reason))
    }
}

impl Processor for Console {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: usize::MAX, bytes_max: CONSOLE_BYTES_MAX, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.write(request))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("writes to stdout".into())))
    }
}
