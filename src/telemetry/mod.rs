//! What the router says of itself: metric names in one place (`metrics`), logs (`log`).

pub mod invocations;
pub mod log;
pub mod metrics;
