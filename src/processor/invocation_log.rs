//! The invocation log: a JSON line on stdout for every delivery of an event, with key, id, subject,
//! destination, status, milliseconds and attempt. It has its own switch, and is off by default.
//!
//! Each event of a batched request has its own line with its own result. All lines are written
//! unless a limit per second is configured. Then the first line of the next second counts the
//! omitted lines.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::outside;
use crate::processor::{DeliveryOutcome, DeliveryRequest};

/// Writes invocation lines, with an optional limit per second.
#[derive(Debug)]
pub struct InvocationLog {
    limit: Option<Mutex<Limit>>,
}

/// Counts the lines of the current second.
#[derive(Debug)]
struct Limit {
    per_second: u32,
    began: Instant,
    written: u32,
    omitted: u64,
}

impl InvocationLog {
    pub fn new(per_second: Option<u32>) -> Self {
        let limit =
            |per_second| Mutex::new(Limit { per_second, began: Instant::now(), written: 0, omitted: 0 });
        InvocationLog { limit: per_second.map(limit) }
    }

    /// Writes one line for each event of a request.
    pub fn write(
        &self,
        destination: &str,
        request: &DeliveryRequest,
        outcome: &DeliveryOutcome,
        took: Duration,
    ) {
        let lines = self.lines(destination, request, outcome, took, Instant::now());
        // A closed stdout must not stop deliveries.
        let _ = std::io::stdout().lock().write_all(lines.as_bytes());
    }

    fn lines(
        &self,
        destination: &str,
        request: &DeliveryRequest,
        outcome: &DeliveryOutcome,
        took: Duration,
        now: Instant,
    ) -> String {
        let mut lines = String::new();
        let mut limit = self.limit.as_ref().map(|limit| limit.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(omitted) = limit.as_mut().and_then(|limit| limit.turn(now)) {
            lines.push_str(&json!({"omitted": omitted}).to_string());
            lines.push('\n');
        }
        for (at, (batch, i)) in request.events().enumerate() {
            if limit.as_mut().is_some_and(|limit| !limit.admits()) {
                continue;
            }
            let record = &batch.records[i];
            let failure = match outcome {
                DeliveryOutcome::Delivered => None,
                DeliveryOutcome::Failed(failure) => Some(failure),
                DeliveryOutcome::Partial(failures) => failures.get(at).and_then(Option::as_ref),
            };
            let status = match failure {
                None => "delivered".to_string(),
                Some(failure) => {
                    failure.status.map_or_else(|| "failed".to_string(), |status| status.to_string())
                }
            };
            let line = json!({
                "source": batch.source.name,
                "key": record.key,
                "id": record.id,
                "subject": batch.text(record.subject),
                "destination": destination,
                "status": status,
                "ms": (took.as_secs_f64() * 1e6).round() / 1e3,
                "attempt": request.attempt,
            });
            lines.push_str(&outside::escaped_json(&line.to_string()));
            lines.push('\n');
        }
        lines
    }
}

impl Limit {
    /// Starts the next second if the current one is over. Returns the number of lines that it
    /// omitted, if any.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.began) < Duration::from_secs(1) {
            return None;
        }
        (self.began, self.written) = (now, 0);
        let omitted = std::mem::take(&mut self.omitted);
        (omitted > 0).then_some(omitted)
    }

    fn admits(&mut self) -> bool {
        let admits = self.written < self.per_second;
        match admits {
            true => self.written += 1,
            false => self.omitted += 1,
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Selection;
    use crate::event::testing::batch;
    use crate::processor::BatchSlice;

    fn request(events: usize) -> DeliveryRequest {
        let all: Vec<(i32, i64)> = (0..events as i32).map(|n| (n, 1)).collect();
        let slice = BatchSlice { batch: Arc::new(batch(0, &all)), selection: Selection::first(events) };
        DeliveryRequest { function: "".into(), slices: vec![slice], events, attempt: 1 }
    }

    #[test]
    fn a_limit_omits_lines_and_counts_them() {
        let lines = |log: &InvocationLog, events: usize, now: Instant| {
            log.lines("d", &request(events), &DeliveryOutcome::Delivered, Duration::ZERO, now).lines().count()
        };
        let start = Instant::now();
        assert_eq!(lines(&InvocationLog::new(None), 1_000, start), 1_000);
        let log = InvocationLog::new(Some(3));
        assert_eq!(lines(&log, 2, start), 2);
        assert_eq!(lines(&log, 10, start), 1);
        let next = log.lines(
            "d",
            &request(1),
            &DeliveryOutcome::Delivered,
            Duration::ZERO,
            start + Duration::from_secs(2),
        );
        assert!(next.starts_with("{\"omitted\":9}\n") && next.lines().count() == 2, "{next}");
        assert_eq!(lines(&log, 1, start + Duration::from_secs(4)), 1);
    }
}
