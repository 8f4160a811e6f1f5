//! The checkpoint file of the old router, `cp-HOST.json`, imported once per source.
//!
//! ```json
//! {"vCenter":"vc.example.com","lastEventUUID":"…","lastEventKey":1059,
//!  "lastEventType":"VmPoweredOnEvent","lastEventKeyTimestamp":"2021-02-13T17:19:49.281Z",
//!  "createdTimestamp":"2021-02-13T17:19:50.1Z"}
//! ```
//!
//! The old router resumed at `lastEventKeyTimestamp`, inclusive, so that becomes the resume time.
//!
//! Two kinds of unusable files are expected. The old router truncated the file before it wrote it,
//! and did not sync, so a crash left an empty or torn file. And before its first event it wrote
//! Go's zero time. Both cause a warning, not a failure. No event is lost either: everything that
//! the old router delivered, it delivered before the file was last written, so reading resumes at
//! that time.
//!
//! The import is recorded in the transaction of the source's first checkpoint
//! ([`Write::Imported`](super::Write::Imported)). After a crash before that, the file is read
//! again. Later it is never read again, even when an operator has deleted the checkpoint.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::row_crc::RowCrc;
use super::{Storage, StoreError};
use crate::limits::{LEGACY_CHECKPOINT_AHEAD_MAX, LEGACY_CHECKPOINT_BYTES_MAX};

/// The outcome of looking for the old router's checkpoint of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyCheckpoint {
    /// Resume here, and put `Write::Imported` with this path into the transaction of the first
    /// checkpoint.
    Resume { path: PathBuf, resume_us: i64, key: Option<i32> },
    /// The file has no usable position: warn with this reason. Resume at `written_us`, the time at
    /// which the file was last written, and record the import in the same way.
    Unusable { path: PathBuf, reason: String, written_us: Option<i64> },
    /// The source has a position already, or imported one before.
    NotNeeded,
    /// There is no such file.
    Absent { path: PathBuf },
}

#[derive(Deserialize)]
struct LegacyFile {
    #[serde(rename = "lastEventKey")]
    key: Option<i64>,
    #[serde(rename = "lastEventKeyTimestamp")]
    time: Option<String>,
}

/// Reads the old router's checkpoint of `source` from `path`, unless the source has a position
/// already. `now_us` is the router's clock, microseconds since 1970 UTC.
pub fn read_legacy_checkpoint(
    storage: &dyn Storage,
    source: &str,
    path: &Path,
    now_us: i64,
) -> Result<LegacyCheckpoint, StoreError> {
    if storage.load(source)?.is_some() || storage.imported(source)?.is_some() {
        return Ok(LegacyCheckpoint::NotNeeded);
    }
    let path = path.to_owned();
    let mut text = String::new();
    let read =
        File::open(&path).and_then(|file| file.take(LEGACY_CHECKPOINT_BYTES_MAX).read_to_string(&mut text));
    let parsed = match read {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(LegacyCheckpoint::Absent { path });
        }
        Err(cause) => Err(format!("it cannot be read: {cause}")),
        Ok(_) => {
            parse(&text).and_then(|(resume_us, key)| not_ahead(resume_us, now_us).map(|()| (resume_us, key)))
        }
    };
    Ok(match parsed {
        Ok((resume_us, key)) => LegacyCheckpoint::Resume { path, resume_us, key },
        Err(reason) => {
            let written_us = written(&path).filter(|written_us| not_ahead(*written_us, now_us).is_ok());
            LegacyCheckpoint::Unusable { path, reason, written_us }
        }
    })
}

/// Refuses a time far in the future: reading from there would silently skip events for days.
fn not_ahead(us: i64, now_us: i64) -> Result<(), String> {
    if us <= now_us.saturating_add(LEGACY_CHECKPOINT_AHEAD_MAX.as_micros() as i64) {
        return Ok(());
    }
    Err("its `lastEventKeyTimestamp` lies in the future".to_owned())
}

/// Time at which the file was last written, microseconds since 1970 UTC.
fn written(path: &Path) -> Option<i64> {
    let modified = std::fs::metadata(path).and_then(|facts| facts.modified()).ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

/// Parses the resume time and the last key.
fn parse(text: &str) -> Result<(i64, Option<i32>), String> {
    if text.trim().is_empty() {
        return Err("it is empty, as a crash of the old router leaves it".to_owned());
    }
    let file: LegacyFile =
        serde_json::from_str(text).map_err(|error| format!("it is torn or no checkpoint: {error}"))?;
    let time = file.time.ok_or("it has no `lastEventKeyTimestamp`")?;
    let resume: jiff::Timestamp =
        time.parse().map_err(|error| format!("its `lastEventKeyTimestamp` `{time}` is no time: {error}"))?;
    let resume_us = resume.as_microsecond();
    // Go's zero time is the year 1.
    if resume_us <= 0 {
        return Err("its `lastEventKeyTimestamp` was never set".to_owned());
    }
    Ok((resume_us, file.key.and_then(|key| i32::try_from(key).ok())))
}

fn row_crc(source: &str, path: &str, resume_us: i64) -> i64 {
    RowCrc::of("imported").bytes(source.as_bytes()).bytes(path.as_bytes()).int(resume_us).done()
}

/// Records that the position of `source` was imported from `path`.
pub(super) fn remember(conn: &Connection, source: &str, path: &str, resume_us: i64) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT OR REPLACE INTO imported (source, path, resume_us, crc) VALUES (?1, ?2, ?3, ?4)",
        params![source, path, resume_us, row_crc(source, path, resume_us)],
    )?;
    Ok(())
}

/// The checkpoint file that the position of `source` was imported from, if it was.
pub(super) fn imported(conn: &Connection, path: &Path, source: &str) -> Result<Option<String>, StoreError> {
    let row: Option<(String, i64, i64)> = conn
        .query_row("SELECT path, resume_us, crc FROM imported WHERE source = ?1", [source], |row| {
            row.try_into()
        })
        .optional()
        .map_err(|cause| StoreError::sql(path, "read the import record", cause))?;
    match row {
        Some((from, resume_us, crc)) if row_crc(source, &from, resume_us) != crc => {
            Err(StoreError::Damaged {
                path: path.to_owned(),
                what: format!("the import record of source `{source}`"),
            })
        }
        row => Ok(row.map(|(from, ..)| from)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CheckpointWrite, MemoryDisk, MemoryStore, Write};
    use super::*;

    fn check(text: &str, expected: Result<(i64, Option<i32>), &str>) {
        let found = parse(text);
        match expected {
            Ok(expected) => assert_eq!(found, Ok(expected), "{text}"),
            Err(expected) => {
                assert!(found.as_ref().is_err_and(|error| error.contains(expected)), "{text}: {found:?}")
            }
        }
    }

    #[test]
    fn the_position_of_the_old_router_is_read() {
        let whole = r#"{"vCenter":"vc","lastEventUUID":"0c","lastEventKey":1059,"lastEventType":"VmPoweredOnEvent","lastEventKeyTimestamp":"2021-02-13T17:19:49.281Z","createdTimestamp":"2021-02-13T17:19:50Z"}"#;
        check(whole, Ok((1_613_236_789_281_000, Some(1059))));
        check(
            r#"{"lastEventKeyTimestamp":"2021-02-13T19:19:49.281123456+02:00"}"#,
            Ok((1_613_236_789_281_123, None)),
        );
        for cut in 1..whole.len() {
            check(&whole[..cut], Err("it is torn or no checkpoint"));
        }
        check("", Err("it is empty"));
        check("\0\0\0\0", Err("it is torn"));
        check("{}", Err("no `lastEventKeyTimestamp`"));
        check(r#"{"lastEventKeyTimestamp":"0001-01-01T00:00:00Z"}"#, Err("was never set"));
        check(r#"{"lastEventKeyTimestamp":"yesterday"}"#, Err("`yesterday` is no time"));
    }

    #[test]
    fn the_old_position_is_imported_once_with_the_first_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cp-vc.example.json");
        let disk = MemoryDisk::default();
        let mut store = MemoryStore::open(&disk);
        const NOW_US: i64 = 2_000_000_000_000_000;
        let read = |store: &MemoryStore| read_legacy_checkpoint(store, "vc", &path, NOW_US).unwrap();
        assert_eq!(read(&store), LegacyCheckpoint::Absent { path: path.clone() });
        std::fs::write(&path, "").unwrap();
        let written_us = written(&path);
        assert!(written_us.is_some_and(|us| us > 1_600_000_000_000_000), "{written_us:?}");
        let unusable = read(&store);
        assert!(
            matches!(&unusable, LegacyCheckpoint::Unusable { written_us: us, .. } if *us == written_us),
            "{unusable:?}"
        );
        std::fs::write(&path, r#"{"lastEventKeyTimestamp":"2099-01-01T00:00:01Z"}"#).unwrap();
        let ahead = read(&store);
        assert!(
            matches!(&ahead, LegacyCheckpoint::Unusable { reason, .. } if reason.contains("in the future")),
            "{ahead:?}"
        );
        std::fs::write(&path, r#"{"lastEventKeyTimestamp":"1970-01-01T00:00:01Z","lastEventKey":-4}"#)
            .unwrap();
        let expected = LegacyCheckpoint::Resume { path: path.clone(), resume_us: 1_000_000, key: Some(-4) };
        assert_eq!(read(&store), expected);
        assert_eq!(read(&store), expected, "a crash before the first checkpoint reads it again");
        let first = CheckpointWrite {
            source: "vc".into(),
            instance_uuid: uuid::Uuid::nil(),
            resume_us: 1_000_000,
            first_us: None,
            high_key: None,
            dirty: vec![],
            prune_before_minute: 0,
            inbox_kept: 0,
            unsettled: vec![],
            destinations: None,
        };
        let imported =
            Write::Imported { source: "vc".into(), path: path.display().to_string(), resume_us: 1_000_000 };
        store.apply(&[imported, Write::Checkpoint(first)]).unwrap();
        assert_eq!(read(&store), LegacyCheckpoint::NotNeeded);
        store.forget("vc");
        assert_eq!(read(&store), LegacyCheckpoint::NotNeeded, "what was forgotten stays forgotten");
    }
}
