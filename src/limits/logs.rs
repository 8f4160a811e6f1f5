//! Bounds of log lines that would repeat.

use std::time::Duration;

/// Shortest interval between two log lines about the same repeated failure.
pub const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Longest interval of a reason that lasts: 24 lines a day.
pub const FAILURE_LOG_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Time without any event through a filter after which the log says so, if vCenter has new events.
/// The filter may also be for rare events.
pub const FILTER_SILENCE_TOLD: Duration = Duration::from_secs(300);
/// Failed reads within `FAILURE_LOG_INTERVAL` that are worth a line although those between them
/// succeed.
pub const READ_FAILURES_TOLD: u32 = 10;
/// Reasons of failures that a source or a destination remembers, so that each is logged once in
/// `FAILURE_LOG_INTERVAL`.
pub const FAILURE_REASONS_MAX: usize = 8;
