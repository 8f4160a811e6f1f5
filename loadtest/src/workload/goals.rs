//! The goals of a workload: bounds for a run's verdict, beyond "nothing lost, no id changed, no
//! order violated".

use std::time::Duration;

use serde::Serialize;

use super::fields::{Fields, decimal, duration, whole};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Goals {
    /// Latency from creation to receipt, of events created after the start.
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    /// Maximum number of repeated deliveries. The default is 0 if the workload has no cause for
    /// any.
    pub duplicates: Option<u64>,
    /// The router's peak memory, in MB.
    pub rss_mb: Option<f64>,
    /// The router's CPU seconds per million events.
    pub cpu_seconds_per_million: Option<f64>,
    /// Minimum number of delivered events per second.
    pub rate_min: Option<f64>,
    /// The longest wait for missing events.
    pub patience: Duration,
}

impl Default for Goals {
    fn default() -> Goals {
        Goals {
            p50: None,
            p99: None,
            duplicates: None,
            rss_mb: None,
            cpu_seconds_per_million: None,
            rate_min: None,
            patience: Duration::from_secs(30),
        }
    }
}

impl Goals {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Goals {
        Goals {
            p50: fields.get("p50", duration),
            p99: fields.get("p99", duration),
            duplicates: fields.get("duplicates", whole(0, u64::MAX)),
            rss_mb: fields.get("rssMb", decimal(1.0, 1e6)),
            cpu_seconds_per_million: fields.get("cpuSecondsPerMillion", decimal(0.001, 1e6)),
            rate_min: fields.get("rateMin", decimal(0.0, 1e9)),
            patience: fields.get("patience", duration).unwrap_or(Goals::default().patience),
        }
    }
}
