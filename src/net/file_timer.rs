//! The interval at which files are looked at again: those of credentials, certificates and secret
//! URLs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::limits::FILES_CHECK_INTERVAL;

const INTERVAL_MS: u64 = FILES_CHECK_INTERVAL.as_millis() as u64;

/// Is due once in each [`FILES_CHECK_INTERVAL`], the first time when one has passed.
#[derive(Debug)]
pub struct FileTimer {
    started: Instant,
    /// Milliseconds after `started`.
    due_ms: AtomicU64,
}

impl Default for FileTimer {
    fn default() -> Self {
        FileTimer { started: Instant::now(), due_ms: AtomicU64::new(INTERVAL_MS) }
    }
}

impl FileTimer {
    /// Returns true if it is due, to one of several callers alone, and begins the next interval.
    pub fn is_due(&self) -> bool {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let due = self.due_ms.load(Ordering::Relaxed);
        let swap =
            || self.due_ms.compare_exchange(due, now_ms + INTERVAL_MS, Ordering::Relaxed, Ordering::Relaxed);
        now_ms >= due && swap().is_ok()
    }

    /// Makes it due now.
    pub fn make_due(&self) {
        self.due_ms.store(0, Ordering::Relaxed);
    }
}
