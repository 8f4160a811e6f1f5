//! Finds the real counterparts. `scripts/peers` installs them; `scripts/test` requires them.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder that `scripts/peers` filled.
const FOLDER: &str = "EVENT_ROUTER_PEERS";
/// Set by `scripts/test`: a missing peer is then a failure.
const REQUIRED: &str = "EVENT_ROUTER_REQUIRE_PEERS";

/// The program of a peer: `vcsim`, `python` (with pyvmomi and boto3), `moto_server`, `nats-server`,
/// `chromium`.
///
/// Returns `None` and prints the test's name when it is missing, so that the caller can return.
/// Panics under `scripts/test`, which requires all peers.
pub fn peer(name: &str) -> Option<PathBuf> {
    // The fallback finds an earlier run of scripts/peers: it fills the same target folder.
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    let folder = std::env::var_os(FOLDER).map_or(beside, PathBuf::from);
    let program = folder.join("bin").join(name);
    if program.exists() {
        return Some(program);
    }
    missing(&format!("{name}; run scripts/peers"));
    None
}

/// Skips the test for want of something, or fails it under `scripts/test`.
pub fn missing(needs: &str) {
    assert!(std::env::var_os(REQUIRED).is_none(), "this test needs {needs}");
    skip(needs);
}

/// Prints that the running test is skipped, and what it needs.
pub fn skip(needs: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not by eprintln!: the test runner keeps that to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test} needs {needs}");
}
