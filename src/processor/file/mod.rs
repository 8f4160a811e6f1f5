//! Appends events to a file, one structured CloudEvent per line, for log shippers and archives.
//!
//! The lines of a request are written at once and synced once (group commit), then the request
//! counts as delivered. Any failure blames the target: the disk may be full or gone, and the events
//! wait until it is back.
//!
//! ```text
//! DeliveryRequest ─► lines ─► LineFile: rotate if due, append, fdatasync ─► delivered
//! ```

mod line_file;
mod names;
pub mod settings;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Access, access, statvfs};
use tokio::sync::Mutex;

use self::line_file::LineFile;
use self::names::FileNames;
use self::settings::FileConfig;
use crate::cloudevents::Envelope;
use crate::limits::{FILE_TIMEOUT, FILE_WRITE_BYTES_MAX};
use crate::processor::client::target_failure;
use crate::processor::{
    BatchSlice, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use crate::supervise::Supervisor;

/// Appends events to a file.
#[derive(Debug)]
pub struct FileProcessor {
    envelope: Envelope,
    path: PathBuf,
    /// An append holds the lock until it ends, even after its time-out.
    file: Arc<Mutex<LineFile>>,
}

impl FileProcessor {
    pub fn new(settings: &FileConfig, envelope: Envelope) -> Self {
        let file = Arc::new(Mutex::new(LineFile::new(settings)));
        FileProcessor { envelope, path: settings.path.clone(), file }
    }

    async fn append(&self, request: &DeliveryRequest) -> Result<(), Failure> {
        if request.events == 0 {
            return Ok(());
        }
        let lines = super::lines(&self.envelope, request);
        let appended = async {
            let mut file = Arc::clone(&self.file).lock_owned().await;
            let append = move || file.append(&lines, crate::clock::now_us());
            tokio::task::spawn_blocking(append).await
        };
        match tokio::time::timeout(FILE_TIMEOUT, appended).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(target_failure(error.to_string())),
            Ok(Err(error)) => {
                Err(target_failure(format!("cannot write to `{}`: {error}", self.path.display())))
            }
            Err(_) => Err(target_failure(format!(
                "the disk of `{}` wrote nothing within {} s; check it",
                self.path.display(),
                FILE_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Looks at the directory and the file, and changes nothing.
    fn look(&self) -> Result<String, Failure> {
        let path = self.path.display();
        let cannot = |what: &str, cause: rustix::io::Errno| target_failure(format!("cannot {what}: {cause}"));
        let names =
            FileNames::of(&self.path).ok_or_else(|| target_failure(format!("`{path}` names no file")))?;
        let folder = names.folder.display();
        access(&names.folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|cause| cannot(&format!("write to the directory `{folder}`"), cause))?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(facts) if !facts.is_file() => {
                return Err(target_failure(format!(
                    "`{path}` is not a regular file; configure another `path`"
                )));
            }
            Ok(_) => access(&self.path, Access::READ_OK | Access::WRITE_OK)
                .map_err(|cause| cannot(&format!("write to `{path}`"), cause))?,
            // It is created with the first event.
            Err(_) => {}
        }
        let disk = statvfs(&names.folder)
            .map_err(|cause| cannot(&format!("look at the disk of `{folder}`"), cause))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free == 0 {
            return Err(target_failure(format!("the disk of `{folder}` is full; make room")));
        }
        Ok(format!("can append to {path}, {} MiB free", free >> 20))
    }
}

impl Processor for FileProcessor {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: usize::MAX, bytes_max: FILE_WRITE_BYTES_MAX, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async move { DeliveryOutcome::of(self.append(request).await) })
    }

    /// Opens the file, so that a problem with it shows at the start, and a torn line is repaired.
    fn start(self: Arc<Self>, _: &Supervisor, name: &str) {
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = self.file.blocking_lock().open() {
                tracing::warn!(processor = name, %error, "cannot open a file of events; its events wait");
            }
        });
    }

    fn reopen(&self) -> bool {
        let file = Arc::clone(&self.file);
        tokio::spawn(async move { file.lock().await.close() });
        true
    }

    fn address(&self, _: &str) -> Option<String> {
        Some(self.path.display().to_string())
    }

    fn preview(&self, slice: &BatchSlice, i: usize, _: &str) -> Option<String> {
        Some(super::shown_line(&self.envelope, slice, i))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(self.look()))
    }
}
