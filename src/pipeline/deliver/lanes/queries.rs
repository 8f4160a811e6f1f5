//! Questions about all lanes together.

use super::{LaneItem, LaneKey, LaneState, Lanes};

impl Lanes {
    /// The first waiting item of each lane: the oldest of it.
    pub fn first_items(&self) -> impl Iterator<Item = &LaneItem> {
        self.lanes.values().filter_map(|lane| lane.items.front())
    }

    /// Returns true if the waiting events take at least `bytes` bytes in a request.
    pub fn fill(&self, bytes: usize) -> bool {
        let items = self.lanes.values().flat_map(|lane| &lane.items);
        let mut sizes = items.map(LaneItem::request_bytes);
        sizes.try_fold(0, |sum, size| (sum + size < bytes).then_some(sum + size)).is_none()
    }

    /// Returns true if another lane has events, waiting or in flight.
    pub fn has_events_besides(&self, key: LaneKey) -> bool {
        self.lanes
            .iter()
            .any(|(other, lane)| *other != key && (!lane.items.is_empty() || lane.state == LaneState::Busy))
    }
}
