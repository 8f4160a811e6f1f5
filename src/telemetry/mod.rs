//! Metrics and logs: metric names in one place ([`metrics`]), the log ([`log`]), and
//! the pace at which a line may repeat ([`paced`]).

pub mod log;
pub mod metrics;
pub mod paced;
