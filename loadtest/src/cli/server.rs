//! What the standalone servers share: until when they run, and how often they say something.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a server says how it goes.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Ctrl-C or SIGTERM, from now on: made before a server says that it is there, or whoever started it may stop it too early.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// # Errors
    /// The system does not deliver signals.
    pub fn new() -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

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
