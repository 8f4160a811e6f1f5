//! vSphere's event wire format, without I/O: bytes in, values out.
//!
//! ```text
//! page of events (SOAP or VI/JSON) ──► decode ──► Decoded { arena, records }
//! Call ──► api::envelope, api::json ──► the bytes of a request
//! answer to any other call ──► api::Element ──► MoRef, EventPosition, Fault, …
//! ```
//!
//! - [`schema`]: every event class of vSphere 9 with its members, generated from pyvmomi.
//! - [`decode`]: a page becomes JSON as govmomi marshals it, and a record for each event.
//! - [`api`]: requests of the few methods that reading events takes, and their answers.
//! - [`sample`]: well-formed sample events, to try a consumer out.
//!
//! # Example
//!
//! ```
//! use vsphere::{Decoded, decode};
//!
//! let page = br#"<Envelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Body>
//!   <ReadNextEventsResponse xmlns="urn:vim25"><returnval xsi:type="VmPoweredOnEvent">
//!     <key>7</key><chainId>7</chainId><createdTime>2026-11-22T00:06:48Z</createdTime>
//!     <userName>root</userName>
//!   </returnval></ReadNextEventsResponse></Body></Envelope>"#;
//! let mut decoded = Decoded::default();
//! decode::decode(page, &mut decoded)?;
//! let event = decoded.records[0];
//! assert_eq!(event.key, Some(7));
//! assert_eq!(decoded.bytes(event.subject), b"VmPoweredOnEvent");
//! assert!(decoded.bytes(event.data).starts_with(b"{\"Key\":7,\"ChainId\":7,"));
//! # Ok::<(), vsphere::DecodeError>(())
//! ```

pub mod api;
pub mod decode;
pub mod limits;
pub mod sample;
pub mod schema;

use bytes::Bytes;

/// The API whose encoding a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A SOAP envelope with `ReadNextEventsResponse` or `QueryEventsResponse`.
    Soap,
    /// A VI/JSON array of events.
    ViJson,
}

impl Wire {
    /// `soap` or `vijson`.
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

/// A decoded page: one arena of rendered bytes, and a record for each event whose spans point into
/// it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The JSON and the names of all events.
    pub arena: Vec<u8>,
    /// One record for each event, in page order.
    pub records: Vec<EventRecord>,
    /// Events whose class the schema does not know. All their elements are rendered.
    pub unknown_classes: usize,
    /// Values that do not fit their declared kind. They are rendered as the string that was sent.
    pub misfits: usize,
}

/// The facts of one event. Its texts are spans into the arena of its [`Decoded`] page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRecord {
    /// `Event.key` (xsd:int; wraps to negative). `None` if it is absent or not a number.
    pub key: Option<i32>,
    /// `Event.chainId`; 0 if absent.
    pub chain_id: i32,
    /// `Event.createdTime` in microseconds since 1970 UTC, by vCenter's clock. `None` if it is
    /// absent or not a time.
    pub created_us: Option<i64>,
    pub category: Category,
    /// The class name, `VmPoweredOnEvent`.
    pub class: Span,
    /// The class name, or `eventTypeId` for EventEx and ExtendedEvent. Unescaped text.
    pub subject: Span,
    /// The managed object that the event is about, `VirtualMachine:vm-65`; empty if the event names
    /// none. Unescaped text.
    pub entity: Span,
    /// `Event.userName`, unescaped text; empty if absent.
    pub user: Span,
    /// `Event.createdTime` as rendered into `data` (RFC 3339 with vCenter's offset), without
    /// quotes; empty if absent.
    pub created_text: Span,
    /// The event as a JSON object, in the spelling that the page was decoded for.
    pub data: Span,
    /// The `<returnval>` element or the item of the JSON array. This span points into the *page*,
    /// not into the arena.
    pub raw: Span,
}

/// The shape of an event: a class of its own, an `EventEx` or an `ExtendedEvent`. The appliance's
/// router distinguished these three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Category {
    #[default]
    Event,
    EventEx,
    ExtendedEvent,
}

/// A range of bytes in an arena (or in a page, if the field says so). The decoder refuses a page of
/// 4 GiB, and [`decode::Quota`] bounds the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub const EMPTY: Span = Span { start: 0, len: 0 };

    /// The span from `start` to `end`, both offsets into the arena.
    ///
    /// # Panics If `end` lies before `start`, or at 4 GiB or beyond.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        let fits = start <= end && u32::try_from(end).is_ok();
        assert!(fits, "the span {start}..{end} is not one of a page or an arena");
        // Neither is larger than `end`, which fits.
        Span { start: start as u32, len: (end - start) as u32 }
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A page that cannot be decoded: it is not well-formed or exceeds a bound. None of its events is
/// returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode page at byte {offset}: {reason}")]
pub struct DecodeError {
    /// Byte offset in the page.
    pub offset: usize,
    pub reason: String,
}

impl PageBody {
    /// A page without bytes.
    pub fn empty() -> Self {
        PageBody { wire: Wire::Soap, bytes: Bytes::new() }
    }
}

impl Decoded {
    /// Removes all events and keeps the memory.
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

/// Runs the README's examples as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
