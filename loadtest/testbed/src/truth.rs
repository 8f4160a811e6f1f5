//! The truth about a vCenter's events, for a verifier that keeps no list of them.
//!
//! An event is named by its index:
//!
//! ```text
//! key, createdTime ──► spans ──► index ──► entity
//! instanceUuid, key, createdTime ──► id
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::vcenter::{Exceptions, KeySpan, ModelSpec};

/// A snapshot of a vCenter's events. The handle and `GET /testbed/truth` give the same one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Truth {
    pub instance_uuid: Uuid,
    pub model: ModelSpec,
    /// Number of events that exist.
    pub produced: u64,
    /// First event that came after the start. Events from here on have a latency.
    pub live_from: u64,
    pub clock_offset_us: i64,
    /// The largest offset so far. By this machine's clock, no event was created earlier than its
    /// createdTime less this.
    pub clock_offset_us_max: i64,
    pub spans: Vec<KeySpan>,
    pub exceptions: Exceptions,
    pub generation: u64,
}

/// The id of a CloudEvent: UUIDv5 of the vCenter's instanceUuid and `KEY/MINUTE`, MINUTE being the
/// whole minutes since 1970 of createdTime + 0.5 ms.
pub fn event_id(instance_uuid: &Uuid, key: i32, created_us: i64) -> Uuid {
    let minute = (created_us + 500).div_euclid(60_000_000);
    let mut name = Vec::with_capacity(24);
    crate::vcenter::digits::push_int(&mut name, key);
    name.push(b'/');
    name.extend_from_slice(minute.to_string().as_bytes());
    Uuid::new_v5(instance_uuid, &name)
}

impl Truth {
    /// Index of the event with this key and time. The time tells apart two events that a restored
    /// vCenter gave the same key.
    pub fn index_of(&self, key: i32, created_us: i64) -> Option<u64> {
        index_of(&self.spans, self.produced, key, created_us)
    }
}

/// Largest rounding of a delivered time, which may have whole milliseconds.
const ROUNDED_US: i64 = 1_000;

/// Finds an event with an index below `limit`, as [`Truth::index_of`]. The newest span comes first,
/// because most deliveries are there.
pub(crate) fn index_of(spans: &[KeySpan], limit: u64, key: i32, created_us: i64) -> Option<u64> {
    let (mut end, mut until_us) = (limit, i64::MAX);
    for span in spans.iter().rev() {
        let index = span.first + u64::from(key.wrapping_sub(span.key_base) as u32);
        // At the border of two spans a time may belong to either; the key then decides.
        if index < end && created_us + ROUNDED_US > span.from_us && created_us - ROUNDED_US <= until_us {
            return Some(index);
        }
        (end, until_us) = (span.first.min(end), span.from_us);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_derived_from_key_and_minute() {
        let vcenter = Uuid::parse_str("cc4db9a9-35d5-5731-a798-7b32a5c23a64").unwrap();
        for (key, created_us, name) in [
            (42, 60_000_000, "42/1"),
            (42, 59_999_500, "42/1"),
            (42, 59_999_499, "42/0"),
            (-7, 1_795_305_612_398_830, "-7/29921760"),
        ] {
            assert_eq!(
                event_id(&vcenter, key, created_us),
                Uuid::new_v5(&vcenter, name.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn reused_keys_are_distinguished_by_time() {
        let span = |first, key_base, from_us| KeySpan { first, key_base, from_us };
        let spans = [span(0, 100, 0), span(10, 106, 60_000_000)];
        for (key, created_us, expected) in [
            (100, 5_000_000, Some(0)),
            (107, 5_000_000, Some(7)),
            (107, 61_000_000, Some(11)),
            (99, 5_000_000, None),
            // The last event before the keys began again, with the same time as the first event
            // after.
            (105, 60_000_000, Some(5)),
            // An event that is not known yet is not another one either.
            (121, 61_000_000, None),
        ] {
            assert_eq!(index_of(&spans, 20, key, created_us), expected, "{key} {created_us}");
        }
        let wrapped = [span(0, i32::MAX, 0)];
        assert_eq!(index_of(&wrapped, 2, i32::MIN, 0), Some(1));
    }
}
