//! The vCenter source reads every event that a vCenter shows to its user, each at least once. Lost
//! answers, sessions and collectors, and restarts of the vCenter, lose no event.
//!
//! ```text
//!                    ┌───────── one session (session.rs) ──────────┐
//!   ReadNextEvents ◄─┤ reader ── cursor ── gap / windows           │──► numbered pages
//!   WaitForUpdates ◄─┤ waker: wakes the reader when it is idle     │
//!   ReadNextEvents ◄─┤ sweep: reads recent events again            │──► pages, same numbering
//!      latestEvent ◄─┤ monitor: clock, latest event, keep-alive    │◄── verdicts, progress
//!                    └─────────────────────────────────────────────┘
//! ```
//!
//! The four run as one task. If one of them finds the session dead, the session ends for all. The
//! next session begins at the position of the last decoded event, which [`cursor`] keeps. Every
//! call goes through [`api::EventApi`], so that tests run the whole source against a simulated
//! vCenter in paused time.
//!
//! INVARIANT: no answer of a vCenter ends a source. Only the shutdown does.

mod api;
mod backoff;
mod calls;
pub mod client;
mod cursor;
mod end;
mod failures;
mod filter;
mod gap;
mod kind;
pub mod limits;
mod link;
mod pace;
mod page_size;
pub mod probe;
mod read_timeout;
mod reader;
mod rows;
mod session;
pub mod settings;
mod severities;
mod status;
mod sweep;
mod unreadable;
mod waker;
mod watchdog;
mod watermark;
mod windows;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

pub use api::{ClientApi, EventApi, Waker};
pub use filter::filter_spec;
pub use status::{Method, Status};

use self::link::{End, Link};
use self::reader::Reader;
use self::sweep::Sweeper;
use crate::clock;
use crate::limits::{BACKOFF_MAX, CLOSE_MAX};
use crate::source::vcenter::client::{Client, Options};
use crate::source::vcenter::settings::{StartAt, Vcenter};
use crate::source::{BeginError, Closed, Found, Intake, ReadUntil, SourceState};
use vsphere::api::About;

/// A vCenter to read. It keeps the numbering of pages and the position when [`VcenterSource::run`]
/// panics, so that the next call continues.
pub struct VcenterSource {
    name: String,
    settings: Vcenter,
    intake: Intake,
    status: Arc<Status>,
    ready: Shared<BoxFuture<'static, ()>>,
    shutdown: watch::Receiver<bool>,
    /// True if a route or a processor uses the severities of events.
    wants_severities: bool,
    until: Option<ReadUntil>,
    /// Set once the client exists.
    link: OnceLock<Link<ClientApi>>,
}

impl VcenterSource {
    /// Nothing is read before `ready`. Reading ends when `shutdown` turns true.
    pub fn new(
        name: String,
        settings: Vcenter,
        intake: Intake,
        status: Arc<Status>,
        ready: impl Future<Output = ()> + Send + 'static,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let ready = ready.boxed().shared();
        let (wants_severities, until, link) = (false, None, OnceLock::new());
        VcenterSource { name, settings, intake, status, ready, shutdown, wants_severities, until, link }
    }

    /// The same source; it also reads the severities of the vCenter's event types if they are
    /// `wanted`.
    pub fn with_severities(self, wanted: bool) -> Self {
        VcenterSource { wants_severities: wanted, ..self }
    }

    /// The same source; it reads to an end and no further.
    pub fn ending(self, until: Option<ReadUntil>) -> Self {
        VcenterSource { until, ..self }
    }

    /// Reads until `shutdown` turns true, then ends the session. Never returns before that.
    pub async fn run(&self) {
        let mut shutdown = self.shutdown.clone();
        let stopped = stopped(&mut shutdown);
        tokio::pin!(stopped);
        let link = tokio::select! {
            link = self.link() => link,
            () = &mut stopped => return,
        };
        read(link, self.ready.clone(), stopped).await;
    }

    /// The link of this source. Its first call makes the client.
    async fn link(&self) -> &Link<ClientApi> {
        while self.link.get().is_none() {
            match Client::new(&options(&self.settings)) {
                Ok(client) => {
                    let api = ClientApi::new(client);
                    let (name, settings) = (self.name.clone(), self.settings.clone());
                    let (intake, status) = (self.intake.clone(), Arc::clone(&self.status));
                    let clock = Arc::new(clock::now_us);
                    let link = Link::new(api, name, settings, intake, status, clock, self.wants_severities);
                    let link = link.ending(self.until.clone());
                    return self.link.get_or_init(|| link);
                }
                // A CA file that is missing may come yet (a volume that is mounted late).
                Err(error) => {
                    let error = error.to_string();
                    if self.status.set_state(SourceState::Failed(error.clone())) {
                        tracing::error!(source = %self.name, %error, "vCenter cannot be read; trying again");
                    }
                }
            }
            sleep(BACKOFF_MAX).await;
        }
        self.link.get().expect("the loop has ended")
    }
}

/// The options of the client for `settings`.
pub fn options(settings: &Vcenter) -> Options {
    Options {
        url: settings.sdk_url.clone(),
        protocol: settings.protocol,
        tls: settings.tls.clone(),
        connect_timeout: settings.timeouts.connect,
        call_timeout: settings.timeouts.call,
    }
}

/// Returns when `shutdown` is true, or when its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Runs one session after another. Reads no event before `ready`. The position is set before that,
/// so events of the meantime are read afterwards.
async fn read<A: EventApi>(
    link: &Link<A>,
    ready: impl Future<Output = ()>,
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    let mut waits = Some(Box::pin(ready));
    let mut sessions = link.sessions.lock().await;
    let mut reader: Option<Reader> = None;
    let mut sweeper = Sweeper::new(link.settings.sweep);
    if link.start.get().is_some() {
        // An earlier task of this source panicked and left its session behind.
        close(link).await;
    }
    loop {
        // Log in and set the position.
        let log_in = async {
            let about = sessions.establish(link).await;
            begin(link, &about).await?;
            severities::refresh(link).await;
            Ok(())
        };
        let begun = tokio::select! {
            () = &mut stopped => break,
            begun = log_in => begun,
        };
        match begun {
            Ok(()) => {}
            Err(BeginError::Closed) => break stopped.await,
            Err(refused) => {
                link.failed(refused.to_string());
                close(link).await;
                tokio::select! {
                    () = &mut stopped => break,
                    () = sleep(BACKOFF_MAX) => continue,
                }
            }
        }
        // Keep the session alive until the rest of the router is ready.
        if let Some(ready) = &mut waits {
            let end = tokio::select! {
                () = &mut stopped => break,
                () = ready => None,
                end = session::monitor(link) => Some(end),
            };
            if let Some(end) = end {
                match close_after(link, end).await {
                    Ok(()) => continue,
                    Err(Closed) => break stopped.await,
                }
            }
            waits = None;
        }
        // Read until the session ends.
        let reader = reader.get_or_insert_with(|| Reader::new(link));
        let end = tokio::select! {
            () = &mut stopped => break,
            end = reader.run(link) => end,
            end = waker::run(link) => end,
            end = sweeper.run(link) => end,
            end = session::monitor(link) => end,
        };
        if close_after(link, end).await.is_err() {
            break stopped.await;
        }
    }
    close(link).await;
    link.set_state(SourceState::Stopped);
}

/// Closes a session after its `end`. Returns an error if no other session may follow.
async fn close_after<A: EventApi>(link: &Link<A>, end: End) -> Result<(), Closed> {
    close(link).await;
    match end {
        End::Closed => Err(Closed),
        End::Session(error) => {
            link.set_state(SourceState::Connecting);
            tracing::warn!(source = %link.name, %error, "the session with vCenter has ended; logging in again");
            Ok(())
        }
        // The failures themselves were logged.
        End::Unreachable(error) => {
            link.set_state(SourceState::Connecting);
            tracing::debug!(source = %link.name, %error, "calls of vCenter fail; connecting again");
            Ok(())
        }
    }
}

/// Asks the pipeline for the start, in the first session. In later ones it checks that the address
/// still leads to the same vCenter.
async fn begin<A: EventApi>(link: &Link<A>, about: &About) -> Result<(), BeginError> {
    let url = &link.settings.sdk_url;
    // An ESXi host has no instanceUuid. Its address identifies it.
    let instance_uuid =
        about.instance_uuid.unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes()));
    if let Some(start) = link.start.get() {
        return match start.info.instance_uuid {
            expected if expected == instance_uuid => Ok(()),
            expected => Err(BeginError::OtherInstance {
                source_name: link.name.clone(),
                expected,
                found: instance_uuid,
            }),
        };
    }
    let now_us = link.vcenter_now_us();
    let start_us = match link.settings.start_at {
        StartAt::Now => now_us,
        StartAt::Beginning => 0,
        StartAt::At(us) => us,
        StartAt::Ago(ago) => now_us.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)),
    };
    let protocol = link.api.wire().as_str();
    tracing::info!(source = %link.name, server = %about.full_name, api_version = %about.api_version, protocol, "logged in");
    let found = Found { url: url.clone(), instance_uuid, api_version: about.api_version.clone(), start_us };
    let start = link.intake.begin(found).await?;
    let ahead_s = (start.begin_us - now_us) / 1_000_000;
    if ahead_s > 0 {
        tracing::warn!(source = %link.name, ahead_s, "the position is ahead of vCenter's clock: events created before it are not read; `event-router checkpoint set` moves it back");
    }
    link.start(start);
    Ok(())
}

/// Closes the session. If that takes too long, the session is abandoned.
async fn close<A: EventApi>(link: &Link<A>) {
    if timeout(CLOSE_MAX, link.close_session()).await.is_err() {
        link.forget_session();
    }
}
