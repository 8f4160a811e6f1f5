//! `event-router status`: one screen about the running router, worst first.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::state::StateArgs;
use super::table::table;
use super::{Exit, Stdout};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::admin::model::{DestinationStatus, Overview, SourceStatus, Urgency, age};
use crate::limits::{STATUS_ROWS_MAX, STATUS_WATCH_INTERVAL};

/// Show the state of the running router on one screen: what is wrong and why, then its sources and
/// destinations, worst first.
///
/// Rates are those of the last 5 seconds; other numbers count since the router started. A reason
/// quotes the last failure, with the beginning of the target's answer.
///
/// Exit codes, for use as a check: 0 all is well, 1 no router runs on the data directory, 2 wrong
/// arguments or configuration, 4 something needs attention: a source is down or behind, a target
/// fails or is behind, or events wait for a full store or for unknown functions or rules.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router status --config F
  event-router status --data-dir /var/lib/event-router --json | jq .destinations[0].why
  event-router status --config F --watch")]
pub struct StatusArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Print one JSON object with all facts
    #[arg(long)]
    json: bool,
    /// Show it again every 2 seconds, until Ctrl-C; with `--json` one object per line
    #[arg(long)]
    watch: bool,
}

/// Clears a terminal and moves to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let located = match args.state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let mut out = Stdout::default();
    loop {
        let overview = ask(&located.dir)?;
        let text = match args.json {
            true => format!("{}\n", serde_json::to_string(&overview)?),
            false => screen(&overview),
        };
        let clears = args.watch && !args.json && std::io::stdout().is_terminal();
        let text = if clears { format!("{CLEAR}{text}") } else { text };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .context("cannot write to standard output")?;
        if !args.watch || out.is_closed {
            return Ok(if overview.urgency.needs_attention() { Exit::Attention } else { Exit::Done });
        }
        std::thread::sleep(STATUS_WATCH_INTERVAL);
    }
}

/// Asks the router that runs on the data directory `dir`.
pub(super) fn ask(dir: &Path) -> anyhow::Result<Overview> {
    let client = ControlClient::connect(dir)?
        .with_context(|| format!("no router runs on the data directory {}", dir.display()))?;
    let mut found = None;
    client.ask(&ControlRequest::Status, |answer| {
        if let ControlAnswer::Status(overview) = answer {
            found = Some(*overview);
        }
    })?;
    found.context("the router gave no answer; use the command of its own release")
}

/// The screen.
fn screen(overview: &Overview) -> String {
    let verdict = match overview.urgency {
        Urgency::Ok | Urgency::Notice => "all is well",
        Urgency::Warning | Urgency::Critical => "needs attention",
    };
    let mut text = format!(
        "event-router {}, up {}: {verdict}\nmemory {}, dead letters {}\n",
        overview.version,
        age(overview.uptime_s as f64),
        fill(overview.memory.used_bytes, overview.memory.limit_bytes),
        fill(overview.dead_letters.used_bytes, overview.dead_letters.limit_bytes),
    );
    let reasons = reasons(overview);
    if !reasons.is_empty() {
        text += "\n";
        text += &reasons;
    }
    text += "\n";
    let rows: Vec<_> = overview.sources.iter().take(STATUS_ROWS_MAX).map(source_row).collect();
    text += &table(["SOURCE", "STATE", "EVENTS/S", "EVENTS", "LAG", "POSITION"], &rows);
    text += &more(overview.sources.len(), "sources");
    if !overview.destinations.is_empty() {
        text += "\n";
        let rows: Vec<_> = overview.destinations.iter().take(STATUS_ROWS_MAX).map(destination_row).collect();
        let head =
            ["DESTINATION", "STATE", "EVENTS/S", "DELIVERED", "WAITING", "OLDEST", "P99", "DEAD LETTERS"];
        text += &table(head, &rows);
    }
    text += &more(overview.destinations.len() + overview.destinations_left_out, "destinations");
    text
}

/// The parts that are not well, with the reasons, worst first.
fn reasons(overview: &Overview) -> String {
    let mut all = Vec::new();
    if let Some(trouble) = &overview.trouble {
        all.push((Urgency::Critical, "process".to_owned(), trouble.clone(), String::new()));
    }
    for source in &overview.sources {
        if let Some(why) = &source.why {
            all.push((source.urgency, format!("source {}", source.name), why.clone(), String::new()));
        }
    }
    for processor in &overview.processors {
        if let Some(why) = &processor.why {
            let name = format!("processor {}", processor.name);
            all.push((processor.urgency, name, why.clone(), String::new()));
        }
    }
    for destination in &overview.destinations {
        if let Some(why) = &destination.why {
            let said = said(destination);
            all.push((destination.urgency, format!("destination {}", destination.name), why.clone(), said));
        }
    }
    // A stable sort keeps the order within an urgency.
    all.sort_by_key(|(urgency, ..)| std::cmp::Reverse(*urgency));
    let count = all.len();
    let shown = all.into_iter().take(STATUS_ROWS_MAX);
    let mut text: String = shown
        .map(|(urgency, name, why, said)| format!("{:8}  {name}: {why}{said}\n", urgency.as_str()))
        .collect();
    text += &more(count, "reasons");
    text
}

/// The target's answer to the last failed request, if the reason does not quote it already.
fn said(destination: &DestinationStatus) -> String {
    let last = destination.failures.first().filter(|_| destination.urgency.needs_attention());
    match last {
        Some(failure) if !failure.said.is_empty() && !failure.reason.contains(failure.said.trim()) => {
            format!("\n          it said: {}", failure.said)
        }
        _ => String::new(),
    }
}

fn source_row(source: &SourceStatus) -> [String; 6] {
    [
        source.name.clone(),
        source.state.clone(),
        rate(source.events_per_s),
        source.events_total.to_string(),
        source.lag_s.map_or_else(|| "-".to_owned(), age),
        source.position.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn destination_row(destination: &DestinationStatus) -> [String; 8] {
    let backlog = &destination.backlog;
    [
        destination.name.clone(),
        destination.urgency.as_str().to_owned(),
        rate(destination.delivered_per_s),
        destination.delivered_events_total.to_string(),
        backlog.events().to_string(),
        if backlog.events() == 0 { "-".to_owned() } else { age(backlog.oldest_s) },
        destination.request_p99_s.map_or_else(|| "-".to_owned(), |p99| format!("{:.0} ms", p99 * 1e3)),
        destination.dead_letters.to_string(),
    ]
}

/// A rate with few digits.
pub(super) fn rate(per_s: f64) -> String {
    if per_s > 0.0 && per_s < 10.0 { format!("{per_s:.1}") } else { format!("{per_s:.0}") }
}

/// Used and allowed bytes in MiB.
pub(super) fn fill(used: u64, limit: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!("{:.1} of {:.0} MiB", mib(used), mib(limit))
}

/// A line about rows that do not fit on the screen.
fn more(all: usize, what: &str) -> String {
    match all.saturating_sub(STATUS_ROWS_MAX) {
        0 => String::new(),
        left_out => format!("and {left_out} more {what}; `--json` has up to 1,000\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::{BacklogStatus, FailureStatus, Fill, ProcessorStatus};

    fn overview() -> Overview {
        let source = |name: &str, urgency, state: &str, why: Option<&str>| SourceStatus {
            name: name.into(),
            urgency,
            state: state.into(),
            why: why.map(Into::into),
            events_total: 1_200,
            events_per_s: 2.5,
            ..SourceStatus::default()
        };
        let failing = DestinationStatus {
            name: "fn/tag-vm".into(),
            urgency: Urgency::Critical,
            why: Some("the target takes nothing: HTTP 503; 1 event waits, the oldest 12 min old".into()),
            backlog: BacklogStatus { memory_events: 1, oldest_s: 720.0, ..BacklogStatus::default() },
            failures: vec![FailureStatus { said: "no replicas".into(), ..FailureStatus::default() }],
            ..DestinationStatus::default()
        };
        let well = DestinationStatus {
            name: "siem".into(),
            delivered_events_total: 1_200,
            delivered_per_s: 812.0,
            request_p99_s: Some(0.0123),
            ..DestinationStatus::default()
        };
        Overview {
            version: "1.0.0".into(),
            uptime_s: 7_200,
            urgency: Urgency::Critical,
            memory: Fill { used_bytes: 1 << 20, limit_bytes: 24 << 20 },
            sources: vec![
                source("vc2", Urgency::Critical, "failed", Some("it is down: wrong password")),
                source("vc1", Urgency::Ok, "waiting", None),
            ],
            processors: vec![ProcessorStatus {
                name: "eb".into(),
                urgency: Urgency::Warning,
                why: Some("it could not read its functions or rules yet; its events wait".into()),
                ..ProcessorStatus::default()
            }],
            destinations: vec![failing, well],
            ..Overview::default()
        }
    }

    #[test]
    fn the_screen_says_first_what_is_wrong_and_why() {
        insta::assert_snapshot!(screen(&overview()));
    }

    #[test]
    fn the_screen_has_a_bounded_number_of_lines() {
        let mut all = overview();
        all.destinations = vec![all.destinations[0].clone(); 1_000];
        all.destinations_left_out = 9_000;
        let text = screen(&all);
        assert!(text.lines().count() <= 3 * STATUS_ROWS_MAX + 12, "{}", text.lines().count());
        assert!(text.contains("and 9985 more destinations"), "{text}");
    }
}
