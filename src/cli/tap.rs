//! `event-router tap`: shows events as they pass through the running router.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::signal::unix::{SignalKind, signal};

use super::state::StateArgs;
use super::{Exit, Stdout};
use crate::admin::control::{ControlAnswer, ControlClient, ControlError, ControlRequest, ControlStop};
use crate::limits::{TAP_END_WAIT, TAP_EXAMINED_PER_SECOND};
use crate::outside;
use crate::pipeline::observe::tap::{TapCounts, TapFilter, TappedEvent};

/// Show events as they pass through the running router.
///
/// It shows the events that are read. With `--to`, it shows the events of a destination instead,
/// each with the target's answer; an event that is tried again appears once for each attempt.
///
/// The router never waits for this command. On a busy router it shows a sample, and it says how
/// many events it left out. It ends on Ctrl-C, and prints a summary to standard error.
///
/// Exit codes: 0 at the end or on Ctrl-C, 1 if no router runs, or if no event came within the time
/// of `--for`, 2 wrong arguments or configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router tap --config F --type 'Vm*'
  event-router tap --config F --pattern '{\"data\": {\"Vm\": {\"Name\": [{\"prefix\": \"web-\"}]}}}'
  event-router tap --config F --to functions/tagger --output request --limit 1
  event-router tap --config F --output json --limit 100 | event-router routes test --config NEW -")]
pub struct TapArgs {
    #[command(flatten)]
    state: StateArgs,
    /// An EventBridge pattern as JSON, in the language of routes
    #[arg(long, value_name = "JSON")]
    pattern: Option<String>,
    /// Name of a source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Name of a destination or processor: show what it gets, and its answers
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    /// An event type, as in the topic of a function: `VmPoweredOnEvent`, `vm.powered.*`. May be
    /// repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// End after this number of events
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// End after this time, such as `40s` or `5m`
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    duration: Option<Duration>,
    /// Form of the output
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: TapOutput,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TapOutput {
    /// One line for each event, with its message
    #[default]
    Table,
    /// One JSON object a line: the CloudEvent, or with `--to` an object that has it as `event`
    Json,
    /// The request as the target got it; needs `--to`
    Request,
}

pub(super) fn run(args: &TapArgs) -> anyhow::Result<Exit> {
    let filter = match filter(args) {
        Ok(filter) => filter,
        Err(error) => {
            super::complain(&format!("event-router: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    let located = match args.state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let client = ControlClient::connect(&located.dir)?
        .with_context(|| format!("no router runs on the data directory {}", located.dir.display()))?;
    let ended = Arc::<AtomicBool>::default();
    let runtime = ending(client.stopper()?, args.duration, Arc::clone(&ended))?;
    let mut screen = TapScreen {
        args,
        out: Stdout::default(),
        events: 0,
        counts: TapCounts::default(),
        stop: client.stopper()?,
        is_over: false,
    };
    if args.output == TapOutput::Table {
        screen.head()?;
    }
    let mut failed = Ok(());
    let asked = client.ask_until(&ControlRequest::Tap(filter), |answer| match screen.show(answer) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    });
    runtime.shutdown_background();
    failed?;
    match asked {
        Ok(()) => {}
        // The end of the connection was asked for.
        Err(ControlError::CutOff(_) | ControlError::Socket { .. }) if ended.load(Relaxed) => {}
        Err(error) => return Err(error.into()),
    }
    screen.summary();
    Ok(if screen.events == 0 && args.duration.is_some() { Exit::Failed } else { Exit::Done })
}

fn filter(args: &TapArgs) -> anyhow::Result<TapFilter> {
    if args.output == TapOutput::Request && args.to.is_none() {
        bail!("`--output request` needs `--to`, since each destination gets a request of its own");
    }
    let pattern = args.pattern.as_deref().map(serde_json::from_str).transpose();
    Ok(TapFilter {
        pattern: pattern.context("`--pattern` is not JSON")?,
        source: args.source.clone(),
        types: args.types.clone(),
        to: args.to.clone(),
        with_request: args.output == TapOutput::Request,
    })
}

/// Ends the call on Ctrl-C and SIGTERM, or after `duration`. Sets `ended` before.
fn ending(
    stop: ControlStop,
    duration: Option<Duration>,
    ended: Arc<AtomicBool>,
) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let context = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    runtime.spawn(async move {
        let time = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = time => {}
        }
        ended.store(true, Relaxed);
        stop.finish();
        tokio::time::sleep(TAP_END_WAIT).await;
        stop.stop();
    });
    drop(context);
    Ok(runtime)
}

/// Prints events.
struct TapScreen<'a> {
    args: &'a TapArgs,
    out: Stdout,
    events: u64,
    counts: TapCounts,
    stop: ControlStop,
    /// True once nothing more is wanted. The last counts still come.
    is_over: bool,
}

/// The members of an event that a line shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LineMembers {
    #[serde(rename = "type")]
    kind: String,
    data: Json,
}

/// Widths of the columns; a longer text moves the rest of its line.
const TIME_WIDTH: usize = 12;
const SOURCE_WIDTH: usize = 12;
const DESTINATION_WIDTH: usize = 24;
const TYPE_WIDTH: usize = 32;

impl TapScreen<'_> {
    fn head(&mut self) -> anyhow::Result<()> {
        let line = match self.args.to {
            None => line(["TIME", "SOURCE", "TYPE", "MESSAGE"], [TIME_WIDTH, SOURCE_WIDTH, TYPE_WIDTH]),
            Some(_) => {
                line(["TIME", "DESTINATION", "TYPE", "ANSWER"], [TIME_WIDTH, DESTINATION_WIDTH, TYPE_WIDTH])
            }
        };
        self.write(&line)
    }

    fn show(&mut self, answer: ControlAnswer) -> anyhow::Result<()> {
        match answer {
            ControlAnswer::Tapped(_) if self.is_over => {}
            ControlAnswer::Tapped(event) => {
                let text = match self.args.output {
                    TapOutput::Table => row(&event),
                    TapOutput::Json => as_json(&event)?,
                    TapOutput::Request => as_request(&event),
                };
                self.write(&text)?;
                self.events += 1;
            }
            ControlAnswer::TapCounts(counts) => self.counts = counts,
            _ => {}
        }
        let is_enough = self.args.limit.is_some_and(|limit| self.events >= limit) || self.out.is_closed;
        if is_enough && !self.is_over {
            self.is_over = true;
            self.stop.finish();
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.context("cannot write to standard output")
    }

    /// Tells what was left out.
    fn summary(&self) {
        let TapCounts { examined, matched, skipped, not_shown } = self.counts;
        let mut text = format!("{} events shown", self.events);
        if examined > matched {
            text += &format!("; {} of {examined} did not match", examined - matched);
        }
        if skipped > 0 {
            text += &format!(
                "; {skipped} were skipped, since a tap looks at {TAP_EXAMINED_PER_SECOND} events a second"
            );
        }
        if not_shown > 0 {
            text += &format!("; {not_shown} matched and were left out: too many, or too large");
        }
        super::complain(&text);
    }
}

fn line(cells: [&str; 4], widths: [usize; 3]) -> String {
    let [a, b, c, last] = cells;
    let [wa, wb, wc] = widths;
    format!("{}\n", format!("{a:<wa$}  {b:<wb$}  {c:<wc$}  {last}").trim_end())
}

/// One line: when, where from, which type, and the message or the answer.
fn row(event: &TappedEvent) -> String {
    let members: LineMembers = serde_json::from_str(event.event.get()).unwrap_or_default();
    let time = event.read.get(11..23).or(event.read.get(11..)).unwrap_or_default().trim_end_matches('Z');
    let kind = outside::cell(if event.subject.is_empty() { &members.kind } else { &event.subject });
    match &event.delivery {
        None => {
            let message = members.data["FullFormattedMessage"].as_str().unwrap_or_default();
            let message = outside::cell(message.trim());
            line([time, &event.source, &kind, &message], [TIME_WIDTH, SOURCE_WIDTH, TYPE_WIDTH])
        }
        Some(delivery) => {
            let attempt = match delivery.attempt {
                0 | 1 => String::new(),
                attempt => format!(", attempt {attempt}"),
            };
            let answer = match &delivery.failure {
                None => format!("delivered in {} ms{attempt}", delivery.took_ms),
                Some(reason) => format!("failed in {} ms{attempt}: {reason}", delivery.took_ms),
            };
            let widths = [TIME_WIDTH, DESTINATION_WIDTH, TYPE_WIDTH];
            line([time, &delivery.destination, &kind, &outside::cell(&answer)], widths)
        }
    }
}

/// The CloudEvent, or an object that has it, on one line.
fn as_json(event: &TappedEvent) -> anyhow::Result<String> {
    let text = match &event.delivery {
        None => event.event.get().to_owned(),
        Some(_) => serde_json::to_string(event)?,
    };
    Ok(format!("{}\n", outside::escaped_json(&text)))
}

/// The request, or the event if the kind of target has no form of its own.
fn as_request(event: &TappedEvent) -> String {
    let request = event.delivery.as_ref().and_then(|delivery| delivery.request.as_deref());
    format!("{}\n\n", outside::lines(request.unwrap_or(event.event.get()).trim_end()))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::pipeline::observe::tap::TappedDelivery;

    fn event(delivery: Option<TappedDelivery>) -> TappedEvent {
        let event = r#"{"type":"t","data":{"FullFormattedMessage":"web-1 is\u001b on"}}"#;
        TappedEvent {
            read: "2026-12-01T02:03:04.567Z".into(),
            source: "vc".into(),
            subject: "VmPoweredOnEvent".into(),
            delivery,
            event: RawValue::from_string(event.into()).expect("JSON"),
        }
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(
            row(&event(None)),
            "02:03:04.567  vc            VmPoweredOnEvent                  web-1 is\\u{1b} on\n"
        );
        let delivery = TappedDelivery {
            destination: "fn/a".into(),
            attempt: 2,
            took_ms: 15,
            failure: Some("503\nbusy".into()),
            request: None,
        };
        let shown = row(&event(Some(delivery)));
        assert!(shown.ends_with("failed in 15 ms, attempt 2: 503\\nbusy\n"), "{shown}");
        assert!(shown.starts_with("02:03:04.567  fn/a "), "{shown}");
    }

    #[test]
    fn json_is_one_line_that_routes_test_reads() {
        let line = as_json(&event(None)).expect("JSON");
        assert!(line.starts_with("{\"type\":\"t\"") && line.lines().count() == 1, "{line}");
    }
}
