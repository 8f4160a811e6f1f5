//! The log on stderr: text for people, or one JSON object a line ([`LogLine`]).
//!
//! INVARIANT: libraries log nothing below `info`, even if `RUST_LOG` asks for it. At `trace` they
//! write whole requests, including credentials.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::line::LogLine;
use crate::telemetry::settings::{Log, LogLevel};

/// Installs the log of the process; called once. `RUST_LOG` takes precedence over the
/// configuration.
pub fn install(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Lines of libraries below a warning do not help an operator.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,event_router={level},testbed={level}")));
    let filter = filter.and(filter_fn(may_be_shown));
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let layer = layer.event_format(LogLine(log.format));
    // Only a test installs a second log in the same process. The first one stays.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Returns true for lines of the router at any level, and for lines of libraries at `info` and
/// above.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    let own = ["event_router", "testbed", "loadtest"];
    let krate = metadata.target().split("::").next().unwrap_or_default();
    own.contains(&krate) || *metadata.level() <= Level::INFO
}
