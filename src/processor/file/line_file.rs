//! A file of whole lines that are on the disk.
//!
//! ```text
//! │ {"id":…}\n{"id":…}\n │ {"id":…}\n{"id":…}\n │ {"id":"6f
//! └─ on the disk: `len` ─┴─ one append ─────────┴─ torn by a crash: cut off at the next open
//! ```
//!
//! INVARIANT: a successful [`LineFile::append`] has its lines on the disk, in the file that `path`
//! named at that time.
//!
//! INVARIANT: lines are appended behind a line break only. An append that fails is cut off, at once
//! or before the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::names::FileNames;
use super::settings::FileConfig;
use crate::limits::{FILE_LOCK_LOOK, FILE_LOCK_WAIT, FILE_REPAIR_BYTES, FILE_SAME_SECOND_MAX};

/// The beginning of every line.
const LINE_HEAD: &[u8] = b"{\"id\":\"";

/// Nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {what} `{path}`: {cause}{}", advice(.cause))]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("`{0}` is a symbolic link; configure the file that it leads to")]
    Link(PathBuf),
    #[error("`{0}` is not a regular file; configure another `path`")]
    Kind(PathBuf),
    #[error(
        "another processor or program writes to `{0}`; give each its own `path`, and stop a second router"
    )]
    Locked(PathBuf),
    #[error(
        "the last line of `{0}` is incomplete and no event, so this may not be a file of this router; move it away, or configure another `path`"
    )]
    Foreign(PathBuf),
    #[error("`{0}` was moved or replaced again while it was opened; let one program rotate it")]
    Moved(PathBuf),
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::PermissionDenied => "; let the router's user write there",
        io::ErrorKind::NotFound => "; create the directory",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable",
        _ => "",
    }
}

/// The file of one processor. All calls block.
#[derive(Debug)]
pub struct LineFile {
    settings: FileConfig,
    open: Option<OpenFile>,
}

/// A locked file that ends with a line break.
#[derive(Debug)]
struct OpenFile {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// Bytes on the disk, all of them whole lines.
    len: u64,
    /// The time at which the file was created.
    began_us: i64,
}

impl LineFile {
    pub fn new(settings: &FileConfig) -> Self {
        LineFile { settings: settings.clone(), open: None }
    }

    /// Opens the file if it is not open.
    pub fn open(&mut self) -> Result<(), FileError> {
        self.current().map(|_| ())
    }

    /// Closes the file, so that the next append opens the one that the path names then.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Appends whole lines, and returns when they are on the disk.
    pub fn append(&mut self, lines: &[u8], now_us: i64) -> Result<(), FileError> {
        debug_assert!(lines.ends_with(b"\n"), "an append ends with a line break");
        let FileConfig { bytes_max, age_max, .. } = self.settings;
        let open = self.current()?;
        let is_large = open.len + lines.len() as u64 > bytes_max;
        let age_us = now_us.saturating_sub(open.began_us);
        let is_old = age_max.is_some_and(|max| age_us >= i64::try_from(max.as_micros()).unwrap_or(i64::MAX));
        if open.len > 0 && (is_large || is_old) {
            self.rotate(now_us)?;
        }
        let path = self.settings.path.clone();
        let open = self.current()?;
        let written = open.file.write_all(lines).map_err(|cause| ("write to", cause));
        let synced = written.and_then(|()| open.file.sync_data().map_err(|cause| ("sync", cause)));
        match synced {
            Ok(()) => {
                open.len += lines.len() as u64;
                Ok(())
            }
            Err((what, cause)) => {
                // After a failed sync the kernel may drop pages, so what the file contains is
                // unknown. Cut these lines off, and open the file again, which checks its end.
                let _ = open.file.set_len(open.len).and_then(|()| open.file.sync_data());
                self.open = None;
                Err(FileError::Io { what, path, cause })
            }
        }
    }

    /// The open file, if the path still names it; else the one that the path names now.
    fn current(&mut self) -> Result<&mut OpenFile, FileError> {
        let path = &self.settings.path;
        let is_same = self.open.as_ref().is_some_and(|open| {
            let named = fs::symlink_metadata(path).ok();
            named.is_some_and(|named| (named.dev(), named.ino(), named.len()) == open.facts())
        });
        if !is_same {
            // Release the lock first: it may be the same file with another length.
            self.open = None;
            self.open = Some(OpenFile::open(path)?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    /// Gives the file a name with the time, begins a new one, and removes surplus ones.
    fn rotate(&mut self, now_us: i64) -> Result<(), FileError> {
        let path = self.settings.path.clone();
        let names = FileNames::of(&path).ok_or_else(|| FileError::Kind(path.clone()))?;
        let mut candidates = (1..=FILE_SAME_SECOND_MAX).map(|number| names.rotated(now_us, number));
        let Some(rotated) = candidates.find(|name| fs::symlink_metadata(name).is_err()) else {
            // The next second has free names again. Until then the file grows.
            return Ok(());
        };
        fs::rename(&path, &rotated).map_err(|cause| io_error("rotate", &path, cause))?;
        self.open = None;
        self.current()?;
        tracing::info!(file = %path.display(), rotated = %rotated.display(), "rotated a file of events");
        self.remove_surplus(&names, &rotated);
        Ok(())
    }

    /// Removes the oldest rotated files, but not the `newest`: after a correction of the clock, the
    /// names of older ones may have later times. A failure only costs disk space, so it is only
    /// logged.
    fn remove_surplus(&self, names: &FileNames, newest: &Path) {
        let folder = names.folder.display();
        let entries = match fs::read_dir(&names.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%folder, %error, "cannot look for old files of events");
                return;
            }
        };
        let found = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let surplus = names.surplus(found, self.settings.keep);
        for old in surplus.into_iter().filter(|old| old != newest) {
            match fs::remove_file(&old) {
                Ok(()) => tracing::info!(file = %old.display(), "removed an old file of events"),
                Err(error) => {
                    tracing::warn!(file = %old.display(), %error, "cannot remove an old file of events")
                }
            }
        }
    }
}

impl OpenFile {
    /// Opens or creates a file, locks it, and cuts off a torn last line.
    fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o640).custom_flags(flags.bits() as i32);
        let mut file = options.open(path).map_err(|cause| match cause.raw_os_error() {
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => FileError::Link(path.into()),
            Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => FileError::Kind(path.into()),
            _ => io_error("open", path, cause),
        })?;
        if !file.metadata().map_err(|cause| io_error("look at", path, cause))?.is_file() {
            return Err(FileError::Kind(path.into()));
        }
        // After a reload, the former instance has the file until its last request ends.
        let began = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < FILE_LOCK_WAIT => {
                    std::thread::sleep(FILE_LOCK_LOOK);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(FileError::Locked(path.into())),
                Err(cause) => return Err(io_error("lock", path, cause.into())),
            }
        }
        // Another program may have moved it, or appended to it, before the lock.
        let facts = file.metadata().map_err(|cause| io_error("look at", path, cause))?;
        let identity = (facts.dev(), facts.ino());
        let named = fs::symlink_metadata(path).ok();
        if named.is_none_or(|named| (named.dev(), named.ino()) != identity) {
            return Err(FileError::Moved(path.into()));
        }
        let size = facts.len();
        let len = whole_lines(&mut file, size).map_err(|cause| io_error("read", path, cause))?;
        if len < size {
            cut_torn_line(&mut file, path, len, size)?;
        }
        // Also for a file that was there: whoever made it may not have synced its name.
        sync_folder(path)?;
        let began = facts.created().or_else(|_| facts.modified());
        let began = began.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let began_us = i64::try_from(began.unwrap_or(Duration::ZERO).as_micros()).unwrap_or(i64::MAX);
        Ok(OpenFile { file, identity, len, began_us })
    }

    /// Device, inode and length, as the file system should report them.
    fn facts(&self) -> (u64, u64, u64) {
        (self.identity.0, self.identity.1, self.len)
    }
}

/// Removes the part behind the last line break, which a crash left. It was never acknowledged, so
/// its event is delivered again.
fn cut_torn_line(file: &mut File, path: &Path, len: u64, size: u64) -> Result<(), FileError> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(len))
        .and_then(|_| Read::by_ref(file).take(LINE_HEAD.len() as u64).read_to_end(&mut head))
        .map_err(|cause| io_error("read", path, cause))?;
    // A power loss can leave zeros in place of bytes that were not synced.
    if !LINE_HEAD.starts_with(&head) && head.iter().any(|byte| *byte != 0) {
        return Err(FileError::Foreign(path.into()));
    }
    file.set_len(len).and_then(|()| file.sync_data()).map_err(|cause| io_error("repair", path, cause))?;
    let (file, bytes) = (path.display(), size - len);
    tracing::warn!(%file, bytes, "removed an incomplete last line, whose event is delivered again");
    Ok(())
}

/// The number of bytes up to the last line break.
fn whole_lines(file: &mut File, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut buffer = vec![0; FILE_REPAIR_BYTES];
    while end > 0 {
        let start = end.saturating_sub(FILE_REPAIR_BYTES as u64);
        let part = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Makes the name of a file durable.
fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| io_error("sync the directory of", path, cause))
}

fn io_error(what: &'static str, path: &Path, cause: io::Error) -> FileError {
    FileError::Io { what, path: path.into(), cause }
}
