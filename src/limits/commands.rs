//! Bounds of the commands.

use std::time::Duration;

/// Time in which `check --connect` logs out after a signal. A log-out is one call; whoever waits at
/// a terminal for longer presses Ctrl-C again.
pub const CHECK_LOGOUT_MAX: Duration = Duration::from_secs(5);
/// Time span of the collector with which `check --connect` tries to read. vCenter finds the first
/// event of a minute at once, even in a database of years.
pub const CHECK_READ_SPAN: Duration = Duration::from_secs(60);
/// Groups of dead letters that `dlq list` counts. A reason has up to `REASON_BYTES_MAX`, so 1,000
/// groups take 2 MiB.
pub const DLQ_GROUPS_MAX: usize = 1_000;
/// Groups that `dlq list` shows: a screenful.
pub const DLQ_GROUPS_SHOWN: usize = 20;
/// Time in which `health` must get its answer. Container runtimes and systemd wait longer for a
/// probe: Docker's default is 30 s.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the answer that `health` shows: the names of stalled parts, or a reason.
pub const HEALTH_ANSWER_BYTES_MAX: usize = 4 << 10;
/// Longest answer to a question of `init`: the longest line that a Linux terminal passes on.
pub const INIT_ANSWER_BYTES_MAX: u64 = 4 << 10;
/// Failed replays that get a line of their own. The others are counted by their reason.
pub const REPLAY_LINES_MAX: u64 = 20;
/// Rules of an event bus that an explanation names.
pub const EXPLAINED_RULES_MAX: usize = 5;
/// Bytes of one reason of an explanation: a pattern of some twenty values.
pub const EXPLANATION_BYTES_MAX: usize = 2 << 10;
/// Bytes of events that `routes test` reads from a file or from standard input.
pub const TESTED_BYTES_MAX: u64 = 64 << 20;
/// Events that `routes test` reads from a file: more than a person reads.
pub const TESTED_EVENTS_MAX: usize = 10_000;
/// Interval at which `top` asks the router. Rates change every 5 s, other numbers at once.
pub const TOP_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait of `top` for a key, before it looks at answers and signals.
pub const TOP_KEY_WAIT: Duration = Duration::from_millis(100);
/// Event types that `top` shows of one source.
pub const TOP_TYPES_MAX: usize = 100;
