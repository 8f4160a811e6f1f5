//! Dead letters: one per event, filters, bounds, damage.

use proptest::prelude::*;

use super::super::{Storage, Store, Write};
use super::*;

fn write(letter: StoredDeadLetter) -> Write {
    Write::DeadLetter(DeadLetterWrite { letter, destinations: 2 })
}

fn letter(destination: &str, id: u128, subject: &str, last_us: i64) -> StoredDeadLetter {
    let facts = DeadLetterFacts {
        destination: destination.into(),
        source: "vc-01".into(),
        identity: Identity { minute: 1, key: id as u32 },
        id: Uuid::from_u128(id),
        subject: subject.into(),
        reason: "400 Bad Request".into(),
        status: Some(400),
        attempts: 1,
        first_us: last_us,
        last_us,
    };
    StoredDeadLetter { facts, payload: DeadLetterPayload::Event(vec![id as u8; 100]) }
}

#[test]
fn a_drop_honours_its_limit_across_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    let letters = DEAD_LETTERS_LISTED_MAX + 500;
    let writes: Vec<Write> =
        (1..=letters as u128).map(|id| write(letter("a", id, "VmPoweredOnEvent", 10))).collect();
    store.apply(&writes).unwrap();
    let mut left = letters;
    for limit in [0, 1, 7, DEAD_LETTERS_LISTED_MAX + 90] {
        let filter = DeadLetterFilter { limit: Some(limit), ..DeadLetterFilter::default() };
        assert_eq!(store.remove_dead_letters(&filter).unwrap(), limit as u64);
        left -= limit;
        let all = DeadLetterFilter { after_row: 0, ..DeadLetterFilter::default() };
        assert_eq!(store.dead_letters(&all).unwrap().len(), left.min(DEAD_LETTERS_LISTED_MAX), "{limit}");
        // The oldest ones go first.
        let lowest = store.dead_letters(&all).unwrap()[0].row;
        assert_eq!(lowest, (letters - left + 1) as i64, "{limit}");
    }
    assert_eq!(store.remove_dead_letters(&DeadLetterFilter::default()).unwrap(), left as u64);
}

#[test]
fn the_same_event_is_one_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    let mut insert = |letter: StoredDeadLetter| store.apply(&[write(letter)]).unwrap().remove(0);
    assert_eq!(insert(letter("a", 1, "VmPoweredOnEvent", 10)), WriteOutcome::Row(1));
    assert_eq!(insert(letter("b", 1, "VmPoweredOnEvent", 10)), WriteOutcome::Row(2));
    assert_eq!(insert(letter("a", 1, "VmPoweredOnEvent", 20)), WriteOutcome::Row(1));
    let again =
        Write::DeadLetterAgain { row: 1, reason: "gone".into(), status: None, attempts: 5, last_us: 30 };
    let gone =
        Write::DeadLetterAgain { row: 9, reason: "gone".into(), status: None, attempts: 5, last_us: 30 };
    store.apply(&[again, gone]).unwrap();
    let found = store.dead_letter(1).unwrap().unwrap();
    let expected = DeadLetterFacts {
        first_us: 10,
        last_us: 30,
        reason: "gone".into(),
        status: None,
        attempts: 5,
        ..letter("a", 1, "VmPoweredOnEvent", 0).facts
    };
    assert_eq!((found.facts, found.payload), (expected, DeadLetterPayload::Event(vec![1; 100])));
    assert_eq!(
        store.dead_letter_usage().bytes,
        store.dead_letters(&DeadLetterFilter::default()).unwrap().iter().map(|l| l.bytes).sum::<u64>()
    );
    let filter = DeadLetterFilter { destination: Some("b".into()), ..DeadLetterFilter::default() };
    assert_eq!(store.remove_dead_letters(&filter).unwrap(), 1);
    assert_eq!(store.dead_letters(&DeadLetterFilter::default()).unwrap().len(), 1);
}

#[test]
fn full_dead_letters_are_reported_and_keep_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { dead_letter_bytes: 900, disk_free_bytes: 0, ..Bounds::default() };
    let mut store = Store::open_with(dir.path(), bounds).unwrap();
    let writes = [1, 2, 2, 3].map(|id| write(letter("a", id, "E", 0)));
    let outcomes = store.apply(&writes).unwrap();
    assert_eq!(outcomes[..3], [WriteOutcome::Row(1), WriteOutcome::Row(2), WriteOutcome::Row(2)]);
    assert!(
        matches!(
            &outcomes[3],
            WriteOutcome::Full(super::super::Full::DeadLetters { bytes_max: 675, all_bytes_max: 900, .. })
        ),
        "{outcomes:?}"
    );
    assert_eq!(store.dead_letters(&DeadLetterFilter::default()).unwrap().len(), 2);
}

#[test]
fn the_letters_of_one_destination_leave_room_for_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { dead_letter_bytes: 9_000, disk_free_bytes: 0, ..Bounds::default() };
    let mut store = Store::open_with(dir.path(), bounds).unwrap();
    let fill = |store: &mut Store, destination: &str| {
        let writes: Vec<_> = (0..50).map(|id| write(letter(destination, id, "E", 0))).collect();
        let outcomes = store.apply(&writes).unwrap();
        outcomes.iter().filter(|outcome| matches!(outcome, WriteOutcome::Row(_))).count()
    };
    let bytes = size(&letter("a", 0, "E", 0));
    assert_eq!(fill(&mut store, "a") as u64, 6_750 / bytes, "three quarters of the store");
    for destination in ["b", ""] {
        // After a restart, the limits are the same.
        drop(store);
        store = Store::open_with(dir.path(), bounds).unwrap();
        assert!(fill(&mut store, destination) as u64 >= 750 / bytes, "a share of `{destination}`");
    }
    assert_eq!(fill(&mut store, "a") as u64, 6_750 / bytes, "its letters replace themselves");
    let usage = store.dead_letter_usage().clone();
    assert!(usage.bytes <= 9_000 && usage.by_destination.len() == 3, "{usage:?}");
    assert_eq!(usage.by_destination.values().map(|held| held.bytes).sum::<u64>(), usage.bytes);
    let filter = DeadLetterFilter { destination: Some("a".into()), ..DeadLetterFilter::default() };
    store.remove_dead_letters(&filter).unwrap();
    assert_eq!(store.dead_letter_usage().of("a"), HeldLetters::default());
    assert!(fill(&mut store, "b") > 10, "the common part is free again");
}

#[test]
fn old_letters_are_removed_in_bounded_steps() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    let writes: Vec<_> = [("a", 10), ("b", 40), ("a", 30), ("b", 20), ("a", 50)]
        .iter()
        .zip(1..)
        .map(|((to, us), id)| write(letter(to, id, "E", *us)))
        .collect();
    store.apply(&writes).unwrap();
    let left = |store: &Store| {
        let letters = store.dead_letters(&DeadLetterFilter::default()).unwrap();
        letters.iter().map(|letter| letter.facts.last_us).collect::<Vec<_>>()
    };
    let count = |store: &Store| ["a", "b"].map(|name| store.dead_letter_usage().of(name).letters);
    assert_eq!(count(&store), [3, 2]);
    let removed = store.expire_dead_letters(50, 2).unwrap();
    assert_eq!(count(&store), [2, 1]);
    assert_eq!(removed, [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
    assert_eq!(left(&store), [40, 30, 50], "the oldest first");
    assert_eq!(store.expire_dead_letters(50, 9).unwrap().values().sum::<u64>(), 2);
    assert_eq!(left(&store), [50]);
    assert_eq!(store.expire_dead_letters(50, 9).unwrap(), [].into());
    assert_eq!(store.dead_letter_usage().by_destination.len(), 1);
}

#[test]
fn letters_are_found_by_filter() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    let all = [
        ("a", "VmPoweredOnEvent", 10),
        ("a", "VmPoweredOffEvent", 20),
        ("b", "com.vmware.vc.HA.X", 30),
        ("b", "", 40),
    ];
    let writes: Vec<_> =
        all.iter().zip(1..).map(|((to, subject, us), id)| write(letter(to, id, subject, *us))).collect();
    store.apply(&writes).unwrap();
    let check = |filter: DeadLetterFilter, expected: &[i64]| {
        let rows: Vec<i64> = store.dead_letters(&filter).unwrap().iter().map(|letter| letter.row).collect();
        assert_eq!(rows, expected, "{filter:?}");
    };
    let all = DeadLetterFilter::default;
    check(all(), &[1, 2, 3, 4]);
    check(DeadLetterFilter { destination: Some("b".into()), ..all() }, &[3, 4]);
    check(DeadLetterFilter { source: Some("vc-02".into()), ..all() }, &[]);
    check(
        DeadLetterFilter { destination: Some("?".into()), source: Some("vc*".into()), ..all() },
        &[1, 2, 3, 4],
    );
    check(DeadLetterFilter { reason: Some("bad req".into()), ..all() }, &[1, 2, 3, 4]);
    check(DeadLetterFilter { reason: Some("*".into()), ..all() }, &[]);
    check(DeadLetterFilter { status: Some(400), id: Some(Uuid::from_u128(3)), ..all() }, &[3]);
    check(DeadLetterFilter { status: Some(404), ..all() }, &[]);
    check(DeadLetterFilter { row: Some(2), ..all() }, &[2]);
    check(DeadLetterFilter { subject: Some("VmPowered*Event".into()), ..all() }, &[1, 2]);
    check(DeadLetterFilter { since_us: Some(20), until_us: Some(40), ..all() }, &[2, 3]);
    check(DeadLetterFilter { after_row: 1, limit: Some(2), ..all() }, &[2, 3]);
}

#[test]
fn a_changed_letter_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    store.apply(&[write(letter("a", 1, "E", 0))]).unwrap();
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other.execute("UPDATE dead_letter SET payload = zeroblob(100)", []).unwrap();
    assert!(store.dead_letters(&DeadLetterFilter::default()).is_ok(), "a search reads no payload");
    let error = store.dead_letter(1).unwrap_err().to_string();
    assert!(error.contains("is damaged: dead letter 1;"), "{error}");
    other.execute("UPDATE dead_letter SET subject = 'F'", []).unwrap();
    assert!(store.dead_letters(&DeadLetterFilter::default()).is_err());
}

#[test]
fn globs() {
    let check = |glob: &str, text: &str, expected: bool| {
        assert_eq!(glob_matches(glob, text), expected, "{glob} {text}")
    };
    check("", "", true);
    check("", "a", false);
    check("*", "", true);
    check("a*b?d", "aXbYbcd", true);
    check("a*b?d", "aXbYbcde", false);
    check("é?", "éß", true);
    check("[a]", "a", false);
    // Backtracking takes quadratic time here, not exponential.
    check(&"*a".repeat(1_000), &"a".repeat(2_000), true);
    check(&format!("{}b", "*a".repeat(1_000)), &"a".repeat(2_000), false);
}

proptest! {
    #[test]
    fn a_glob_agrees_with_its_definition(glob in "[ab*?]{0,6}", text in "[ab]{0,7}") {
        fn model(glob: &[u8], text: &[u8]) -> bool {
            match (glob, text) {
                ([], _) => text.is_empty(),
                ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| model(rest, &text[n..])),
                ([c, rest @ ..], [t, more @ ..]) => (*c == b'?' || c == t) && model(rest, more),
                _ => false,
            }
        }
        prop_assert_eq!(glob_matches(&glob, &text), model(glob.as_bytes(), text.as_bytes()));
    }
}
