//! The data of an event as bytes: the form that the appliance documents, with govmomi's order of
//! fields and without white space. A delivery in this form is compared without parsing it.

use serde_json::Value;

use super::want::{Values, Want, go_time};
use crate::vcenter::digits::write_digits;

/// JSON with places for the values that differ from event to event.
pub(super) struct Quick(Vec<Part>);

enum Part {
    Bytes(Vec<u8>),
    /// Digits of the virtual machine's number, the host's, the event's.
    Vm,
    Host,
    Seq,
    /// The instant with six digits, within a text.
    Micros,
    /// An instant as Go writes it.
    GoTime,
    Key,
    ChainId,
}

type Place = (&'static str, fn() -> Part);

const PLACES: [Place; 4] = [
    ("{vm6}", || Part::Vm),
    ("{host4}", || Part::Host),
    ("{seq8}", || Part::Seq),
    ("{time}", || Part::Micros),
];

impl Quick {
    pub fn of(want: &Want) -> Quick {
        let mut parts = Vec::new();
        write(want, &mut parts);
        Quick(parts)
    }

    /// The bytes after the data of this event; `None` where `bytes` does not begin with the data.
    pub fn strip<'b>(&self, bytes: &'b [u8], values: &Values) -> Option<&'b [u8]> {
        let mut rest = bytes;
        let mut scratch = Vec::with_capacity(32);
        for part in &self.0 {
            rest = match part {
                Part::Bytes(bytes) => rest.strip_prefix(bytes.as_slice())?,
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

impl Part {
    fn write(&self, values: &Values, out: &mut Vec<u8>) {
        match self {
            Part::Bytes(bytes) => out.extend_from_slice(bytes),
            Part::Vm => digits(out, values.vm, 6),
            Part::Host => digits(out, values.host, 4),
            Part::Seq => digits(out, (values.index % 100_000_000) as u32, 8),
            Part::Micros => out.extend_from_slice(values.created_texts()[0].as_bytes()),
            Part::GoTime => out.extend_from_slice(go_time(&values.created_texts()[0]).as_bytes()),
            Part::Key => out.extend_from_slice(values.key.to_string().as_bytes()),
            Part::ChainId => out.extend_from_slice(values.chain_id.to_string().as_bytes()),
        }
    }
}

fn digits(out: &mut Vec<u8>, value: u32, width: usize) {
    let at = out.len();
    out.resize(at + width, b'0');
    write_digits(&mut out[at..], value);
}

fn bytes(parts: &mut Vec<Part>, more: &[u8]) {
    match parts.last_mut() {
        Some(Part::Bytes(bytes)) => bytes.extend_from_slice(more),
        _ => parts.push(Part::Bytes(more.to_vec())),
    }
}

fn write(want: &Want, parts: &mut Vec<Part>) {
    match want {
        Want::Null => bytes(parts, b"null"),
        Want::Bool(value) => bytes(parts, value.to_string().as_bytes()),
        Want::Number(text) => write_places(text, parts),
        Want::Text(text) => write_places(&Value::from(text.as_str()).to_string(), parts),
        Want::Time(text) if text == "{time}" => quoted(Part::GoTime, parts),
        Want::Time(text) => write_places(&Value::from(go_time(text)).to_string(), parts),
        Want::CreatedTime => quoted(Part::GoTime, parts),
        Want::Key => parts.push(Part::Key),
        Want::ChainId => parts.push(Part::ChainId),
        Want::List(items) => {
            bytes(parts, b"[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    bytes(parts, b",");
                }
                write(item, parts);
            }
            bytes(parts, b"]");
        }
        Want::Object(fields) => {
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

fn quoted(part: Part, parts: &mut Vec<Part>) {
    bytes(parts, b"\"");
    parts.push(part);
    bytes(parts, b"\"");
}

/// Text in which placeholders become places.
fn write_places(text: &str, parts: &mut Vec<Part>) {
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
