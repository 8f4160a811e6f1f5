//! What a run found: the file that `--json` writes, and the verdict.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testbed::verify::{Latency, SourceReport, Tally};

use crate::limit::figures::LimitResult;
use crate::measure::machine::Machine;
use crate::measure::sample::{Incident, RouterCounts, Sample};
use crate::report::text::{cpu_share, number};
use crate::workload::{Ordering, Workload};

/// Version of the file's form; a reader refuses another one.
pub const FORMAT: u32 = 4;

/// What is in a result file.
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

    /// For people.
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

    /// What was run: names, each with its setup and whatever else figures depend on.
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
    /// What the verdict objects to.
    pub failures: Vec<String>,
    /// Ended by Ctrl-C, SIGTERM or SIGHUP: it has not passed, whatever `failures` says.
    pub interrupted: bool,
    /// Ended before its end, because nothing that followed would have changed the outcome.
    pub given_up: bool,
    /// Why the router was gone before the end, if it was.
    pub broken_off: Option<String>,
    pub seconds: f64,
    /// Events that came into being after the start.
    pub created: u64,
    /// Receivers each of which is to get every event: `totals` counts what each of them got.
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
    /// What is left out of `latency`; only where a warm-up was asked for.
    pub warm_up: Option<WarmUp>,
    /// Events that arrived for the first time a second, until the last of them; one that went to several receivers counts once.
    pub rate: f64,
    /// Of the most of `lag` events at any moment.
    pub lag_events_max: u64,
    pub router: RouterFigures,
    pub generator_cpu_seconds: f64,
    /// What kept the rate from being higher, if anything did.
    pub limited_by: String,
    /// What was busiest, whether or not it kept the rate from being higher.
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

/// An example of what the verdict objects to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    pub vcenter: usize,
    pub what: String,
    pub key: i32,
    /// When it was received, since the start; where it was.
    pub seconds: Option<f64>,
}

/// Faults of content that the table shows.
const WRONG_SHOWN_MAX: usize = 3;

/// How much content was verified, and the first faults.
fn content(total: &Tally, suspects: &[Suspect]) -> String {
    let mut text = format!("content verified: {} of {} events", total.content_verified, total.unique);
    if total.wrong_content > 0 {
        text.push_str(&format!(", {} wrong", total.wrong_content));
    }
    let wrong = suspects.iter().filter(|suspect| suspect.what.starts_with("wrong content: "));
    for suspect in wrong.take(WRONG_SHOWN_MAX) {
        text.push_str(&format!("\n{:<15}event {}: {}", "", suspect.key, suspect.what));
    }
    text
}

/// Some of the events that are lost, wrong or overtaken.
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
    /// 0 after a stop with everything settled; `None` where it was not ours to stop, had to be killed, or died of …
    pub exit_code: Option<i32>,
    /// … this signal.
    pub signal: Option<i32>,
    pub counts: RouterCounts,
}

impl RouterFigures {
    /// By itself, or asked to.
    fn has_ended(&self) -> bool {
        self.exit_code.is_some() || self.signal.is_some()
    }

    /// What is wrong with how it ended after it had been asked to.
    fn bad_end(&self) -> Option<String> {
        match (self.exit_code, self.signal) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("the router ended with exit code {code}")),
            (None, Some(signal)) => Some(format!("the router died of signal {signal} while it stopped")),
            (None, None) => Some("the router did not end after SIGTERM and was killed".to_owned()),
        }
    }
}

impl RunResult {
    /// The samples of the time that counts: between warm-up and drain.
    pub fn under_load(&self) -> &[Sample] {
        self.samples.get(self.loaded.clone()).unwrap_or(&self.samples)
    }

    /// Cores that the router kept busy between warm-up and drain; `None` where its process is not
    /// known.
    pub fn router_cores(&self) -> Option<f64> {
        let known: Vec<f64> = self.under_load().iter().filter_map(|sample| sample.router_cores).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Whether all events were waited for: only then is what did not arrive lost.
    pub fn was_whole(&self) -> bool {
        !self.interrupted && self.broken_off.is_none()
    }

    /// Everything that is not as the workload wants it, in words.
    pub fn objections(&self, workload: &Workload, attached: bool) -> Vec<String> {
        let mut found = Vec::new();
        let total = &self.totals;
        let whole = self.was_whole();
        if whole && total.expected + total.delivered + self.unreadable + self.strays == 0 {
            found.push("nothing was tested: there was no event to deliver".to_owned());
        }
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                found.push(format!("{number} {what}"));
            }
        };
        count(total.missing, if whole { "events are lost" } else { "events had not arrived by then" });
        count(total.wrong_ids, "deliveries carry an id that is not the event's");
        count(total.wrong_content, "deliveries carry wrong content");
        count(total.unknown, "deliveries name an event that was never created");
        count(total.unexpected, "events arrived that nobody may read");
        count(self.unreadable, "deliveries are not readable");
        count(self.strays, "deliveries come from a source that is not of this run");
        count(self.router.counts.dropped_events, "events were dropped by the router");
        let of = if workload.target.ordering == Ordering::Source { "source" } else { "object" };
        count(self.overtaken, &format!("events overtook another of their {of}"));
        let duplicates = workload.goals.duplicates;
        let allowed = duplicates.unwrap_or(if workload.repeats_deliveries() { u64::MAX } else { 0 });
        if total.duplicates > allowed {
            found.push(format!("{} deliveries were repeated, {allowed} are allowed", total.duplicates));
        }
        self.goals(workload, &mut found);
        if let Some(why) = &self.broken_off {
            found.insert(0, why.clone());
        } else if !attached {
            // One that was killed at once, or stopped with events on their way, had no choice.
            let excused = self.interrupted && (total.missing > 0 || !self.router.has_ended());
            found.extend(self.router.bad_end().filter(|_| !excused));
        }
        found
    }

    fn goals(&self, workload: &Workload, found: &mut Vec<String>) {
        let goals = &workload.goals;
        let mut late = |what: &str, micros: u64, bound: Option<Duration>| {
            if let Some(bound) = bound.filter(|bound| u128::from(micros) > bound.as_micros()) {
                let (is, may) = (micros as f64 / 1e3, bound.as_secs_f64() * 1e3);
                found.push(format!("{what} latency is {is:.1} ms, {may:.1} ms are allowed"));
            }
        };
        late("p50", self.latency.p50_us, goals.p50);
        late("p99", self.latency.p99_us, goals.p99);
        let mut above = |what: &str, is: Option<f64>, may: Option<f64>| {
            if let (Some(is), Some(may)) = (is, may)
                && is > may
            {
                found.push(format!("{what} is {is:.1}, {may:.1} is allowed"));
            }
        };
        above(
            "the router's peak memory in MB",
            self.router.rss_peak_bytes.map(|rss| rss as f64 / 1e6),
            goals.rss_mb,
        );
        let cpu = self.router.cpu_seconds_per_million;
        above("the router's CPU time in seconds for a million events", cpu, goals.cpu_seconds_per_million);
        if let Some(least) = goals.rate_min.filter(|least| self.rate < *least) {
            found.push(format!("the rate is {:.0} events/s, {least:.0} are wanted", self.rate));
        }
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut lines: Vec<(&str, String)> = Vec::new();
        let total = &self.totals;
        let ms = |micros: u64| format!("{:.1} ms", micros as f64 / 1e3);
        let among = match self.receivers {
            0 | 1 => String::new(),
            many => format!(" (all {many} receivers together)"),
        };
        let megabytes = total.bytes as f64 / 1e6;
        lines.push(("delivered", format!("{} events{among}, {megabytes:.1} MB", total.unique)));
        lines.push((if self.was_whole() { "lost" } else { "not arrived" }, total.missing.to_string()));
        lines.push(("duplicated", total.duplicates.to_string()));
        lines.push(("wrong ids", total.wrong_ids.to_string()));
        lines.push(("content", content(total, &self.suspects)));
        let order = format!(
            "{} in their source, {} in their object",
            total.out_of_order, total.out_of_order_in_entity
        );
        lines.push(("out of order", order));
        lines.push(("rate", format!("{:.0} events/s over {:.1} s", self.rate, self.seconds)));
        let latency = &self.latency;
        let percentiles = format!(
            "p50 {}   p90 {}   p99 {}   p99.9 {}   max {}   (creation to receipt, of {} events)",
            ms(latency.p50_us),
            ms(latency.p90_us),
            ms(latency.p99_us),
            ms(latency.p999_us),
            ms(latency.max_us),
            latency.count
        );
        let warm_up = self.warm_up.as_ref();
        lines.push((
            "latency",
            match (latency.count, self.created) {
                (0, _) if warm_up.is_some_and(|warm_up| warm_up.latency.count > 0) => {
                    "-, the run ended during its warm-up".to_owned()
                }
                (0, 0) => "-, nothing was created after the start".to_owned(),
                (0, _) => "-, nothing arrived of what was created after the start".to_owned(),
                _ => percentiles,
            },
        ));
        lines.extend(warm_up.map(|warm_up| ("warm-up", warm_up.in_words())));
        if total.from_backlog > 0 {
            lines.push((
                "backlog",
                format!("{} events existed before the start and have no latency", total.from_backlog),
            ));
        }
        lines.push(("lag", format!("{} events at most", self.lag_events_max)));
        let router = &self.router;
        if let (Some(cpu), Some(rss)) = (router.cpu_seconds, router.rss_peak_bytes) {
            let per_million = router.cpu_seconds_per_million;
            let per_million = per_million.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            let share = self.router_cores().map(|busy| cpu_share(busy, self.machine.cores));
            let share = share.map_or_else(String::new, |share| format!("; {share}"));
            lines.push(("router CPU", format!("{cpu:.2} s, {per_million} for a million events{share}")));
            lines.push(("router memory", format!("{:.1} MB at its peak", rss as f64 / 1e6)));
        }
        if !router.busiest_stage.is_empty() {
            let share = router.busiest_stage_share * 100.0;
            lines.push(("busiest stage", format!("{}, {share:.0} % of its threads", router.busiest_stage)));
        }
        lines.push(("limited by", self.limited_by.clone()));
        lines.push(("generator CPU", format!("{:.2} s (vCenters and target)", self.generator_cpu_seconds)));
        let mut out = String::new();
        for (name, text) in lines {
            out.push_str(&format!("{name:<15}{text}\n"));
        }
        let word = match (self.interrupted, self.passed) {
            (true, _) => "INTERRUPTED",
            (false, true) => "PASSED",
            (false, false) => "FAILED",
        };
        let failures = self.failures.join("; ");
        out + &format!("{word}{}{failures}\n", if failures.is_empty() { "" } else { ": " })
    }
}

/// Events that overtook another where the workload's ordering forbids it.
pub fn overtaken(workload: &Workload, total: &Tally) -> u64 {
    match workload.target.ordering {
        Ordering::Source => total.out_of_order,
        Ordering::Entity => total.out_of_order_in_entity,
        Ordering::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use testbed::content::WrongContent;

    use super::*;

    fn workload() -> Workload {
        Workload::parse("w", "rate: 5\nduration: 5s").unwrap()
    }

    #[test]
    fn a_run_without_an_event_has_not_passed() {
        let mut result = RunResult::default();
        let nothing = "nothing was tested: there was no event to deliver";
        assert_eq!(result.objections(&workload(), true), [nothing]);
        result.router.cpu_seconds = Some(0.1);
        result.router.rss_peak_bytes = Some(1);
        assert!(result.table().contains("0.10 s, - for a million events"), "{}", result.table());
        result.totals.expected = 1;
        assert_eq!(result.objections(&workload(), true), Vec::<String>::new());
    }

    #[test]
    fn what_did_not_arrive_is_not_lost_where_nobody_waited_for_it() {
        let missing = Tally { missing: 3, expected: 9, ..Tally::default() };
        let whole = RunResult { totals: missing, ..RunResult::default() };
        assert_eq!(whole.objections(&workload(), true), ["3 events are lost"]);
        let interrupted = RunResult { interrupted: true, ..whole.clone() };
        assert_eq!(interrupted.objections(&workload(), false), ["3 events had not arrived by then"]);
        let table = interrupted.table();
        assert!(table.contains("not arrived    3\n") && table.ends_with("\nINTERRUPTED\n"), "{table}");
        let broken = RunResult { broken_off: Some("the router ended".into()), ..whole };
        assert_eq!(
            broken.objections(&workload(), false),
            ["the router ended", "3 events had not arrived by then"]
        );
    }

    #[test]
    fn wrong_content_fails_a_run_and_is_shown() {
        let wrong = WrongContent {
            index: 4,
            key: 5,
            path: "data.Vm.Name".into(),
            expected: "\"app-000007\"".into(),
            found: "null".into(),
        };
        let tally = Tally {
            expected: 9,
            unique: 9,
            content_verified: 8,
            wrong_content: 2,
            wrong_contents: vec![wrong],
            ..Tally::default()
        };
        let source = SourceReport { tally: tally.clone(), ..SourceReport::default() };
        let result = RunResult { totals: tally, suspects: suspects(&[source], 0), ..RunResult::default() };
        assert_eq!(result.objections(&workload(), true), ["2 deliveries carry wrong content"]);
        let table = result.table();
        assert!(table.contains("content verified: 8 of 9 events, 2 wrong\n"), "{table}");
        assert!(
            table.contains("event 5: wrong content: data.Vm.Name is null, expected \"app-000007\"\n"),
            "{table}"
        );
    }

    #[test]
    fn how_the_router_ended_is_said_as_it_was() {
        let check = |exit_code, signal, expected: &[&str]| {
            let totals = Tally { expected: 1, ..Tally::default() };
            let router = RouterFigures { exit_code, signal, ..RouterFigures::default() };
            let result = RunResult { totals, router, ..RunResult::default() };
            assert_eq!(result.objections(&workload(), false), expected);
        };
        check(Some(0), None, &[]);
        check(Some(3), None, &["the router ended with exit code 3"]);
        check(None, Some(9), &["the router died of signal 9 while it stopped"]);
        check(None, None, &["the router did not end after SIGTERM and was killed"]);
    }

    #[test]
    fn a_table_tells_why_there_is_no_latency() {
        let table = |created| RunResult { created, ..RunResult::default() }.table();
        assert!(table(0).contains("nothing was created after the start"), "{}", table(0));
        assert!(table(1).contains("nothing arrived of what was created after the start"));
    }
}
