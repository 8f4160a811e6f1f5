//! The writes, and the rule for their order.
//!
//! The storage thread groups writes of many senders into one transaction. A bound can refuse one of
//! them, such as an append to a full spool. Writes behind it that may rely on it are then held
//! back:
//!
//! ```text
//! append to bus      Done         there is room
//! append to bus      Full         the spool of bus is full
//! append to bus      HeldBack     it would overtake the refused batch
//! append to mail     Done         another destination
//! checkpoint         HeldBack     it may count the refused events as settled
//! ```
//!
//! INVARIANT: a checkpoint never counts an event as settled that only a later write makes durable.
//! Within one transaction the wrong order would do no harm. It is refused all the same, because the
//! two writes could end up in different transactions.

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use super::codec::{self, Encoded};
use super::dead_letters::DeadLetterFilter;
use super::room::spool_owner;
use super::{Full, InboxWrite, Storage, StoreError};
use crate::event::{Batch, Identity, Selection};

/// One change of the durable state.
#[derive(Clone, Debug)]
pub enum Write {
    /// The position of a source, its seen and its unsettled events.
    Checkpoint(CheckpointWrite),
    /// Appends events of one batch to a spool.
    SpoolAppend(SpoolAppend),
    /// Appends events to an inbox, with the ids that later copies are recognized by.
    InboxAppend(InboxWrite),
    /// Removes rows whose events are all settled. Rows that do not exist are no error, since a
    /// removal may be repeated.
    SpoolRemove { rows: Vec<i64> },
    /// Records all events of a row that are settled so far, as indices within the row. A row whose
    /// events are all settled is removed instead.
    SpoolSettled { row: i64, events: Selection },
    /// Moves events of a row to the ends of other spools.
    SpoolMove(SpoolMove),
    /// Deletes a whole spool, as an operator asked.
    SpoolClear { destination: String },
    /// Stores an event that failed for good. It replaces an older letter of the same event and
    /// destination, and keeps its number and the time of its first try.
    DeadLetter(DeadLetterWrite),
    /// Updates a dead letter whose replay failed.
    DeadLetterAgain { row: i64, reason: String, status: Option<u16>, attempts: u32, last_us: i64 },
    /// Removes dead letters that were delivered in a replay, or dropped by an operator.
    DeadLetterRemove { rows: Vec<i64> },
    /// Records that a source's position was imported from the old router. Belongs in the
    /// transaction of the source's first checkpoint.
    Imported { source: String, path: String, resume_us: i64 },
}

/// A new checkpoint of one source. Its seen events are written as changes, everything else whole.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointWrite {
    pub source: String,
    pub instance_uuid: Uuid,
    /// Everything created before it is settled; microseconds since 1970 UTC, vCenter's clock.
    pub resume_us: i64,
    /// Time at which reading first began; nothing created before it is ever read.
    pub first_us: Option<i64>,
    /// The highest key seen. A lower key with a later time means that the vCenter was restored.
    pub high_key: Option<i32>,
    /// The minutes with new events since the last checkpoint, each with *all* its seen keys. One
    /// without keys is deleted.
    pub dirty: Vec<(u32, RoaringBitmap)>,
    /// Minutes before this one are deleted: the minute of the resume time minus the overlap.
    pub prune_before_minute: u32,
    /// Rows of the source's inbox before this one are removed: all of their events are settled. 0
    /// for a source without an inbox.
    pub inbox_kept: i64,
    /// The unsettled events of each destination: all of them, every time.
    pub unsettled: Vec<(String, Vec<Identity>)>,
    /// The destinations of the source; `None` if unchanged since the last checkpoint.
    pub destinations: Option<Vec<String>>,
}

/// One batch for a spool.
#[derive(Clone, Debug)]
pub struct SpoolAppend {
    /// The name of the spool, as [`spool_name`](super::spool_name) makes it.
    pub destination: String,
    /// The source's name.
    pub source: String,
    pub batch: Encoded,
    /// For the first batch of a group, the compressed bytes of the whole group; `None` for the
    /// others. The batches of a group follow each other in one transaction, all or none of them.
    pub group_bytes: Option<u64>,
    /// The bound of all spools of the destination together, compressed bytes.
    pub bytes_max: u64,
    /// Bytes of the disk that this destination leaves free, if more than the store's own bound.
    pub disk_free_min: u64,
}

impl SpoolAppend {
    /// A group of one batch, bounded only by the store itself.
    pub fn alone(destination: impl Into<String>, source: impl Into<String>, batch: Encoded) -> Self {
        SpoolAppend {
            destination: destination.into(),
            source: source.into(),
            group_bytes: Some(batch.blob().len() as u64),
            batch,
            bytes_max: u64::MAX,
            disk_free_min: 0,
        }
    }
}

/// Events of one row that go to the ends of other spools: all of these appends, or none.
///
/// It makes no event durable that was not durable before, so no checkpoint relies on it.
#[derive(Clone, Debug)]
pub struct SpoolMove {
    pub row: i64,
    /// All events of the row that are settled then; `None` removes the row.
    pub settled: Option<Selection>,
    /// At most one batch for each spool. Their `group_bytes` have no meaning here.
    pub appends: Vec<SpoolAppend>,
}

/// A dead letter to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterWrite {
    pub letter: StoredDeadLetter,
    /// Number of destinations that share the store, which decides the share of each:
    /// [`DeadLetterUsage::limit_of`](super::DeadLetterUsage::limit_of).
    pub destinations: usize,
}

/// An event that failed for good at one destination, or that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    pub facts: DeadLetterFacts,
    pub payload: DeadLetterPayload,
}

/// The facts of a dead letter: the event, the destination, the reason and the attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterFacts {
    /// Empty for an event that could not be decoded, since it was never routed.
    pub destination: String,
    pub source: String,
    pub identity: Identity,
    /// The CloudEvents id.
    pub id: Uuid,
    pub subject: String,
    /// The reason of the failure, redacted.
    pub reason: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    pub attempts: u32,
    /// Microseconds since 1970 UTC by the router's clock, as `last_us`.
    pub first_us: i64,
    pub last_us: i64,
}

/// The event in a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterPayload {
    /// A batch of this one event, from [`codec::encode`](super::codec::encode).
    Event(Vec<u8>),
    /// The bytes that could not be decoded.
    Raw(Vec<u8>),
}

impl DeadLetterPayload {
    pub fn bytes(&self) -> &[u8] {
        match self {
            DeadLetterPayload::Event(bytes) | DeadLetterPayload::Raw(bytes) => bytes,
        }
    }
}

/// The outcome of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is durable.
    Done,
    /// It is durable under this row number. Row numbers of spools rise and are never reused.
    Row(i64),
    /// It is *not* written, because a bound is reached. Other writes of the transaction are not
    /// affected, except those that are held back.
    Full(Full),
    /// It is *not* written, because it follows a refused write of the same transaction: a
    /// checkpoint of the same source could rely on that write, a batch for the same destination
    /// would overtake it.
    HeldBack,
}

impl Write {
    /// The source whose checkpoint may rely on this write, and the destination and events that it
    /// makes durable.
    fn makes_durable(&self) -> Option<(&str, &str, &[Identity])> {
        match self {
            Write::SpoolAppend(append) => {
                let (owner, _) = spool_owner(&append.destination);
                Some((&append.source, owner, append.batch.identities()))
            }
            Write::DeadLetter(write) => {
                let facts = &write.letter.facts;
                Some((&facts.source, &facts.destination, std::slice::from_ref(&facts.identity)))
            }
            _ => None,
        }
    }
}

/// The sources and destinations of the writes that were refused in this transaction.
#[derive(Debug, Default)]
pub(super) struct RefusedWrites {
    /// Sources whose checkpoints may rely on a refused write.
    sources: HashSet<String>,
    /// Destinations for which a smaller batch could fit and overtake a refused one.
    owners: HashSet<String>,
}

impl RefusedWrites {
    /// Returns true if `write` has to wait for the next transaction.
    pub fn holds(&self, write: &Write) -> bool {
        match write {
            Write::Checkpoint(checkpoint) => self.sources.contains(&checkpoint.source),
            Write::SpoolAppend(append) => self.owners.contains(spool_owner(&append.destination).0),
            _ => false,
        }
    }

    /// Takes note of the outcome of `write`.
    pub fn note(&mut self, write: &Write, outcome: &WriteOutcome) {
        if let (WriteOutcome::Full(_) | WriteOutcome::HeldBack, Some((source, ..))) =
            (outcome, write.makes_durable())
        {
            self.sources.insert(source.to_owned());
        }
        if let (WriteOutcome::Full(_), Write::SpoolAppend(append)) = (outcome, write) {
            self.owners.insert(spool_owner(&append.destination).0.to_owned());
        }
    }
}

/// Checks the order of `writes`: returns the index of the first checkpoint that counts an event as
/// settled although a later write makes it durable.
///
/// `store` is the state before `writes`. It is queried only if a checkpoint stands before a write
/// of the same source.
///
/// An event counts as settled for a destination when it is seen and not unsettled. If it was
/// settled or stored before, the later write is no breach: a replayed dead letter that is spilled,
/// or a spooled event that becomes a dead letter.
pub(super) fn relies_on_later(writes: &[Write], store: &dyn Storage) -> Result<Option<usize>, StoreError> {
    let mut stored: HashMap<&str, Option<Checkpoint>> = HashMap::new();
    for (at, write) in writes.iter().enumerate() {
        let Write::Checkpoint(checkpoint) = write else { continue };
        let later = writes[at + 1..]
            .iter()
            .filter_map(Write::makes_durable)
            .filter(|(source, ..)| *source == checkpoint.source);
        for (source, destination, identities) in later {
            if !stored.contains_key(source) {
                stored.insert(source, store.load(source)?);
            }
            let before = stored[source].as_ref();
            for &identity in identities {
                let was_owed = before.is_some_and(|b| b.owes(destination, identity));
                let was_seen = before.is_some_and(|b| b.is_seen(identity));
                let was_settled = was_seen && !was_owed;
                let is_seen = was_seen
                    || checkpoint
                        .dirty
                        .iter()
                        .any(|(minute, keys)| *minute == identity.minute && keys.contains(identity.key));
                let is_owed = checkpoint
                    .unsettled
                    .iter()
                    .any(|(to, owed)| to == destination && owed.contains(&identity));
                if is_seen && !is_owed && !was_settled && !is_kept(store, source, destination, identity)? {
                    return Ok(Some(at));
                }
            }
        }
    }
    Ok(None)
}

/// Returns true if a spool or a dead letter of `destination` contains the event.
fn is_kept(
    store: &dyn Storage,
    source: &str,
    destination: &str,
    identity: Identity,
) -> Result<bool, StoreError> {
    for name in store.spools().keys().filter(|name| spool_owner(name).0 == destination) {
        for row in store.peek(name, 0, u64::MAX)?.iter().filter(|row| row.source == source) {
            let is_it = |batch: Batch| batch.records.iter().any(|record| record.identity == identity);
            if codec::decode_blob(&row.blob).is_ok_and(is_it) {
                return Ok(true);
            }
        }
    }
    let mut filter = DeadLetterFilter {
        destination: Some(destination.to_owned()),
        source: Some(source.to_owned()),
        ..DeadLetterFilter::default()
    };
    loop {
        let letters = store.dead_letters(&filter)?;
        if letters.iter().any(|letter| letter.facts.identity == identity) {
            return Ok(true);
        }
        let Some(last) = letters.last() else { return Ok(false) };
        filter.after_row = last.row;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, Failing, MemoryDisk, MemoryStore, arbitrary};
    use super::*;

    fn checkpoint(seen: &[u32], owed: &[u32]) -> Write {
        let id = |&key: &u32| Identity { minute: 1, key };
        Write::Checkpoint(CheckpointWrite {
            source: "vc-01".into(),
            instance_uuid: Uuid::nil(),
            resume_us: 0,
            first_us: None,
            high_key: None,
            dirty: vec![(1, seen.iter().copied().collect())],
            prune_before_minute: 0,
            inbox_kept: 0,
            unsettled: vec![("bus".into(), owed.iter().map(id).collect())],
            destinations: None,
        })
    }

    fn append(destination: &str, keys: &[u32]) -> Write {
        let identities: Vec<_> = keys.iter().map(|&key| (1, key)).collect();
        let batch = codec::encode(&arbitrary::events(&identities), &Selection::first(keys.len())).unwrap();
        Write::SpoolAppend(SpoolAppend { bytes_max: 1, ..SpoolAppend::alone(destination, "vc-01", batch) })
    }

    fn dead_letter(destination: &str, key: u32) -> Write {
        let facts = DeadLetterFacts {
            destination: destination.into(),
            source: "vc-01".into(),
            identity: Identity { minute: 1, key },
            id: Uuid::from_u128(u128::from(key)),
            subject: String::new(),
            reason: String::new(),
            status: None,
            attempts: 1,
            first_us: 0,
            last_us: 0,
        };
        let letter = StoredDeadLetter { facts, payload: DeadLetterPayload::Raw(Vec::new()) };
        Write::DeadLetter(DeadLetterWrite { letter, destinations: 1 })
    }

    #[test]
    fn the_checkpoint_never_relies_on_a_later_write() {
        let check = |stored: &[Write], writes: &[Write], expected: Option<usize>| {
            let mut store = MemoryStore::open(&MemoryDisk::default());
            store.apply(stored).unwrap();
            let found = relies_on_later(writes, &store).unwrap();
            assert_eq!(found, expected, "{stored:?} {writes:?}");
        };
        check(&[], &[append("bus", &[7]), checkpoint(&[7], &[])], None);
        check(&[], &[checkpoint(&[7], &[]), append("bus", &[7])], Some(0));
        check(&[], &[checkpoint(&[7], &[7]), append("bus", &[7])], None);
        check(&[], &[checkpoint(&[6], &[]), append("bus", &[7])], None);
        check(&[], &[checkpoint(&[7], &[7]), append("faas/a", &[7])], Some(0));
        // It was unsettled, and a later write settles it.
        check(&[checkpoint(&[7], &[7])], &[checkpoint(&[7], &[]), append("bus", &[7])], Some(0));
        check(&[checkpoint(&[7], &[7])], &[append("bus", &[7]), checkpoint(&[7], &[])], None);
        // A spooled event is settled, even before a checkpoint says so. It may become a dead letter
        // or move to another spool.
        let spooled = [checkpoint(&[7], &[7]), append("bus", &[7])];
        check(&spooled, &[checkpoint(&[7], &[]), dead_letter("bus", 7)], None);
        check(&spooled, &[checkpoint(&[7, 8], &[]), dead_letter("bus", 8)], Some(0));
        check(&[append("bus", &[7])], &[checkpoint(&[7], &[]), dead_letter("faas/a", 7)], Some(0));
        check(&[dead_letter("bus", 7)], &[checkpoint(&[7], &[]), append("bus", &[7])], None);
        // A dead letter, settled long ago, is replayed and spilled.
        check(&[checkpoint(&[7], &[])], &[checkpoint(&[7, 8], &[]), append("bus", &[7])], None);
    }

    #[test]
    #[should_panic(expected = "a checkpoint before the write that it relies on")]
    fn a_breach_stops_a_debug_build() {
        let _ =
            MemoryStore::open(&MemoryDisk::default()).apply(&[checkpoint(&[7], &[]), append("bus", &[7])]);
    }

    #[test]
    fn a_refused_write_holds_the_checkpoints_behind_it() {
        let disk = MemoryDisk::default();
        let bounds = Bounds { disk_free_bytes: 1_000, ..Bounds::default() };
        let mut store = MemoryStore::open_with(&disk, bounds);
        let outcomes = store
            .apply(&[
                append("bus", &[1]),
                checkpoint(&[1], &[]),
                append("bus", &[2]),
                append("faas/a", &[2]),
                checkpoint(&[1, 2], &[]),
            ])
            .unwrap();
        assert_eq!(outcomes[0], WriteOutcome::Row(1));
        assert_eq!(outcomes[1], WriteOutcome::Done);
        assert!(matches!(&outcomes[2], WriteOutcome::Full(Full::Spool { bytes_max: 1, .. })), "{outcomes:?}");
        assert_eq!(outcomes[3], WriteOutcome::Row(2), "another destination's spool has room");
        assert_eq!(outcomes[4], WriteOutcome::HeldBack);
        assert!(!store.load("vc-01").unwrap().unwrap().is_seen(Identity { minute: 1, key: 2 }));
        // A destination can keep more of the disk free than the store does.
        disk.set_free(5_000);
        let wanting = |disk_free_min| match append("faas/b", &[1]) {
            Write::SpoolAppend(append) => Write::SpoolAppend(SpoolAppend { disk_free_min, ..append }),
            other => other,
        };
        let outcomes = store.apply(&[wanting(5_000), append("faas/c", &[1]), checkpoint(&[1], &[])]).unwrap();
        assert_eq!(outcomes[0], WriteOutcome::Full(Full::Disk { free: 5_000, floor: 5_000 }));
        assert_eq!(
            outcomes[1..],
            [WriteOutcome::Row(3), WriteOutcome::HeldBack],
            "it delays no other destination"
        );
        disk.set_free(6_000);
        assert_eq!(
            store.apply(&[wanting(5_000)]).unwrap(),
            [WriteOutcome::Row(4)],
            "it is accepted when there is room"
        );
        disk.set_free(1_050);
        let outcomes = store.apply(&[append("faas/b", &[1])]).unwrap();
        assert_eq!(outcomes, [WriteOutcome::Full(Full::Disk { free: 1_050, floor: 1_000 })]);
    }

    #[test]
    fn nothing_overtakes_a_refused_batch_within_its_spool() {
        let bounds = Bounds { disk_free_bytes: 0, ..Bounds::default() };
        let mut store = MemoryStore::open_with(&MemoryDisk::default(), bounds);
        let large = |destination| append(destination, &(0..500).collect::<Vec<_>>());
        let roomy = |write: Write, bytes_max| match write {
            Write::SpoolAppend(append) => Write::SpoolAppend(SpoolAppend { bytes_max, ..append }),
            other => other,
        };
        let outcomes = store
            .apply(&[
                roomy(append("bus", &[1]), 1_000),
                roomy(large("bus"), 1_000),
                roomy(append("bus", &[2]), 1_000),
                append("faas/a", &[2]),
            ])
            .unwrap();
        assert!(matches!(&outcomes[1], WriteOutcome::Full(Full::Spool { .. })), "{outcomes:?}");
        assert_eq!(
            [&outcomes[0], &outcomes[2], &outcomes[3]],
            [&WriteOutcome::Row(1), &WriteOutcome::HeldBack, &WriteOutcome::Row(2)]
        );
    }

    #[test]
    fn a_failed_write_is_atomic_and_the_last() {
        for how in [Failing::Before, Failing::After] {
            let disk = MemoryDisk::default();
            disk.fail(1, how);
            let mut store = MemoryStore::open(&disk);
            store.apply(&[checkpoint(&[1], &[])]).unwrap();
            assert!(store.apply(&[append("bus", &[2]), checkpoint(&[1, 2], &[])]).is_err());
            assert!(store.apply(&[checkpoint(&[1], &[])]).is_err(), "the process has to stop");
            let store = MemoryStore::open(&disk);
            let written = how == Failing::After;
            assert_eq!(store.spools().contains_key("bus"), written);
            assert_eq!(
                store.load("vc-01").unwrap().unwrap().is_seen(Identity { minute: 1, key: 2 }),
                written
            );
        }
    }
}
