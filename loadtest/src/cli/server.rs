//! Helpers of the standalone servers: progress, certificates and tables.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// The interval at which a server prints its progress.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the certificates that clients must trust.
///
/// # Errors
/// The file cannot be written.
pub fn write_ca(file: &Path, certificates: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(
        !certificates.is_empty(),
        "there is no certificate to write to {}: `--ca` needs HTTPS",
        file.display()
    );
    std::fs::write(file, certificates.concat()).with_context(|| format!("cannot write {}", file.display()))
}

/// A table of names and values.
pub fn table(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, text)| format!("{name:<16}{text}\n")).collect()
}
