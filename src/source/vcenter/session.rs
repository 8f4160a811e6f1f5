//! Logs in, and keeps the session alive. While it lasts, the monitor keeps vCenter's clock and its
//! latest event known.
//!
//! While a vCenter is away it is asked every second, so that reading resumes as soon as it is back.
//!
//! INVARIANT: after a refused login no other is tried for `LOGIN_RETRY`, unless the password has
//! changed. vCenter's single sign-on locks the account after five refused logins.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::api::EventApi;
use super::backoff::{self, Backoff};
use super::client::CallError;
use super::link::{End, Link, LinkError};
use super::severities;
use super::status::Method;
use crate::limits::{
    BACKOFF_FAULT_MAX, BACKOFF_MAX, CLOCK_INTERVAL, KEYS_NEAR_WRAP, LOGIN_RETRY, MONITOR_INTERVAL,
    MONITOR_REST, PASSWORD_CHECK, SESSION_LIFE_MIN,
};
use crate::source::SourceState;
use vsphere::api::{About, EventPosition, FaultKind};

/// A password that was refused, and the time before which it is not tried again.
struct Refused {
    password: Arc<str>,
    until: Instant,
}

/// The reason of a failed login, and the longest wait before the next one.
struct LoginFailure {
    reason: String,
    backoff_max: Duration,
    /// True if it lasts until a person changes something.
    needs_person: bool,
}

impl LoginFailure {
    fn of(reason: String) -> Self {
        LoginFailure { reason, backoff_max: BACKOFF_FAULT_MAX, needs_person: true }
    }
}

impl From<CallError> for LoginFailure {
    fn from(error: CallError) -> Self {
        // A certificate that is not trusted needs a person; a vCenter that is away comes back.
        let needs_person = matches!(error, CallError::Setup(_) | CallError::Tls { .. });
        LoginFailure { backoff_max: backoff::cap(&error), reason: error.to_string(), needs_person }
    }
}

/// The login of one source, over all its sessions.
#[derive(Default)]
pub(super) struct Sessions {
    backoff: Backoff,
    refused: Option<Refused>,
    /// The time of the login to the session that was open last.
    logged_in_at: Option<Instant>,
    logins: u64,
}

impl Sessions {
    /// Logs in. Tries until it succeeds.
    pub async fn establish<A: EventApi>(&mut self, link: &Link<A>) -> About {
        // Sessions that end soon after their login must not cause a storm of logins.
        if let Some(logged_in_at) = self.logged_in_at.take() {
            match logged_in_at.elapsed() < SESSION_LIFE_MIN {
                true => sleep(self.backoff.next(BACKOFF_MAX)).await,
                false => self.backoff.reset(),
            }
        }
        link.set_state(SourceState::Connecting);
        loop {
            self.wait_for_password(link).await;
            match self.log_in(link).await {
                Ok(about) => {
                    self.logged_in_at = Some(Instant::now());
                    self.logins += 1;
                    if self.logins > 1 {
                        link.status.relogins.fetch_add(1, Relaxed);
                    }
                    return about;
                }
                Err(failure) => {
                    match failure.needs_person {
                        true => link.failed_for_good(failure.reason),
                        false => link.failed(failure.reason),
                    }
                    if self.refused.is_none() {
                        sleep(self.backoff.next(failure.backoff_max)).await;
                    }
                }
            }
        }
    }

    async fn log_in<A: EventApi>(&mut self, link: &Link<A>) -> Result<About, LoginFailure> {
        let about = link.call(Method::Open, link.api.open()).await?;
        let username = &link.settings.username;
        // Read just before the login, since it may have been rotated while the vCenter was away.
        let password = link.settings.password.read().map_err(|error| LoginFailure::of(error.to_string()))?;
        if let Err(error) = link.call(Method::Login, link.api.login(username, &password)).await {
            if error.fault() != Some(FaultKind::InvalidLogin) {
                return Err(error.into());
            }
            self.refused = Some(Refused { password, until: Instant::now() + LOGIN_RETRY });
            let or = match link.settings.password.path() {
                Some(path) => format!(", or as soon as `{}` changes", path.display()),
                None => String::new(),
            };
            let minutes = LOGIN_RETRY.as_secs() / 60;
            return Err(LoginFailure::of(format!(
                "user `{username}`: {error}; the next try is in {minutes} minutes, so that the account is not locked{or}"
            )));
        }
        self.refused = None;
        measure_clock(link).await?;
        Ok(about)
    }

    /// Waits while the password is the refused one and its pause has not passed.
    async fn wait_for_password<A: EventApi>(&mut self, link: &Link<A>) {
        while let Some(refused) = &self.refused {
            let left = refused.until.saturating_duration_since(Instant::now());
            let changed = link.settings.password.read().is_ok_and(|password| password != refused.password);
            if left.is_zero() || changed {
                return;
            }
            sleep(left.min(PASSWORD_CHECK)).await;
        }
    }
}

/// Reads vCenter's clock.
async fn measure_clock<A: EventApi>(link: &Link<A>) -> Result<(), CallError> {
    let asked = Instant::now();
    let vcenter_us = link.call(Method::CurrentTime, link.api.current_time_us()).await?;
    link.set_vcenter_clock(vcenter_us, asked);
    Ok(())
}

/// Keeps the session alive, and updates the latest event and the clock, until the session ends.
pub(super) async fn monitor<A: EventApi>(link: &Link<A>) -> End {
    let mut clock_known = Instant::now();
    loop {
        let update = async {
            if let Some(event) = link.call(Method::LatestEvent, link.api.latest_event()).await? {
                link.status.latest_us.store(event.created_us, Relaxed);
                let known = Instant::now();
                link.note_seen(|seen| seen.latest = Some((event, known)));
            }
            if clock_known.elapsed() >= CLOCK_INTERVAL || link.clock_slipped() {
                measure_clock(link).await?;
                clock_known = Instant::now();
            }
            Ok::<(), LinkError>(())
        };
        if let Err(error) = update.await {
            match error.end() {
                Some(end) => return end,
                None => {
                    tracing::debug!(source = %link.name, %error, "vCenter's latest event is unknown for now")
                }
            }
        }
        severities::refresh(link).await;
        sleep(MONITOR_INTERVAL).await;
        rest(link).await;
    }
}

/// Waits longer while the source is idle and vCenter would wake it: no event is newer than the
/// latest one then.
async fn rest<A: EventApi>(link: &Link<A>) {
    let seen = link.latest_seen();
    // No collector shows events after the wrap of keys, and neither does the waker's.
    let is_near_wrap = |event: EventPosition| event.key < 0 || event.key > i32::MAX - KEYS_NEAR_WRAP;
    if !seen.watching || seen.latest.is_some_and(|(event, _)| is_near_wrap(event)) {
        return;
    }
    let mut idle = link.idle.subscribe();
    let _ = timeout(MONITOR_REST - MONITOR_INTERVAL, idle.wait_for(|idle| !idle)).await;
}
