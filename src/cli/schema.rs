//! `event-router schema`: the JSON schema of the native configuration format, for editors.

/// Errors: standard output cannot be written.
pub fn run() -> anyhow::Result<()> {
    super::print(crate::config::json_schema_text().as_bytes())
}
