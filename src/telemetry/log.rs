//! Logs go to stderr: for people, or one JSON object a line.
//!
//! INVARIANT: libraries say nothing below `info`, whatever `RUST_LOG` wants: at `trace` they write down whole requests, credentials and all.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Installs the process's log. `RUST_LOG` comes before all else. Called once.
pub fn install(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // What libraries say below a warning is noise to an operator.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,event_router={level},testbed={level}")));
    let filter = filter.and(filter_fn(may_be_shown));
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let layer = match log.format {
        LogFormat::Human => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // A second installation can only come from a test in the same process: the first stays.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Our own lines, of any level, and what libraries say to everybody.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    let own = ["event_router", "testbed", "loadtest"];
    let krate = metadata.target().split("::").next().unwrap_or_default();
    own.contains(&krate) || *metadata.level() <= Level::INFO
}
