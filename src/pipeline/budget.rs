//! The one byte budget for all that is in memory, over all sources and destinations.
//!
//! A source reserves before it reads, so the bound holds before the bytes exist; the permit travels with the page and then the batch, and is
//! given back when the last holder drops it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in KiB, since a tokio semaphore's single acquire takes a `u32`.
const UNIT: usize = 1 << 10;

/// Bytes that may be in memory.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: usize,
}

/// A share of a [`Budget`], given back on drop. The default is a share of nothing.
#[derive(Debug, Default)]
pub struct Permit {
    held: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).max(1);
        Budget { free: Arc::new(Semaphore::new(units)), units }
    }

    /// Waits until `bytes` are free and takes them. A request larger than the whole budget waits for all of it: one huge page is let through alone.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        let units = bytes.div_ceil(UNIT).min(self.units) as u32;
        let held =
            Arc::clone(&self.free).acquire_many_owned(units).await.expect("the semaphore is never closed");
        Permit { held: Some(held) }
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        (self.units - self.free.available_permits().min(self.units)) * UNIT
    }
}

impl Permit {
    /// Makes this a share of `bytes`: gives back what is too much; takes what is free of what is missing, and no more, since a page that has
    /// been read cannot wait for room. What is short is made up by the next reservation waiting longer.
    pub fn resize(&mut self, bytes: usize) {
        let Some(held) = &mut self.held else { return };
        let (want, have) = (bytes.div_ceil(UNIT), held.num_permits());
        if want < have {
            drop(held.split(have - want));
        } else if want > have {
            let semaphore = Arc::clone(held.semaphore());
            let grow = (want - have).min(semaphore.available_permits()) as u32;
            if let Ok(more) = semaphore.try_acquire_many_owned(grow) {
                held.merge(more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_permit_gives_its_bytes_back() {
        let budget = Budget::new(64 << 10);
        let mut permit = budget.reserve(32 << 10).await;
        assert_eq!(budget.used(), 32 << 10);
        permit.resize(8 << 10);
        assert_eq!(budget.used(), 8 << 10);
        permit.resize(1 << 30);
        assert_eq!(budget.used(), 64 << 10, "grows by what is free and no more");
        drop(permit);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_page_larger_than_the_budget_is_let_through_alone() {
        let budget = Budget::new(4 << 10);
        let whole = budget.reserve(1 << 30).await;
        assert_eq!(budget.used(), 4 << 10);
        drop(whole);
        assert_eq!(budget.used(), 0);
    }
}
