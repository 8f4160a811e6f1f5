//! A session with a vCenter for a command that asks one question and ends.

use std::time::{Duration, Instant};

use crate::clock::now_us;
use crate::config::{SecretError, Vcenter};
use crate::source::vcenter::client::{CallError, Client};
use crate::source::vcenter::options;
use vsphere::api::ServiceContent;

/// A vCenter that cannot be asked.
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

/// What one look at a vCenter's clock tells.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// One call there and back.
    pub latency: Duration,
    /// vCenter's clock less ours, microseconds.
    pub offset_us: i64,
}

impl Session {
    /// Connects and logs in: one try, since a few wrong ones lock the account.
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

    /// Logs out. A session that does not end by this ends by itself after 30 minutes.
    pub async fn close(self) {
        if let Err(error) = self.client.logout(&self.content.session_manager).await {
            tracing::debug!(%error, "logging out failed");
        }
    }
}
