//! A short session with a vCenter, for commands that ask it something.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::now_us;
use crate::config::SecretError;
use crate::config::event_names::listed_advice;
use crate::limits::CHECK_READ_SPAN;
use crate::source::Reached;
use crate::source::vcenter::client::{CallError, Client};
use crate::source::vcenter::settings::Vcenter;
use crate::source::vcenter::{filter_spec, options};
use vsphere::api::ServiceContent;

/// A difference between clocks that deserves a warning: CloudEvents times and logs of the two
/// machines cannot be compared.
const CLOCK_OFFSET_WARNED: Duration = Duration::from_secs(2);

/// The session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Soap(#[from] CallError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A logged-in client.
pub struct Session {
    pub client: Client,
    pub content: ServiceContent,
}

/// A measurement of a vCenter's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Round-trip time of one call.
    pub latency: Duration,
    /// vCenter's clock minus this machine's, in microseconds.
    pub offset_us: i64,
}

impl Session {
    /// Connects and logs in. It tries once, since a few refused logins lock the account.
    pub async fn open(settings: &Vcenter) -> Result<Self, SessionError> {
        let client = Client::new(&options(settings))?;
        let content = client.open().await?;
        let password = settings.password.read()?;
        client.login(&content.session_manager, &settings.username, &password).await?;
        Ok(Session { client, content })
    }

    pub async fn clock(&self) -> Result<Clock, CallError> {
        let (asked, asked_us) = (Instant::now(), now_us());
        let vcenter_us = self.client.current_time_us().await?;
        let latency = asked.elapsed();
        Ok(Clock { latency, offset_us: vcenter_us - asked_us - latency.as_micros() as i64 / 2 })
    }

    /// Logs out. If that fails, vCenter ends the session after 30 idle minutes.
    pub async fn close(self) {
        if let Err(error) = self.client.logout(&self.content.session_manager).await {
            tracing::debug!(%error, "cannot log out");
        }
    }
}

/// Logs in to a vCenter once, and describes it.
pub async fn log_in(settings: &Vcenter, interrupted: watch::Receiver<bool>) -> Result<Reached, String> {
    // An interruption does not stop a login in progress, whose session would stay open.
    let session = Session::open(settings).await.map_err(|error| error.to_string())?;
    // The session is closed below even if this fails.
    let looked = tokio::select! {
        looked = look(&session, settings) => looked.map_err(|error| error.to_string()),
        () = is_set(interrupted) => Err("interrupted".to_owned()),
    };
    let about = session.content.about.clone();
    session.close().await;
    let (clock, advice) = looked?;
    let advice: String = advice.iter().map(|advice| format!("; `filter.eventTypes`: {advice}")).collect();
    let warning = match clock.offset_us.unsigned_abs() > CLOCK_OFFSET_WARNED.as_micros() as u64 {
        true => "; set the clocks of both machines by the same time server",
        false => "",
    };
    let text = format!(
        "{}, API {}, latency {:.1} ms, clock {:+.3} s{warning}{advice}",
        about.full_name,
        about.api_version,
        clock.latency.as_secs_f64() * 1e3,
        clock.offset_us as f64 / 1e6,
    );
    Ok(Reached { text, instance_uuid: about.instance_uuid })
}

/// Waits for the interruption. Never returns if there is none.
async fn is_set(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|set| *set).await.is_err() {
        std::future::pending().await
    }
}

/// Measures a vCenter's clock and reads from it as a router does. Returns advice about the filter.
async fn look(session: &Session, settings: &Vcenter) -> Result<(Clock, Vec<String>), CallError> {
    let Session { client, content } = session;
    let clock = session.clock().await?;
    client.latest_event(content).await?;
    // A user may see `latestEvent` and have no right to create a collector or to read from it.
    let begin_us = now_us() + clock.offset_us - CHECK_READ_SPAN.as_micros() as i64;
    let spec = filter_spec(&settings.filter, Some(begin_us), None);
    let collector = client.create_collector_for_events(content, &spec).await?;
    client.read_next_events(&collector, 1, settings.timeouts.call).await?;
    client.destroy_collector(&collector).await?;
    let types = &settings.filter.event_types;
    let known = if types.is_empty() { Vec::new() } else { client.event_info(content).await? };
    let names = known.iter().flat_map(|info| [info.event_type(), &info.key]);
    Ok((clock, types.iter().filter_map(|name| listed_advice(name, names.clone())).collect()))
}
