//! The promises of the store under `kill -9`, and with a changed byte in its file.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::child::ignored_test;
use crate::common::seed;
use crate::common::transactions::{BOUNDS, check, transaction};
use event_router::state::{DeadLetterFilter, Storage, Store, StoreError, StoreReader, Write};
use rand::Rng;

const DIRECTORY: &str = "EVENT_ROUTER_TEST_CRASH_DIRECTORY";

/// Writes until it is killed; a line a transaction that was answered.
#[test]
#[ignore = "the process that another test here starts and kills"]
fn writes_until_killed() {
    let dir = std::env::var_os(DIRECTORY).expect("started by the test that kills it");
    // Each line begins with a line break, since the harness leaves a line unfinished.
    writeln!(std::io::stdout(), "\nopening").unwrap();
    let mut store = Store::open_with(Path::new(&dir), BOUNDS).unwrap();
    let first = store.load("vc-01").unwrap().map_or(1, |checkpoint| checkpoint.high_key.unwrap() as u32 + 1);
    for n in first.. {
        let writes = transaction(n, &store);
        store.apply(&writes).unwrap();
        writeln!(std::io::stdout(), "\nanswered {n}").unwrap();
    }
}

#[test]
fn a_killed_process_loses_no_answered_write() {
    let mut random = seed::random();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut last = 0;
    for round in 0..16 {
        let mut child = ignored_test(module_path!(), "writes_until_killed")
            .env(DIRECTORY, &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let answer = |line: String| line.strip_prefix("answered ").map(|n| n.parse::<u32>().unwrap());
        // The binary takes milliseconds to start, and a kill before this line tests nothing.
        assert!(lines.any(|line| line == "opening"), "the process of round {round} runs the test");
        // Every fourth is killed at a random moment of its start, the others within a random
        // transaction.
        let wanted = if round % 4 == 3 { 0 } else { random.random_range(1..40) };
        let mut answered = last;
        for n in lines.by_ref().filter_map(answer).take(wanted) {
            answered = n;
        }
        // The kill comes at a random moment, so there is no condition to wait for.
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last answers before it died.
        answered = lines.filter_map(answer).last().unwrap_or(answered);
        last = check(&data);
        assert!(last == answered || last == answered + 1, "round {round}: answered {answered}, found {last}");
    }
    seed::tried(16, "kill -9 of the store");
    assert!(last > 20, "the rounds wrote something: {last}");
}

/// Flips any byte of the file. Reading reports an error or returns the same rows, for example if
/// the byte is in free space.
#[test]
fn a_flipped_byte_is_an_error_or_harmless() {
    let mut random = seed::random();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(&dir.path().join("data"), BOUNDS).unwrap();
    for n in 1..=25 {
        let mut writes = transaction(n, &store);
        writes.push(Write::Imported { source: "vc-01".into(), path: "cp-vc-01.json".into(), resume_us: 1 });
        store.apply(&writes).unwrap();
    }
    // A backup is one file without a log, so it can be read from wherever it lies.
    let path = dir.path().join("state.db");
    store.reader().backup(&path).unwrap();
    let read = || -> Result<_, StoreError> {
        let reader = StoreReader::open(dir.path())?;
        reader.verify()?;
        let letters = reader.dead_letters(&DeadLetterFilter::default())?;
        let whole: Vec<_> =
            letters.iter().map(|letter| reader.dead_letter(letter.row)).collect::<Result<_, _>>()?;
        let position = (reader.sources()?, reader.load("vc-01")?, reader.imported("vc-01")?);
        Ok((position, reader.spools()?, reader.peek("bus", 0, u64::MAX)?, letters, whole))
    };
    let expected = read().unwrap();
    let original = fs::read(&path).unwrap();
    let (mut loud, mut harmless) = (0, 0);
    // Half of them in the first pages: the header, the schema, the inner nodes.
    for round in 0..400 {
        let end = if round % 2 == 0 { original.len() } else { original.len().min(24 * 8192) };
        let at = random.random_range(0..end);
        let mut changed = original.clone();
        changed[at] ^= 1 << random.random_range(0..8);
        fs::write(&path, changed).unwrap();
        match read() {
            Err(_) => loud += 1,
            Ok(found) => {
                assert!(found == expected, "byte {at} changed what is read, and nobody noticed");
                harmless += 1;
            }
        }
    }
    println!("{loud} loud, {harmless} harmless");
    seed::tried(400, "byte of the store flipped");
    assert!(loud > 50, "flips in rows are noticed: {loud}");
}
