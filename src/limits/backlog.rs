//! Bounds of the measurement of backlogs.

use std::time::Duration;

/// Interval at which each destination measures its backlog.
pub const BACKLOG_INTERVAL: Duration = Duration::from_secs(2);
/// Time over which the rate of a destination with a backlog is measured.
pub const BACKLOG_WINDOW: Duration = Duration::from_secs(300);
/// A backlog that takes longer than this is worth a warning.
pub const BACKLOG_LONG: Duration = Duration::from_secs(3_600);
