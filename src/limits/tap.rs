//! Bounds of `tap`, the live view of events.

use std::time::Duration;

/// People and pages that watch at a time: half of `CONTROL_CONNECTIONS_MAX`, so that other commands
/// get through. Each looks at up to `TAP_EXAMINED_PER_SECOND` events.
pub const TAP_LISTENERS_MAX: usize = 4;
/// Pages or requests that wait for one listener: their events stay in memory until it has looked at
/// them, a few milliseconds.
pub const TAP_QUEUE_MAX: usize = 4;
/// Events that one listener looks at in a second, in whole pages. Matching one takes 2 µs, so
/// 20,000 take 4 % of one core, and four listeners 8 % of two.
pub const TAP_EXAMINED_PER_SECOND: u32 = 20_000;
/// Events that one listener shows in a second. Rendering one takes 5 µs, so 1,000 take 0.5 % of one
/// core; nobody reads faster.
pub const TAP_SHOWN_PER_SECOND: u32 = 1_000;
/// Shown events that wait for a slow reader.
pub const TAP_SHOWN_WAITING_MAX: usize = 1_024;
/// Bytes of these: 1,024 of 2 KiB, twice.
pub const TAP_SHOWN_BYTES_MAX: usize = 4 << 20;
/// Bytes of one shown event. A larger one is counted as skipped.
pub const TAP_EVENT_BYTES_MAX: usize = 256 << 10;
/// Types that one listener names.
pub const TAP_TYPES_MAX: usize = 64;
/// Interval at which a listener is told what was skipped.
pub const TAP_COUNTS_INTERVAL: Duration = Duration::from_secs(1);
/// Time in which the router tells the last counts after Ctrl-C.
pub const TAP_END_WAIT: Duration = Duration::from_secs(2);
