//! The settings of a file that events are appended to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::FileProcessor;
use super::names::FileNames;
use crate::cloudevents::Envelope;
use crate::config::declare::*;
use crate::processor::Processor;
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// Appends events to a file, one structured CloudEvent per line. An event counts as delivered
    /// when it is on the disk (fdatasync, once per request). SIGHUP makes the router open the file
    /// again; so does a file that was moved or removed.
    #[derive(Clone, Debug, PartialEq)]
    pub struct FileConfig in "file" {
        /// The file, in a directory that exists. It must not be a symbolic link, and no other
        /// program may write to it.
        pub path: PathBuf = key("path", PATH).required().also(&["file", "filename", "output"]);
        /// Size from which the file is rotated: it gets the time before its extension, as in
        /// `events-20261130T231145Z.jsonl`, and a new file begins.
        pub bytes_max: u64 =
            key("bytesMax", size(KIB, TIB)).or("100MiB").also(&["maxSize", "rotateSize", "max_bytes"]);
        /// Age from which the file is rotated, by the next event. Default: no limit.
        pub age_max: Option<Duration> =
            key("ageMax", duration(SECOND, 366 * DAY)).also(&["maxAge", "rotateInterval"]);
        /// Number of rotated files to keep. Older ones are removed.
        pub keep: usize = key("keep", whole(0, 10_000)).or("10").also(&["maxFiles", "backups", "rotate"]);
    }
    check check_file;
}

impl FileConfig {
    /// A file with every other setting at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FileConfig { path: path.into(), ..defaults() }
    }
}

impl KindSettings for FileConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(FileProcessor::new(self, envelope)))
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

fn check_file(found: &CheckedMap, problems: &mut Problems) {
    let path = found.maybe_path("path").filter(|_| !found.is_wrong("path"));
    if path.is_some_and(|path| FileNames::of(&path).is_none()) {
        problems.error(found.line_of("path"), &found.path_of("path"), "must end with the name of a file");
    }
}
