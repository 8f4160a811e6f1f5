//! A group: the events of several requests that become durable in one row of the inbox.

use rustc_hash::FxHashSet;
use uuid::Uuid;

use super::window::IdWindow;
use crate::event::{Batch, Selection};
use crate::limits::{BATCH_EVENTS_MAX, INBOX_GROUP_BYTES_MAX};

/// The events of a group, without the requests that wait for it.
#[derive(Debug)]
pub(super) struct RequestGroup {
    batch: Batch,
    new: Selection,
    ids: FxHashSet<Uuid>,
}

impl RequestGroup {
    /// Begins a group with the events of a request.
    pub fn begin(batch: Batch, window: &IdWindow) -> Self {
        let mut group = RequestGroup { batch, new: Selection::EMPTY, ids: FxHashSet::default() };
        group.choose(0, window);
        group
    }

    /// Returns true if the group has room for the events of another request.
    pub fn has_room(&self, batch: &Batch) -> bool {
        self.batch.records.len() + batch.records.len() <= BATCH_EVENTS_MAX
            && self.batch.arena.len() + batch.arena.len() <= INBOX_GROUP_BYTES_MAX
    }

    /// Adds the events of a request.
    pub fn add(&mut self, batch: &Batch, window: &IdWindow) {
        let first = self.batch.records.len();
        self.batch.absorb(batch);
        self.choose(first, window);
    }

    /// Chooses the events from `first` on that are no copies.
    fn choose(&mut self, first: usize, window: &IdWindow) {
        for place in first..self.batch.records.len() {
            let id = self.batch.records[place].id;
            if window.is_off() || (!window.contains(&id) && self.ids.insert(id)) {
                self.new.insert(place);
            }
        }
    }

    /// Number of copies among the events.
    pub fn duplicates(&self) -> usize {
        self.batch.records.len() - self.new.len()
    }

    /// The batch of all events, and the events that are no copies.
    pub fn into_parts(self) -> (Batch, Selection) {
        (self.batch, self.new)
    }

    /// The ids of the events that are no copies, in order.
    pub fn new_ids(&self) -> Vec<Uuid> {
        self.new.iter().map(|place| self.batch.records[place].id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::source;
    use crate::event::{Attributes, PushedEvent};

    fn request(ids: &[&str]) -> Batch {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        for id in ids {
            let attributes = Attributes { id, source: "/s", kind: "t", ..Attributes::EMPTY };
            batch.push(&PushedEvent { attributes, subject: id, data: b"{}", ..PushedEvent::default() });
        }
        batch
    }

    fn ids_of(batch: &Batch, events: &Selection) -> Vec<String> {
        let attributes = |place: usize| batch.attributes(&batch.records[place]).expect("its own");
        events.iter().map(|place| attributes(place).id.to_owned()).collect()
    }

    #[test]
    fn copies_within_and_before_a_group_are_left_out() {
        let earlier = request(&["a"]).records[0].id;
        let copies = RequestGroup::begin(request(&["b", "b"]), &IdWindow::new(0, Vec::new()));
        assert_eq!(copies.duplicates(), 0, "without a window, copies are delivered");
        let window = IdWindow::new(9, vec![(1, vec![earlier])]);
        let mut group = RequestGroup::begin(request(&["b", "a"]), &window);
        group.add(&request(&["c", "b", "d", "c"]), &window);
        assert_eq!(group.duplicates(), 3);
        let ids = group.new_ids();
        let (batch, new) = group.into_parts();
        assert_eq!(ids_of(&batch, &new), ["b", "c", "d"]);
        assert_eq!(ids, new.iter().map(|place| batch.records[place].id).collect::<Vec<_>>());
        let subjects: Vec<_> = new.iter().map(|place| batch.text(batch.records[place].subject)).collect();
        assert_eq!(subjects, ["b", "c", "d"], "the texts move with the events");
    }

    #[test]
    fn a_group_has_room_up_to_its_bounds() {
        let window = IdWindow::new(9, Vec::new());
        let many: Vec<String> = (0..BATCH_EVENTS_MAX - 1).map(|id| id.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let group = RequestGroup::begin(request(&many), &window);
        assert!(group.has_room(&request(&["x"])) && !group.has_room(&request(&["x", "y"])));
        let mut large = request(&["x"]);
        large.arena.resize(INBOX_GROUP_BYTES_MAX, 0);
        assert!(!RequestGroup::begin(request(&["a"]), &window).has_room(&large));
    }
}
