//! The data of an event as bytes: the form that the appliance documents, with govmomi's order of
//! fields and without white space. A delivery in this form is compared without parsing it.
//!
//! ```text
//! {"Key":   17   ,"ChainId":   17   , … "Name":"vm- 000042 "
//!  bytes    Key     bytes     ChainId    bytes       Vm    bytes
//! ```

use serde_json::Value;

use super::expected::{Expected, Values, go_time};
use crate::vcenter::digits::write_digits;

/// JSON with places for the values that differ from event to event.
pub(super) struct JsonTemplate(Vec<TemplatePart>);

enum TemplatePart {
    Bytes(Vec<u8>),
    /// Digits of the virtual machine's number, of the host's number and of the event's index.
    Vm,
    Host,
    Seq,
    /// The creation instant with six digits, within a text.
    Micros,
    /// The creation instant as Go writes it.
    GoTime,
    Key,
    ChainId,
}

type Place = (&'static str, fn() -> TemplatePart);

const PLACES: [Place; 4] = [
    ("{vm6}", || TemplatePart::Vm),
    ("{host4}", || TemplatePart::Host),
    ("{seq8}", || TemplatePart::Seq),
    ("{time}", || TemplatePart::Micros),
];

impl JsonTemplate {
    pub fn of(want: &Expected) -> JsonTemplate {
        let mut parts = Vec::new();
        write(want, &mut parts);
        JsonTemplate(parts)
    }

    /// The bytes after the data of this event; `None` where `bytes` does not begin with the data.
    pub fn strip<'b>(&self, bytes: &'b [u8], values: &Values) -> Option<&'b [u8]> {
        let mut rest = bytes;
        let mut scratch = Vec::with_capacity(32);
        for part in &self.0 {
            rest = match part {
                TemplatePart::Bytes(bytes) => rest.strip_prefix(bytes.as_slice())?,
                part => {
                    scratch.clear();
                    part.write(values, &mut scratch);
                    rest.strip_prefix(scratch.as_slice())?
                }
            };
        }
        Some(rest)
    }

    /// Appends the data of this event.
    pub fn write(&self, values: &Values, out: &mut Vec<u8>) {
        for part in &self.0 {
            part.write(values, out);
        }
    }
}

impl TemplatePart {
    fn write(&self, values: &Values, out: &mut Vec<u8>) {
        match self {
            TemplatePart::Bytes(bytes) => out.extend_from_slice(bytes),
            TemplatePart::Vm => digits(out, values.vm, 6),
            TemplatePart::Host => digits(out, values.host, 4),
            TemplatePart::Seq => digits(out, (values.index % 100_000_000) as u32, 8),
            TemplatePart::Micros => out.extend_from_slice(values.created_texts()[0].as_bytes()),
            TemplatePart::GoTime => out.extend_from_slice(go_time(&values.created_texts()[0]).as_bytes()),
            TemplatePart::Key => out.extend_from_slice(values.key.to_string().as_bytes()),
            TemplatePart::ChainId => out.extend_from_slice(values.chain_id.to_string().as_bytes()),
        }
    }
}

fn digits(out: &mut Vec<u8>, value: u32, width: usize) {
    let at = out.len();
    out.resize(at + width, b'0');
    write_digits(&mut out[at..], value);
}

/// Appends constant bytes to the last part, if that one is constant, to keep the number of parts
/// low.
fn bytes(parts: &mut Vec<TemplatePart>, more: &[u8]) {
    match parts.last_mut() {
        Some(TemplatePart::Bytes(bytes)) => bytes.extend_from_slice(more),
        _ => parts.push(TemplatePart::Bytes(more.to_vec())),
    }
}

/// Appends the parts of one expected value.
fn write(want: &Expected, parts: &mut Vec<TemplatePart>) {
    match want {
        Expected::Null => bytes(parts, b"null"),
        Expected::Bool(value) => bytes(parts, value.to_string().as_bytes()),
        Expected::Number(text) => write_places(text, parts),
        Expected::Text(text) => write_places(&Value::from(text.as_str()).to_string(), parts),
        Expected::Time(text) if text == "{time}" => quoted(TemplatePart::GoTime, parts),
        Expected::Time(text) => write_places(&Value::from(go_time(text)).to_string(), parts),
        Expected::CreatedTime => quoted(TemplatePart::GoTime, parts),
        Expected::Key => parts.push(TemplatePart::Key),
        Expected::ChainId => parts.push(TemplatePart::ChainId),
        Expected::List(items) => {
            bytes(parts, b"[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    bytes(parts, b",");
                }
                write(item, parts);
            }
            bytes(parts, b"]");
        }
        Expected::Object(fields) => {
            bytes(parts, b"{");
            for (at, (name, want)) in fields.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                bytes(parts, format!("{comma}{}:", Value::from(name.as_str())).as_bytes());
                write(want, parts);
            }
            bytes(parts, b"}");
        }
    }
}

/// Appends a place between quotes.
fn quoted(part: TemplatePart, parts: &mut Vec<TemplatePart>) {
    bytes(parts, b"\"");
    parts.push(part);
    bytes(parts, b"\"");
}

/// Appends a text; the placeholders in it become places.
fn write_places(text: &str, parts: &mut Vec<TemplatePart>) {
    let mut rest = text;
    let next = |rest: &str| {
        let found = PLACES.iter().filter_map(|(name, part)| Some((rest.find(name)?, name.len(), part)));
        found.min_by_key(|(at, ..)| *at)
    };
    while let Some((at, length, part)) = next(rest) {
        bytes(parts, &rest.as_bytes()[..at]);
        parts.push(part());
        rest = &rest[at + length..];
    }
    bytes(parts, rest.as_bytes());
}
