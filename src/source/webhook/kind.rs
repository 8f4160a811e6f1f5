//! The webhook source, as the rest of the router sees it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::settings::Webhook;
use super::{Prepared, WebhookSource, cannot_listen};
use crate::net::listener::try_to_listen;
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

    /// Reads all files and tries to listen.
    fn connect(&self, _: watch::Receiver<bool>) -> BoxFuture<'_, Result<Reached, String>> {
        let text = async {
            let prepared = Prepared::new("webhook", self)?;
            let tls = if prepared.tls.is_some() { ", certificate and key belong together" } else { "" };
            let address = &self.bind_address;
            let listened = try_to_listen(address).await.map_err(|error| cannot_listen(address, &error))?;
            Ok(format!("{listened}{tls}"))
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
