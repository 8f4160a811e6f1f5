//! The webhook source, as the rest of the router sees it.

use std::io::ErrorKind;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::settings::Webhook;
use super::{Prepared, WebhookSource, cannot_listen};
use crate::source::push::{Push, PushSettings};
use crate::source::{Observed, Reached, Source, SourceParts, SourceType};

impl SourceType for Webhook {
    fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.bind_address, self.path)
    }

    fn check(&self) -> Result<(), String> {
        Prepared::new("webhook", self).map(drop)
    }

    fn inbox_bytes_max(&self) -> u64 {
        self.inbox_bytes_max
    }

    /// Reads all files and tries to listen. An address in use is no failure: as a rule it is the
    /// running router that listens there.
    fn connect(&self, _: watch::Receiver<bool>) -> BoxFuture<'_, Result<Reached, String>> {
        let text = async {
            let prepared = Prepared::new("webhook", self)?;
            let tls = if prepared.tls.is_some() { ", certificate and key belong together" } else { "" };
            let address = &self.bind_address;
            match TcpListener::bind(address).await {
                Ok(_) => Ok(format!("can listen on {address}{tls}")),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    Ok(format!("{address} is in use, by a running router or by another program{tls}"))
                }
                Err(error) => Err(cannot_listen(address, &error)),
            }
        };
        text.map(|text| text.map(|text| Reached { text, ..Reached::default() })).boxed()
    }

    fn start(&self, parts: SourceParts) -> Arc<dyn Source> {
        let settings =
            PushSettings { dedup_events: self.dedup_events, inbox_bytes_max: self.inbox_bytes_max };
        Arc::new(WebhookSource { settings: self.clone(), push: Push::new(parts, settings) })
    }
}

impl Source for WebhookSource {
    fn run(&self) -> BoxFuture<'_, ()> {
        WebhookSource::run(self).boxed()
    }

    fn observed(&self) -> Arc<dyn Observed> {
        Arc::clone(&self.push.status) as Arc<dyn Observed>
    }

    fn task_ended(&self, end: &str) {
        self.push.status.failed(format!("the task of this source {end}; it is started again"));
    }
}
