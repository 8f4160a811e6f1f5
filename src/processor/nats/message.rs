//! One event as one message, by the NATS binding of CloudEvents in binary mode.
//!
//! ```text
//! subject  events.vc1.7                          SUBJECT.SOURCE.PARTITION
//! headers  ce-id, ce-source, …, ce-datacontenttype, content-type
//!          Nats-Msg-Id: hash of source and id    the stream drops copies by it
//!          Nats-Expected-Stream: events          no other stream can take it
//! payload  the data alone; it shares the memory of the batch
//! ```

use std::fmt::Write;

use async_nats::HeaderMap;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::settings::{NatsConfig, PartitionBy};
use crate::cloudevents::envelope::{Rendering, shared_data};
use crate::event::Batch;
use crate::processor::BatchSlice;

/// Bytes of the message id that are kept of the hash: half of SHA-256, as collision resistant as a
/// UUID.
const MESSAGE_ID_BYTES: usize = 16;

/// A message that is ready to be published.
#[derive(Clone, Debug)]
pub(super) struct EventMessage {
    /// The event's place in the request.
    pub at: usize,
    pub partition: usize,
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
    /// The event for people: its key or id.
    pub name: String,
}

impl EventMessage {
    /// Renders event `i` of a slice, which is the event `at` of its request.
    pub fn new(
        settings: &NatsConfig,
        rendering: &Rendering<'_>,
        slice: &BatchSlice,
        i: usize,
        at: usize,
    ) -> Self {
        let batch = &slice.batch;
        let partition = partition_of(settings, batch, i);
        let mut headers = HeaderMap::new();
        let rendered = rendering.headers(i);
        let text = |name: &str| rendered.get(name).map_or(&[][..], |value| value.as_bytes());
        for (name, value) in &rendered {
            // The envelope percent-encodes whatever is not printable ASCII.
            headers.insert(name.as_str(), value.to_str().unwrap_or_default());
        }
        if let Some(kind) = rendered.get("content-type").and_then(|value| value.to_str().ok()) {
            headers.insert("ce-datacontenttype", kind);
        }
        let id = message_id([text("ce-source"), text("ce-id"), text("ce-knativeerrordest")]);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, settings.stream.as_str());
        let record = &batch.records[i];
        let name = match record.key {
            Some(key) if record.attributes.is_empty() => format!("event {key} of {}", batch.source.name),
            _ => format!("event {} of {}", String::from_utf8_lossy(text("ce-id")), batch.source.name),
        };
        EventMessage {
            at,
            partition,
            subject: format!("{}.{}.{partition}", settings.subject, token(&batch.source.name)),
            headers,
            payload: shared_data(rendering, batch, i),
            name,
        }
    }

    /// Bytes that the server counts against `max_payload`: headers and payload.
    pub fn size(&self) -> usize {
        let header = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + ": \r\n".len()).sum::<usize>()
        };
        let headers = self.headers.iter().map(header).sum::<usize>();
        "NATS/1.0\r\n".len() + headers + "\r\n".len() + self.payload.len()
    }
}

/// The partition of an event: CRC-32 of its source's name, or of its entity (or else its user), so
/// that other programs can compute it.
fn partition_of(settings: &NatsConfig, batch: &Batch, i: usize) -> usize {
    let record = &batch.records[i];
    let scope = match settings.partition_by {
        PartitionBy::Source => batch.source.name.as_bytes(),
        PartitionBy::Entity => match batch.bytes(record.entity) {
            [] => batch.bytes(record.user),
            entity => entity,
        },
    };
    crc32fast::hash(scope) as usize % settings.partitions
}

/// A hash of texts. A line break, which no header contains, separates them.
fn message_id(parts: [&[u8]; 3]) -> String {
    let hash = Sha256::digest(parts.join(&b'\n'));
    hash[..MESSAGE_ID_BYTES].iter().fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("a String takes all text");
        id
    })
}

/// A name as one part of a subject: `vc1.example` becomes `vc1%2Eexample`.
pub(super) fn token(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut token, byte| {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            token.push(char::from(byte));
        } else {
            write!(token, "%{byte:02X}").expect("a String takes all text");
        }
        token
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sources_become_one_part_of_a_subject() {
        let check = |name: &str, expected: &str| assert_eq!(token(name), expected);
        check("vc1", "vc1");
        check("vc1.example", "vc1%2Eexample");
        check("a b*>", "a%20b%2A%3E");
        check("vc1%2Eexample", "vc1%252Eexample");
    }

    #[test]
    fn a_message_id_depends_on_each_part() {
        let id = message_id([b"https://vc/sdk", b"1", b""]);
        assert_eq!(id.len(), 2 * MESSAGE_ID_BYTES);
        assert_eq!(id, message_id([b"https://vc/sdk", b"1", b""]));
        assert_ne!(id, message_id([b"https://vc/sdk", b"2", b""]));
        assert_ne!(id, message_id([b"https://vc/sdk1", b"", b""]));
        assert_ne!(id, message_id([b"https://vc/sdk", b"1", b"https://target"]));
    }
}
