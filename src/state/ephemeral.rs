//! State that lasts as long as one run: a data directory in the system's temporary directory.
//!
//! ```text
//!  make and claim ─► event-router-UUID.new
//!  rename ─────────► event-router-UUID      claimed from its first moment under this name
//!  the run ends ───► removed
//!  kill -9 ────────► removed by the next start, since nobody holds its lock
//! ```
//!
//! INVARIANT: a start removes only directories of its own user with a free lock, and only if every
//! file in them has a name that the router gives.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Bounds, Store, StoreError, directory, trust};
use crate::limits::EPHEMERAL_LEFTOVERS_MAX;

const PREFIX: &str = "event-router-";

/// A state directory that lasts as long as this value.
#[derive(Debug)]
pub struct EphemeralDir(PathBuf);

impl EphemeralDir {
    /// Makes a new directory in `parent` and opens a store in it.
    pub fn open(parent: &Path, bounds: Bounds) -> Result<(EphemeralDir, Store), StoreError> {
        let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4()));
        let draft = directory::beside(&path, ".new");
        DirBuilder::new()
            .mode(0o700)
            .create(&draft)
            .map_err(|cause| StoreError::io(&draft, "make the directory", cause))?;
        let mut made = EphemeralDir(draft);
        let claim = directory::claim(&made.0)?;
        fs::rename(&made.0, &path).map_err(|cause| StoreError::io(&path, "rename the directory", cause))?;
        made.0 = path;
        let store = Store::open_claimed(&made.0, claim, bounds)?;
        Ok((made, store))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for EphemeralDir {
    fn drop(&mut self) {
        // The next start removes a directory that could not be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes directories in `parent` that ephemeral runs of this user left behind when they crashed,
/// at most [`EPHEMERAL_LEFTOVERS_MAX`]. Returns their number. A directory that cannot be removed
/// stays.
pub fn remove_ephemeral_leftovers(parent: &Path) -> usize {
    let Ok(entries) = fs::read_dir(parent) else { return 0 };
    let named = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        id.is_some_and(|id| Uuid::try_parse(id).is_ok_and(|uuid| uuid.hyphenated().to_string() == id))
    });
    named
        .filter(|entry| is_private(&entry.path()) && remove_leftover(&entry.path()))
        .take(EPHEMERAL_LEFTOVERS_MAX)
        .count()
}

/// Returns true if `path` is a directory, not a link to one, that only this user can write.
fn is_private(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == own && !trust::is_writable_by_others(&found))
}

/// Removes one directory, unless it has a living owner or holds anything else. Returns true if it
/// is gone.
fn remove_leftover(dir: &Path) -> bool {
    let Ok(Some(claim)) = directory::claim_left_behind(dir) else { return false };
    let Ok(entries) = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) else {
        return false;
    };
    let is_own = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| !kind.is_dir()) && trust::is_own_name(&entry.file_name())
    };
    if !entries.iter().all(is_own) {
        return false;
    }
    // The lock goes last, so that a crash in between leaves what the next start can remove.
    let (locks, others): (Vec<_>, Vec<_>) =
        entries.iter().map(fs::DirEntry::path).partition(|path| path.ends_with(directory::LOCK));
    let is_empty = others.iter().chain(&locks).all(|path| fs::remove_file(path).is_ok());
    let is_gone = is_empty && fs::remove_dir(dir).is_ok();
    drop(claim);
    is_gone
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_dead_state_of_this_user_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let name = || parent.path().join(format!("{PREFIX}{}", Uuid::new_v4()));
        let (living, _store) = EphemeralDir::open(parent.path(), Bounds::default()).unwrap();
        assert_eq!(fs::metadata(living.path()).unwrap().mode() & 0o777, 0o700);
        // A crash: the lock is free, and the files are still there.
        let dead = {
            let (dir, store) = EphemeralDir::open(parent.path(), Bounds::default()).unwrap();
            fs::write(dir.path().join("control.sock"), "").unwrap();
            drop(store);
            let path = dir.path().to_owned();
            std::mem::forget(dir);
            path
        };
        assert!(dead.join("state.db").exists());
        let copy = |to: &Path| {
            fs::create_dir(to).unwrap();
            fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
            for file in ["lock", "state.db"] {
                fs::copy(dead.join(file), to.join(file)).unwrap();
            }
        };
        // Directories that are somebody else's, or may be.
        let others = [name(), name(), name(), name(), parent.path().join("event-router-mine")];
        let [foreign_file, folder, open, no_lock, other_name] = &others;
        others.iter().for_each(|path| copy(path));
        fs::write(foreign_file.join("notes.txt"), "precious").unwrap();
        fs::create_dir(folder.join("state.db-wal")).unwrap();
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
        fs::remove_file(no_lock.join("lock")).unwrap();
        let link = name();
        symlink(other_name, &link).unwrap();

        assert_eq!(remove_ephemeral_leftovers(parent.path()), 1);
        assert!(!dead.exists());
        assert!(living.path().join("state.db").exists());
        for path in &others {
            assert!(path.join("state.db").exists(), "{}", path.display());
        }
        assert!(link.is_symlink());
        assert_eq!(remove_ephemeral_leftovers(parent.path()), 0);
        assert_eq!(remove_ephemeral_leftovers(&parent.path().join("none")), 0);
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
