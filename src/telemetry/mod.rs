//! What the router says of itself: metric names in one place (`metrics`), logs (`log`), the invocation log and the counts of the old `/stats`; and how often it
//! says the same (`paced`).

pub mod invocations;
pub mod log;
pub mod metrics;
pub mod paced;
pub mod stats;
