//! Writes the files of a new configuration, readable for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::InitUsageError;

/// Refuses to replace a file without `--force`.
pub(super) fn refuse_existing(path: &Path, force: bool) -> anyhow::Result<()> {
    if force || fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let path = path.display();
    Err(InitUsageError(format!(
        "`{path}` exists already; add `--force` to replace it, or choose another `--output`"
    ))
    .into())
}

/// Writes a file with mode 0600 as a whole. With `force` it replaces one that exists.
pub(super) fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let name = path.file_name().context("the output has no file name")?.to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = folder.join(format!(".{name}.{}", std::process::id()));
    let written = fill(&new, text).and_then(|()| {
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &new, CWD, path, flags)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn fill(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
