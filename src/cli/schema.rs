//! `event-router schema`: the JSON schema of the native configuration format, for editors.

use std::io::Write;

use anyhow::Context;

/// Errors: standard output is gone.
pub fn run() -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(crate::config::json_schema_text().as_bytes())
        .context("cannot write to standard output")
}
