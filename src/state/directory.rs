//! The data directory: private, and owned by one process at a time.
//!
//! ```text
//! dataDir/                  0700, or at least not writable by others (`trust`)
//!   lock                    0600  the owner's process id, as text and a line feed
//!   state.db                0600  the store, with -wal and -shm beside it while it is open
//!   state.db.new            0600  a store that is being created (`file`)
//!   state.db.restoring      0600  a backup that is being restored (`backup`)
//!   state.db.replaced[.N]   0600  stores that restores have replaced, with their -wal (`backup`)
//!   control.sock            0600  the control socket of a running router (`admin/control`)
//! ```
//!
//! The files belong to the owner of the directory, also if root makes them. Otherwise a command
//! that root runs would lock the router's user out.
//!
//! A process owns the directory while it holds the operating system's lock on the file `lock`. The
//! kernel releases that lock when the process ends, kill -9 included. The process id in the file
//! serves error messages only.
//!
//! INVARIANT: a file is durable only when its directory entry is. Whoever creates or renames a file
//! here syncs the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{StoreError, trust};

/// The name of the lock file.
pub(super) const LOCK: &str = "lock";
/// The suffixes of the store and of the files that are made beside it for a time. Replaced stores
/// are not among them, since they are renamed and never opened here.
pub(super) const STATE_SUFFIXES: [&str; 12] = [
    "",
    "-wal",
    "-shm",
    "-journal",
    ".new",
    ".new-wal",
    ".new-shm",
    ".new-journal",
    ".restoring",
    ".restoring-wal",
    ".restoring-shm",
    ".restoring-journal",
];

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

/// Creates the directory if it is missing, and claims it for this process. Fails before any change
/// if another user could interfere.
pub(super) fn claim(dir: &Path) -> Result<Claim, StoreError> {
    trust::check_directory(dir)?;
    make(dir)?;
    trust::check_directory(dir)?;
    let path = dir.join(LOCK);
    let mut file = open_lock(&path, true)?;
    if !try_lock(&file, &path)? {
        let mut pid = String::new();
        // The owner may not have written its process id yet.
        let _ = file.take(20).read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
        return Err(StoreError::Owned { path: dir.to_owned(), pid });
    }
    hand_over(&file, &path)?;
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
        .map_err(|cause| StoreError::io(&path, "write the lock file", cause))?;
    Ok(Claim { file })
}

/// Claims a directory whose owner may have died. Returns `None` if it has a living owner, or never
/// had one.
pub(super) fn claim_left_behind(dir: &Path) -> Result<Option<Claim>, StoreError> {
    let path = dir.join(LOCK);
    if !path.exists() {
        return Ok(None);
    }
    let file = open_lock(&path, false)?;
    Ok(try_lock(&file, &path)?.then_some(Claim { file }))
}

/// Opens the lock file without following a link, and without waiting for the other end of a FIFO.
fn open_lock(path: &Path, create: bool) -> Result<File, StoreError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(cause) => {
            // A link or a socket cannot be opened; the check names it.
            if let Ok(found) = fs::symlink_metadata(path) {
                trust::check_file(path, &found)?;
            }
            return Err(StoreError::io(path, "open the lock file", cause));
        }
    };
    let found = file.metadata().map_err(|cause| StoreError::io(path, "look at the file", cause))?;
    trust::check_file(path, &found)?;
    Ok(file)
}

/// Returns true if this process has the lock now.
fn try_lock(file: &File, path: &Path) -> Result<bool, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => Err(StoreError::io(path, "lock the lock file", cause)),
    }
}

/// Gives a file that root has made in a data directory to the owner of that directory.
pub(super) fn hand_over(file: &File, path: &Path) -> Result<(), StoreError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let dir = fs::metadata(parent(path))
        .map_err(|cause| StoreError::io(parent(path), "look at the directory", cause))?;
    if dir.uid() == 0 {
        return Ok(());
    }
    fchown(file, Some(dir.uid()), Some(dir.gid()))
        .map_err(|cause| StoreError::io(path, "change the owner of the file", cause))
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
pub(super) fn parent(path: &Path) -> &Path {
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
pub(super) fn create_private(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file {
        Ok(file) => Ok(file),
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
