//! The window of ids by which copies of events are recognized.
//!
//! A sender that saw no answer repeats its request, within minutes as a rule. The window holds the
//! ids of the newest events. The inbox keeps the same ids on disk, so a restart restores it.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use uuid::Uuid;

/// The ids of the newest rows: of as many whole rows as have at least `events_max` events.
#[derive(Debug, Default)]
pub(super) struct IdWindow {
    ids: FxHashSet<Uuid>,
    /// Row numbers, with the ids of each row; the oldest first.
    rows: VecDeque<(i64, Vec<Uuid>)>,
    events_max: usize,
}

impl IdWindow {
    /// A window of `rows`, the oldest first.
    pub fn new(events_max: usize, rows: Vec<(i64, Vec<Uuid>)>) -> Self {
        let mut window = IdWindow { events_max, ..IdWindow::default() };
        rows.into_iter().for_each(|(row, ids)| window.add(row, ids));
        window
    }

    /// Returns true if copies are delivered as well.
    pub fn is_off(&self) -> bool {
        self.events_max == 0
    }

    pub fn contains(&self, id: &Uuid) -> bool {
        self.ids.contains(id)
    }

    /// Adds a row, and forgets rows that are too old.
    pub fn add(&mut self, row: i64, ids: Vec<Uuid>) {
        if self.events_max == 0 {
            return;
        }
        self.ids.extend(&ids);
        self.rows.push_back((row, ids));
        while let Some((_, oldest)) = self.rows.front()
            && self.ids.len() - oldest.len() >= self.events_max
        {
            let (_, oldest) = self.rows.pop_front().expect("it has a front");
            oldest.iter().for_each(|id| {
                self.ids.remove(id);
            });
        }
    }

    /// The ids of rows before this one are not needed any more.
    pub fn first_row(&self) -> i64 {
        match self.rows.front() {
            Some((row, _)) => *row,
            // Without a window all rows go.
            None if self.events_max == 0 => i64::MAX,
            None => 0,
        }
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u128]) -> Vec<Uuid> {
        ids.iter().map(|id| Uuid::from_u128(*id)).collect()
    }

    #[test]
    fn the_newest_events_are_remembered_in_whole_rows() {
        let mut window = IdWindow::new(3, vec![(4, ids(&[1, 2]))]);
        window.add(6, ids(&[3]));
        assert_eq!((window.len(), window.first_row()), (3, 4));
        window.add(7, ids(&[4]));
        assert_eq!((window.len(), window.first_row()), (4, 4), "without the first row it has too few");
        window.add(9, ids(&[5]));
        assert_eq!((window.len(), window.first_row()), (3, 6));
        let known = [1, 2, 3, 4, 5].map(|id| window.contains(&Uuid::from_u128(id)));
        assert_eq!(known, [false, false, true, true, true]);
    }

    #[test]
    fn a_window_of_no_events_remembers_nothing() {
        let mut window = IdWindow::new(0, Vec::new());
        window.add(1, ids(&[1]));
        assert!(!window.contains(&Uuid::from_u128(1)));
        assert_eq!(window.first_row(), i64::MAX);
    }
}
