//! The id of an event: the same after a crash, on a standby, on a replay.
//!
//! `id` = UUIDv5(namespace = the vCenter's instanceUuid, name = `KEY/MINUTE`), MINUTE = whole minutes of (createdTime in UTC + 0.5 ms)
//! since 1970. vCenter renders the same time with milliseconds or with microseconds, hence the coarse time; keys restart when a vCenter is
//! restored, hence a time at all.
//!
//! Where vCenter sent no key, the name is `xHASH/MINUTE` with HASH the SHA-1 of the event's element in hex: two readings of one event are the same
//! bytes. Where it sent no time, MINUTE is `-`.

use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::Record;
use super::sha1_lanes::{self, LANES, Message};

/// A minute that stands for "no createdTime".
const NO_MINUTE: u32 = u32::MAX;

/// Rows of an inbox in one step of the position, which a minute is for a vCenter: 1,024 rows that a
/// restart may read again. 2^32 steps of them last for over a century at 1,000 rows a second.
const ROW_BITS: u32 = 10;
/// Events of a row: as many as a batch has at most.
const PLACE_BITS: u32 = 10;

/// What the router tells events of one source apart by: 8 bytes, ordered by minute, then key.
///
/// An event of a push source has its place in the inbox instead, see [`Identity::of_inbox`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Whole minutes since 1970, `u32::MAX` without a time.
    pub minute: u32,
    /// The key's bits; the first four bytes of the element's hash where there is no key.
    pub key: u32,
}

impl Identity {
    /// The identity of the event at `place` of `row` of an inbox. Rows rise from 1, and a row has at
    /// most 1,024 events.
    pub fn of_inbox(row: i64, place: usize) -> Self {
        debug_assert!(row > 0 && place < 1 << PLACE_BITS);
        let step = u32::try_from(row >> ROW_BITS).unwrap_or(NO_MINUTE - 1).min(NO_MINUTE - 1);
        let row = (row & ((1 << ROW_BITS) - 1)) as u32;
        Identity { minute: step, key: row << PLACE_BITS | place as u32 }
    }

    /// The first row of an inbox at or after the place `us` on the axis of its positions.
    pub fn inbox_row_at(us: i64) -> i64 {
        i64::from(minute_of(us)) << ROW_BITS
    }

    /// The earliest createdTime of an event with this identity, microseconds since 1970 UTC; `None` without a time.
    pub fn minute_us(&self) -> Option<i64> {
        (self.minute != NO_MINUTE).then(|| i64::from(self.minute) * 60_000_000 - 500)
    }
}

/// Whole minutes since 1970 of `created_us` + 0.5 ms, both UTC.
pub fn minute_of(created_us: i64) -> u32 {
    u32::try_from((created_us.saturating_add(500)).div_euclid(60_000_000)).unwrap_or(0)
}

/// The identity and CloudEvents id of an event of the vCenter `instance`; `raw` is asked for the event's element only where the key is missing.
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

/// The identity of an event with a key, and what its id is the hash of.
fn keyed(instance: &Uuid, key: i32, created_us: Option<i64>) -> (Identity, Message) {
    let minute = created_us.map_or(NO_MINUTE, minute_of);
    let message = Message::new([instance.as_bytes(), Name::of_key(key, minute).text()]);
    (Identity { minute, key: key as u32 }, message)
}

/// Gives each of `records` its identity and id, as [`event_id`] would; `raw` finds the element of one without a key.
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

/// Version 5 of RFC 9562.
fn uuid_of(digest: [u8; 16]) -> Uuid {
    uuid::Builder::from_sha1_bytes(digest).into_uuid()
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The name of the UUID, built without a heap allocation.
struct Name {
    bytes: [u8; 52],
    len: usize,
}

impl Name {
    /// `KEY/MINUTE`: 11 bytes, the slash and 10 bytes at most.
    fn of_key(key: i32, minute: u32) -> Self {
        let mut name = Name { bytes: [0; 52], len: 0 };
        name.number(i64::from(key));
        name.minute(minute);
        name
    }

    /// `xHASH/MINUTE`: 41 bytes, the slash and 10 bytes at most.
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
        // 23:59:59.9995 rendered with milliseconds is the next minute; with microseconds it must be too.
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
