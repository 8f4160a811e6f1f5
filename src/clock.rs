//! The router's clock: the one place that asks the system for the time of day.
//!
//! Waits and time-outs use tokio's monotonic clock, which tests can pause. Stages and engines get
//! the time passed in.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 where the system's clock stands before that.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
