//! vSphere's wire: the generated schema, the page decoder in two forms that give the same, the SOAP client.
//!
//! Pure but for the client: bytes in, values out.

pub mod decode;
pub mod sample;
pub mod schema;
pub mod soap;

use crate::event::{Record, Span};

/// A page decoded: what `enrich` makes a batch of.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rendered JSON and names of all events.
    pub arena: Vec<u8>,
    /// One record an event, in page order; `identity`, `id`, `lane` and `seq` not yet set.
    pub records: Vec<Record>,
    /// Events whose class the schema does not know: delivered with all their elements.
    pub unknown_classes: usize,
    /// Values that do not fit their declared kind: delivered as the string that vCenter sent.
    pub misfits: usize,
}

/// XML that is not well-formed, or past a bound: the page gives nothing, and is read again in halves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page is not readable at byte {offset}: {reason}")]
pub struct DecodeError {
    /// Where in the page, in bytes.
    pub offset: usize,
    pub reason: String,
}

impl Decoded {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.records.clear();
        self.unknown_classes = 0;
        self.misfits = 0;
    }

    /// The bytes of `span`.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.range()]
    }
}
