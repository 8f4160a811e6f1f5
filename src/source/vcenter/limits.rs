//! Bounds of the vCenter source that only one of its parts uses. The others are in
//! [`crate::limits`].

use std::time::Duration;

/// Age at which the severities of vCenter's event types are read again. They change when a solution
/// registers event types of its own.
pub const SEVERITIES_INTERVAL: Duration = Duration::from_secs(3_600);
/// Time after which they are read again if that failed.
pub const SEVERITIES_RETRY: Duration = Duration::from_secs(60);
/// Silence of a vCenter, during a call, after which it counts as down. The call goes on.
pub const SILENCE_TOLD: Duration = Duration::from_secs(20);
/// Longest time between two answers of a vCenter that is well: `MONITOR_REST` (30 s) and a slow
/// call. A longer silence counts as lag.
pub const SILENCE_USUAL: Duration = Duration::from_secs(40);
