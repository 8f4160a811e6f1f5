//! Bounds of a reload.

use std::time::Duration;

/// Sources, and processors, whose names may be added while the router runs. Each name keeps its
/// place until the end of the process, and the bounds above count it from the start. A site that
/// adds more of them has a reason to restart at last.
pub const RELOADED_SLOTS_MAX: usize = 64;
/// Time that a removed processor waits for answers to its requests in flight, after its time to
/// deliver is over. Most time-outs of requests are shorter.
pub const RETIRE_ANSWERS_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at processors that were removed and have not ended.
pub const RETIRE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two looks at the configuration file with `reloadOnChange`.
pub const RELOAD_LOOK_INTERVAL: Duration = Duration::from_secs(2);
