//! Trust: the checks that no other user can put files into a data directory, or replace them.
//!
//! The router trusts itself (its effective user) and root. Root also trusts the owner of the data
//! directory, since it runs commands on the state of the router's user.
//!
//! ```text
//!  /var/lib/event-router ──link──► private/event-router/state.db
//!  │        │                      │                    └─ a regular file of a trusted user,
//!  │        │                      │                       no link, no second name
//!  │        │                      └─ a directory of a trusted user that only its owner can write
//!  │        └─ a link of a trusted user, as systemd makes it for `DynamicUser`
//!  └─ the directory of a link: only a trusted user can write it, or rename in it (sticky)
//! ```
//!
//! Directories on the way that are no links are not checked. A user who can replace one of them can
//! only lead the router to another directory of its own.
//!
//! INVARIANT: these checks come before the first change. In a directory that passes, no other user
//! can exchange a file between its check and its use.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::{StoreError, directory};
use crate::limits::DATA_DIR_LINKS_MAX;

/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;
/// Only the owner of an entry, or of the directory, renames or deletes the entry.
const STICKY: u32 = 0o1000;

/// The users that are trusted with a data directory.
#[derive(Clone, Copy, Debug)]
struct Trusted {
    own: u32,
    /// The owner of the directory, if this process is root.
    owner: Option<u32>,
}

impl Trusted {
    /// `dir`: the data directory, if it exists.
    fn with(dir: Option<&Metadata>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Trusted { own, owner: dir.filter(|_| own == 0).map(Metadata::uid) }
    }

    fn has(self, user: u32) -> bool {
        user == 0 || user == self.own || Some(user) == self.owner
    }
}

/// Returns true if other users can write what `metadata` describes.
pub(super) fn is_writable_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & OTHERS_WRITE != 0
}

/// Fails unless only trusted users can change the directory and the links that lead to it. A
/// directory that does not exist passes, if the links on the way do.
pub(super) fn check_directory(dir: &Path) -> Result<(), StoreError> {
    let look = |cause| StoreError::io(dir, "look at the directory", cause);
    let found = match fs::metadata(dir) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(cause) => return Err(look(cause)),
    };
    let trusted = Trusted::with(found.as_ref());
    check_links(dir, trusted)?;
    let Some(found) = found else { return Ok(()) };
    if !found.is_dir() {
        return Err(look(io::ErrorKind::NotADirectory.into()));
    }
    if !trusted.has(found.uid()) {
        return Err(StoreError::ForeignDirectory { path: dir.to_owned(), owner: found.uid() });
    }
    if is_writable_by_others(&found) {
        let mode = found.mode() & 0o7777;
        return Err(StoreError::SharedDirectory { path: dir.to_owned(), mode });
    }
    Ok(())
}

/// Follows the path link by link, as the operating system does. Fails if an untrusted user could
/// change one of the links.
fn check_links(dir: &Path, trusted: Trusted) -> Result<(), StoreError> {
    let look = |path: &Path, cause| StoreError::io(path, "look at the directory", cause);
    let whole = std::path::absolute(dir).map_err(|cause| look(dir, cause))?;
    let parts = |path: &Path| -> VecDeque<PathBuf> {
        path.components().map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (mut at, mut rest, mut links) = (PathBuf::from("/"), parts(&whole), 0);
    // Parts at the end of `rest` that are of `dir` itself, not of the target of a link.
    let mut written = rest.len();
    while let Some(part) = rest.pop_front() {
        let is_of_target = written <= rest.len();
        written = written.min(rest.len());
        match part.components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                let found = match fs::symlink_metadata(&next) {
                    Ok(found) => found,
                    // The directory is made later, but not the target of a link.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !is_of_target => return Ok(()),
                    Err(cause) => return Err(look(&next, cause)),
                };
                if !found.is_symlink() {
                    at = next;
                    continue;
                }
                links += 1;
                if links > DATA_DIR_LINKS_MAX {
                    return Err(look(dir, io::Error::other("too many symbolic links")));
                }
                let holder = fs::symlink_metadata(&at).map_err(|cause| look(&at, cause))?;
                let is_sound = trusted.has(found.uid())
                    && trusted.has(holder.uid())
                    && (!is_writable_by_others(&holder) || holder.mode() & STICKY != 0);
                if !is_sound {
                    return Err(StoreError::UnsafeLink { path: dir.to_owned(), link: next });
                }
                let target = fs::read_link(&next).map_err(|cause| look(&next, cause))?;
                let mut through = parts(&target);
                through.append(&mut rest);
                rest = through;
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(())
}

/// Checks the files of a store in the directory of `state`, as far as they exist.
pub(super) fn check_files(state: &Path) -> Result<(), StoreError> {
    for suffix in directory::STATE_SUFFIXES {
        let path = directory::beside(state, suffix);
        match fs::symlink_metadata(&path) {
            Ok(found) => check_file(&path, &found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(StoreError::io(&path, "look at the file", cause)),
        }
    }
    Ok(())
}

/// Fails unless `metadata`, which describes the file at `path` itself, is that of a regular file of
/// a trusted user with one name.
pub(super) fn check_file(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    let dir = directory::parent(path);
    let dir = fs::metadata(dir).map_err(|cause| StoreError::io(dir, "look at the directory", cause))?;
    let kind = metadata.file_type();
    let what = if kind.is_symlink() {
        "is a symbolic link".to_owned()
    } else if kind.is_dir() {
        "is a directory".to_owned()
    } else if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        "is no regular file".to_owned()
    } else if metadata.nlink() > 1 {
        format!("has {} names (hard links)", metadata.nlink())
    } else if !Trusted::with(Some(&dir)).has(metadata.uid()) {
        format!("belongs to another user (uid {})", metadata.uid())
    } else {
        return Ok(());
    };
    Err(StoreError::UnsafeFile { path: path.to_owned(), what })
}

/// Returns true if `name` is a name that the router gives to a file of a data directory.
pub(super) fn is_own_name(name: &std::ffi::OsStr) -> bool {
    let is_state = |name: &[u8]| {
        name.strip_prefix(b"state.db")
            .is_some_and(|suffix| directory::STATE_SUFFIXES.iter().any(|known| known.as_bytes() == suffix))
    };
    let name = name.as_bytes();
    name == directory::LOCK.as_bytes()
        || name == super::CONTROL_SOCKET.as_bytes()
        || name == super::CONTROL_SOCKET_DRAFT.as_bytes()
        || is_state(name)
}

#[cfg(test)]
mod tests {
    use std::fs::{DirBuilder, Permissions};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown, symlink};

    use super::*;
    use crate::state::{Store, restore};

    /// A directory with this mode, whatever the umask is.
    fn directory(path: &Path, mode: u32) {
        DirBuilder::new().mode(0o700).create(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Tests that give files to another user need root.
    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: giving files to another user needs root");
        }
        is_root
    }

    const STRANGER: u32 = 4_242;

    #[test]
    fn a_directory_that_others_can_write_is_refused_untouched() {
        let outer = tempfile::tempdir().unwrap();
        for (mode, is_refused) in
            [(0o700, false), (0o755, false), (0o770, true), (0o702, true), (0o1777, true), (0o2775, true)]
        {
            let dir = outer.path().join(format!("{mode:o}"));
            directory(&dir, mode);
            match Store::open(&dir) {
                Ok(_) => assert!(!is_refused, "{mode:o}"),
                Err(error) => {
                    assert!(is_refused, "{mode:o}: {error}");
                    let text = error.to_string();
                    assert!(text.contains("chmod go-w") && text.contains(&format!("{mode:04o}")), "{text}");
                    assert_eq!(entries(&dir), [""; 0], "{mode:o}");
                }
            }
        }
    }

    #[test]
    fn links_that_only_trusted_users_can_change_are_followed() {
        let outer = tempfile::tempdir().unwrap();
        // As systemd does it: var/lib/event-router -> private/event-router.
        directory(&outer.path().join("private"), 0o700);
        directory(&outer.path().join("private/event-router"), 0o700);
        let link = outer.path().join("event-router");
        symlink("private/event-router", &link).unwrap();
        drop(Store::open(&link).unwrap());
        assert_eq!(entries(&outer.path().join("private/event-router")), ["lock", "state.db"]);
        // A chain, and a link in the middle of the path.
        let second = outer.path().join("second");
        symlink(&link, &second).unwrap();
        drop(Store::open(&second).unwrap());
        symlink(outer.path().join("private"), outer.path().join("middle")).unwrap();
        drop(Store::open(&outer.path().join("middle/event-router")).unwrap());
        drop(Store::open(&outer.path().join("middle/../private/event-router")).unwrap());
        // A directory that does not exist yet is made behind a link too.
        drop(Store::open(&outer.path().join("middle/new/deep")).unwrap());
        assert_eq!(entries(&outer.path().join("private/new/deep")), ["lock", "state.db"]);
        // An own link in a sticky directory cannot be changed by others.
        let sticky = outer.path().join("sticky");
        directory(&sticky, 0o1777);
        symlink("../private/event-router", sticky.join("link")).unwrap();
        drop(Store::open(&sticky.join("link")).unwrap());
        // Loops and dangling links end with an error.
        symlink("loop", outer.path().join("loop")).unwrap();
        assert!(Store::open(&outer.path().join("loop")).is_err());
        symlink("nowhere", outer.path().join("dangling")).unwrap();
        assert!(Store::open(&outer.path().join("dangling")).is_err());
        assert!(!outer.path().join("nowhere").exists());
    }

    #[test]
    fn links_that_others_could_change_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        directory(&data, 0o700);
        let open = outer.path().join("open");
        directory(&open, 0o777);
        symlink("../data", open.join("link")).unwrap();
        for path in [open.join("link"), open.join("link/deeper")] {
            let error = Store::open(&path).unwrap_err();
            assert!(matches!(error, StoreError::UnsafeLink { .. }), "{error}");
        }
        // The link to the open directory is sound, the one inside is not.
        symlink("open/link", outer.path().join("chain")).unwrap();
        assert!(matches!(Store::open(&outer.path().join("chain")), Err(StoreError::UnsafeLink { .. })));
        if is_root() {
            let sticky = outer.path().join("sticky");
            directory(&sticky, 0o1777);
            symlink("../data", sticky.join("link")).unwrap();
            lchown(sticky.join("link"), Some(STRANGER), None).unwrap();
            let error = Store::open(&sticky.join("link")).unwrap_err();
            assert!(matches!(error, StoreError::UnsafeLink { .. }), "{error}");
            // Root follows the links of a user to that user's own directory.
            chown(&data, Some(STRANGER), None).unwrap();
            drop(Store::open(&sticky.join("link")).unwrap());
        }
        assert!(!data.join("deeper").exists());
    }

    #[test]
    fn planted_files_are_refused_untouched() {
        let outer = tempfile::tempdir().unwrap();
        let victim = outer.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
        type Plant = fn(&Path, &Path);
        let plants: [(&str, Plant); 3] = [
            ("link", |victim, at| symlink(victim, at).unwrap()),
            ("dangling", |victim, at| symlink(victim.join("none"), at).unwrap()),
            ("second name", |victim, at| fs::hard_link(victim, at).unwrap()),
        ];
        for name in ["lock", "state.db", "state.db-wal", "state.db-shm", "state.db-journal"] {
            for (kind, plant) in plants {
                let dir = tempfile::tempdir().unwrap();
                if name != "state.db" {
                    drop(Store::open(dir.path()).unwrap());
                }
                let at = dir.path().join(name);
                fs::remove_file(&at).ok();
                plant(&victim, &at);
                for error in [Store::open(dir.path()).map(drop), restore(&victim, dir.path())] {
                    let error = error.unwrap_err();
                    assert!(matches!(error, StoreError::UnsafeFile { .. }), "{name}, {kind}: {error}");
                    assert!(error.to_string().contains("move it away"), "{error}");
                }
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}, {kind}");
                assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o644, "{name}, {kind}");
            }
        }
    }

    #[test]
    fn a_fifo_in_place_of_a_file_does_not_hang_the_start() {
        for name in ["lock", "state.db"] {
            let dir = tempfile::tempdir().unwrap();
            let made = std::process::Command::new("mkfifo").arg(dir.path().join(name)).status().unwrap();
            assert!(made.success());
            let error = Store::open(dir.path()).unwrap_err();
            assert!(matches!(error, StoreError::UnsafeFile { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn files_that_root_makes_belong_to_the_owner_of_the_directory() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(STRANGER), Some(STRANGER)).unwrap();
        drop(Store::open(dir.path()).unwrap());
        let backup = tempfile::tempdir().unwrap();
        let file = backup.path().join("backup.db");
        Store::open(dir.path()).unwrap().reader().backup(&file).unwrap();
        restore(&file, dir.path()).unwrap();
        assert_eq!(entries(dir.path()), ["lock", "state.db", "state.db.replaced"]);
        for name in entries(dir.path()) {
            let found = fs::metadata(dir.path().join(&name)).unwrap();
            assert_eq!(
                (found.uid(), found.gid(), found.mode() & 0o777),
                (STRANGER, STRANGER, 0o600),
                "{name}"
            );
        }
        // The files of a third user are not touched.
        chown(dir.path().join("state.db"), Some(STRANGER + 1), None).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::UnsafeFile { .. })));
        // A backup outside of the directory stays root's.
        assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    }
}
