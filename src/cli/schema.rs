//! `event-router schema`: the JSON schema of the native configuration format, for editors.

use clap::Args;

use super::Exit;

/// Print the JSON schema of the native configuration format, for editors.
///
/// With the YAML extension of an editor: `event-router schema > event-router.schema.json`, and as the first line of the configuration
/// `# yaml-language-server: $schema=event-router.schema.json`.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

/// Errors: standard output cannot be written.
pub fn run() -> anyhow::Result<Exit> {
    super::print(crate::config::json_schema_text().as_bytes())?;
    Ok(Exit::Done)
}
