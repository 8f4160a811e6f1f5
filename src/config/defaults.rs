//! The defaults of the native format, for configurations that are built in code. A test keeps them
//! equal to the table of keys.

use std::fmt;
use std::time::Duration;

use super::Secret;
use super::model::*;
use crate::event::{EventTime, Extensions, Payload};
use crate::outside;

impl Default for Admin {
    fn default() -> Self {
        Admin { bind_address: Some("127.0.0.1:8082".into()), auth: Auth::None, tls: None }
    }
}

impl Default for DeadLetterLimits {
    fn default() -> Self {
        DeadLetterLimits { bytes_max: crate::limits::DEAD_LETTER_BYTES, max_age: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: LogLevel::Info,
            format: LogFormat::Human,
            invocations: false,
            invocations_per_second: None,
        }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep { interval: Duration::from_secs(60), window: Duration::from_secs(120) }
    }
}

impl Default for VcenterTimeouts {
    fn default() -> Self {
        VcenterTimeouts {
            connect: Duration::from_secs(10),
            call: Duration::from_secs(60),
            wait: Duration::from_secs(60),
        }
    }
}

impl Vcenter {
    /// A vCenter with every setting at its default.
    pub fn new(sdk_url: impl Into<String>, username: impl Into<String>, password: Secret) -> Self {
        Vcenter {
            sdk_url: sdk_url.into(),
            username: username.into(),
            password,
            tls: ClientTls::default(),
            start_at: StartAt::Now,
            filter: EventFilter::default(),
            page_events: crate::limits::PAGE_EVENTS,
            poll_interval: Duration::from_millis(20),
            max_calls_per_second: 10_000,
            overlap: Duration::from_secs(120),
            sweep: Some(Sweep::default()),
            timeouts: VcenterTimeouts::default(),
            protocol: Protocol::Soap,
            import_checkpoint: None,
        }
    }
}

impl CloudEventsConfig {
    /// A target with every setting at its default.
    pub fn new(url: impl Into<String>) -> Self {
        CloudEventsConfig {
            url: url.into(),
            secret_url: None,
            reference: None,
            mode: ContentMode::Structured,
            auth: Auth::None,
            headers: Vec::new(),
            http: HttpClient::default(),
        }
    }
}

impl CloudEventsConfig {
    /// The URL for people to see.
    pub fn shown_url(&self) -> String {
        if self.secret_url.is_some() { self.url.clone() } else { outside::readable(&self.url) }
    }
}

impl fmt::Debug for CloudEventsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CloudEventsConfig { url: _, secret_url, reference, mode, auth, headers, http } = self;
        let mut shown = f.debug_struct("CloudEventsConfig");
        shown.field("url", &self.shown_url());
        if let Some(url) = secret_url {
            shown.field("secret_url", url);
        }
        shown
            .field("reference", reference)
            .field("mode", mode)
            .field("auth", auth)
            .field("headers", headers)
            .field("http", http)
            .finish()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        HttpClient {
            tls: ClientTls::default(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            proxy: Proxy::Environment,
            proxy_tls: ClientTls::default(),
        }
    }
}

impl OpenFaasConfig {
    /// A gateway with every setting at its default.
    pub fn new(gateway: impl Into<String>) -> Self {
        OpenFaasConfig {
            gateway: gateway.into(),
            auth: Auth::None,
            auth_on_invoke: false,
            asynchronous: false,
            callback_url: None,
            content_type: Some("application/cloudevents+json".into()),
            topic_annotation: "topic".into(),
            namespaces: Vec::new(),
            refresh_interval: Duration::from_secs(10),
            vanished_grace: Duration::from_secs(60),
            http: HttpClient { timeout: Duration::from_secs(60), ..HttpClient::default() },
        }
    }
}

impl EventBridgeConfig {
    /// A region's `default` bus with every setting at its default.
    pub fn new(region: impl Into<String>) -> Self {
        EventBridgeConfig {
            region: region.into(),
            auth: AwsAuth::DefaultChain,
            assume_role: None,
            endpoint: None,
            buses: vec![EventBus { name: "default".into(), rules: Vec::new(), forward_all: false }],
            refresh_interval: Duration::from_secs(300),
            entry_bytes_max: 256 << 10,
            http: HttpClient::default(),
        }
    }
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        DeliveryPolicy {
            ordering: Ordering::Source,
            time: EventTime::Router,
            payload: Payload::Pascal,
            extensions: Extensions::default(),
            concurrency: 32,
            batch: BatchLimits::default(),
            rate_limit: None,
            retry: Retry::default(),
            breaker: Some(Breaker::default()),
            overflow: Overflow::default(),
            on_refusal: OnRefusal::default(),
            dead_letter: None,
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { events: 1_000, bytes: 1 << 20, age: Duration::ZERO }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 8,
            max_age: Duration::from_secs(3_600),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            blame: BlameTable::default(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failures: 10,
            success_rate_min: 0.5,
            window: Duration::from_secs(30),
            probe_interval: Duration::from_secs(5),
        }
    }
}

impl Default for Overflow {
    fn default() -> Self {
        Overflow {
            policy: OverflowPolicy::Spill,
            bytes_max: crate::limits::SPOOL_BYTES,
            free_disk_floor: crate::limits::DISK_FREE_BYTES_MIN,
        }
    }
}

impl Config {
    /// A configuration that sends all events of these sources to these processors, with every other
    /// setting at its default.
    pub fn new(state: StateLocation, sources: Vec<SourceConfig>, processors: Vec<ProcessorConfig>) -> Self {
        let routes = vec![RouteConfig::all(&sources, &processors)];
        Config {
            format: ConfigFormat::Native,
            state,
            admin: Admin::default(),
            sources,
            processors,
            routes,
            memory_bytes: crate::limits::MEMORY_BYTES,
            shutdown_timeout: Duration::from_secs(20),
            checkpoint_interval: Duration::from_millis(500),
            dead_letters: DeadLetterLimits::default(),
            log: Log::default(),
        }
    }
}

impl RouteConfig {
    /// The route of a file without routes: from all sources to all processors, except for those
    /// that take dead letters.
    pub fn all(sources: &[SourceConfig], processors: &[ProcessorConfig]) -> Self {
        let takes_dead_letters =
            |name: &str| processors.iter().any(|p| p.delivery.dead_letter.as_deref() == Some(name));
        RouteConfig {
            name: "all".into(),
            sources: sources.iter().map(|source| source.name.clone()).collect(),
            pattern: None,
            line: 0,
            processors: processors
                .iter()
                .map(|processor| processor.name.clone())
                .filter(|name| !takes_dead_letters(name))
                .collect(),
        }
    }
}
