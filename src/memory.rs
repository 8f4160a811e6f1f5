//! The byte budget for all events in memory, shared by all sources and destinations.
//!
//! A source reserves bytes before it reads a page, so the bound holds before the bytes exist. The
//! permit travels with the page, then with the batch, and its bytes are free again when the last
//! destination drops the batch.
//!
//! ```text
//! reserve ──► Permit ──► Page ──► Batch ──► dropped by the last destination ──► free again
//!    ▲                                                                              │
//!    └────────────── waits while too few bytes are free ◄───────────────────────────┘
//! ```
//!
//! Some bytes must not wait, because taking them is what frees others: rows read back from a spool,
//! or a smaller copy of a page. They are taken at once, and the budget goes into debt: `owed`
//! counts the bytes that were not free. Bytes that come back pay the debt first, so the next
//! reservation waits for it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// The unit of the semaphore: 1 KiB, since tokio's semaphore acquires at most 2^32 - 1 units at
/// once.
const UNIT: usize = 1 << 10;

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    ledger: Arc<Ledger>,
}

/// The account behind a budget, in units.
#[derive(Debug)]
struct Ledger {
    free: Semaphore,
    /// Size of the budget.
    units: usize,
    /// Units that were taken without being free. Units that are given back pay for them first.
    // INVARIANT: free + the units of all permits = units + owed.
    owed: Mutex<usize>,
}

/// A share of a [`Budget`], given back on drop. The default is no share of any budget.
#[derive(Debug, Default)]
pub struct Permit {
    units: usize,
    ledger: Option<Arc<Ledger>>,
}

impl Ledger {
    /// Takes `units` at once. Units that are not free are owed.
    fn take(&self, units: usize) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let free = units.min(self.free.available_permits());
        // Another thread may have taken the free units meanwhile; then all of them are owed.
        let got = self.free.try_acquire_many(free as u32).map_or(0, |permit| {
            permit.forget();
            free
        });
        *owed += units - got;
    }

    /// Gives `units` back, to pay what is owed first.
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
        Budget { ledger: Arc::new(Ledger { free: Semaphore::new(units), units, owed: Mutex::default() }) }
    }

    /// Waits until `bytes` are free, and takes them. A request for more than the whole budget waits
    /// for all of it, so that a huge page gets through alone.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        let units = bytes.div_ceil(UNIT).min(self.ledger.units);
        let held = self.ledger.free.acquire_many(units as u32).await;
        held.expect("the semaphore is never closed").forget();
        Permit { units, ledger: Some(Arc::clone(&self.ledger)) }
    }

    /// Takes `bytes` at once, free or not. For allocations that free other memory, and so must not
    /// wait for it.
    pub fn take(&self, bytes: usize) -> Permit {
        let units = bytes.div_ceil(UNIT);
        self.ledger.take(units);
        Permit { units, ledger: Some(Arc::clone(&self.ledger)) }
    }

    /// Size of the budget in bytes.
    pub fn limit(&self) -> usize {
        self.ledger.units * UNIT
    }

    /// Bytes in use. More than the limit while some are owed.
    pub fn used(&self) -> usize {
        let owed = *self.ledger.owed.lock().unwrap_or_else(PoisonError::into_inner);
        (self.ledger.units + owed).saturating_sub(self.ledger.free.available_permits()) * UNIT
    }
}

impl Permit {
    /// Takes a second share of the same budget at once, for a copy of `bytes`. Copies must not
    /// wait: they are made to free a larger batch, or to be sent.
    pub fn another(&self, bytes: usize) -> Permit {
        let Some(ledger) = &self.ledger else { return Permit::default() };
        Budget { ledger: Arc::clone(ledger) }.take(bytes)
    }

    /// Adds another share of the same budget to this one.
    pub fn join(&mut self, mut other: Permit) {
        let same = self.ledger.as_ref().zip(other.ledger.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        debug_assert!(same, "shares of two budgets stay apart");
        self.units += std::mem::take(&mut other.units);
    }

    /// Returns true if this is a share of a budget, even of no bytes.
    pub fn has_budget(&self) -> bool {
        self.ledger.is_some()
    }

    /// Size of the share in bytes.
    pub fn bytes(&self) -> usize {
        self.units * UNIT
    }

    /// Changes the share to `bytes`. Missing bytes are taken at once, since a page that has been
    /// read is in memory already.
    pub fn resize(&mut self, bytes: usize) {
        let Some(ledger) = &self.ledger else { return };
        let units = bytes.div_ceil(UNIT);
        if units < self.units {
            ledger.give(self.units - units);
        } else {
            ledger.take(units - self.units);
        }
        self.units = units;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger {
            ledger.give(self.units);
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
    async fn joined_shares_are_given_back_together() {
        let budget = Budget::new(64 << 10);
        let mut permit = budget.take(0);
        permit.join(budget.reserve(8 << 10).await);
        permit.join(budget.reserve(4 << 10).await);
        assert_eq!((permit.bytes(), budget.used()), (12 << 10, 12 << 10));
        permit.resize(2 << 10);
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
    async fn owed_bytes_are_paid_before_anybody_else_gets_room() {
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
