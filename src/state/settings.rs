//! The settings of the state: its place, and the limits of dead letters.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::SecretError;
use crate::config::check::Env;
use crate::config::declare::*;
use crate::limits;

/// The location of positions, spools and dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// In this directory, which outlives the process.
    Dir(PathBuf),
    /// In a temporary directory for this run. Every start begins at `start_at`, like the old router
    /// with `checkpoint: false`.
    Ephemeral,
}

/// The keys `dataDir` and `ephemeral`. The directory is empty if the file does not name one.
impl Setting for StateLocation {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        if found.flag(fields[1].key) {
            return StateLocation::Ephemeral;
        }
        StateLocation::Dir(found.maybe_path(fields[0].key).unwrap_or_default())
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        match self {
            StateLocation::Dir(dir) => dir.write(&fields[..1], out),
            StateLocation::Ephemeral => true.write(&fields[1..], out),
        }
    }
}

settings! {
    /// [Dead letters](guarantees.md#dead-letters) stay in the state until an operator replays or
    /// drops them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeadLetterLimits in "deadLetters", with defaults {
        /// Disk space for all dead letters. A quarter of it is a reserve, of which each destination
        /// has an equal share. When a destination has no room left, the events that it refuses
        /// wait.
        pub bytes_max: u64 =
            key("bytesMax", size(MIB, 1024 * TIB)).or_bytes(limits::DEAD_LETTER_BYTES);
        /// Time since its last try after which a dead letter is removed for good. Default: dead
        /// letters are kept.
        pub max_age: Option<Duration> = key("maxAge", duration(SECOND, 3_650 * DAY));
    }
}

/// `$STATE_DIRECTORY`, else `/var/lib/event-router` if it is writable, else `./event-router-data`.
pub(crate) fn default_data_dir(env: Env<'_>) -> PathBuf {
    // systemd separates several directories by colons; use the first one.
    let given = env("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next().map(PathBuf::from));
    if let Some(dir) = given.filter(|dir| !dir.as_os_str().is_empty()) {
        return dir;
    }
    let system = PathBuf::from("/var/lib/event-router");
    let existing = if system.is_dir() { &*system } else { Path::new("/var/lib") };
    if is_writable(existing) { system } else { "event-router-data".into() }
}

/// Returns true if a file can be created in `dir`. Mode bits would not tell of a read-only mount.
fn is_writable(dir: &Path) -> bool {
    let probe = dir.join(format!(".event-router-probe-{}", std::process::id()));
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe).is_ok();
    created && std::fs::remove_file(&probe).is_ok()
}
