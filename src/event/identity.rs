//! Identities and ids of events.
//!
//! The *identity* is how the router distinguishes the events of one source: 8 bytes, a minute and a
//! key. The *id* is the CloudEvents id that consumers deduplicate by. Both follow from the event
//! alone, so they are the same after a crash, on a standby, and in a replay.
//!
//! ```text
//! id      = UUIDv5(namespace: instanceUuid of the vCenter, name: KEY/MINUTE)
//! MINUTE  = whole minutes since 1970 of createdTime (UTC) + 0.5 ms, or `-` without a time
//! KEY     = Event.key in decimal, or without a key: `x` and the SHA-1 of the raw event in hex
//! example: 1059/29396160
//! ```
//!
//! The key alone is not unique: keys restart when a vCenter is restored. The full time is not
//! stable: vCenter renders the same time with milliseconds in one answer and with microseconds in
//! another. Rounded to the nearest millisecond, both fall into the same minute. Without a key, the
//! raw bytes stand in for it: two readings of one event are the same bytes.

use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::Record;
use super::sha1_lanes::{self, LANES, Message};

/// The minute of an event without a createdTime.
const NO_MINUTE: u32 = u32::MAX;

/// An inbox has no minutes. The identities of its events count steps of 2^10 = 1,024 rows instead,
/// so a restart may read up to 1,024 settled rows again. At 1,000 rows a second, 2^32 steps last
/// for 2^32 * 1,024 / 1,000 seconds = 139 years.
const ROW_BITS: u32 = 10;
/// Bits for the index of an event in its row: 2^10 = 1,024, the number of events in a batch.
const PLACE_BITS: u32 = 10;

/// The identity of an event within its source: 8 bytes, ordered by minute, then key.
///
/// For an event of a push source it encodes the place in the inbox, see [`Identity::of_inbox`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Whole minutes since 1970; `u32::MAX` without a time.
    pub minute: u32,
    /// The bits of the key; without a key, the first four bytes of the hash of the raw event.
    pub key: u32,
}

impl Identity {
    /// The identity of the event with index `place` in row `row` of an inbox. Row numbers rise from
    /// 1, and a row has at most 1,024 events.
    ///
    /// ```text
    /// minute = row / 1024
    /// key    = (row % 1024) << 10 | place
    /// ```
    pub fn of_inbox(row: i64, place: usize) -> Self {
        debug_assert!(row > 0 && place < 1 << PLACE_BITS);
        let step = u32::try_from(row >> ROW_BITS).unwrap_or(NO_MINUTE - 1).min(NO_MINUTE - 1);
        let row = (row & ((1 << ROW_BITS) - 1)) as u32;
        Identity { minute: step, key: row << PLACE_BITS | place as u32 }
    }

    /// The row of the inbox that [`of_inbox`](Self::of_inbox) made this identity from.
    pub fn inbox_row(&self) -> i64 {
        i64::from(self.minute) << ROW_BITS | i64::from(self.key >> PLACE_BITS)
    }

    /// The first row of an inbox at or after the position `us`.
    pub fn inbox_row_at(us: i64) -> i64 {
        i64::from(minute_of(us)) << ROW_BITS
    }

    /// The earliest createdTime that gives this identity, microseconds since 1970 UTC; `None`
    /// without a time.
    pub fn minute_us(&self) -> Option<i64> {
        (self.minute != NO_MINUTE).then(|| i64::from(self.minute) * 60_000_000 - 500)
    }
}

/// Whole minutes since 1970 of `created_us` + 0.5 ms; 0 for times before 1970.
pub fn minute_of(created_us: i64) -> u32 {
    u32::try_from((created_us.saturating_add(500)).div_euclid(60_000_000)).unwrap_or(0)
}

/// The identity and the CloudEvents id of an event of the vCenter `instance`. `raw` gives the
/// event's raw bytes; it is called only if there is no key.
pub fn event_id<'a>(
    instance: &Uuid,
    key: Option<i32>,
    created_us: Option<i64>,
    raw: impl FnOnce() -> &'a [u8],
) -> (Identity, Uuid) {
    if let Some(key) = key {
        let (identity, message) = keyed(instance, key, created_us);
        return (identity, uuid_of(sha1_lanes::digest(&message)));
    }
    let minute = created_us.map_or(NO_MINUTE, minute_of);
    let hash: [u8; 20] = Sha1::digest(raw()).into();
    let key = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    (Identity { minute, key }, Uuid::new_v5(instance, Name::of_hash(&hash, minute).text()))
}

/// The identity of an event with a key, and the message whose hash is its id.
fn keyed(instance: &Uuid, key: i32, created_us: Option<i64>) -> (Identity, Message) {
    let minute = created_us.map_or(NO_MINUTE, minute_of);
    let message = Message::new([instance.as_bytes(), Name::of_key(key, minute).text()]);
    (Identity { minute, key: key as u32 }, message)
}

/// Sets identity and id of each record, as [`event_id`] computes them, but hashing several at once.
/// `raw` gives the raw bytes of a record; it is called only for records without a key.
pub fn identify<'a>(instance: &Uuid, records: &mut [Record], raw: impl Fn(&Record) -> &'a [u8]) {
    for records in records.chunks_mut(LANES) {
        let mut messages = [Message::default(); LANES];
        for (record, message) in records.iter_mut().zip(&mut messages) {
            match record.key {
                Some(key) => (record.identity, *message) = keyed(instance, key, record.created_us),
                None => {
                    (record.identity, record.id) =
                        event_id(instance, None, record.created_us, || raw(record));
                }
            }
        }
        for (record, digest) in records.iter_mut().zip(sha1_lanes::digests(&messages)) {
            if record.key.is_some() {
                record.id = uuid_of(digest);
            }
        }
    }
}

/// A UUID of version 5 (RFC 9562) from the first 16 bytes of a SHA-1.
fn uuid_of(digest: [u8; 16]) -> Uuid {
    uuid::Builder::from_sha1_bytes(digest).into_uuid()
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The name that is hashed into the UUID, built without a heap allocation.
struct Name {
    bytes: [u8; 52],
    len: usize,
}

impl Name {
    /// `KEY/MINUTE`: at most 11 bytes, the slash, and 10 bytes.
    fn of_key(key: i32, minute: u32) -> Self {
        let mut name = Name { bytes: [0; 52], len: 0 };
        name.number(i64::from(key));
        name.minute(minute);
        name
    }

    /// `xHASH/MINUTE`: 41 bytes, the slash, and at most 10 bytes. 52 bytes in all.
    fn of_hash(hash: &[u8; 20], minute: u32) -> Self {
        let mut name = Name { bytes: [0; 52], len: 0 };
        name.push(b"x");
        for byte in hash {
            name.push(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        name.minute(minute);
        name
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn minute(&mut self, minute: u32) {
        self.push(b"/");
        match minute {
            NO_MINUTE => self.push(b"-"),
            minute => self.number(i64::from(minute)),
        }
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn number(&mut self, value: i64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.push(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: Uuid = Uuid::from_u128(0xdbed6e0c_bd88_4ef6_b594_21283e1c677f);

    fn check(key: i32, created_us: i64, name: &str) {
        let (_, id) = event_id(&INSTANCE, Some(key), Some(created_us), || unreachable!("the key is known"));
        assert_eq!(id, Uuid::new_v5(&INSTANCE, name.as_bytes()), "{name}");
    }

    #[test]
    fn the_same_event_has_the_same_id_always() {
        check(1, 0, "1/0");
        check(-7, 60_000_000, "-7/1");
        check(i32::MIN, 1_763_769_600_000_000, "-2147483648/29396160");
        check(i32::MAX, 1_763_769_659_999_499, "2147483647/29396160");
        // Rendered with milliseconds, 23:59:59.9995 falls into the next minute. With microseconds
        // it must fall into the same one.
        check(5, 1_763_769_659_999_500, "5/29396161");
    }

    #[test]
    fn an_event_without_key_or_time_is_named_by_its_bytes() {
        let raw: &[u8] = b"<returnval/>";
        let (a, id) = event_id(&INSTANCE, None, None, || raw);
        let (b, same) = event_id(&INSTANCE, None, None, || raw);
        let (c, other) = event_id(&INSTANCE, None, None, || b"<returnval></returnval>");
        assert_eq!((a, id), (b, same));
        assert_ne!(a, c);
        assert_ne!(id, other);
        let (_, timeless) = event_id(&INSTANCE, Some(3), None, || raw);
        assert_eq!(timeless, Uuid::new_v5(&INSTANCE, b"3/-"));
    }

    #[test]
    fn places_in_the_inbox_keep_their_order() {
        let places = [(1, 0), (1, 1), (1, 1_023), (2, 0), (1_023, 5), (1_024, 0), (5_000_000_000, 3)];
        let identities = places.map(|(row, place)| Identity::of_inbox(row, place));
        assert!(identities.is_sorted());
        assert_eq!(identities.map(|identity| identity.inbox_row()), places.map(|(row, _)| row));
        let at = identities[5].minute_us().expect("a place");
        assert_eq!((minute_of(at), Identity::inbox_row_at(at)), (1, 1_024));
    }

    #[test]
    fn many_at_once_are_named_as_one_by_one() {
        let key = |i: usize| (i % 5 != 3).then_some(i as i32 - 9);
        let time = |i: usize| (i % 7 != 2).then_some(i as i64 * 30_000_000);
        let raw = |record: &Record| if record.created_us.is_some() { &b"<a/>"[..] } else { b"<b/>" };
        for count in [0, 1, 7, 8, 9, 30] {
            let record = |i| Record { key: key(i), created_us: time(i), ..Record::default() };
            let mut records: Vec<_> = (0..count).map(record).collect();
            identify(&INSTANCE, &mut records, raw);
            for record in &records {
                let alone = event_id(&INSTANCE, record.key, record.created_us, || raw(record));
                assert_eq!((record.identity, record.id), alone);
            }
        }
    }
}
