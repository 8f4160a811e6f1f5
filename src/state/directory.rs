//! The data directory: private, and owned by one process at a time.
//!
//! ```text
//! dataDir/                  0700
//!   lock                    0600  the owner's process id, as text and a line feed
//!   state.db                0600  the store, with -wal and -shm beside it while it is open
//!   state.db.new            0600  a store that is being created (`file`)
//!   state.db.restoring      0600  a backup that is being restored (`backup`)
//!   state.db.replaced[.N]   0600  stores that restores have replaced, with their -wal (`backup`)
//! ```
//!
//! A process owns the directory while it holds the operating system's lock on the file `lock`. The
//! kernel releases that lock when the process ends, kill -9 included. The process id in the file
//! serves error messages only.
//!
//! INVARIANT: a file is durable only when its directory entry is. Whoever creates or renames a file
//! here syncs the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Ownership of a data directory, given up on drop.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
}

impl Drop for Claim {
    /// Unlocks before the file is closed. Closing alone is not enough: between `fork` and `exec` a
    /// child process holds a copy of the descriptor, and the lock with it.
    fn drop(&mut self) {
        // If unlocking fails, closing the file is the fallback.
        let _ = self.file.unlock();
    }
}

/// Creates the directory if it is missing, and claims it for this process.
pub(super) fn claim(dir: &Path) -> Result<Claim, StoreError> {
    make(dir)?;
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|cause| StoreError::io(&path, "open the lock file", cause))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The owner may not have written its process id yet.
            let _ = file.take(20).read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
            return Err(StoreError::Owned { path: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(cause)) => return Err(StoreError::io(&path, "lock the lock file", cause)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
        .map_err(|cause| StoreError::io(&path, "write the lock file", cause))?;
    Ok(Claim { file })
}

fn make(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    // A new directory is durable when its parent is synced, so collect all that are missing.
    let absent: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|a| !a.as_os_str().is_empty() && !a.exists())
        .map(Path::to_owned)
        .collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|cause| StoreError::io(dir, "make the directory", cause))?;
    for made in absent {
        sync(parent(&made))?;
    }
    Ok(())
}

/// Makes created, renamed and deleted entries of a directory durable.
pub(super) fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|cause| StoreError::io(dir, "sync the directory", cause))
}

/// Renames `from` to `to` in the same directory, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|cause| StoreError::io(from, "rename the file", cause))?;
    sync(parent(to))
}

/// The directory of a path: the current directory for a bare file name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Deletes `path` if it exists.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "delete the file", cause))
        }
        _ => Ok(()),
    }
}

/// Creates an empty file of mode 0600. SQLite gives its side files the mode of the database.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Exists { path: path.to_owned() })
        }
        Err(cause) => Err(StoreError::io(path, "create the file", cause)),
    }
}

/// Removes all permissions of group and others from an existing file.
pub(super) fn make_private(path: &Path) -> Result<(), StoreError> {
    let set = || {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 { fs::set_permissions(path, fs::Permissions::from_mode(0o600)) } else { Ok(()) }
    };
    set().map_err(|cause| StoreError::io(path, "set the mode of the file", cause))
}

/// `path` with `suffix` added to its file name, as SQLite names its side files.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_claim_is_free_although_a_copy_of_the_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let first = claim(dir.path()).unwrap();
        let _copy = first.file.try_clone().unwrap();
        assert!(matches!(claim(dir.path()), Err(StoreError::Owned { .. })));
        drop(first);
        claim(dir.path()).unwrap();
    }
}
