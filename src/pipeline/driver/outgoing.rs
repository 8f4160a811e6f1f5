//! Removals of rows from a destination's spools. However slow the disk is, only a few removals wait
//! for the store at a time. The module is pure: the driver and the simulation perform its
//! decisions.
//!
//! ```text
//!  Unspool, UnspoolSome ─► SpoolJobs ─┬─ none in flight, or an append or a read is next ─► one job
//!                                     └─ otherwise they wait for the end of that removal
//! ```
//!
//! INVARIANT: rows leave the store before any append that was decided later, and before the next
//! rows are read.

use crate::event::Selection;
use crate::pipeline::deliver::{SpoolKey, SpoolRow};
use crate::state::Write;

/// The engine's operations on spool rows.
///
/// All removals of a step share one transaction. Events that leave a row may have been written
/// again, to another place in the spools. If a crash undid part of the removals, the rest of these
/// events would be read from their old place, ahead of those that have left. Reads follow the
/// removals, or they would read the removed rows again.
#[derive(Default)]
pub(in crate::pipeline) struct SpoolJobs {
    rows: Vec<i64>,
    parts: Vec<Write>,
    /// Number of removals that are with the store.
    under_way: usize,
    /// The spool, the last row that was read before, and the number of bytes to read.
    pub fetches: Vec<(SpoolKey, SpoolRow, usize)>,
}

impl SpoolJobs {
    pub fn row(&mut self, SpoolRow(row): SpoolRow) {
        self.rows.push(row);
    }

    /// Removes some events of a row; the others stay.
    pub fn part(&mut self, SpoolRow(row): SpoolRow, events: Selection) {
        self.parts.push(Write::SpoolSettled { row, events });
    }

    /// Takes the removals to perform now; empty if there are none. Call [`SpoolJobs::removed`] when
    /// they are done. They wait while another removal is in flight, unless a job is `next` that has
    /// to come after them.
    pub fn due(&mut self, next: bool) -> Vec<Write> {
        if self.under_way > 0 && !next {
            return Vec::new();
        }
        let mut writes = std::mem::take(&mut self.parts);
        if !self.rows.is_empty() {
            writes.push(Write::SpoolRemove { rows: std::mem::take(&mut self.rows) });
        }
        self.under_way += usize::from(!writes.is_empty());
        writes
    }

    /// Notes that a removal is done.
    pub fn removed(&mut self) {
        self.under_way -= 1;
    }

    /// Returns true if the store has performed all removals.
    #[cfg(test)]
    pub fn is_quiet(&self) -> bool {
        self.under_way == 0 && self.rows.is_empty() && self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(writes: &[Write]) -> Vec<i64> {
        let row = |write: &Write| match write {
            Write::SpoolRemove { rows } => rows.clone(),
            other => panic!("{other:?}"),
        };
        writes.iter().flat_map(row).collect()
    }

    #[test]
    fn removals_wait_for_the_one_in_flight_and_are_joined() {
        let mut jobs = SpoolJobs::default();
        jobs.row(SpoolRow(1));
        assert_eq!(rows(&jobs.due(false)), [1]);
        jobs.row(SpoolRow(2));
        assert!(jobs.due(false).is_empty());
        jobs.row(SpoolRow(3));
        jobs.removed();
        assert_eq!(rows(&jobs.due(false)), [2, 3]);
        jobs.removed();
        assert!(jobs.due(false).is_empty() && jobs.is_quiet());
    }

    #[test]
    fn removals_go_ahead_of_what_comes_next() {
        let mut jobs = SpoolJobs::default();
        jobs.row(SpoolRow(1));
        jobs.due(false);
        jobs.row(SpoolRow(2));
        assert_eq!(rows(&jobs.due(true)), [2]);
        jobs.row(SpoolRow(3));
        jobs.removed();
        assert!(jobs.due(false).is_empty(), "the second one is under way");
        jobs.removed();
        assert_eq!(rows(&jobs.due(false)), [3]);
    }
}
