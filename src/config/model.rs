//! The validated configuration: plain values that every module takes as they are. Whatever file it came from, nothing here needs checking again.
//!
//! Defaults are those of the native format (`docs/configuration.md`); a test holds the `Default`s here equal to them. Durations and sizes are whole:
//! microseconds and bytes are exact, no value is "0 for off" unless its field says so.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use crate::event::{EventTime, Extensions, Payload};

/// Which format the configuration came in.
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

/// All that the router is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub format: ConfigFormat,
    pub state: StateLocation,
    pub admin: Admin,
    /// At least one; names differ.
    pub sources: Vec<SourceConfig>,
    /// At least one; names differ.
    pub processors: Vec<ProcessorConfig>,
    /// Never empty: where the file has none, one route of all sources to all processors (but for those that only take dead letters).
    pub routes: Vec<RouteConfig>,
    /// Bytes of events in memory over all sources and destinations; `limits::MEMORY_BYTES`.
    pub memory_bytes: usize,
    /// How long SIGTERM lets deliveries go on; 20 s.
    pub shutdown_timeout: Duration,
    /// Longest time between two checkpoints while events are settled; 500 ms.
    pub checkpoint_interval: Duration,
    pub log: Log,
}

/// Where positions, spools and dead letters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// In this directory, from one run to the next.
    Dir(PathBuf),
    /// In a directory for this run only: every start begins at `start_at` (the old router's `checkpoint: false`).
    Ephemeral,
}

/// The HTTP side for operators: health, metrics, stats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `HOST:PORT` to listen on, `None` for no listener; `127.0.0.1:8082`.
    pub bind_address: Option<String>,
    /// What a request must bring; [`Auth::None`].
    pub auth: Auth,
    /// HTTPS instead of HTTP; none.
    pub tls: Option<ServerTls>,
}

/// Credentials, of a request that we send or that we ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: String,
        password: Secret,
    },
    Bearer {
        token: Secret,
    },
}

/// The certificate that a listener shows (PEM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What a client accepts and shows in a TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Accepts any certificate; false.
    pub insecure: bool,
    /// PEM files with roots that are trusted besides the system's; none.
    pub ca_files: Vec<PathBuf>,
    /// SHA-256 of the one certificate (DER) that is accepted, whatever else is wrong with it; none.
    pub thumbprint: Option<[u8; 32]>,
    /// The certificate to show (mTLS); none.
    pub client_cert: Option<ClientCert>,
}

/// A client certificate and its key (PEM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// [`LogLevel::Info`].
    pub level: LogLevel,
    /// [`LogFormat::Human`].
    pub format: LogFormat,
    /// One line an invocation on stdout; false.
    pub invocations: bool,
    /// Invocation lines a second at most; no limit.
    pub invocations_per_second: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The name in logs, metrics and the checkpoint: a renamed source is a new one.
    pub name: String,
    pub kind: SourceKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    Vcenter(Vcenter),
}

/// One vCenter.
#[derive(Clone, Debug, PartialEq)]
pub struct Vcenter {
    /// The SDK URL, `https://HOST[:PORT]/sdk`; scheme and path added where the file leaves them out, the rest as written.
    pub sdk_url: String,
    pub username: String,
    pub password: Secret,
    pub tls: ClientTls,
    /// Where to begin without a checkpoint; [`StartAt::Now`].
    pub start_at: StartAt,
    /// What vCenter is asked for; everything.
    pub filter: EventFilter,
    /// Events that one read asks for, 1 to 1,000; `limits::PAGE_EVENTS`.
    pub page_events: usize,
    /// Shortest time from a page that was not full to the next read; 20 ms.
    pub poll_interval: Duration,
    /// Calls a second at most; 10,000, which limits nothing.
    pub max_calls_per_second: u32,
    /// How far before the resume time a new collector begins; 2 min.
    pub overlap: Duration,
    /// The re-read that catches events which became visible late; on.
    pub sweep: Option<Sweep>,
    pub timeouts: VcenterTimeouts,
    /// [`Protocol::Soap`].
    pub protocol: Protocol,
    /// An old router's `cp-HOST.json`, imported once where the state has no position of this source; none.
    pub import_checkpoint: Option<PathBuf>,
}

/// Where a source begins that has no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At vCenter's current time.
    #[default]
    Now,
    /// At the oldest event that vCenter keeps.
    Beginning,
    /// At this time, microseconds since 1970 UTC.
    At(i64),
    /// This long before vCenter's current time.
    Ago(Duration),
}

/// vSphere's EventFilterSpec, as far as it is offered. Empty lists ask for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Class names and eventTypeIds (`eventTypeId` of the spec); all.
    pub event_types: Vec<String>,
    /// `userName.userList` of the spec; all.
    pub users: Vec<String>,
    /// The managed object that events are about; the root folder.
    pub entity: Option<EntityFilter>,
}

/// `entity` of vSphere's EventFilterSpec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityFilter {
    /// The managed object's type, `ClusterComputeResource`.
    pub kind: String,
    /// Its id, `domain-c8`.
    pub id: String,
    /// [`Recursion::All`].
    pub recursion: Recursion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// The object alone.
    SelfOnly,
    /// Its children without itself.
    Children,
    /// Both, all the way down.
    #[default]
    All,
}

/// A time-bounded re-read of what was just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// 1 min.
    pub interval: Duration,
    /// How far back it reads; 2 min.
    pub window: Duration,
}

impl Sweep {
    /// An event is found that becomes visible so long after its creation: the window less what passes until the next sweep.
    pub fn late(&self) -> Duration {
        self.window.checked_sub(self.interval).filter(|late| !late.is_zero()).unwrap_or(self.window)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcenterTimeouts {
    /// TCP and TLS; 10 s.
    pub connect: Duration,
    /// One call, to the last byte of its answer; 1 min. A page read begins with less (`limits::PAGE_WAIT_MIN`).
    pub call: Duration,
    /// `maxWaitSeconds` of WaitForUpdatesEx; its own time-out is this plus `call`; 1 min.
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// VI/JSON where the vCenter has it, else SOAP.
    Auto,
    /// The default: every vCenter has it, and its pages are what the fast decoder reads.
    #[default]
    Soap,
    ViJson,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorConfig {
    /// The name in logs, metrics and the checkpoint: a renamed processor is a new one.
    pub name: String,
    pub kind: ProcessorKind,
    pub delivery: DeliveryPolicy,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProcessorKind {
    CloudEvents(CloudEventsConfig),
    OpenFaas(OpenFaasConfig),
    EventBridge(EventBridgeConfig),
    /// One JSON event a line on stdout.
    Console,
    /// Takes everything and keeps nothing.
    Blackhole,
}

/// Any CloudEvents target over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEventsConfig {
    /// Empty where `reference` is given.
    pub url: String,
    /// The object of Kubernetes whose address is the URL; none.
    pub reference: Option<Reference>,
    /// [`ContentMode::Structured`].
    pub mode: ContentMode,
    pub auth: Auth,
    /// Extra headers, values may be secrets; none.
    pub headers: Vec<(String, Secret)>,
    pub http: HttpClient,
}

/// An object of Kubernetes, as Knative's destinations name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `eventing.knative.dev/v1`.
    pub api_version: String,
    /// `Broker`.
    pub kind: String,
    pub name: String,
    /// The pod's own.
    pub namespace: Option<String>,
}

/// The three content modes of the CloudEvents HTTP binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentMode {
    #[default]
    Structured,
    Binary,
    Batched,
}

/// What all processors over HTTP have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    pub tls: ClientTls,
    /// One request, to the last byte of its answer; 30 s (OpenFaaS: 1 min).
    pub timeout: Duration,
    /// TCP and TLS; 10 s.
    pub connect_timeout: Duration,
    /// [`Proxy::Environment`].
    pub proxy: Proxy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` decide.
    #[default]
    Environment,
    /// No proxy, whatever the environment says.
    Direct,
    /// This one; `auth` is never [`Auth::Bearer`].
    Url { url: String, auth: Auth },
}

/// An OpenFaaS gateway: each function whose annotation names an event's topic is a destination of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenFaasConfig {
    /// The gateway's URL without a trailing slash.
    pub gateway: String,
    /// For the gateway's own API; [`Auth::None`].
    pub auth: Auth,
    /// Whether invocations carry `auth` too, which hands it to the function; false.
    pub auth_on_invoke: bool,
    /// `/async-function/` instead of `/function/`; a function's annotation may say otherwise; false.
    pub asynchronous: bool,
    /// `X-Callback-Url` of asynchronous invocations; none.
    pub callback_url: Option<String>,
    /// `Content-Type` of an invocation; `None` sends none, as the old router did; `application/cloudevents+json`.
    pub content_type: Option<String>,
    /// The annotation that lists a function's topics, separated by commas; `topic`.
    pub topic_annotation: String,
    /// Namespaces to look in; empty for all that the gateway has, as is the default.
    pub namespaces: Vec<String>,
    /// How often functions are listed; 10 s.
    pub refresh_interval: Duration,
    /// How long a function that is no longer listed keeps its events: a redeploy looks like a removal; 1 min.
    pub vanished_grace: Duration,
    pub http: HttpClient,
}

/// AWS EventBridge.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBridgeConfig {
    pub region: String,
    pub auth: AwsAuth,
    /// A role to assume with `auth`; none.
    pub assume_role: Option<AssumeRole>,
    /// Instead of AWS's own (`http://127.0.0.1:5000`); none.
    pub endpoint: Option<String>,
    /// At least one.
    pub buses: Vec<EventBus>,
    /// How often rules are listed; 5 min.
    pub refresh_interval: Duration,
    /// Bytes of one entry, and of all in one request, by AWS's formula; 256 KiB.
    pub entry_bytes_max: usize,
    pub http: HttpClient,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AwsAuth {
    /// AWS's default chain: environment, profile, web identity, container and instance roles.
    #[default]
    DefaultChain,
    AccessKey {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// A profile of the AWS configuration files.
    Profile(String),
}

/// STS AssumeRole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    pub role_arn: String,
    pub external_id: Option<String>,
    /// `event-router`.
    pub session_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBus {
    /// Name or ARN; `default`.
    pub name: String,
    /// Names or ARNs of the rules whose patterns decide what is sent; empty for all rules of the bus.
    pub rules: Vec<String>,
    /// Sends every event and reads no rules; false.
    pub forward_all: bool,
}

/// How events reach a destination; the same settings for every processor.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPolicy {
    /// [`Ordering::Source`]; EventBridge: [`Ordering::None`].
    pub ordering: Ordering,
    /// [`EventTime::Router`].
    pub time: EventTime,
    /// [`Payload::Pascal`].
    pub payload: Payload,
    pub extensions: Extensions,
    /// Requests in flight at most, 1 to 1,024; with [`Ordering::Source`] one a source whatever this says; 32.
    pub concurrency: usize,
    pub batch: BatchLimits,
    /// None.
    pub rate_limit: Option<RateLimit>,
    pub retry: Retry,
    /// On.
    pub breaker: Option<Breaker>,
    pub overflow: Overflow,
    /// The processor that takes what failed for good, instead of the store's dead letters; none.
    pub dead_letter: Option<String>,
}

/// Within what events are delivered in the order of their first reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    #[default]
    Source,
    /// The managed object the event is about; entities run in parallel.
    Entity,
    None,
}

/// When a request is full. What the processor's own shape allows comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// 1,000.
    pub events: usize,
    /// Bytes of rendered events; 1 MiB.
    pub bytes: usize,
    /// How long a request that is not full waits for more; 0: it goes as soon as it may.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// Events a second, over 0.
    Events(f64),
    /// Requests a second, over 0.
    Requests(f64),
}

/// How often an event that was refused is tried again. What is the target's fault waits without limit and uses up no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of one event, the first included; 8.
    pub attempts: u32,
    /// How long it is tried again after it was first refused, in time in which the target answered; 1 h.
    pub max_age: Duration,
    /// Full jitter between 0 and this, doubled with each try; 200 ms.
    pub backoff_min: Duration,
    /// The most that doubling reaches; 30 s.
    pub backoff_max: Duration,
    /// Statuses that refuse an event but may be tried again; `None` for the built-in table (`Failure::fault_of`).
    pub statuses: Option<Vec<u16>>,
}

/// When a target is left alone but for a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it; 10.
    pub failures: u32,
    /// The share of requests, 0 to 1, that must succeed within `window`; 0.5.
    pub success_rate_min: f64,
    /// 30 s.
    pub window: Duration,
    /// Time from one probe to the next while it is open; 5 s.
    pub probe_interval: Duration,
}

/// What happens when a destination's memory queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// [`OverflowPolicy::Spill`].
    pub policy: OverflowPolicy,
    /// Bytes of spool that a destination may have on disk; 10 GiB.
    pub bytes_max: u64,
    /// Bytes that must stay free on the disk, else the spool counts as full; 256 MiB.
    pub free_disk_floor: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowPolicy {
    #[default]
    Spill,
    Block,
    DropNewest,
    DropOldest,
}

/// Events of these sources that match this pattern go to these processors.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    pub name: String,
    /// Names; never empty.
    pub sources: Vec<String>,
    /// An EventBridge pattern over the CloudEvent; `None` matches everything.
    pub pattern: Option<serde_json::Value>,
    /// The line of the pattern (or the route) in the file, for whoever compiles it.
    pub line: usize,
    /// Names; never empty.
    pub processors: Vec<String>,
}
