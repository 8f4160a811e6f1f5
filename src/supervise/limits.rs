//! The bounds of supervision.

use std::time::Duration;

/// Time between the failure of a part, or the end of `shutdownTimeout`, and the end of the process.
pub const PROCESS_END_MAX: Duration = Duration::from_secs(10);
/// Time after a failure at which the watchdog ends a process that has not ended by itself. The rest
/// of [`PROCESS_END_MAX`] covers one [`WATCHDOG_INTERVAL`] and the last log line.
pub(super) const FAILURE_EXIT_AFTER: Duration = Duration::from_secs(8);
/// Time after the parts should have stopped at which the watchdog ends the process: 7 + 1 = 8 s
/// after `shutdownTimeout`.
pub(super) const STOP_EXIT_AFTER: Duration = Duration::from_secs(1);
/// Interval at which a stop looks for threads that have ended.
pub const ENDED_POLL: Duration = Duration::from_millis(5);
/// Time that the last log line before such an end may take. Its reader may be stuck.
pub(super) const LAST_LINE_MAX: Duration = Duration::from_millis(500);
/// Time after `shutdownTimeout` in which the parts have to end.
pub const STOP_END_MAX: Duration = Duration::from_secs(7);
/// Time that the other parts get to end after one has failed.
pub const STOP_AFTER_FAILURE_MAX: Duration = Duration::from_secs(2);
/// Share of `shutdownTimeout` that the sources may take to log out; the rest is for deliveries.
pub const SOURCE_STOP_SHARE: u32 = 2;
/// Longest wait for the end of a source's task that was aborted.
pub const SOURCE_ABORT_MAX: Duration = Duration::from_millis(500);

/// Interval at which the watchdog looks at all parts. 10,000 parts * 10 ns are 0.1 ms.
pub(super) const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which a task proves that the runtime still runs tasks.
pub(super) const PULSE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest step of a thread that computes, and longest turn of a task. A page of 64 MiB decodes in
/// less than a second.
pub(super) const STEP_STALL_AFTER: Duration = Duration::from_secs(30);
/// Longest time that a destination leaves messages unread. A turn takes milliseconds.
pub(super) const DELIVERY_STALL_AFTER: Duration = Duration::from_secs(60);
/// Longest job of the storage thread. A disk that stalls for minutes is slow; a restart would not
/// make it faster.
pub(super) const STORE_STALL_AFTER: Duration = Duration::from_secs(300);
/// Longest time without a turn of a source, in addition to its call time-outs. A source at rest
/// wakes at least every 30 s (`MONITOR_REST`, `BACKOFF_MAX`).
pub(super) const SOURCE_STALL_AFTER: Duration = Duration::from_secs(120);

/// Wait before a part is started again for the first time.
pub(super) const RESTART_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a part is started again. A part that ran for longer than this starts again
/// after [`RESTART_BACKOFF_MIN`].
pub(super) const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Bytes of a panic message in a log line, a page or the last message of the process.
pub(super) const PANIC_MESSAGE_BYTES_MAX: usize = 512;
/// Interval at which a stop looks if any event is left that its target may take.
pub const DRAIN_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval of the log lines about a stop that takes long.
pub const DRAIN_TOLD_INTERVAL: Duration = Duration::from_secs(1);
