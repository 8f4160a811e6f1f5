//! A look at a data directory before a router starts on it, which changes nothing there.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::{StoreError, StoreReader, backup, directory, file, trust};
use crate::limits::DISK_FREE_BYTES_MIN;

/// The result of a look at a usable data directory.
#[derive(Debug)]
pub struct ExaminedDirectory {
    /// The whole path.
    pub path: PathBuf,
    pub exists: bool,
    /// Properties that lose or delay events.
    pub warnings: Vec<String>,
}

/// The numbers of file systems in `statfs`, from Linux' `magic.h` and the file systems' own code.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
const NETWORK: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6573_5546, "FUSE"),
];
const OF_THE_KERNEL: [u64; 4] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb];

/// Fails for the same reasons as the start of a router on `dir`. Another process may own it.
pub fn examine(dir: &Path) -> Result<ExaminedDirectory, StoreError> {
    trust::check_directory(dir)?;
    let path =
        std::path::absolute(dir).map_err(|cause| StoreError::io(dir, "look at the directory", cause))?;
    let exists = path.is_dir();
    let doing = if exists { "write in the directory" } else { "make the directory" };
    // The nearest directory that exists will hold the missing ones.
    let holder = path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    check_names(&path, holder)?;
    rustix::fs::accessat(CWD, holder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|cause| StoreError::io(&path, doing, cause.into()))?;
    let system = rustix::fs::statfs(holder)
        .map_err(|cause| StoreError::io(&path, "look at the file system", cause.into()))?;
    let kind = system.f_type as u64 & 0xffff_ffff;
    if OF_THE_KERNEL.contains(&kind) {
        let cause = std::io::Error::other("this file system shows the kernel's data and stores no files");
        return Err(StoreError::Directory { path, doing, cause });
    }
    let free = system.f_bavail.saturating_mul(u64::try_from(system.f_bsize).unwrap_or(0));
    let mut warnings = of_file_system(kind);
    if free < DISK_FREE_BYTES_MIN {
        warnings.push(format!(
            "has {} MiB free; below {} MiB no event is spooled or becomes a dead letter, so destinations wait",
            free >> 20,
            DISK_FREE_BYTES_MIN >> 20
        ));
    }
    check_state(&path)?;
    Ok(ExaminedDirectory { path, exists, warnings })
}

/// Fails if a missing directory has a name that its file system does not allow.
fn check_names(path: &Path, holder: &Path) -> Result<(), StoreError> {
    let missing = path.strip_prefix(holder).unwrap_or(Path::new(""));
    match missing.components().next().map(|first| fs::symlink_metadata(holder.join(first))) {
        Some(Err(cause)) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "make the directory", cause))
        }
        _ => Ok(()),
    }
}

/// Fails if there is a state that this release cannot open.
fn check_state(dir: &Path) -> Result<(), StoreError> {
    let state = file::state_path(dir);
    trust::check_files(&state)?;
    if directory::beside(&state, backup::RESTORING).exists() {
        return Err(StoreError::RestoreInterrupted { path: dir.to_owned() });
    }
    match StoreReader::open(dir) {
        Ok(_) | Err(StoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn of_file_system(kind: u64) -> Vec<String> {
    if IN_MEMORY.contains(&kind) {
        return vec![
            "is in memory (tmpfs): a restart of the machine loses positions, spooled events and dead letters; set `dataDir` to a directory on a local disk".into(),
        ];
    }
    let network = NETWORK.iter().find(|(number, _)| *number == kind);
    network.into_iter().map(|(_, name)| {
        format!("is on a network file system ({name}), where locks and the write-ahead log are not reliable; set `dataDir` to a directory on a local disk")
    }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::state::Store;

    #[test]
    fn a_directory_is_examined_without_a_change() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        symlink("/nonexistent/x", path("dangling")).unwrap();
        std::fs::create_dir(path("there")).unwrap();
        let check = |dir: &Path, expected: Result<bool, &str>| match (examine(dir), expected) {
            (Ok(found), Ok(exists)) => assert_eq!(found.exists, exists, "{dir:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{dir:?}: {error}"),
            (found, expected) => panic!("{dir:?}: {found:?} instead of {expected:?}"),
        };
        check(&path("there"), Ok(true));
        check(&path("a/b/c"), Ok(false));
        check(&path("file"), Err("not a directory"));
        check(&path("file/below"), Err("cannot look at the directory"));
        check(&path("dangling"), Err("cannot look at the directory"));
        check(&path(&"x".repeat(300)), Err("too long"));
        check(Path::new("/proc/er"), Err("stores no files"));
        check(Path::new("/dev/null"), Err("not a directory"));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 3);
        assert_eq!(std::fs::read_dir(path("there")).unwrap().count(), 0);
    }

    #[test]
    fn a_state_that_cannot_be_opened_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        examine(dir.path()).unwrap();
        store.close().unwrap();
        std::fs::write(dir.path().join("state.db"), "other").unwrap();
        assert!(matches!(examine(dir.path()), Err(StoreError::Damaged { .. })));
        std::fs::write(dir.path().join("state.db.restoring"), "half").unwrap();
        assert!(matches!(examine(dir.path()), Err(StoreError::RestoreInterrupted { .. })));
    }

    #[test]
    fn file_systems_that_lose_events_are_warned_about() {
        let check = |kind: u64, expected: &str| {
            let said = of_file_system(kind).join("; ");
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{kind:x}: {said}");
        };
        check(0xef53, "");
        check(0x0102_1994, "in memory");
        check(0x6969, "NFS");
    }
}
