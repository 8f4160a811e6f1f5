//! The record of a lease, as it is stored in the bucket.
//!
//! ```text
//! {"version":1,"owner":{"node":"a","incarnation":"…"},"counter":7}⏎ contents
//! ```
//!
//! The first line is for the lease, and for people. The contents belong to the holder: the position
//! of a source, or the cursors of a partition.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lease::{LeaseHolder, LeaseState};

const VERSION: u32 = 1;

/// A record with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    pub state: LeaseState,
    pub contents: Bytes,
}

/// A record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is no record of event-router")]
    Foreign,
    #[error("it has version {0}, and this router reads version {VERSION}; upgrade this node")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    owner: Option<Owner>,
    counter: u64,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    node: String,
    incarnation: Uuid,
}

impl LeaseRecord {
    pub fn encode(&self) -> Bytes {
        let LeaseState { owner, counter } = &self.state;
        let owner = owner.as_ref();
        let owner = owner.map(|owner| Owner { node: owner.node.clone(), incarnation: owner.incarnation });
        let head = Head { version: VERSION, owner, counter: *counter };
        let head = serde_json::to_vec(&head).expect("texts and numbers are JSON");
        let mut bytes = BytesMut::with_capacity(head.len() + 1 + self.contents.len());
        bytes.put_slice(&head);
        bytes.put_u8(b'\n');
        bytes.put_slice(&self.contents);
        bytes.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(RecordError::Foreign)?;
        // A later version may have other members.
        let value: serde_json::Value =
            serde_json::from_slice(&bytes[..end]).map_err(|_| RecordError::Foreign)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64).ok_or(RecordError::Foreign)?;
        if version != u64::from(VERSION) {
            return Err(RecordError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        let Head { owner, counter, .. } = serde_json::from_value(value).map_err(|_| RecordError::Foreign)?;
        let owner = owner.map(|Owner { node, incarnation }| LeaseHolder { node, incarnation });
        Ok(LeaseRecord { state: LeaseState { owner, counter }, contents: bytes.slice(end + 1..) })
    }
}

/// The key of a source's record, of characters that every tool for buckets accepts.
pub fn source_key(source: &str) -> String {
    let mut key = "reader.".to_owned();
    for byte in source.bytes() {
        match byte {
            b'-' | b'_' => key.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => key.push(byte.into()),
            _ => key.push_str(&format!("={byte:02X}")),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let check = |owner: Option<LeaseHolder>, contents: &'static [u8]| {
            let state = LeaseState { owner, counter: 7 };
            let record = LeaseRecord { state, contents: Bytes::from_static(contents) };
            assert_eq!(LeaseRecord::decode(&record.encode()), Ok(record));
        };
        check(None, b"");
        let node = "a \"quoted\"\nname".to_owned();
        check(Some(LeaseHolder { node, incarnation: Uuid::from_u128(3) }), b"{\"a\":1}\n\xff");
    }

    #[test]
    fn other_contents_are_refused() {
        let check = |bytes: &'static str, expected| {
            assert_eq!(LeaseRecord::decode(&Bytes::from_static(bytes.as_bytes())), Err(expected), "{bytes}");
        };
        check("", RecordError::Foreign);
        check("text\n", RecordError::Foreign);
        check("{}\n", RecordError::Foreign);
        check("{\"version\":1}\n", RecordError::Foreign);
        check("{\"version\":2,\"owners\":[]}\n", RecordError::Version(2));
        check("{\"version\":1,\"owner\":null,\"counter\":1}", RecordError::Foreign);
    }

    #[test]
    fn keys_have_plain_characters_and_differ() {
        assert_eq!(source_key("vc-1_a"), "reader.vc-1_a");
        assert_eq!(source_key("vc1.example=é"), "reader.vc1=2Eexample=3D=C3=A9");
    }
}
