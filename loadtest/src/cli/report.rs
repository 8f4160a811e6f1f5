//! `loadtest report`: renders a JSON result as a report.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::End;
use super::output::{differ, report_file};
use crate::report;
use crate::result::Outcome;

/// Render a JSON result as a report with charts, as `--html` of `run` and `limit` does.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Result of `run --json` or `limit --json`
    result: PathBuf,
    /// Report to write
    #[arg(value_parser = report_file)]
    html: PathBuf,
}

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<End> {
    if let Err(wrong) = differ(Some(&args.result), &args.html) {
        return super::usage(&wrong);
    }
    let outcome = match Outcome::read(&args.result) {
        Ok(outcome) => outcome,
        Err(error) => return super::usage(&error.to_string()),
    };
    let text = report::html(&outcome);
    std::fs::write(&args.html, text).with_context(|| format!("cannot write {}", args.html.display()))?;
    Ok(End::Done)
}
