//! What waits in a lane: events of one batch, by reference while that is cheap.

use std::sync::Arc;

use crate::cloudevents::size_estimate;
use crate::event::{Batch, Selection, Span};
use crate::processor::Piece;

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
    /// A dead letter by its number, on the way again because a person wants it: settled long ago, in the store until it is delivered.
    DeadLetter(i64),
}

/// Events of one batch, in order: 16 bytes and the batch's reference, whether one event or a thousand.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub batch: Arc<Batch>,
    pub picks: Picks,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Picks {
    One(u16),
    Many(Box<Selection>),
}

impl Picks {
    pub fn of(picks: &Selection) -> Self {
        let mut indices = picks.iter();
        match (indices.next(), indices.next()) {
            (Some(one), None) => Picks::One(one as u16),
            _ => Picks::Many(Box::new(*picks)),
        }
    }

    pub fn selection(&self) -> Selection {
        match self {
            Picks::One(i) => Selection::one(usize::from(*i)),
            Picks::Many(picks) => **picks,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Picks::One(_) => 1,
            Picks::Many(picks) => picks.len(),
        }
    }
}

impl Item {
    pub fn new(piece: &Piece, origin: Origin) -> Self {
        Item { batch: Arc::clone(&piece.batch), picks: Picks::of(&piece.picks), origin }
    }

    pub fn piece(&self) -> Piece {
        Piece { batch: Arc::clone(&self.batch), picks: self.picks.selection() }
    }

    /// Its events' share of their batch's bytes.
    pub fn bytes(&self) -> usize {
        self.batch.size() * self.picks.len() / self.batch.records.len().max(1)
    }

    /// Bytes that the first event takes in a request.
    pub fn first_bytes(&self) -> usize {
        self.picks.selection().iter().next().map_or(0, |i| size_estimate(&self.batch, i))
    }

    /// Bytes that the events take in a request.
    pub fn request_bytes(&self) -> usize {
        match &self.picks {
            Picks::One(i) => size_estimate(&self.batch, usize::from(*i)),
            Picks::Many(picks) => picks.iter().map(|i| size_estimate(&self.batch, i)).sum(),
        }
    }

    /// Splits off from the front as many events as fit into `events` and `bytes`, at least one; the second part is what is left, if anything.
    pub fn split_front(self, events: usize, bytes: usize) -> (Item, Option<Item>) {
        let Picks::Many(picks) = &self.picks else { return (self, None) };
        let mut room = bytes;
        let mut taken = Selection::EMPTY;
        for (count, i) in picks.iter().enumerate() {
            let size = size_estimate(&self.batch, i);
            if count > 0 && (count == events || size > room) {
                let mut rest = **picks;
                rest.remove(&taken);
                let front = Item { picks: Picks::of(&taken), ..self.clone() };
                return (front, Some(Item { picks: Picks::of(&rest), ..self }));
            }
            room = room.saturating_sub(size);
            taken.insert(i);
        }
        (self, None)
    }

    /// The same events in `batch`, where they are at `places` of their old index.
    pub fn move_to(&mut self, batch: &Arc<Batch>, places: &[usize]) {
        let moved: Selection = self.picks.selection().iter().map(|i| places[i]).collect();
        (self.batch, self.picks) = (Arc::clone(batch), Picks::of(&moved));
    }

    /// A copy that holds only its own events, so that one waiting event does not keep a whole page in memory. Returns itself where that saves little.
    pub fn compact(self) -> Item {
        if self.picks.len() * 4 > self.batch.records.len() {
            return self;
        }
        let batch = Arc::new(pick(&self.batch, &self.picks.selection()));
        let n = batch.records.len();
        Item { batch, picks: Picks::of(&Selection::first(n)), origin: self.origin }
    }
}

/// A batch of its own with the picked events; read sequences and ids stay.
pub fn pick(batch: &Batch, picks: &Selection) -> Batch {
    let bytes_of = |i: usize| batch.records[i].spans().iter().map(|span| span.len as usize).sum::<usize>();
    let bytes: usize = picks.iter().map(bytes_of).sum();
    let mut arena = Vec::with_capacity(bytes);
    let mut raw_page = Vec::new();
    let records = picks
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
