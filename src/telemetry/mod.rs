//! What the router says of itself: metric names in one place (`metrics`), logs (`log`), the invocation log and the counts of the old `/stats`.

pub mod invocations;
pub mod log;
pub mod metrics;
pub mod stats;
