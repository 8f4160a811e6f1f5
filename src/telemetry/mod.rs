//! Metrics and logs: all metric names and their help texts ([`metrics`]), histograms
//! ([`histogram`]), the set-up of the log ([`log`]), the format of its lines, and a rate limit for
//! lines that repeat ([`paced`]).

pub mod histogram;
mod line;
pub mod log;
pub mod metrics;
pub mod paced;
pub mod settings;
