//! Results of runs: the data that `--json` writes and `report` and `compare` read again.
//!
//! ```text
//! run ──► RunResult ──┬─► objections (the verdict) ──► failures, passed
//!                     ├─► table (for people)
//! limit ► LimitResult ┴─► Outcome ◄──► JSON file ──► report, compare
//! ```
//!
//! A file of another [`FORMAT`] is refused, not read in part.

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

/// Version of the file's form; a reader refuses another one.
pub const FORMAT: u32 = 4;

/// The content of a result file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Outcome {
    Run(Box<RunResult>),
    Limit(Box<LimitResult>),
}

/// Why a result file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{file} cannot be read: {cause}")]
    Io { file: String, cause: std::io::Error },
    #[error("{file} is no result of `loadtest run --json` or `loadtest limit --json`: {cause}")]
    Json { file: String, cause: serde_json::Error },
    #[error(
        "{file} has format {found}, this program reads {FORMAT}; take the `loadtest` that wrote it, or run it again"
    )]
    Format { file: String, found: u32 },
}

impl Outcome {
    /// # Errors
    /// It is not there, or not a result of this version.
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

    /// The table that people read.
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

    /// The workloads that were run, by name, each with its setup.
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
    /// Ended early, because nothing that followed would have changed the outcome.
    pub given_up: bool,
    /// Why the router was gone before the end, if it was.
    pub broken_off: Option<String>,
    pub seconds: f64,
    /// Events that were created after the start.
    pub created: u64,
    /// Receivers, each of which gets every event: `totals` is the sum over all of them.
    pub receivers: u64,
    pub totals: Tally,
    /// Events that overtook another within what the workload's ordering keeps in order.
    pub overtaken: u64,
    /// Deliveries without a readable envelope, or from a source that is not of this run.
    pub unreadable: u64,
    pub strays: u64,
    /// Of every event that was received after the warm-up, from its creation to its first receipt.
    /// Every different event is counted here, in `warm_up` or in `totals.fromBacklog`.
    pub latency: Latency,
    /// The part that `latency` leaves out; only where a warm-up was asked for.
    pub warm_up: Option<WarmUp>,
    /// Different events a second, until the last one arrived. An event that went to several
    /// receivers counts once.
    pub rate: f64,
    /// The largest lag of any sample, in events.
    pub lag_events_max: u64,
    pub router: RouterFigures,
    pub generator_cpu_seconds: f64,
    /// The bottleneck: what kept the rate from being higher, if anything did.
    pub limited_by: String,
    /// The busiest part, whether or not it kept the rate from being higher.
    pub busiest: String,
    pub samples: Vec<Sample>,
    /// The samples between warm-up and drain.
    pub loaded: Range<usize>,
    pub incidents: Vec<Incident>,
    /// Events to look for, where something is wrong.
    pub suspects: Vec<Suspect>,
}

/// The beginning of a run, whose latencies are counted apart. It ends with a sample, so that charts
/// and figures divide the events alike: an event belongs to it if it was received in it, whenever
/// it was created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmUp {
    /// How long it took: the time that was asked for, up to the next sample.
    pub seconds: f64,
    pub latency: Latency,
}

impl WarmUp {
    /// Says how many events are left out, for a table or a page.
    pub fn in_words(&self) -> String {
        format!(
            "{} events received in the first {:.1} s (warm-up) are left out of the latency figures; an event created in that time and received after it is counted",
            number(self.latency.count as f64),
            self.seconds
        )
    }
}

/// An event that the verdict objects to, as an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    pub vcenter: usize,
    pub what: String,
    pub key: i32,
    /// Seconds from the start of the run to its receipt, if it was received.
    pub seconds: Option<f64>,
}

/// Examples of events that are lost, wrong or overtaken.
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
    /// Share of its threads' time, 0 to 1, at its busiest second.
    pub busiest_stage_share: f64,
    pub starts: u32,
    /// 0 after a stop with everything settled. `None` where the router was not ours to stop, had to
    /// be killed, or died of a signal.
    pub exit_code: Option<i32>,
    /// The signal that it died of.
    pub signal: Option<i32>,
    pub counts: RouterCounts,
}

impl RunResult {
    /// The samples between warm-up and drain: the time that counts.
    pub fn under_load(&self) -> &[Sample] {
        self.samples.get(self.loaded.clone()).unwrap_or(&self.samples)
    }

    /// Cores that the router kept busy between warm-up and drain; `None` where its process is not
    /// known.
    pub fn router_cores(&self) -> Option<f64> {
        let known: Vec<f64> = self.under_load().iter().filter_map(|sample| sample.router_cores).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Whether the run waited for all events: only then is an event that did not arrive lost.
    pub fn was_whole(&self) -> bool {
        !self.interrupted && self.broken_off.is_none()
    }
}
