//! The validated configuration: plain values that need no further checks, whatever file they came
//! from.
//!
//! A number or word after the semicolon of a field's comment is its default. Defaults are those of
//! the native format (`docs/configuration.md`); a test keeps the `Default`s equal to them. No value
//! means "off" by being 0, unless its comment says so.

mod delivery;
mod processor;
mod source;

use std::path::PathBuf;
use std::time::Duration;

pub use self::delivery::*;
pub use self::processor::*;
pub use self::source::*;
use super::Secret;

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

/// The complete configuration of the router.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub format: ConfigFormat,
    pub state: StateLocation,
    pub admin: Admin,
    /// At least one; names differ.
    pub sources: Vec<SourceConfig>,
    /// At least one; names differ.
    pub processors: Vec<ProcessorConfig>,
    /// At least one. If the file has none, a single route connects all sources with all processors,
    /// except for those that take dead letters.
    pub routes: Vec<RouteConfig>,
    /// Memory for the events of all sources and destinations, in bytes; `limits::MEMORY_BYTES`.
    pub memory_bytes: usize,
    /// Time for deliveries to finish after SIGTERM; 20 s.
    pub shutdown_timeout: Duration,
    /// The longest time between two checkpoints while events are settled; 500 ms.
    pub checkpoint_interval: Duration,
    pub dead_letters: DeadLetterLimits,
    pub log: Log,
}

/// The location of positions, spools and dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// In this directory, which outlives the process.
    Dir(PathBuf),
    /// In a temporary directory for this run. Every start begins at `start_at`, like the old router
    /// with `checkpoint: false`.
    Ephemeral,
}

/// The limits of the dead letters in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterLimits {
    /// Bytes of all dead letters together; 256 MiB.
    pub bytes_max: u64,
    /// Time since its last try after which a dead letter is removed; never.
    pub max_age: Option<Duration>,
}

/// The HTTP listener for operators: health, metrics, stats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `HOST:PORT` to listen on, `None` for no listener; `127.0.0.1:8082`.
    pub bind_address: Option<String>,
    /// The credentials that a request must carry; [`Auth::None`].
    pub auth: Auth,
    /// HTTPS instead of HTTP; none.
    pub tls: Option<ServerTls>,
}

/// Credentials of a request, either to send or to require.
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

/// The certificate and key of a listener (PEM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The certificates that a client accepts and presents in a TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Accepts any certificate; false.
    pub insecure: bool,
    /// PEM files with additional trusted roots, besides the system's; none.
    pub ca_files: Vec<PathBuf>,
    /// SHA-256 of the only certificate (DER) to accept, even if it is invalid otherwise; none.
    pub thumbprint: Option<[u8; 32]>,
    /// The client certificate to present (mTLS); none.
    pub client_cert: Option<ClientCert>,
}

/// A client certificate and its key (PEM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// [`LogLevel::Info`].
    pub level: LogLevel,
    /// [`LogFormat::Human`].
    pub format: LogFormat,
    /// Writes a line to stdout for each delivery of an event; false.
    pub invocations: bool,
    /// The most such lines per second; no limit.
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

/// A route: events of `sources` that match `pattern` go to `processors`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    pub name: String,
    /// Names, at least one.
    pub sources: Vec<String>,
    /// An EventBridge pattern over the CloudEvent; `None` matches everything.
    pub pattern: Option<serde_json::Value>,
    /// The line of the pattern, or else of the route, for errors in the pattern.
    pub line: usize,
    /// Names, at least one.
    pub processors: Vec<String>,
}
