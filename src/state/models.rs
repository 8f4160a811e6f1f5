//! Property test: [`Store`] and its model [`MemoryStore`] give the same answers to the same writes,
//! across restarts.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Bounds, CheckpointWrite, DeadLetterFacts, DeadLetterFilter, DeadLetterPayload, DeadLetterWrite,
    InboxWrite, MemoryDisk, MemoryStore, SpoolAppend, SpoolMove, Storage, Store, StoredDeadLetter, Write,
    arbitrary, codec, inbox,
};
use crate::event::{Identity, Selection};

#[derive(Clone, Debug)]
enum Op {
    Checkpoint(CheckpointWrite),
    Append {
        destination: String,
        source: String,
        identities: Vec<Identity>,
        bytes_max: u64,
    },
    Inbox {
        source: String,
        ids: Vec<u128>,
        bytes_max: u64,
        forget_before: i64,
    },
    /// Rows of the destination's spool, by their places in it.
    Remove {
        destination: String,
        which: Vec<usize>,
    },
    Settle {
        destination: String,
        which: usize,
        events: Vec<usize>,
    },
    /// A move of events of the destination's row to other destinations' spools.
    Move {
        destination: String,
        which: usize,
        settled: Option<Vec<usize>>,
        to: BTreeMap<String, (Vec<Identity>, u64)>,
    },
    Clear {
        destination: String,
    },
    Letter(StoredDeadLetter),
    Again {
        row: i64,
        reason: String,
        status: Option<u16>,
        attempts: u32,
        last_us: i64,
    },
    RemoveLetters {
        rows: Vec<i64>,
    },
    Imported {
        source: String,
        path: String,
    },
}

fn op() -> impl Strategy<Value = Op> {
    use arbitrary::{destination, identity, source};
    let facts = (destination(), source(), identity(), 0..4u128, "[a-c]{0,3}", any::<Option<u16>>(), 0..9u32);
    let payload = prop_oneof![
        vec(any::<u8>(), 0..99).prop_map(DeadLetterPayload::Event),
        vec(any::<u8>(), 0..99).prop_map(DeadLetterPayload::Raw)
    ];
    let letter = (facts, "[a-z]{0,9}", 0..9i64, 0..9i64, payload).prop_map(
        |(
            (destination, source, identity, id, subject, status, attempts),
            reason,
            first_us,
            last_us,
            payload,
        )| {
            let id = Uuid::from_u128(id);
            let facts = DeadLetterFacts {
                destination,
                source,
                identity,
                id,
                subject,
                reason,
                status,
                attempts,
                first_us,
                last_us,
            };
            Op::Letter(StoredDeadLetter { facts, payload })
        },
    );
    let bytes_max = || prop_oneof![Just(u64::MAX), 0..600u64];
    let to = btree_map(destination(), (vec(identity(), 0..6), bytes_max()), 0..3);
    prop_oneof![
        2 => arbitrary::checkpoint_write().prop_map(Op::Checkpoint),
        6 => (destination(), source(), vec(identity(), 0..6), bytes_max()).prop_map(
            |(destination, source, identities, bytes_max)| Op::Append { destination, source, identities, bytes_max }
        ),
        3 => (source(), vec(any::<u128>(), 0..6), bytes_max(), 0..9i64).prop_map(
            |(source, ids, bytes_max, forget_before)| Op::Inbox { source, ids, bytes_max, forget_before }
        ),
        3 => (destination(), vec(0..4usize, 0..3)).prop_map(|(destination, which)| Op::Remove { destination, which }),
        2 => (destination(), 0..4usize, vec(0..6usize, 0..6))
            .prop_map(|(destination, which, events)| Op::Settle { destination, which, events }),
        2 => (destination(), 0..4usize, option::of(vec(0..6usize, 0..6)), to)
            .prop_map(|(destination, which, settled, to)| Op::Move { destination, which, settled, to }),
        1 => destination().prop_map(|destination| Op::Clear { destination }),
        4 => letter,
        1 => (1..6i64, "[a-z]{0,99}", any::<Option<u16>>(), 0..9u32, any::<i64>()).prop_map(
            |(row, reason, status, attempts, last_us)| Op::Again { row, reason, status, attempts, last_us }
        ),
        1 => vec(1..6i64, 0..3).prop_map(|rows| Op::RemoveLetters { rows }),
        1 => (source(), "[a-z]{1,3}").prop_map(|(source, path)| Op::Imported { source, path }),
    ]
}

fn append(destination: String, source: String, identities: &[Identity], bytes_max: u64) -> SpoolAppend {
    let identities: Vec<_> = identities.iter().map(|id| (id.minute, id.key)).collect();
    let batch = arbitrary::events(&identities);
    let batch = codec::encode(&batch, &Selection::first(identities.len())).unwrap();
    SpoolAppend { bytes_max, ..SpoolAppend::alone(destination, source, batch) }
}

/// The write that `op` stands for, given the current contents of the store.
fn write(op: Op, storage: &dyn Storage) -> Write {
    let row = |destination: &str, which: usize| {
        storage.peek(destination, 0, u64::MAX).unwrap().get(which).map_or(1_000_000, |row| row.row)
    };
    match op {
        Op::Checkpoint(write) => Write::Checkpoint(write),
        Op::Append { destination, source, identities, bytes_max } => {
            Write::SpoolAppend(append(destination, source, &identities, bytes_max))
        }
        Op::Inbox { source, ids, bytes_max, forget_before } => {
            let identities: Vec<_> = (0..ids.len() as u32).map(|key| Identity { minute: 1, key }).collect();
            let append = append(inbox::spool_of(&source), source, &identities, bytes_max);
            let ids = ids.into_iter().map(Uuid::from_u128).collect();
            Write::InboxAppend(InboxWrite { append, ids, forget_before })
        }
        Op::Move { destination, which, settled, to } => Write::SpoolMove(SpoolMove {
            row: row(&destination, which),
            settled: settled.map(|events| events.into_iter().collect()),
            appends: to
                .into_iter()
                .map(|(to, (identities, bytes_max))| append(to, "vc-01".into(), &identities, bytes_max))
                .collect(),
        }),
        Op::Remove { destination, which } => {
            Write::SpoolRemove { rows: which.iter().map(|&which| row(&destination, which)).collect() }
        }
        Op::Settle { destination, which, events } => {
            Write::SpoolSettled { row: row(&destination, which), events: events.into_iter().collect() }
        }
        Op::Clear { destination } => Write::SpoolClear { destination },
        Op::Letter(letter) => Write::DeadLetter(DeadLetterWrite { letter, destinations: 3 }),
        Op::Again { row, reason, status, attempts, last_us } => {
            Write::DeadLetterAgain { row, reason, status, attempts, last_us }
        }
        Op::RemoveLetters { rows } => Write::DeadLetterRemove { rows },
        Op::Imported { source, path } => Write::Imported { source, path, resume_us: 1 },
    }
}

/// The answers to every query.
fn all(storage: &dyn Storage) -> impl PartialEq + std::fmt::Debug + use<> {
    let (sources, destinations) = (["vc-01", "вц"], ["faas/a", "faas/b", "bus"]);
    let spools: BTreeMap<_, _> = destinations.map(|to| (to, storage.peek(to, 0, u64::MAX).unwrap())).into();
    let inboxes = sources.map(|source| {
        let rows = storage.peek(&inbox::spool_of(source), 0, u64::MAX).unwrap();
        (rows, [0, 3, 99].map(|events| storage.inbox_ids(source, events).unwrap()))
    });
    let first: Vec<_> = destinations.map(|to| storage.peek(to, 2, 300).unwrap()).into();
    let letters = storage.dead_letters(&DeadLetterFilter::default()).unwrap();
    let whole: Vec<_> = letters.iter().map(|letter| storage.dead_letter(letter.row).unwrap()).collect();
    let some = DeadLetterFilter {
        destination: Some("bus".into()),
        subject: Some("a*".into()),
        since_us: Some(2),
        until_us: Some(7),
        after_row: 1,
        limit: Some(2),
        ..DeadLetterFilter::default()
    };
    (
        sources.map(|source| (storage.load(source).unwrap(), storage.imported(source).unwrap())),
        (spools, first, inboxes, storage.spools().clone()),
        (
            letters,
            whole,
            storage.dead_letters(&some).unwrap(),
            storage.dead_letter_usage().by_destination.clone(),
        ),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_store_agrees_with_its_model(steps in vec((vec(op(), 1..6), prop::bool::weighted(0.2)), 1..12)) {
        let bounds = Bounds { spool_bytes: 2_000, dead_letter_bytes: 2_000, disk_free_bytes: 0 };
        let dir = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::default();
        let (mut real, mut model) = (Store::open_with(dir.path(), bounds).unwrap(), MemoryStore::open_with(&disk, bounds));
        for (mut ops, restart) in steps {
            // As in the pipeline, a checkpoint comes after all writes that it could rely on.
            ops.sort_by_key(|op| matches!(op, Op::Checkpoint(_)));
            let writes: Vec<Write> = ops.into_iter().map(|op| write(op, &model)).collect();
            prop_assert_eq!(real.apply(&writes).unwrap(), model.apply(&writes).unwrap());
            if restart {
                drop(real);
                real = Store::open_with(dir.path(), bounds).unwrap();
                model = MemoryStore::open_with(&disk, bounds);
            }
            prop_assert_eq!(all(&real), all(&model));
        }
        real.reader().verify().unwrap();
    }
}
