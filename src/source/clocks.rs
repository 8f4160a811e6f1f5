//! The clocks of the vCenters, relative to the router's.

use std::sync::{PoisonError, RwLock};

/// The offset of each source's clock, by source index: the source's time minus the router's, in
/// microseconds. Written by the sources, read where the age of an event is measured.
#[derive(Debug, Default)]
pub struct ClockOffsets(RwLock<Vec<i64>>);

impl ClockOffsets {
    pub fn set(&self, source: usize, offset_us: i64) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= source {
            all.resize(source + 1, 0);
        }
        all[source] = offset_us;
    }

    /// 0 for a source that has not told its time.
    pub fn get(&self, source: usize) -> i64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(source).copied().unwrap_or(0)
    }
}
