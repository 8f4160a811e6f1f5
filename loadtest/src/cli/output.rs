//! The output of a result: a table, a JSON file, a report.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::report;
use crate::result::Outcome;

#[derive(Debug, Args)]
pub struct OutputFlags {
    /// Write the result as JSON to this file; `-` writes it to stdout instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a self-contained HTML report with charts to this file
    #[arg(long, value_name = "FILE", value_parser = report_file)]
    html: Option<PathBuf>,
}

/// Parses the file of a report. Stdout is for the table.
pub fn report_file(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name a file".to_owned()),
        "-" => Err("must be a file; stdout is not one".to_owned()),
        text => Ok(text.into()),
    }
}

impl OutputFlags {
    /// Checks before the run that the files can be written, so that a missing folder does not lose
    /// the result. `input` is a file that must not be overwritten.
    ///
    /// # Errors
    /// A file cannot be written, or would replace another one.
    pub fn check(&self, input: Option<&Path>) -> Result<(), String> {
        // A built-in workload may have the name of a file that will be written.
        let input = input.filter(|input| input.is_file());
        let json = self.json.as_deref().filter(|file| file.as_os_str() != "-");
        let files = [json, self.html.as_deref()].into_iter().flatten();
        for file in files {
            differ(input, file)?;
            can_be_written(file).map_err(|cause| format!("cannot write {}: {cause}", file.display()))?;
        }
        json.zip(self.html.as_deref()).map_or(Ok(()), |(json, html)| differ(Some(json), html))
    }

    /// Writes every output that it can.
    ///
    /// # Errors
    /// The outputs that could not be written.
    pub fn write(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let report = self.html.as_ref().map(|file| save(file, &report::html(outcome)));
        let text = serde_json::to_string_pretty(outcome)?;
        let (json, shown) = match &self.json {
            Some(file) if file.as_os_str() == "-" => (None, text + "\n"),
            file => (file.as_ref().map(|file| save(file, &text)), outcome.table()),
        };
        let written = [report, json].into_iter().flatten().chain([super::show(&shown)]);
        let wrong: Vec<String> = written.filter_map(Result::err).map(|error| error.to_string()).collect();
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }
}

/// # Errors
/// The two paths are the same file.
pub fn differ(first: Option<&Path>, second: &Path) -> Result<(), String> {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    match first.filter(|first| whole(first) == whole(second)) {
        Some(first) => Err(format!("{} would be written over; choose another file", first.display())),
        None => Ok(()),
    }
}

/// Checks that a file can be written. Leaves an existing file unchanged and creates none.
fn can_be_written(path: &Path) -> std::io::Result<()> {
    // Opening a pipe or a device may block or have an effect. A write will report the error.
    if path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Ok(());
    }
    let is_new = path.symlink_metadata().is_err();
    File::options().append(true).create(true).open(path)?;
    if is_new { std::fs::remove_file(path) } else { Ok(()) }
}

fn save(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).map_err(|cause| anyhow::anyhow!("cannot write {}: {cause}", file.display()))
}
