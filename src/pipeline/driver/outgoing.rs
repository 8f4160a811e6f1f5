//! Removals of rows from a destination's spools, so that only a few of them wait for the store at a
//! time however slow the disk is. Pure: the driver and the simulation carry out what this says.
//!
//! ```text
//!  Unspool, UnspoolSome ─► SpoolJobs ─┬─ none under way, or an append or a read is next ─► one job
//!                                     └─ else they wait for its end
//! ```
//!
//! INVARIANT: rows leave the store before anything is appended that was decided later, and before
//! the next rows are read.

use crate::event::Selection;
use crate::pipeline::deliver::{SpoolKey, SpoolRow};
use crate::state::Write;

/// What the engine does to rows in spools. All that leaves in a step does so in one transaction,
/// since after a crash the rest of what was written anew would come before what has left; then rows
/// are read, or these would be read once more.
#[derive(Default)]
pub(in crate::pipeline) struct SpoolJobs {
    rows: Vec<i64>,
    parts: Vec<Write>,
    /// Removals that are with the store.
    under_way: usize,
    /// Spool, last row that was read before, bytes.
    pub fetches: Vec<(SpoolKey, SpoolRow, usize)>,
}

impl SpoolJobs {
    pub fn row(&mut self, SpoolRow(row): SpoolRow) {
        self.rows.push(row);
    }

    /// The events of a row that have left it; others stay.
    pub fn part(&mut self, SpoolRow(row): SpoolRow, events: Selection) {
        self.parts.push(Write::SpoolSettled { row, events });
    }

    /// What is to be removed now, to be told by [`SpoolJobs::removed`] when it is; empty where
    /// nothing is. It waits while another removal is under way, unless something comes `next` that
    /// has to be behind it.
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

    /// A removal is done.
    pub fn removed(&mut self) {
        self.under_way -= 1;
    }

    /// Whether the store knows all.
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
    fn removals_wait_for_the_one_under_way_and_go_together() {
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
