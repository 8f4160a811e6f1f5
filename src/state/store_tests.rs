//! Opening, locking, failing and shrinking of the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_directory_and_its_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let store = Store::open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in ["lock", "state.db", "state.db-wal", "state.db-shm"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    drop(store);
    fs::set_permissions(dir.join("state.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open(&dir).unwrap();
    assert_eq!(mode(&dir.join("state.db")), 0o600);
}

#[test]
fn one_process_owns_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {};", std::process::id())), "{error}");
    assert!(StoreReader::open(dir.path()).is_ok());
    drop(store);
    Store::open(dir.path()).unwrap();
}

fn check_error(prepare: impl FnOnce(&Path), expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let error = Store::open(dir.path()).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains(&*dir.path().to_string_lossy()), "says where: {error}");
}

fn opened(dir: &Path) -> PathBuf {
    Store::open(dir).unwrap().close().unwrap();
    dir.join("state.db")
}

#[test]
fn a_foreign_or_damaged_file_is_refused_with_instructions() {
    check_error(
        |dir| fs::write(dir.join("state.db"), "").unwrap(),
        "is damaged: it is empty; move the file away",
    );
    check_error(
        |dir| fs::write(dir.join("state.db"), [b'x'; 9_000]).unwrap(),
        "file is not a database; move the file away",
    );
    check_error(
        |dir| {
            let other = Connection::open(dir.join("state.db")).unwrap();
            other.execute_batch("CREATE TABLE a (b)").unwrap();
        },
        "is no state file of event-router",
    );
    check_error(
        |dir| {
            let conn = Connection::open(opened(dir)).unwrap();
            conn.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
        },
        &format!(
            "has schema version {}, this release knows versions up to {}",
            schema::VERSION + 1,
            schema::VERSION
        ),
    );
    check_error(
        |dir| {
            let path = opened(dir);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() - file::PAGE_BYTES as usize]).unwrap();
        },
        "is damaged",
    );
    check_error(|dir| fs::write(dir.join("state.db.restoring"), "").unwrap(), "a restore into");
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    // Not even root makes files there.
    let error = Store::open(Path::new("/sys/event-router")).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("`/sys/event-router` cannot be written (cannot make the directory: "), "{error}");
    let error = StoreReader::open(Path::new("/sys/event-router")).unwrap_err().to_string();
    assert!(error.contains("holds no state yet"), "{error}");
}

#[test]
fn an_answered_write_is_synced_and_an_emptied_file_can_shrink() {
    let dir = tempfile::tempdir().unwrap();
    for _ in ["new", "opened again"] {
        let store = Store::open(dir.path()).unwrap();
        let number =
            |pragma: &str| -> i64 { store.reader.conn.query_row(pragma, [], |row| row.get(0)).unwrap() };
        let mode: String = store.reader.conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(
            (&*mode, number("PRAGMA synchronous")),
            ("wal", 2),
            "FULL: the log is synced by every commit"
        );
        assert_eq!((number("PRAGMA auto_vacuum"), number("PRAGMA page_size")), (2, file::PAGE_BYTES.into()));
    }
}

#[test]
fn an_interrupted_creation_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.db.new"), "half a file").unwrap();
    fs::write(dir.path().join("state.db.new-wal"), "half a log").unwrap();
    Store::open(dir.path()).unwrap();
    assert!(!dir.path().join("state.db.new").exists());
}

#[test]
fn a_full_disk_stops_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let write = |minutes: u32| {
        Write::Checkpoint(crate::state::CheckpointWrite {
            source: "vc".into(),
            instance_uuid: uuid::Uuid::nil(),
            resume_us: i64::from(minutes),
            first_us: None,
            high_key: None,
            dirty: (0..minutes).map(|minute| (minute, (0..500).map(|key| key * 7).collect())).collect(),
            prune_before_minute: 0,
            inbox_kept: 0,
            unsettled: vec![],
            destinations: None,
        })
    };
    store.apply(&[write(1)]).unwrap();
    // SQLite's own code for a full disk, without filling one.
    let pages: i64 = store.reader.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.reader.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let error = store.apply(&[write(1_000)]).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    let error = store.apply(&[write(1)]).unwrap_err();
    assert!(matches!(error, StoreError::Poisoned { .. }), "{error:?}");
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load("vc").unwrap().unwrap().resume_us, 1, "the transaction that failed left nothing");
}
