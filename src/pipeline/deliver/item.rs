//! Items: the unit that waits in a lane. An item is some events of one batch, held by reference.

use std::sync::Arc;

use crate::cloudevents::size_estimate;
use crate::event::{Batch, Selection, Span};
use crate::limits::LANE_ITEM_BYTES;
use crate::processor::BatchSlice;

/// A row of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolRow(pub i64);

/// Source of an item, which decides the action on delivery. Older origins compare as less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From the spool: settled already. Delivery removes the events from the row.
    Spool(SpoolRow),
    /// From a source: delivery settles the events.
    Source,
    /// Another destination's dead letter, with the ticket to report.
    Adopted(u64),
    /// A dead letter under replay, by its number. It was settled long ago and stays in the store
    /// until it is delivered.
    DeadLetter(i64),
}

/// Events of one batch, in order. An item takes 16 bytes and a reference to the batch, whether it
/// has one event or a thousand.
#[derive(Clone, Debug)]
pub(super) struct LaneItem {
    pub batch: Arc<Batch>,
    pub selection: CompactSelection,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum CompactSelection {
    One(u16),
    Many(Box<Selection>),
}

impl CompactSelection {
    pub fn of(selection: &Selection) -> Self {
        let mut indices = selection.iter();
        match (indices.next(), indices.next()) {
            (Some(one), None) => CompactSelection::One(one as u16),
            _ => CompactSelection::Many(Box::new(*selection)),
        }
    }

    pub fn to_selection(&self) -> Selection {
        match self {
            CompactSelection::One(i) => Selection::one(usize::from(*i)),
            CompactSelection::Many(selection) => **selection,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            CompactSelection::One(_) => 1,
            CompactSelection::Many(selection) => selection.len(),
        }
    }
}

impl LaneItem {
    pub fn new(slice: &BatchSlice, origin: Origin) -> Self {
        LaneItem {
            batch: Arc::clone(&slice.batch),
            selection: CompactSelection::of(&slice.selection),
            origin,
        }
    }

    pub fn slice(&self) -> BatchSlice {
        BatchSlice { batch: Arc::clone(&self.batch), selection: self.selection.to_selection() }
    }

    /// Share of the batch's bytes for these events, and the bytes of the lane.
    pub fn bytes(&self) -> usize {
        self.batch.size() * self.selection.len() / self.batch.records.len().max(1) + LANE_ITEM_BYTES
    }

    /// Index of the first event in its batch.
    pub fn first(&self) -> usize {
        self.selection.to_selection().iter().next().unwrap_or_default()
    }

    /// Bytes of the first event in a request.
    pub fn first_bytes(&self) -> usize {
        size_estimate(&self.batch, self.first())
    }

    /// Bytes of the events in a request.
    pub fn request_bytes(&self) -> usize {
        match &self.selection {
            CompactSelection::One(i) => size_estimate(&self.batch, usize::from(*i)),
            CompactSelection::Many(selection) => {
                selection.iter().map(|i| size_estimate(&self.batch, i)).sum()
            }
        }
    }

    /// Splits events off the front: as many as fit into `events` and `bytes`, at least one. The
    /// second part is the rest, if any.
    pub fn split_front(self, events: usize, bytes: usize) -> (LaneItem, Option<LaneItem>) {
        let CompactSelection::Many(selection) = &self.selection else { return (self, None) };
        let mut room = bytes;
        let mut taken = Selection::EMPTY;
        for (count, i) in selection.iter().enumerate() {
            let size = size_estimate(&self.batch, i);
            if count > 0 && (count == events || size > room) {
                let mut rest = **selection;
                rest.remove(&taken);
                let front = LaneItem { selection: CompactSelection::of(&taken), ..self.clone() };
                return (front, Some(LaneItem { selection: CompactSelection::of(&rest), ..self }));
            }
            room = room.saturating_sub(size);
            taken.insert(i);
        }
        (self, None)
    }

    /// Points the item at `batch`, a smaller copy. `places` maps an old index to the new one.
    pub fn move_to(&mut self, batch: &Arc<Batch>, places: &[usize]) {
        let moved: Selection = self.selection.to_selection().iter().map(|i| places[i]).collect();
        (self.batch, self.selection) = (Arc::clone(batch), CompactSelection::of(&moved));
    }

    /// Returns a copy that holds only its own events, so one waiting event does not keep a whole
    /// page in memory. Returns itself where that saves little.
    pub fn compact(self) -> LaneItem {
        if self.selection.len() * 4 > self.batch.records.len() {
            return self;
        }
        let batch = Arc::new(pick(&self.batch, &self.selection.to_selection()));
        let n = batch.records.len();
        LaneItem { batch, selection: CompactSelection::of(&Selection::first(n)), origin: self.origin }
    }
}

/// Copies the picked events into a batch of their own. Read sequences and ids stay.
pub fn pick(batch: &Batch, selection: &Selection) -> Batch {
    let bytes_of = |i: usize| batch.records[i].spans().iter().map(|span| span.len as usize).sum::<usize>();
    let bytes: usize = selection.iter().map(bytes_of).sum();
    let mut arena = Vec::with_capacity(bytes);
    let mut raw_page = Vec::new();
    let records = selection
        .iter()
        .map(|i| {
            let mut record = batch.records[i];
            for span in record.spans_mut() {
                let start = arena.len();
                arena.extend_from_slice(batch.bytes(*span));
                *span = Span::new(start, arena.len());
            }
            let start = raw_page.len();
            raw_page.extend_from_slice(batch.raw_page.get(record.raw.range()).unwrap_or_default());
            record.raw = Span::new(start, raw_page.len());
            record
        })
        .collect();
    let mut picked = Batch {
        source: Arc::clone(&batch.source),
        page: batch.page,
        produced_us: batch.produced_us,
        arena,
        records,
        raw_page: raw_page.into(),
        permit: Default::default(),
        failed: batch.failed.clone(),
    };
    picked.permit = batch.permit.another(picked.size());
    picked
}
