//! The one byte budget for all that is in memory, over all sources and destinations.
//!
//! A source reserves before it reads, so the bound holds before the bytes exist; the permit travels with the page and then the batch, and is
//! given back when the last holder drops it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Permits are counted in KiB, since a tokio semaphore's single acquire takes a `u32`.
const UNIT: usize = 1 << 10;

/// Bytes that may be in memory.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    free: Semaphore,
    units: usize,
    /// What was taken without being free: the next units that are given back pay for it first.
    // INVARIANT: free + the units of all permits = units + owed.
    owed: Mutex<usize>,
}

/// A share of a [`Budget`], given back on drop. The default is a share of nothing.
#[derive(Debug, Default)]
pub struct Permit {
    units: usize,
    of: Option<Arc<Ledger>>,
}

impl Ledger {
    /// Takes at once what cannot wait, free or not.
    fn take(&self, units: usize) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let free = units.min(self.free.available_permits());
        // Somebody else may have been faster.
        let got = self.free.try_acquire_many(free as u32).map_or(0, |permit| {
            permit.forget();
            free
        });
        *owed += units - got;
    }

    fn give(&self, units: usize) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = units.min(*owed);
        *owed -= paid;
        self.free.add_permits(units - paid);
    }
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).max(1);
        Budget { shared: Arc::new(Ledger { free: Semaphore::new(units), units, owed: Mutex::default() }) }
    }

    /// Waits until `bytes` are free and takes them. A request larger than the whole budget waits for all of it: one huge page is let through alone.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        let units = bytes.div_ceil(UNIT).min(self.shared.units);
        let held = self.shared.free.acquire_many(units as u32).await;
        held.expect("the semaphore is never closed").forget();
        Permit { units, of: Some(Arc::clone(&self.shared)) }
    }

    /// Takes `bytes` at once, for what must not wait for room because it is what makes room. What is short the next reservation waits for.
    pub fn take(&self, bytes: usize) -> Permit {
        let units = bytes.div_ceil(UNIT);
        self.shared.take(units);
        Permit { units, of: Some(Arc::clone(&self.shared)) }
    }

    /// Bytes in all.
    pub fn limit(&self) -> usize {
        self.shared.units * UNIT
    }

    /// Bytes taken now; more than the limit where something could not wait.
    pub fn used(&self) -> usize {
        let owed = *self.shared.owed.lock().unwrap_or_else(PoisonError::into_inner);
        (self.shared.units + owed).saturating_sub(self.shared.free.available_permits()) * UNIT
    }
}

impl Permit {
    /// A second share of the same budget for a copy of `bytes`: it is made to free more than it takes, or to be sent, so that it cannot wait.
    pub fn another(&self, bytes: usize) -> Permit {
        let Some(shared) = &self.of else { return Permit::default() };
        Budget { shared: Arc::clone(shared) }.take(bytes)
    }

    /// Makes this a share of `bytes`: gives back what is too much, takes what is missing. A page that has been read cannot wait for room.
    pub fn resize(&mut self, bytes: usize) {
        let Some(shared) = &self.of else { return };
        let units = bytes.div_ceil(UNIT);
        if units < self.units {
            shared.give(self.units - units);
        } else {
            shared.take(units - self.units);
        }
        self.units = units;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = &self.of {
            shared.give(self.units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bounds on messages count on it.
    #[test]
    fn the_unit_is_the_smallest_permit() {
        assert_eq!(UNIT, crate::limits::PERMIT_BYTES_MIN);
    }

    #[tokio::test]
    async fn a_dropped_permit_gives_its_bytes_back() {
        let budget = Budget::new(64 << 10);
        let mut permit = budget.reserve(32 << 10).await;
        assert_eq!(budget.used(), 32 << 10);
        permit.resize(8 << 10);
        assert_eq!(budget.used(), 8 << 10);
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

    #[tokio::test]
    async fn what_could_not_wait_is_paid_before_anybody_else_gets_room() {
        let budget = Budget::new(64 << 10);
        let page = budget.reserve(64 << 10).await;
        let copy = page.another(16 << 10);
        assert_eq!(budget.used(), 80 << 10, "it is counted all the same");
        drop(page);
        assert_eq!(budget.used(), 16 << 10);
        let mut grown = budget.reserve(8 << 10).await;
        grown.resize(60 << 10);
        assert_eq!(budget.used(), 76 << 10);
        let mut waiting = std::pin::pin!(budget.reserve(8 << 10));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        grown.resize(52 << 10);
        assert!(futures_util::poll!(&mut waiting).is_pending(), "12 KiB were owed, 8 are paid");
        drop(copy);
        drop(waiting.await);
        drop(grown);
        assert_eq!(budget.used(), 0);
    }
}
