//! The root of the configuration file.

use std::time::Duration;

use super::{Admin, Payload, ProcessorConfig, RouteConfig, RouteKeys};
use crate::cloudevents::asks_for_severity;
use crate::cluster::settings::ClusterConfig;
use crate::config::SecretError;
use crate::config::declare::*;
use crate::limits;
use crate::source::settings::SourceConfig;
use crate::state::settings::{DeadLetterLimits, StateLocation};
use crate::telemetry::settings::Log;

/// The format of the configuration file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigFormat {
    /// `apiVersion: event-router/v1`.
    #[default]
    Native,
    /// `apiVersion: event-router.vmware.com/v1alpha1`, the old router from v0.5 on.
    V1alpha1,
    /// The JSON array of the old router up to v0.4.
    JsonArray,
}

/// The value of `apiVersion` in a file of the native format.
pub(crate) const API_VERSION: &str = "event-router/v1";

/// The key `apiVersion`. A file of the native format is the only one that is read or written here.
impl FieldValue for ConfigFormat {
    fn of(_: &Value) -> Option<Self> {
        Some(ConfigFormat::Native)
    }

    fn out(&self, _: FieldType) -> Result<Out, SecretError> {
        Ok(Out::Text(API_VERSION.into()))
    }
}

settings! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config in "" {
        /// Marks a file in this format.
        pub format: ConfigFormat =
            key("apiVersion", FieldType::OneOf(&[(API_VERSION, "this format")])).required();
        pub state: StateLocation =
            key("dataDir", PATH)
                .also(&["stateDir", "checkpointDir"])
                .doc("Directory for positions, spools and dead letters; a single process owns it. Default: `$STATE_DIRECTORY` (set by systemd), else `/var/lib/event-router` if it is writable, else `./event-router-data`."),
            key("ephemeral", FLAG)
                .or("false")
                .doc("Keeps the state only while the process runs. Every start begins at the `startAt` of the sources, and events that were read and not yet delivered are lost.");
        /// Serves health, metrics and statistics.
        pub admin: Admin = key("admin", block::<Admin>()).also(&["metrics", "metricsProvider"]);
        /// Sources of events.
        pub sources: Vec<SourceConfig> =
            key("sources", blocks::<SourceConfig>()).required().also(&["eventProvider"]);
        /// Targets of events.
        pub processors: Vec<ProcessorConfig> = key("processors", blocks::<ProcessorConfig>())
            .required()
            .also(&["eventProcessor", "sinks"]);
        /// Other routers that take over if this one fails.
        pub cluster: Option<ClusterConfig> = key("cluster", maybe::<ClusterConfig>());
        /// Rules for which events go to which processors. Without routes, every event of every
        /// source goes to every processor.
        pub routes: Vec<RouteConfig> = key("routes", blocks::<RouteKeys>());
        /// Memory for events, shared by all sources and destinations. When it is full, sources
        /// wait.
        pub memory_bytes: usize = key("memoryMax", size(4 * MIB, 64 * GIB))
            .or_bytes(limits::MEMORY_BYTES as u64)
            .also(&["memory"]);
        /// Time for deliveries to finish after SIGTERM. Remaining events are delivered after the
        /// next start.
        pub shutdown_timeout: Duration = key("shutdownTimeout", duration(0, HOUR)).or("20s");
        /// Time between two checkpoints. After a crash, events that were delivered within the last
        /// two intervals may be delivered again.
        pub checkpoint_interval: Duration =
            key("checkpointInterval", duration(10, MINUTE)).or("500ms");
        /// Limits of the dead letters.
        pub dead_letters: DeadLetterLimits = key("deadLetters", block::<DeadLetterLimits>());
        /// Applies this file again whenever it changes, as `event-router reload` does.
        pub reload_on_change: bool = key("reloadOnChange", FLAG).or("false");
        /// Logging.
        pub log: Log = key("log", block::<Log>());
    }
}

impl Config {
    /// True if a processor sends the severity of events, or a route asks for it.
    pub fn wants_severities(&self) -> bool {
        let sends = |processor: &ProcessorConfig| processor.delivery.envelope.extensions.needs_severity();
        let asks =
            |route: &RouteConfig| route.whole_pattern().is_some_and(|pattern| asks_for_severity(&pattern));
        self.processors.iter().any(sends) || self.routes.iter().any(asks)
    }

    /// True if a processor wants events as XML.
    pub fn wants_xml(&self) -> bool {
        self.processors.iter().any(|processor| processor.delivery.envelope.payload == Payload::Xml)
    }

    /// A configuration that sends all events of these sources to these processors, with every other
    /// setting at its default.
    pub fn new(state: StateLocation, sources: Vec<SourceConfig>, processors: Vec<ProcessorConfig>) -> Self {
        let routes = vec![RouteConfig::all(&sources, &processors)];
        Config { state, sources, processors, routes, ..defaults() }
    }
}
