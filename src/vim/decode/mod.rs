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

mod document;
mod fast;
mod json;
mod markup;
pub mod reference;
mod time;

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
    document::decode(page, Some(&mut fast::Learned::default()), out)
}

/// Decodes a page of VI/JSON to the same records. `out` is emptied first.
///
/// # Errors
/// Always, so far: no source speaks VI/JSON yet.
pub fn decode_vijson(_page: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
    out.clear();
    Err(DecodeError { offset: 0, reason: "VI/JSON is not supported yet".into() })
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
