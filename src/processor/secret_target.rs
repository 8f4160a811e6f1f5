//! A target whose URL is a secret, such as that of a webhook: it is in a file (`urlFile`), or has
//! an environment variable in it. The file is read again every [`FILES_CHECK_INTERVAL`]. If it
//! cannot be used, the last URL stays in use.
//!
//! INVARIANT: messages and pages show only scheme, host and a short hash of the URL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::referred::Target;
use crate::config::Secret;
use crate::limits::FILES_CHECK_INTERVAL;
use crate::net::{HeadersError, HttpError, target_uri};
use crate::outside;
use crate::processor::cloudevents::settings::CloudEventsConfig as Settings;
use crate::redact::Former;

#[derive(Debug)]
pub struct SecretTarget {
    url: Secret,
    settings: Settings,
    now: ArcSwap<Target>,
    /// The parts of the last URLs, which a target may still mention.
    former: Former,
    started: Instant,
    /// Time at which the file is read again, in milliseconds after `started`.
    next_read_ms: AtomicU64,
}

impl SecretTarget {
    pub fn new(url: &Secret, settings: &Settings) -> Result<Self, HttpError> {
        let read = url.read().map_err(HeadersError::from)?;
        Ok(SecretTarget {
            url: url.clone(),
            settings: settings.clone(),
            now: ArcSwap::from_pointee(Target::secret(&read, settings)?),
            former: Former::of(&outside::secret_parts(&read)),
            started: Instant::now(),
            next_read_ms: AtomicU64::new(FILES_CHECK_INTERVAL.as_millis() as u64),
        })
    }

    /// The target at the present URL.
    pub fn current(&self) -> Arc<Target> {
        if self.url.path().is_some() {
            let now_ms = self.started.elapsed().as_millis() as u64;
            let due = self.next_read_ms.load(Ordering::Relaxed);
            let next = now_ms + FILES_CHECK_INTERVAL.as_millis() as u64;
            let swap = || self.next_read_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
            if now_ms >= due && swap().is_ok() {
                self.read_again();
            }
        }
        self.now.load_full()
    }

    /// Makes the next request read the file, however recent the last time was.
    pub fn check_files_now(&self) {
        self.next_read_ms.store(0, Ordering::Relaxed);
    }

    fn read_again(&self) {
        let target = self.now.load();
        let url = match self.url.read() {
            Ok(url) if target_uri(&url).is_ok_and(|uri| uri == target.uri) => return,
            Ok(url) => url,
            Err(error) => {
                tracing::warn!(target = target.shown, %error, "cannot read a secret URL again; keeping the last one");
                return;
            }
        };
        let parts = outside::secret_parts(&url);
        self.former.keep_all(parts.iter().map(String::as_str));
        match Target::secret(&url, &self.settings) {
            Ok(new) => {
                tracing::info!(target = new.shown, old = target.shown, "using a changed secret URL");
                self.now.store(Arc::new(new));
            }
            Err(error) => {
                tracing::warn!(target = target.shown, %error, "cannot use a changed secret URL; keeping the last one");
            }
        }
    }
}
