//! The invocation log: one line an invocation on stdout, with key, subject, destination, status, milliseconds and attempt. Its own switch, off by default.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::processor::{Outcome, Request};

/// Writes invocation lines, at most so many a second if that is asked for.
#[derive(Debug)]
pub struct InvocationLog {
    per_second: Option<u32>,
    window: Mutex<(Instant, u32)>,
}

impl InvocationLog {
    pub fn new(per_second: Option<u32>) -> Self {
        InvocationLog { per_second, window: Mutex::new((Instant::now(), 0)) }
    }

    /// One line for each event of a request.
    pub fn write(&self, destination: &str, request: &Request, outcome: &Outcome, took: Duration) {
        let mut lines = String::new();
        for (at, (batch, i)) in request.events().enumerate() {
            if !self.admits() {
                break;
            }
            let record = &batch.records[i];
            let failure = match outcome {
                Outcome::Delivered => None,
                Outcome::Failed(failure) => Some(failure),
                Outcome::Partial(failures) => failures.get(at).and_then(Option::as_ref),
            };
            let status = match failure {
                None => "delivered".to_string(),
                Some(failure) => {
                    failure.status.map_or_else(|| "failed".to_string(), |status| status.to_string())
                }
            };
            let line = serde_json::json!({
                "invocation": destination,
                "source": batch.source.name,
                "key": record.key,
                "subject": batch.text(record.subject),
                "status": status,
                "ms": took.as_secs_f64() * 1e3,
                "attempt": request.attempt,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        // A closed stdout must not stop deliveries.
        let _ = std::io::stdout().lock().write_all(lines.as_bytes());
    }

    fn admits(&self) -> bool {
        let Some(limit) = self.per_second else { return true };
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 <= limit
    }
}
