//! Pages of events to JSON: [`decode`] takes what a `ReadNextEvents`, `ReadPreviousEvents` or `QueryEvents` answered and renders every event as
//! the appliance's functions know it, Go-style PascalCase in schema order.
//!
//! ```text
//! page (XML) ──► fast ──────► arena + records ──► enrich
//!                 │  ▲
//!    anything odd ▼  │ one event, or the page
//!               reference
//! ```
//!
//! Pure: bytes in, values out.

pub mod array;
mod document;
mod fast;
mod json;
mod markup;
pub mod reference;
pub mod salvage;
mod time;
mod vijson;

use super::{DecodeError, Decoded};

/// The members of an event that may name the managed object that it is about, in the order of preference. A virtual machine before its host,
/// so that what happens to one machine stays in order wherever it runs; `objectId` stands for EventEx's pair of objectType and objectId.
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

/// Decodes a page. `out` is emptied first.
///
/// A SOAP fault gives no events. What follows the first XML document is not looked at.
///
/// # Errors
/// XML that is not well-formed, nests deeper than [`crate::limits::XML_DEPTH_MAX`], has a DTD, or is no answer of a vCenter: `out` is empty then.
pub fn decode(page: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    decode_first(page, out).map(|_| ())
}

/// Decodes the first XML document of `page` and says where it ends.
///
/// # Errors
/// As [`decode`].
pub fn decode_first(page: &[u8], out: &mut Decoded) -> Result<usize, DecodeError> {
    document::decode(page, Some(&mut fast::Learned::default()), Spelling::Pascal, out)
}

/// How an event is written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// Go-style PascalCase with every absent member spelt out: what functions written for the appliance read.
    #[default]
    Pascal,
    /// vSphere's own JSON: lowerCamelCase, `_typeName` in every object, absent members left out.
    ViJson,
}

/// As [`decode_first`], in another spelling; VI/JSON is left to the reference decoder.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(page: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<usize, DecodeError> {
    match spelling {
        Spelling::Pascal => decode_first(page, out),
        Spelling::ViJson => document::decode(page, None, spelling, out),
    }
}

/// Decodes a page of VI/JSON, the array that a call answered, to the records that the same events give as XML. `out` is emptied first.
///
/// # Errors
/// What is not JSON, nests too deeply or is no answer of a vCenter: `out` is empty then.
pub fn decode_vijson(page: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    vijson::decode(page, Spelling::Pascal, out)
}

/// Renders one event, a `returnval` taken out of its page with the prefixes that it uses declared, in `spelling`. `out` is emptied first.
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

fn validated(page: &[u8]) -> Result<&str, DecodeError> {
    // The std's check is for its offset, which the faster one does not give.
    if let Ok(text) = simdutf8::basic::from_utf8(page) {
        return Ok(text);
    }
    std::str::from_utf8(page).map_err(|error| DecodeError {
        offset: error.valid_up_to(),
        reason: "bytes that are not UTF-8".into(),
    })
}

#[cfg(test)]
mod reference_tests;
