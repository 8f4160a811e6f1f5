//! A target whose URL is a secret, such as that of a webhook: it is in a file (`urlFile`), or has
//! an environment variable in it. The file is read again every
//! [`crate::limits::FILES_CHECK_INTERVAL`]. If it cannot be used, the last URL stays in use.
//!
//! INVARIANT: messages and pages show only scheme, host and a short hash of the URL.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::target::{Target, TargetOptions};
use crate::config::Secret;
use crate::net::{FileTimer, HeadersError, HttpError, target_uri};
use crate::outside;
use crate::redact::Former;

#[derive(Debug)]
pub struct SecretTarget {
    url: Secret,
    options: TargetOptions,
    now: ArcSwap<Target>,
    /// The parts of the last URLs, which a target may still mention.
    former: Former,
    timer: FileTimer,
}

impl SecretTarget {
    pub fn new(url: &Secret, options: TargetOptions) -> Result<Self, HttpError> {
        let read = url.read().map_err(HeadersError::from)?;
        Ok(SecretTarget {
            url: url.clone(),
            now: ArcSwap::from_pointee(Target::secret(&read, &options)?),
            former: Former::of(&outside::secret_parts(&read)),
            timer: FileTimer::default(),
            options,
        })
    }

    /// The target at the present URL.
    pub fn current(&self) -> Arc<Target> {
        if self.url.path().is_some() && self.timer.is_due() {
            self.read_again();
        }
        self.now.load_full()
    }

    /// Makes the next request read the file, however recent the last time was.
    pub fn check_files_now(&self) {
        self.timer.make_due();
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
        match Target::secret(&url, &self.options) {
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
