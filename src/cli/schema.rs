//! `event-router schema`: prints the JSON schema of the native configuration format.

use clap::Args;

use super::Exit;

/// Print the JSON schema of the native configuration format, for editors.
///
/// To use it with the YAML extension of an editor, run `event-router schema >
/// event-router.schema.json` and begin the configuration with `# yaml-language-server:
/// $schema=event-router.schema.json`.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

/// # Errors
/// Standard output cannot be written.
pub fn run() -> anyhow::Result<Exit> {
    super::print(crate::settings::json_schema_text().as_bytes())?;
    Ok(Exit::Done)
}
