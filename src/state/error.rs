//! Errors of the state on disk. Each message says what failed, on which path, and what to do.
//!
//! A full spool is not an error: a bound that is reached leads to
//! [`WriteOutcome::Full`](super::WriteOutcome::Full).
//!
//! INVARIANT: every error here stops the process with its message. After an operator has followed
//! the message, the next start works.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Instructions for a damaged state file. The operations guide has the long form.
pub(super) const WAY_OUT: &str = "move the file away with its `-wal` (keep both), then either `event-router restore` a backup, or start without and give each source a \
     `startAt` before the last good delivery: vCenter still has its history, and every event keeps its id";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("data directory `{path}`: cannot {doing}: {cause}; set `dataDir` to a directory on a local disk")]
    Directory { path: PathBuf, doing: &'static str, cause: io::Error },
    #[error(
        "`{path}` cannot be written ({cause}); make it writable for this user, or set `dataDir` to a directory that is"
    )]
    ReadOnly { path: PathBuf, cause: String },
    #[error(
        "data directory `{path}` can be written by other users (mode {mode:04o}); run `chmod go-w` on it, or set `dataDir` \
         to a new directory in it, which the router makes private"
    )]
    SharedDirectory { path: PathBuf, mode: u32 },
    #[error(
        "data directory `{path}` belongs to another user (uid {owner}); run as that user or as root, or set `dataDir` to a \
         directory of this user"
    )]
    ForeignDirectory { path: PathBuf, owner: u32 },
    #[error(
        "data directory `{path}`: another user could change the link `{link}` on the way to it; set `dataDir` to the \
         directory that the link leads to, or let only root or this user write the link and the directory that it is in"
    )]
    UnsafeLink { path: PathBuf, link: PathBuf },
    #[error(
        "`{path}` {what}, and the router writes only to regular files of its own; find out where it came from, move it \
         away, and start again"
    )]
    UnsafeFile { path: PathBuf, what: String },
    #[error("`{path}` is no backup of event-router: {what}; restore a file that `event-router backup` wrote")]
    NoBackup { path: PathBuf, what: String },
    #[error(
        "data directory `{path}` is in use by process {pid}; stop that event-router, or give this one a `dataDir` of its own"
    )]
    Owned { path: PathBuf, pid: String },
    #[error(
        "`{path}`: the disk is full; free some space and start again; the router does not run without a durable position"
    )]
    DiskFull { path: PathBuf },
    #[error("`{path}` is damaged: {what}; {WAY_OUT}")]
    Damaged { path: PathBuf, what: String },
    #[error(
        "`{path}` is no state file of event-router; move it away, or set `dataDir` to a directory of its own"
    )]
    Foreign { path: PathBuf },
    #[error(
        "`{path}` has schema version {found}, this release knows versions up to {known}; run the release that wrote it, or `event-router restore` a backup of this one"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("`{path}` holds no state yet; it is written by the first `event-router run` with this `dataDir`")]
    Missing { path: PathBuf },
    #[error("a restore into `{path}` was interrupted; run `event-router restore` again")]
    RestoreInterrupted { path: PathBuf },
    #[error("`{path}` exists already; name a file that does not, or move it away")]
    Exists { path: PathBuf },
    #[error("`{path}` is locked by another program; close it and start again")]
    Busy { path: PathBuf },
    #[error("`{path}`: cannot {doing}: {cause}; check the disk (full, failing, detached?) and start again")]
    Device { path: PathBuf, doing: &'static str, cause: rusqlite::Error },
    #[error(
        "`{path}`: the file system has no shared memory for a write-ahead log (SQLite fell back to `{mode}`); put `dataDir` on a local disk"
    )]
    NotLocal { path: PathBuf, mode: String },
    #[error("`{path}`: cannot {doing}: {cause}")]
    Database { path: PathBuf, doing: &'static str, cause: rusqlite::Error },
    #[error(
        "`{path}`: an earlier write failed, nothing more is written; stop the process and start it again"
    )]
    Poisoned { path: PathBuf },
    #[error(
        "`{path}` was moved away or deleted while it was in use, so further writes would be lost; put it back with its `-wal`, \
         or `event-router restore` a backup, and start again"
    )]
    Gone { path: PathBuf },
    #[error("no checkpoint of source `{source_name}`; there are: {known}")]
    UnknownSource { source_name: String, known: String },
    #[error(
        "source `{source_name}` has no position in time: its events are pushed and wait in its inbox; `event-router checkpoint forget` delivers those again"
    )]
    Pushed { source_name: String },
    #[error("a failure that the simulation asked for")]
    Injected,
}

impl StoreError {
    /// A failure of the operating system on `path`.
    pub(super) fn io(path: &Path, doing: &'static str, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { path, cause: format!("cannot {doing}: {cause}") }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
            _ => StoreError::Directory { path, doing, cause },
        }
    }

    /// A failure of SQLite on the file `path`.
    pub(super) fn sql(path: &Path, doing: &'static str, cause: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
        };
        let path = path.to_owned();
        // A column whose value does not have the type that was written.
        if matches!(
            cause,
            FromSqlConversionFailure(..)
                | IntegralValueOutOfRange(..)
                | InvalidColumnType(..)
                | Utf8Error(..)
        ) {
            return StoreError::Damaged { path, what: format!("cannot {doing}: {cause}") };
        }
        match cause.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                StoreError::ReadOnly { path, cause: format!("cannot {doing}: {cause}") }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { path, what: format!("cannot {doing}: {cause}") }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::SystemIoFailure) => StoreError::Device { path, doing, cause },
            _ => StoreError::Database { path, doing, cause },
        }
    }
}
