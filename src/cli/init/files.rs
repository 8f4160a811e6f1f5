//! Writes the files of a new configuration, readable for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

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

/// Writes a file with mode 0600. With `force` it replaces one that exists, as a whole.
pub(super) fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    if !force {
        return fill(path, text).with_context(cannot);
    }
    let mut name = path.file_name().context("the output has no file name")?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // Left behind by a run that was interrupted.
    let _ = fs::remove_file(&new);
    fill(&new, text).and_then(|()| fs::rename(&new, path)).with_context(cannot)
}

fn fill(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
