//! Where a result goes: a table, a JSON file, a report.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::report;
use crate::result::Outcome;

#[derive(Debug, Args)]
pub struct Output {
    /// Write the result as JSON to this file; `-` is stdout, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report with charts to this file, for a browser; it needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Output {
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, outcome: &Outcome) -> anyhow::Result<()> {
        if let Some(file) = &self.html {
            save(file, &report::html(outcome))?;
        }
        match &self.json {
            Some(file) if file.as_os_str() == "-" => {
                super::show(&(serde_json::to_string_pretty(outcome)? + "\n"))
            }
            Some(file) => {
                save(file, &serde_json::to_string_pretty(outcome)?)?;
                super::show(&outcome.table())
            }
            None => super::show(&outcome.table()),
        }
    }
}

fn save(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
