//! Reloads of a running router: on SIGHUP, on request over the control socket, and, if
//! `reloadOnChange` says so, when the file changes.
//!
//! ```text
//!  SIGHUP ───────────────┐
//!  control socket ───────┼─► read and check the file ─► Router::reload ─► answer, log, metrics
//!  file, every 2 seconds ┘         └─ errors: nothing changes
//! ```

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::LogArgs;
use crate::admin::control::{ReloadRefusal, ReloadRequest, ReloadWhat};
use crate::app::Router;
use crate::app::reload::ReloadError;
use crate::limits::RELOAD_LOOK_INTERVAL;
use crate::settings::changes::{Changes, ReloadAction};
use crate::settings::{self, Config};
use crate::supervise::ServiceManager;
use crate::telemetry::metrics as names;

/// The parts of the command line that take precedence over the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunOverrides {
    pub log: LogArgs,
    pub log_invocations: bool,
}

impl RunOverrides {
    /// Applies the flags to a configuration.
    pub fn apply(self, config: &mut Config) {
        config.log = self.log.over(&config.log);
        config.log.invocations |= self.log_invocations;
    }
}

/// Applies configurations to a router.
pub(super) struct Reloads {
    file: PathBuf,
    overrides: RunOverrides,
    /// The runtime of the router.
    runtime: Handle,
    requests: mpsc::Receiver<ReloadRequest>,
    looks: Interval,
    /// The content of the file when it was last applied or refused.
    seen: Option<u64>,
    /// The content at the last look. A file that is just being written changes between two looks.
    looked: Option<u64>,
}

/// A reason to reload.
pub(super) enum ReloadCause {
    Requested(ReloadRequest),
    FileChanged,
}

impl Reloads {
    /// Also returns the sender for requests.
    pub fn new(
        file: PathBuf,
        overrides: RunOverrides,
        runtime: Handle,
    ) -> (Self, mpsc::Sender<ReloadRequest>) {
        let (sender, requests) = mpsc::channel(1);
        let mut looks = interval(RELOAD_LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seen = digest(&file);
        report(seen, true);
        (Reloads { file, overrides, runtime, requests, looks, seen, looked: seen }, sender)
    }

    /// Waits for a reason to reload. `watches`: the file is watched.
    pub async fn next(&mut self, watches: bool) -> ReloadCause {
        loop {
            tokio::select! {
                Some(request) = self.requests.recv() => return ReloadCause::Requested(request),
                _ = self.looks.tick(), if watches => {
                    let now = digest(&self.file);
                    let before = std::mem::replace(&mut self.looked, now);
                    if now.is_some() && now == before && now != self.seen {
                        return ReloadCause::FileChanged;
                    }
                }
                // Nobody can ask any more.
                else => std::future::pending().await,
            }
        }
    }

    /// Reloads for a reason, and answers. Returns the router, or `None` if the reload panicked.
    pub async fn serve(&mut self, cause: ReloadCause, mut router: Router) -> Option<Router> {
        let ReloadCause::Requested(ReloadRequest { what, answer }) = cause else {
            tracing::info!(file = %self.file.display(), "the configuration has changed; applying it");
            return self.apply(router).await.map(|(router, _)| router);
        };
        let answered = match what {
            ReloadWhat::Apply => {
                let applied;
                (router, applied) = self.apply(router).await?;
                applied
            }
            ReloadWhat::DryRun => self.load().and_then(|config| router.plan(&config).map_err(refusal)),
            ReloadWhat::Compare { name, text } => {
                self.load_text(&text, &name).and_then(|new| router.plan(&new).map_err(refusal))
            }
        };
        // The one who asked may have gone.
        let _ = answer.send(answered);
        Some(router)
    }

    /// Applies the file.
    pub async fn apply(&mut self, mut router: Router) -> Option<(Router, Result<Changes, ReloadRefusal>)> {
        ServiceManager::reloading();
        self.seen = digest(&self.file);
        let applied = match self.load() {
            Err(refusal) => Err(refusal),
            Ok(config) => {
                // The tasks of sources and processors belong to the runtime of the router.
                let reload = async move {
                    let applied = router.reload(&config).await;
                    (router, applied)
                };
                let applied;
                (router, applied) = self.runtime.spawn(reload).await.ok()?;
                applied.map_err(refusal)
            }
        };
        self.tell(&applied);
        ServiceManager::ready();
        Some((router, applied))
    }

    fn tell(&self, applied: &Result<Changes, ReloadRefusal>) {
        let result = match applied {
            Ok(changes) => {
                let count = |action| changes.0.iter().filter(|change| change.action == action).count();
                use ReloadAction::{Added, Changed, NeedsRestart, Removed};
                let (added, changed, removed) = (count(Added), count(Changed), count(Removed));
                tracing::info!(added, changed, removed, "the configuration has been applied");
                for change in changes.0.iter().filter(|change| change.action == NeedsRestart) {
                    tracing::warn!(part = %change.part, "a changed setting needs a restart of the router");
                }
                "applied"
            }
            Err(ReloadRefusal::Invalid(errors)) => {
                tracing::error!(%errors, "the configuration is invalid; the router goes on with the last one");
                "invalid"
            }
            Err(ReloadRefusal::Failed(reason)) => {
                tracing::error!(%reason, "the configuration could not be applied; the router goes on with the last one");
                "failed"
            }
        };
        metrics::counter!(names::RELOADS, "result" => result).increment(1);
        report(self.seen.filter(|_| applied.is_ok()), applied.is_ok());
    }

    fn load(&self) -> Result<Config, ReloadRefusal> {
        self.checked(settings::load(&self.file))
    }

    fn load_text(&self, text: &str, name: &Path) -> Result<Config, ReloadRefusal> {
        self.checked(settings::load_str(text, name))
    }

    fn checked(
        &self,
        loaded: Result<(Config, Vec<settings::Warning>), settings::ConfigErrors>,
    ) -> Result<Config, ReloadRefusal> {
        let (mut config, warnings) = loaded.map_err(|errors| ReloadRefusal::Invalid(errors.to_string()))?;
        for warning in warnings {
            tracing::warn!(%warning, "the configuration has a questionable setting");
        }
        self.overrides.apply(&mut config);
        Ok(config)
    }
}

fn refusal(error: ReloadError) -> ReloadRefusal {
    match error.is_invalid() {
        true => ReloadRefusal::Invalid(error.to_string()),
        false => ReloadRefusal::Failed(error.to_string()),
    }
}

/// Writes the metrics. A hash of `None` leaves that of the last file that was applied.
fn report(hash: Option<u64>, is_successful: bool) {
    metrics::gauge!(names::LAST_RELOAD_OK).set(f64::from(u8::from(is_successful)));
    if let Some(hash) = hash {
        metrics::gauge!(names::CONFIG_HASH).set(hash as f64);
    }
}

/// The first 48 bits of the SHA-256 of a file, which a metric shows exactly. `None` if the file
/// cannot be read.
fn digest(file: &Path) -> Option<u64> {
    let hash: [u8; 32] = Sha256::digest(std::fs::read(file).ok()?).into();
    let first: [u8; 8] = hash[..8].try_into().expect("8 of 32 bytes");
    Some(u64::from_be_bytes(first) >> 16)
}
