//! Dead letters: one per event, filters, bounds, damage.

use proptest::prelude::*;

use super::super::{Storage, Store, Write};
use super::*;

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
fn the_same_event_is_one_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
    let mut insert = |letter: StoredDeadLetter| store.apply(&[Write::DeadLetter(letter)]).unwrap().remove(0);
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
        store.dead_letter_bytes(),
        store.dead_letters(&DeadLetterFilter::default()).unwrap().iter().map(|l| l.bytes).sum::<u64>()
    );
    let filter = DeadLetterFilter { destination: Some("b".into()), ..DeadLetterFilter::default() };
    assert_eq!(store.remove_dead_letters(&filter).unwrap(), 1);
    assert_eq!(store.dead_letters(&DeadLetterFilter::default()).unwrap().len(), 1);
}

#[test]
fn full_dead_letters_are_reported_and_keep_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { dead_letter_bytes: 700, disk_free_bytes: 0, ..Bounds::default() };
    let mut store = Store::open_with(dir.path(), bounds).unwrap();
    let writes = [1, 2, 2, 3].map(|id| Write::DeadLetter(letter("a", id, "E", 0)));
    let outcomes = store.apply(&writes).unwrap();
    assert_eq!(outcomes[..3], [WriteOutcome::Row(1), WriteOutcome::Row(2), WriteOutcome::Row(2)]);
    assert!(
        matches!(&outcomes[3], WriteOutcome::Full(super::super::Full::DeadLetters { bytes_max: 700, .. })),
        "{outcomes:?}"
    );
    assert_eq!(store.dead_letters(&DeadLetterFilter::default()).unwrap().len(), 2);
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
    let writes: Vec<_> = all
        .iter()
        .zip(1..)
        .map(|((to, subject, us), id)| Write::DeadLetter(letter(to, id, subject, *us)))
        .collect();
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
    store.apply(&[Write::DeadLetter(letter("a", 1, "E", 0))]).unwrap();
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
    fn a_glob_matches_as_its_definition(glob in "[ab*?]{0,6}", text in "[ab]{0,7}") {
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
