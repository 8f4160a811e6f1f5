//! Writes events to stdout, one structured CloudEvent per line.
//!
//! The lines of a request are written at once, and flushed before the request counts as delivered.
//! A slow reader makes the destination wait. A reader that went away blames the target, so events
//! are kept until the router runs with an open stdout again.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::settings::{KindSettings, MakeError};
use super::{Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits};
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::limits::{CONSOLE_BYTES_MAX, CONSOLE_TIMEOUT};

settings! {
    /// Writes events to stdout, one JSON event per line.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ConsoleConfig in "", with defaults {}
}

impl KindSettings for ConsoleConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(Console::new(envelope)))
    }

    fn shown(&self) -> String {
        "stdout".into()
    }
}

/// Writes events as lines.
pub struct Console {
    envelope: Envelope,
    /// A write holds the lock until it ends, even after its time-out, so that lines never mix.
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
            // A full pipe blocks the thread, so do not use one of the runtime's few threads.
            let write = move || out.write_all(&lines).and_then(|()| out.flush());
            tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
        };
        let reason = match tokio::time::timeout(CONSOLE_TIMEOUT, written).await {
            Ok(Ok(())) => return DeliveryOutcome::Delivered,
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                "stdout was closed by its reader; start the router again with an open stdout".to_string()
            }
            Ok(Err(error)) => format!("cannot write to stdout: {error}"),
            Err(_) => {
                let seconds = CONSOLE_TIMEOUT.as_secs();
                format!("the reader of stdout read nothing within {seconds} s; check that it still runs")
            }
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
