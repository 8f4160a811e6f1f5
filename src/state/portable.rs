//! A checkpoint as bytes, for a store that several routers share.
//!
//! ```text
//! {"version":1,"instance":"…","resumeUs":…,"seen":[[minute,"bitmap"],…],
//!  "unsettled":{"destination":"identities",…},"destinations":[…]}      texts in base64
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint::{identities_from_bytes, identities_to_bytes};
use super::{Checkpoint, CheckpointWrite};
use crate::event::minute_of;

const VERSION: u32 = 1;

/// The bytes are no checkpoint that this router knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortableError {
    #[error("it is no position of event-router, or it is damaged")]
    Foreign,
    #[error("it has version {0}, and this router reads version {VERSION}; upgrade this node")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Portable {
    version: u32,
    instance: Uuid,
    resume_us: i64,
    first_us: Option<i64>,
    high_key: Option<i32>,
    seen: Vec<(u32, String)>,
    unsettled: BTreeMap<String, String>,
    destinations: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint in at most `max` bytes. If it is larger, the oldest seen events are left out:
    /// a router that continues from it delivers them again. `None` if that is not sufficient.
    pub fn to_bytes(&self, max: usize) -> Option<Vec<u8>> {
        let bitmap = |keys: &RoaringBitmap| {
            let mut bytes = Vec::with_capacity(keys.serialized_size());
            keys.serialize_into(&mut bytes).expect("a Vec takes all bytes");
            STANDARD.encode(bytes)
        };
        let mut portable = Portable {
            version: VERSION,
            instance: self.instance_uuid,
            resume_us: self.resume_us,
            first_us: self.first_us,
            high_key: self.high_key,
            seen: self.seen.iter().map(|(minute, keys)| (*minute, bitmap(keys))).collect(),
            unsettled: self
                .unsettled
                .iter()
                .map(|(to, owed)| (to.clone(), STANDARD.encode(identities_to_bytes(owed))))
                .collect(),
            destinations: self.destinations.clone(),
        };
        let encode = |portable: &Portable| serde_json::to_vec(portable).expect("texts and numbers are JSON");
        let bytes = encode(&portable);
        let mut excess = bytes.len().saturating_sub(max);
        if excess == 0 {
            return Some(bytes);
        }
        portable.seen.retain(|(_, keys)| {
            let is_kept = excess == 0;
            excess = excess.saturating_sub(keys.len());
            is_kept
        });
        Some(encode(&portable)).filter(|bytes| bytes.len() <= max)
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote.
    pub fn from_bytes(source: &str, bytes: &[u8]) -> Result<Self, PortableError> {
        // A later version may have other members.
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| PortableError::Foreign)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        match version.ok_or(PortableError::Foreign)? {
            version if version == u64::from(VERSION) => {}
            version => return Err(PortableError::Version(u32::try_from(version).unwrap_or(u32::MAX))),
        }
        let portable: Portable = serde_json::from_value(value).map_err(|_| PortableError::Foreign)?;
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| PortableError::Foreign);
        let mut checkpoint = Checkpoint {
            first_us: portable.first_us,
            high_key: portable.high_key,
            destinations: portable.destinations,
            ..Checkpoint::at(source, portable.instance, portable.resume_us)
        };
        for (minute, keys) in portable.seen {
            let keys = RoaringBitmap::deserialize_from(&*decoded(&keys)?);
            checkpoint.seen.insert(minute, keys.map_err(|_| PortableError::Foreign)?);
        }
        for (destination, owed) in portable.unsettled {
            let owed = identities_from_bytes(&decoded(&owed)?).ok_or(PortableError::Foreign)?;
            checkpoint.unsettled.insert(destination, owed);
        }
        Ok(checkpoint)
    }

    /// Adds the change that `write` makes.
    #[must_use]
    pub fn after(self, write: &CheckpointWrite) -> Self {
        Checkpoint::update(Some(self), write)
    }
}

impl CheckpointWrite {
    /// The write that makes a store without a position of this source have `checkpoint`.
    pub fn whole(checkpoint: &Checkpoint) -> Self {
        let first = checkpoint.seen.keys().next().copied();
        CheckpointWrite {
            source: checkpoint.source.clone(),
            instance_uuid: checkpoint.instance_uuid,
            resume_us: checkpoint.resume_us,
            first_us: checkpoint.first_us,
            high_key: checkpoint.high_key,
            dirty: checkpoint.seen.iter().map(|(minute, keys)| (*minute, keys.clone())).collect(),
            prune_before_minute: first.unwrap_or_else(|| minute_of(checkpoint.resume_us)),
            inbox_kept: 0,
            unsettled: checkpoint.unsettled.iter().map(|(to, owed)| (to.clone(), owed.clone())).collect(),
            destinations: Some(checkpoint.destinations.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Identity;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        let identity = (0_u32..9, 0_u32..99).prop_map(|(minute, key)| Identity { minute, key });
        let seen = prop::collection::btree_map(0_u32..9, prop::collection::vec(0_u32..99, 1..9), 0..5);
        let unsettled =
            prop::collection::btree_map("[a-z]{1,3}", prop::collection::vec(identity, 1..5), 0..4);
        (seen, unsettled, any::<i64>(), any::<Option<i32>>(), prop::collection::btree_set("[a-z]{1,3}", 0..4))
            .prop_map(|(seen, unsettled, resume_us, high_key, destinations)| Checkpoint {
                seen: seen.into_iter().map(|(minute, keys)| (minute, keys.into_iter().collect())).collect(),
                unsettled,
                high_key,
                first_us: high_key.map(i64::from),
                destinations: destinations.into_iter().collect(),
                ..Checkpoint::at("vc", Uuid::from_u128(7), resume_us)
            })
    }

    proptest! {
        #[test]
        fn a_checkpoint_is_read_as_it_was_written(checkpoint in checkpoints()) {
            let bytes = checkpoint.to_bytes(usize::MAX).expect("it fits");
            prop_assert_eq!(Checkpoint::from_bytes("vc", &bytes), Ok(checkpoint.clone()));
            let empty = Checkpoint::update(None, &CheckpointWrite::whole(&checkpoint));
            prop_assert_eq!(empty, checkpoint);
        }

        #[test]
        fn only_the_oldest_seen_events_are_left_out(checkpoint in checkpoints(), less in 0_usize..400) {
            let max = checkpoint.to_bytes(usize::MAX).expect("it fits").len().saturating_sub(less);
            let Some(bytes) = checkpoint.to_bytes(max) else { return Ok(()) };
            prop_assert!(bytes.len() <= max);
            let found = Checkpoint::from_bytes("vc", &bytes).expect("it was written");
            prop_assert!(checkpoint.seen.iter().rev().zip(found.seen.iter().rev()).all(|(a, b)| a == b));
            prop_assert_eq!(Checkpoint { seen: checkpoint.seen.clone(), ..found }, checkpoint);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let check = |bytes: &str, expected| {
            assert_eq!(Checkpoint::from_bytes("vc", bytes.as_bytes()), Err(expected), "{bytes}");
        };
        check("", PortableError::Foreign);
        check("{}", PortableError::Foreign);
        check(r#"{"version":1}"#, PortableError::Foreign);
        check(r#"{"version":2,"resume":{}}"#, PortableError::Version(2));
    }
}
