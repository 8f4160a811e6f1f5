//! What waits in a lane: events of one batch, by reference while that is cheap.

use std::sync::Arc;

use crate::cloudevents::size_estimate;
use crate::event::{Batch, Selection, Span};
use crate::processor::BatchSlice;

/// A row of the spool that events came back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolRow(pub i64);

/// Where events came from, and so what has to happen when they are delivered. Older ones are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Back from the spool: settled already, to be removed from there.
    Spool(SpoolRow),
    /// Fresh from a source: to be settled.
    Source,
    /// Another destination's dead letter, by the ticket by which it is told.
    Adopted(u64),
    /// A dead letter by its number, on the way again because a person wants it: settled long ago,
    /// in the store until it is delivered.
    DeadLetter(i64),
}

/// Events of one batch, in order: 16 bytes and the batch's reference, whether one event or a
/// thousand.
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

    /// Its events' share of their batch's bytes.
    pub fn bytes(&self) -> usize {
        self.batch.size() * self.selection.len() / self.batch.records.len().max(1)
    }

    /// Bytes that the first event takes in a request.
    pub fn first_bytes(&self) -> usize {
        self.selection.to_selection().iter().next().map_or(0, |i| size_estimate(&self.batch, i))
    }

    /// Bytes that the events take in a request.
    pub fn request_bytes(&self) -> usize {
        match &self.selection {
            CompactSelection::One(i) => size_estimate(&self.batch, usize::from(*i)),
            CompactSelection::Many(selection) => {
                selection.iter().map(|i| size_estimate(&self.batch, i)).sum()
            }
        }
    }

    /// Splits off from the front as many events as fit into `events` and `bytes`, at least one; the
    /// second part is what is left, if anything.
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

    /// The same events in `batch`, where they are at `places` of their old index.
    pub fn move_to(&mut self, batch: &Arc<Batch>, places: &[usize]) {
        let moved: Selection = self.selection.to_selection().iter().map(|i| places[i]).collect();
        (self.batch, self.selection) = (Arc::clone(batch), CompactSelection::of(&moved));
    }

    /// A copy that holds only its own events, so that one waiting event does not keep a whole page
    /// in memory. Returns itself where that saves little.
    pub fn compact(self) -> LaneItem {
        if self.selection.len() * 4 > self.batch.records.len() {
            return self;
        }
        let batch = Arc::new(pick(&self.batch, &self.selection.to_selection()));
        let n = batch.records.len();
        LaneItem { batch, selection: CompactSelection::of(&Selection::first(n)), origin: self.origin }
    }
}

/// A batch of its own with the picked events; read sequences and ids stay.
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
