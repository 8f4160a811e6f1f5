//! Rate limits for log lines that would repeat, such as a failure of every request.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{FAILURE_LOG_INTERVAL, FAILURE_LOG_INTERVAL_MAX};

/// Lets one line through every [`FAILURE_LOG_INTERVAL`].
#[derive(Debug, Default)]
pub struct Paced {
    last: Option<Instant>,
}

impl Paced {
    /// Returns true if the line may be logged now, and counts it as logged.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= FAILURE_LOG_INTERVAL);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}

/// Lets a line through at growing intervals while its reason lasts, and counts what it stands for.
/// The intervals double from [`FAILURE_LOG_INTERVAL`] to [`FAILURE_LOG_INTERVAL_MAX`]. They start
/// over after a quiet interval.
#[derive(Debug, Default)]
pub struct Repeated {
    /// Time of the last line, and of the last occurrence.
    times: Option<(Instant, Instant)>,
    interval: Duration,
    /// Occurrences since the last line.
    since: u64,
}

impl Repeated {
    /// Counts `occurrences`. If a line is due, returns the number since the last one.
    pub fn count(&mut self, occurrences: u64) -> Option<u64> {
        let now = Instant::now();
        self.since += occurrences;
        let (line, last) = match self.times {
            None => (None, now),
            Some((line, last)) => (Some(line), last),
        };
        if now - last >= self.interval {
            self.interval = FAILURE_LOG_INTERVAL;
        }
        if line.is_some_and(|line| now - line < self.interval) {
            self.times = line.map(|line| (line, now));
            return None;
        }
        if line.is_some_and(|line| now - line < 2 * self.interval) {
            self.interval = (2 * self.interval).min(FAILURE_LOG_INTERVAL_MAX);
        }
        self.times = Some((now, now));
        Some(std::mem::take(&mut self.since))
    }

    /// Time at which occurrences that no line stands for have waited long enough.
    pub fn due_at(&self) -> Option<Instant> {
        self.times.filter(|_| self.since > 0).map(|(line, _)| line + self.interval)
    }

    /// Takes the occurrences that no line stands for. The caller logs one.
    pub fn flush(&mut self) -> u64 {
        if let Some((line, _)) = &mut self.times {
            *line = Instant::now();
        }
        std::mem::take(&mut self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lasting_reason_repeats_at_growing_intervals() {
        let mut line = Repeated::default();
        let mut logged = Vec::new();
        for second in 0..20_000_u64 {
            if let Some(count) = line.count(2) {
                logged.push((second, count));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let seconds: Vec<u64> = logged.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980, 14_580, 18_180]);
        let counted: u64 = logged.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 2 * (18_180 + 1), "no occurrence is left out");
        assert_eq!(line.flush(), 2 * (20_000 - 18_181));
        assert_eq!((line.flush(), line.due_at()), (0, None));
        // After a quiet time the reason is new.
        tokio::time::advance(FAILURE_LOG_INTERVAL_MAX).await;
        assert_eq!(line.count(1), Some(1));
        assert_eq!(line.count(1), None);
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert!(line.due_at().is_some_and(|at| at <= Instant::now()));
        assert_eq!(line.count(1), Some(2));
    }
}
