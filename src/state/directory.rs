//! The data directory: made with 0700, owned by one process at a time.
//!
//! ```text
//! dataDir/            0700
//!   lock              0600  the owner's pid; the ownership itself is the operating system's lock on the file, so kill -9 gives it back
//!   state.db          0600  the store; with it -wal and -shm while it is open
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Ownership of a data directory until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
}

impl Drop for Claim {
    /// Closing the file is not enough: the lock also lives in the copies of the descriptor that a
    /// child process holds between `fork` and `exec`.
    fn drop(&mut self) {
        // A failure leaves the lock to the close of the file.
        let _ = self.file.unlock();
    }
}

/// Makes the directory if there is none, and takes it for this process.
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
            // The owner may not have written it yet.
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
    // Every directory that comes into being is an entry in its parent, and is durable when the parent is.
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

/// Makes the entries of a directory durable (created, renamed and deleted files).
pub(super) fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|cause| StoreError::io(dir, "sync the directory", cause))
}

/// Moves `from` to `to` in the same directory, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|cause| StoreError::io(from, "rename the file", cause))?;
    sync(parent(to))
}

/// The directory of a path, which for a bare file name is the current one.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Deletes `path` if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "delete the file", cause))
        }
        _ => Ok(()),
    }
}

/// An empty file of mode 0600; SQLite gives its side files the mode of the database.
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

/// Takes group and others their rights to an existing file.
pub(super) fn make_private(path: &Path) -> Result<(), StoreError> {
    let set = || {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 { fs::set_permissions(path, fs::Permissions::from_mode(0o600)) } else { Ok(()) }
    };
    set().map_err(|cause| StoreError::io(path, "set the mode of the file", cause))
}

/// The file beside `path` with `suffix` added to its name, as SQLite names its side files.
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
