//! The vCenter source, as the rest of the router sees it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::client::Client;
use super::settings::{Protocol, Vcenter};
use super::{Status, VcenterSource, options, probe};
use crate::limits::SMALL_READS_PER_SECOND;
use crate::source::{Observed, Reached, Source, SourceParts, SourceType};

impl SourceType for Vcenter {
    fn address(&self) -> String {
        self.sdk_url.clone()
    }

    fn overlap(&self) -> Duration {
        self.overlap
    }

    fn import_checkpoint(&self) -> Option<&Path> {
        self.import_checkpoint.as_deref()
    }

    fn check(&self) -> Result<(), String> {
        Client::new(&options(self)).map(drop).map_err(|error| error.to_string())
    }

    fn connect(&self, interrupted: watch::Receiver<bool>) -> BoxFuture<'_, Result<Reached, String>> {
        probe::log_in(self, interrupted).boxed()
    }

    fn start(&self, parts: SourceParts) -> Arc<dyn Source> {
        let SourceParts { name, intake, ready, until, shutdown, sources, wants_xml, wants_severities } =
            parts;
        let settings = Vcenter {
            protocol: protocol(self.protocol, wants_xml),
            poll_interval: self.poll_interval.max(poll_share(sources)),
            ..self.clone()
        };
        let status = Arc::new(Status::default());
        let source = VcenterSource::new(name, settings, intake, status, ready, shutdown);
        Arc::new(source.with_severities(wants_severities).ending(until))
    }

    fn longest_call(&self) -> Duration {
        self.timeouts.connect + self.timeouts.call
    }
}

impl Source for VcenterSource {
    fn run(&self) -> BoxFuture<'_, ()> {
        VcenterSource::run(self).boxed()
    }

    fn observed(&self) -> Arc<dyn Observed> {
        Arc::clone(&self.status) as Arc<dyn Observed>
    }

    fn task_ended(&self, end: &str) {
        self.status.part_ended(end);
    }
}

/// The protocol to read with: SOAP if a processor wants the XML, which VI/JSON does not have.
fn protocol(configured: Protocol, wants_xml: bool) -> Protocol {
    if configured == Protocol::Auto && wants_xml { Protocol::Soap } else { configured }
}

/// The shortest poll interval of one of `sources`. A call costs many times as much as one or two
/// events do, so many quiet vCenters would otherwise cost more than a busy one.
fn poll_share(sources: usize) -> Duration {
    Duration::from_secs(1).mul_f64(sources as f64 / SMALL_READS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soap_is_used_if_a_processor_wants_xml() {
        let check = |configured: Protocol, wants_xml: bool, expected: Protocol| {
            assert_eq!(protocol(configured, wants_xml), expected, "{configured:?} {wants_xml}");
        };
        check(Protocol::Auto, false, Protocol::Auto);
        check(Protocol::Auto, true, Protocol::Soap);
        check(Protocol::Soap, false, Protocol::Soap);
        check(Protocol::ViJson, true, Protocol::ViJson);
    }
}
