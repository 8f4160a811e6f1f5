//! What the router says about itself: metric names in one place ([`metrics`]), logs ([`log`]), and
//! the pace at which a line may repeat ([`paced`]).

pub mod log;
pub mod metrics;
pub mod paced;
