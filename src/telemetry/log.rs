//! The log on stderr: text for people, or one JSON object a line ([`LogLine`]).
//!
//! INVARIANT: libraries log nothing below `info`, even if `RUST_LOG` asks for it. At `trace` they
//! write whole requests, including credentials.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::line::LogLine;
use crate::config::declare::Words;
use crate::telemetry::settings::Log;

/// Access to the filter of the installed log.
static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Installs the log of the process; called once. `RUST_LOG` takes precedence over the
/// configuration.
pub fn install(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| filter_of(log));
    let (filter, handle) = reload::Layer::new(filter);
    let filter = filter.and(filter_fn(may_be_shown));
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let layer = layer.event_format(LogLine(log.format));
    // Only a test installs a second log in the same process. The first one stays.
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_ok() {
        let _ = HANDLE.set(handle);
    }
}

/// Changes the level of the installed log. `RUST_LOG` still takes precedence.
pub fn set_level(log: &Log) {
    let Some(handle) = HANDLE.get() else { return };
    if EnvFilter::try_from_default_env().is_err()
        && let Err(error) = handle.reload(filter_of(log))
    {
        tracing::error!(%error, "cannot change the level of the log");
    }
}

/// The filter for the configured level. Lines of libraries below a warning do not help an operator.
fn filter_of(log: &Log) -> EnvFilter {
    let level = log.level.word();
    EnvFilter::new(format!("warn,async_nats=off,event_router={level},testbed={level}"))
}

/// Returns true for lines of the router at any level, and for lines of libraries at `info` and
/// above.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    let own = ["event_router", "testbed", "loadtest"];
    let krate = metadata.target().split("::").next().unwrap_or_default();
    own.contains(&krate) || *metadata.level() <= Level::INFO
}
