//! The router's clock: the only place that reads the system's time of day.
//!
//! Waits and time-outs use tokio's monotonic clock instead, which tests can pause. Stages and
//! engines read no clock; they get the time as a value.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 if the system's clock is set to a time before 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
