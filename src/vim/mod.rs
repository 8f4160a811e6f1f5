//! vSphere's wire: the generated schema, the page decoder in two forms that give the same, the client.
//!
//! Pure but for the client: bytes in, values out.

pub mod decode;
pub mod sample;
pub mod schema;
pub mod soap;

use bytes::Bytes;

use crate::event::{Record, Span};

/// The form of the API that a page's bytes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A SOAP envelope with `ReadNextEventsResponse` or `QueryEventsResponse`.
    Soap,
    /// A VI/JSON array of events.
    ViJson,
}

impl Wire {
    /// As `protocol` in the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Wire::Soap => "soap",
            Wire::ViJson => "vijson",
        }
    }
}

/// A page as it came over the wire, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageBody {
    pub wire: Wire,
    pub bytes: Bytes,
}

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

impl PageBody {
    /// Nothing, where only a page will do.
    pub fn empty() -> Self {
        PageBody { wire: Wire::Soap, bytes: Bytes::new() }
    }
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
