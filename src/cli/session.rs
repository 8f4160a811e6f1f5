//! A short session with a vCenter, for commands that ask it something.

use std::time::{Duration, Instant};

use crate::clock::now_us;
use crate::settings::{SecretError, Vcenter};
use crate::source::vcenter::client::{CallError, Client};
use crate::source::vcenter::options;
use vsphere::api::ServiceContent;

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
