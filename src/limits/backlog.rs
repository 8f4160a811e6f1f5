//! Bounds of the measurement of backlogs and of the upkeep of dead letters.

use std::time::Duration;

/// Interval at which each destination measures its backlog.
pub const BACKLOG_INTERVAL: Duration = Duration::from_secs(2);
/// Time over which the rate of a destination with a backlog is measured.
pub const BACKLOG_WINDOW: Duration = Duration::from_secs(300);
/// A backlog that takes longer than this is worth a warning.
pub const BACKLOG_LONG: Duration = Duration::from_secs(3_600);
/// Interval at which the fill levels of the dead letters are measured and old letters removed.
pub const DEAD_LETTER_UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
