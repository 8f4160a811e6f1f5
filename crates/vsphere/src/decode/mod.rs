//! Pages of events become JSON. A page is the answer to `ReadNextEvents`, `ReadPreviousEvents` or
//! `QueryEvents`. [`decode`] renders every event as the appliance's functions expect it: Go-style
//! PascalCase in schema order.
//!
//! ```text
//! page (XML) ──► fast ──────► arena + records ──► enrich
//!                 │  ▲
//!    anything odd ▼  │ after that event
//!               reference
//! ```
//!
//! The fast decoder handles what vCenter usually sends; the reference decoder handles everything.
//! Both write the same bytes. There is no I/O here: bytes in, values out.

pub mod array;
mod document;
mod fast;
mod json;
mod markup;
mod prefixes;
mod quota;
pub mod reference;
pub mod repair;
pub mod salvage;
mod time;
mod vijson;

pub use quota::Quota;

use crate::limits::EXCERPT_CHARS_MAX;

use super::{DecodeError, Decoded, EventRecord, Wire};

/// The members that may name the managed object an event is about, in order of precedence.
///
/// A virtual machine precedes its host, so the events of one machine stay in order on any host.
/// `objectId` represents EventEx's pair of objectType and objectId.
const ENTITY_MEMBERS: &[&str] = &[
    "vm",
    "objectId",
    "managedObject",
    "entity",
    "host",
    "ds",
    "datastore",
    "net",
    "dvs",
    "computeResource",
    "datacenter",
];

/// Decodes a page into `out`, which is cleared first.
///
/// A SOAP fault yields no events. Anything after the first XML document is ignored.
///
/// # Errors XML that is not well-formed, nests deeper than [`crate::limits::XML_DEPTH_MAX`], has a
/// DTD, is not an answer of a vCenter, or exceeds its [`Quota`]. `out` is then empty.
pub fn decode(page: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    decode_first(page, out).map(|_| ())
}

/// Decodes the first XML document of `page` and returns the offset of its end.
///
/// # Errors
/// As [`decode`].
pub fn decode_first(page: &[u8], out: &mut Decoded) -> Result<usize, DecodeError> {
    let quota = &mut Quota::of(page.len());
    document::decode(page, Some(&mut fast::Learned::default()), Spelling::Pascal, quota, out)
}

/// Decodes a page for an owner of memory, which `quota` tells before memory is taken. Else as
/// [`decode`] and [`decode_vijson`].
///
/// # Errors As [`decode`].
pub fn decode_within(
    wire: Wire,
    page: &[u8],
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    match wire {
        Wire::Soap => {
            let learned = Some(&mut fast::Learned::default());
            document::decode(page, learned, Spelling::Pascal, quota, out).map(drop)
        }
        Wire::ViJson => vijson::decode(page, Spelling::Pascal, quota, out),
    }
}

/// The JSON form of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// Go-style PascalCase with every absent member written out, which functions for the appliance
    /// expect.
    #[default]
    Pascal,
    /// vSphere's own JSON: lowerCamelCase, `_typeName` in every object, no absent members.
    ViJson,
}

/// As [`decode_first`], in a given spelling. VI/JSON always uses the reference decoder.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(page: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<usize, DecodeError> {
    match spelling {
        Spelling::Pascal => decode_first(page, out),
        Spelling::ViJson => document::decode(page, None, spelling, &mut Quota::of(page.len()), out),
    }
}

/// Decodes a page of VI/JSON, which is an array of events. The records equal those of the same
/// events in XML. `out` is cleared first.
///
/// # Errors
/// Input that is not JSON, nests too deeply or is not an answer of a vCenter. `out` is
/// then empty.
pub fn decode_vijson(page: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    vijson::decode(page, Spelling::Pascal, &mut Quota::of(page.len()), out)
}

/// Renders one event in `spelling`. `element` is a `returnval` cut out of its page, with all
/// prefixes declared. `out` is cleared first.
///
/// # Errors
/// As [`decode`].
pub fn decode_event(element: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<(), DecodeError> {
    document::decode_event(element, spelling, out)
}

/// Appends `text`, a name from the arena, as a JSON string.
pub fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    json::string(out, &String::from_utf8_lossy(text));
}

/// Makes room for the events of a page. JSON needs about as many bytes as the page, and few events
/// are shorter than 400 bytes.
fn reserve(page: usize, quota: &mut Quota<'_>, out: &mut Decoded) {
    quota.hold_arena(page.max(out.arena.capacity()));
    out.arena.reserve_exact(page);
    let records = (page / 400).max(out.records.capacity());
    quota.hold_records(records);
    out.records.reserve_exact(records);
}

/// Appends a record. The list grows by an eighth, for the same reason as the arena.
#[inline(always)]
fn push_record(records: &mut Vec<EventRecord>, record: EventRecord, quota: &mut Quota<'_>) {
    if records.len() == records.capacity() {
        grow_records(records, quota);
    }
    records.push(record);
}

#[cold]
#[inline(never)]
fn grow_records(records: &mut Vec<EventRecord>, quota: &mut Quota<'_>) {
    let more = (records.len() / 8).max(8);
    quota.hold_records(records.len() + more);
    records.reserve_exact(more);
}

/// Checks that a page is UTF-8, and that spans can point into it.
fn validated(page: &[u8]) -> Result<&str, DecodeError> {
    check_size(page)?;
    // simdutf8 is faster, but only std's check gives an offset.
    if let Ok(text) = simdutf8::basic::from_utf8(page) {
        return Ok(text);
    }
    std::str::from_utf8(page)
        .map_err(|error| DecodeError { offset: error.valid_up_to(), reason: "not UTF-8".into() })
}

/// The beginning of a text of the page, for an error.
pub(crate) fn excerpt(text: &str) -> &str {
    text.char_indices().nth(EXCERPT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// Checks that spans can point into a page.
fn check_size(page: &[u8]) -> Result<(), DecodeError> {
    match u32::try_from(page.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(DecodeError { offset: 0, reason: "a page of 4 GiB".into() }),
    }
}

#[cfg(test)]
mod reference_tests;
