//! Writes events to stdout, one structured CloudEvent per line. Characters that control a terminal
//! or reorder text are escaped as JSON does it, so the value of the event stays the same.
//!
//! The lines of a request are written at once, and flushed before the request counts as delivered.
//! A slow reader makes the destination wait. A reader that went away blames the target, so events
//! are kept until the router runs with an open stdout again.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::settings::{KindSettings, MakeError};
use super::{
    BatchSlice, Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::limits::{CONSOLE_BYTES_MAX, CONSOLE_TIMEOUT};
use crate::outside;

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
            let write = move || write_safe(&mut **out, &lines).and_then(|()| out.flush());
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

    fn preview(&self, slice: &BatchSlice, i: usize, _: &str) -> Option<String> {
        Some(super::shown_line(&self.envelope, slice, i))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("writes to stdout".into())))
    }
}

/// Writes lines of JSON, in which [`outside::escaped_json`] escapes characters.
fn write_safe(out: &mut dyn Write, lines: &[u8]) -> io::Result<()> {
    // The usual case is one write of all lines.
    if std::str::from_utf8(lines).is_ok_and(|text| text.lines().all(is_safe)) {
        return out.write_all(lines);
    }
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        // Rendered events are always UTF-8.
        let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        out.write_all(outside::escaped_json(&line).as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn is_safe(line: &str) -> bool {
    matches!(outside::escaped_json(line), Cow::Borrowed(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_neither_control_a_terminal_nor_reorder_its_text() {
        let check = |given: &str, expected: &str| {
            let mut out = Vec::new();
            write_safe(&mut out, given.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{given:?}");
        };
        check("{\"a\":\"ä\"}\n{}\n", "{\"a\":\"ä\"}\n{}\n");
        check("{\"a\":\"\u{9b}2J\u{202e}x\u{7f}\"}\n{}\n", "{\"a\":\"\\u009b2J\\u202ex\\u007f\"}\n{}\n");
    }
}
