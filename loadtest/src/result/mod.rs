//! Results of runs: the data that `--json` writes and that `report` and `compare` read again.
//!
//! ```text
//! run ──► RunResult ──┬─► objections (the verdict) ──► failures, passed
//!                     ├─► table (for people)
//! limit ► LimitResult ┴─► Outcome ◄──► JSON file ──► report, compare
//! ```
//!
//! A file with another [`FORMAT`] is rejected as a whole.

mod objections;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use testbed::verify::{Latency, SourceReport, Tally};

pub use self::objections::overtaken;
use crate::limit::figures::LimitResult;
use crate::measure::machine::Machine;
use crate::measure::sample::{Incident, RouterCounts, Sample};
use crate::report::text::number;

/// The version of the file format.
pub const FORMAT: u32 = 4;

/// The content of a result file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Outcome {
    Run(Box<RunResult>),
    Limit(Box<LimitResult>),
}

/// A result file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {file}: {cause}")]
    Io { file: String, cause: std::io::Error },
    #[error("{file} is no result of `loadtest run --json` or `loadtest limit --json`: {cause}")]
    Json { file: String, cause: serde_json::Error },
    #[error(
        "{file} has format {found}, this program reads {FORMAT}; use the `loadtest` that wrote it, or repeat the run"
    )]
    Format { file: String, found: u32 },
}

impl Outcome {
    /// # Errors
    /// The file does not exist, or is not a result of this version.
    pub fn read(path: &Path) -> Result<Outcome, ReadError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|cause| ReadError::Io { file: file.clone(), cause })?;
        let wrong = |cause| ReadError::Json { file: file.clone(), cause };
        let found = serde_json::from_str::<Head>(&text).map_err(wrong)?.format;
        if found != FORMAT {
            return Err(ReadError::Format { file, found });
        }
        serde_json::from_str(&text).map_err(wrong)
    }

    /// Formats the result as a table.
    pub fn table(&self) -> String {
        match self {
            Outcome::Run(run) => run.table(),
            Outcome::Limit(limit) => limit.table(),
        }
    }

    pub fn machine(&self) -> &Machine {
        match self {
            Outcome::Run(run) => &run.machine,
            Outcome::Limit(limit) => &limit.machine,
        }
    }

    /// The workloads of the result, by name, each with its setup.
    pub fn subjects(&self) -> Vec<(&str, String)> {
        match self {
            Outcome::Run(run) => vec![(&run.workload, run.setup.clone())],
            Outcome::Limit(limit) => {
                limit.cases.iter().map(|case| (&*case.name, case.setup.clone())).collect()
            }
        }
    }

    pub fn passed(&self) -> bool {
        match self {
            Outcome::Run(run) => run.passed,
            Outcome::Limit(limit) => limit.passed,
        }
    }

    pub fn interrupted(&self) -> bool {
        match self {
            Outcome::Run(run) => run.interrupted,
            Outcome::Limit(limit) => limit.cases.iter().any(|case| case.interrupted),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    pub format: u32,
    pub workload: String,
    pub description: String,
    /// The workload in one line, as it was run.
    pub setup: String,
    pub machine: Machine,
    pub passed: bool,
    /// The objections of the verdict.
    pub failures: Vec<String>,
    /// Ended by Ctrl-C, SIGTERM or SIGHUP. Such a run has not passed, even without failures.
    pub interrupted: bool,
    /// True if the run ended early because the outcome was certain.
    pub given_up: bool,
    /// The reason why the router was gone before the end, if it was.
    pub broken_off: Option<String>,
    pub seconds: f64,
    /// Events that were created after the start.
    pub created: u64,
    /// The number of receivers. Each gets every event, and `totals` is the sum over all of them.
    pub receivers: u64,
    pub totals: Tally,
    /// Events that overtook another event although the workload's ordering forbids it.
    pub overtaken: u64,
    /// Deliveries without a readable envelope; then those from a source that is not part of the
    /// run.
    pub unreadable: u64,
    pub strays: u64,
    /// Time from creation to first receipt, of the events received after the warm-up. Every event
    /// is counted once: here, in `warm_up`, or in `totals.fromBacklog`.
    pub latency: Latency,
    /// The part that `latency` leaves out, if there is a warm-up.
    pub warm_up: Option<WarmUp>,
    /// Different events per second, up to the last arrival. An event that goes to several receivers
    /// counts once.
    pub rate: f64,
    /// The largest lag of any sample, in events.
    pub lag_events_max: u64,
    pub router: RouterFigures,
    pub generator_cpu_seconds: f64,
    /// The bottleneck: the part that kept the rate from being higher, if any.
    pub limited_by: String,
    /// The busiest part, whether or not it limited the rate.
    pub busiest: String,
    pub samples: Vec<Sample>,
    /// The samples between warm-up and drain.
    pub loaded: Range<usize>,
    pub incidents: Vec<Incident>,
    /// Examples of faulty events.
    pub suspects: Vec<Suspect>,
}

/// The beginning of a run, whose latencies are counted separately.
///
/// It ends with a sample, so that charts and figures divide the events in the same way. An event
/// belongs to it if it was received in it, regardless of its creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmUp {
    /// Its duration, rounded up to the next sample.
    pub seconds: f64,
    pub latency: Latency,
}

impl WarmUp {
    /// States the number of events that are left out, for a table or a page.
    pub fn in_words(&self) -> String {
        format!(
            "{} events received in the first {:.1} s (warm-up) are left out of the latency figures; an event created in that time and received after it is counted",
            number(self.latency.count as f64),
            self.seconds
        )
    }
}

/// An example of an event that the verdict objects to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    pub vcenter: usize,
    pub what: String,
    pub key: i32,
    /// Seconds from the start of the run to its receipt, if it was received.
    pub seconds: Option<f64>,
}

/// Examples of lost, wrong and overtaken events.
pub fn suspects(sources: &[SourceReport], started_us: i64) -> Vec<Suspect> {
    let mut found = Vec::new();
    for (vcenter, source) in sources.iter().enumerate() {
        let lost = source.tally.missing_keys.iter();
        found.extend(lost.map(|key| Suspect { vcenter, what: "lost".into(), key: *key, seconds: None }));
        found.extend(source.tally.wrong_contents.iter().map(|wrong| Suspect {
            vcenter,
            what: format!("wrong content: {} is {}, expected {}", wrong.path, wrong.found, wrong.expected),
            key: wrong.key,
            seconds: None,
        }));
        found.extend(source.tally.overtaken_in_entity.iter().map(|overtaken| Suspect {
            vcenter,
            what: format!(
                "event {} of its vCenter came after event {} of the same object",
                overtaken.index, overtaken.by
            ),
            key: overtaken.key,
            seconds: Some((overtaken.received_us - started_us) as f64 / 1e6),
        }));
    }
    found
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterFigures {
    pub cpu_seconds: Option<f64>,
    pub cpu_seconds_per_million: Option<f64>,
    pub rss_peak_bytes: Option<u64>,
    pub busiest_stage: String,
    /// The share of time that its threads worked in its busiest second, 0 to 1.
    pub busiest_stage_share: f64,
    pub starts: u32,
    /// 0 after a stop with all events settled. `None` if the router was not ours to stop, was
    /// killed, or died of a signal.
    pub exit_code: Option<i32>,
    /// The signal that killed the router.
    pub signal: Option<i32>,
    pub counts: RouterCounts,
}

impl RunResult {
    /// The samples between warm-up and drain, which count.
    pub fn under_load(&self) -> &[Sample] {
        self.samples.get(self.loaded.clone()).unwrap_or(&self.samples)
    }

    /// The average number of cores that the router used between warm-up and drain. `None` without
    /// its process.
    pub fn router_cores(&self) -> Option<f64> {
        let known: Vec<f64> = self.under_load().iter().filter_map(|sample| sample.router_cores).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Returns true if the run waited for all events. Only then is an event that did not arrive
    /// lost.
    pub fn was_whole(&self) -> bool {
        !self.interrupted && self.broken_off.is_none()
    }
}
