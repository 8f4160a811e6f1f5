//! What the standalone servers share: how often they say something, and how.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// How often a server says how it goes.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes certificates that a client must trust.
///
/// # Errors
/// The file cannot be written.
pub fn write_ca(file: &Path, certificates: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(
        !certificates.is_empty(),
        "there is no certificate for {}: it is for HTTPS",
        file.display()
    );
    std::fs::write(file, certificates.concat()).with_context(|| format!("cannot write {}", file.display()))
}

/// A table for people: names and values.
pub fn table(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, text)| format!("{name:<16}{text}\n")).collect()
}
