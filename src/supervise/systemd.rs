//! Messages to the service manager that started the process (systemd's `Type=notify`). Without one
//! they do nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    /// Interval at which it expects a sign of life, from `WATCHDOG_USEC`.
    watchdog: Option<Duration>,
    last_sign: Option<Instant>,
}

impl ServiceManager {
    /// Reads the environment that the service manager has set.
    pub fn from_env() -> Self {
        ServiceManager { watchdog: sd_notify::watchdog_enabled(), last_sign: None }
    }

    /// Reports that the start is complete: the configuration is right, the store is open, and
    /// everything has been started.
    pub fn ready() {
        notify(&[NotifyState::Ready]);
    }

    /// Reports that a reload begins. [`ServiceManager::ready`] follows, whatever its result.
    pub fn reloading() {
        let states = [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now().ok());
        notify(&states.collect::<Vec<_>>());
    }

    /// Reports that the process is about to end.
    pub fn stopping() {
        notify(&[NotifyState::Stopping]);
    }

    /// Interval of the signs of life: three in the time that the service manager allows.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 3)
    }

    /// Gives a sign of life if one is due. To be called only while the process is healthy.
    pub(super) fn alive(&mut self, now: Instant) {
        let Some(interval) = self.interval() else { return };
        if self.last_sign.is_none_or(|last| now - last >= interval) {
            self.last_sign = Some(now);
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
