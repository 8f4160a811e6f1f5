//! Values that are made from files: credentials and the certificate of a listener. They are made
//! again when a file changes, so that a rotation needs no restart.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::net::pem::Fingerprint;

type Make<T, E> = dyn Fn() -> Result<T, E> + Send + Sync;

/// A value and the state of the files that it was made from.
pub struct FromFiles<T, E> {
    /// The setting that names the files, for the log.
    setting: String,
    files: Vec<PathBuf>,
    make: Box<Make<T, E>>,
    last: Mutex<(Fingerprint, T)>,
}

impl<T: Clone, E: std::error::Error> FromFiles<T, E> {
    pub fn new(
        setting: impl Into<String>,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // The state comes first: a change during the reading is noticed afterwards.
        let state = Fingerprint::of(&files);
        let last = Mutex::new((state, make()?));
        Ok(FromFiles { setting: setting.into(), files, make: Box::new(make), last })
    }

    /// The value that the files give now. If they cannot be used, the last value stays, and one
    /// warning is logged for each change.
    pub fn current(&self) -> T {
        let state = Fingerprint::of(&self.files);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if state != last.0 {
            let setting = &self.setting;
            last.0 = state;
            match (self.make)() {
                Ok(value) => {
                    tracing::info!(%setting, "using changed files of a listener");
                    last.1 = value;
                }
                Err(error) => {
                    tracing::warn!(%setting, %error, "cannot use changed files of a listener; keeping the last ones");
                }
            }
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let read = path.clone();
        let made = FromFiles::<String, io::Error>::new("s", vec![path.clone()], move || {
            std::fs::read_to_string(&read)
        })
        .unwrap();
        assert_eq!(made.current(), "one");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(made.current(), "three");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(made.current(), "three");
        std::fs::write(&path, "seven").unwrap();
        assert_eq!(made.current(), "seven");
    }
}
