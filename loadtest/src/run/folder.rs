//! The folder of a run: configuration, log and data of the router.
//!
//! It is temporary unless the operator names one. A named folder stays, and so does the folder of a
//! router that somebody else started.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{RouterUnderTest, RunError, Settings};
use crate::stand::config::DATA;

/// The folder of the router's files.
pub struct RunFolder {
    pub path: PathBuf,
    /// Removes the folder on drop.
    _temporary: Option<TempDir>,
}

impl RunFolder {
    /// # Errors
    /// The folder cannot be created, or holds the state of a router from another run.
    pub fn make(settings: &Settings) -> Result<RunFolder, RunError> {
        let Some(path) = &settings.folder else {
            let temporary = tempfile::Builder::new().prefix("loadtest-").tempdir();
            let temporary = temporary.map_err(RunError::Temporary)?;
            return Ok(match settings.router {
                RouterUnderTest::Started { .. } => {
                    RunFolder { path: temporary.path().to_owned(), _temporary: Some(temporary) }
                }
                // Somebody else's router continues after the run and needs its data.
                RouterUnderTest::Attached { .. } => RunFolder { path: temporary.keep(), _temporary: None },
            });
        };
        let wrong = |cause| RunError::RunFolder { folder: path.display().to_string(), cause };
        std::fs::create_dir_all(path).map_err(wrong)?;
        // The router may be started from another working directory.
        let path = std::path::absolute(path).map_err(wrong)?;
        let data = path.join(DATA);
        if data.exists() {
            return Err(RunError::Used { data: data.display().to_string() });
        }
        Ok(RunFolder { path, _temporary: None })
    }
}
