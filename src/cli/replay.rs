//! `event-router replay`: reads a range of a vCenter's history again, for one destination.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::state::{shown, time};
use super::{ConfigArgs, Exit, LogArgs, load};
use crate::admin::replays::{RangeReplayEnd, ReplayProgress};
use crate::app::replay::{RangeReplay, RangeReplayRequest, ReplayCounts, narrowed};
use crate::config::scalar;
use crate::settings::{Config, Log, LogLevel};
use crate::supervise;
use crate::telemetry::log;

/// Time between two looks at the progress.
const LOOK: Duration = Duration::from_millis(200);
/// Number of looks between two lines of progress: one second.
const LOOKS_PER_LINE: u32 = 5;

/// Deliver events of a time range again, to one destination only.
///
/// Reads the range from the vCenter with a session of its own and sends the events, with their
/// usual ids, to DESTINATION. Routes and topics decide as always which events it gets; `maxAge` of
/// routes does not count. A running router does not notice, and its position stays. An event that
/// is refused for good goes to the processor of `deadLetterTo`; without one it is counted and not
/// kept.
///
/// vCenter keeps events for 30 days by default.
///
/// Exit codes: 0 all events were delivered, 1 failure, or events were refused, 2 wrong arguments or
/// configuration, 3 ended with undelivered events.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router replay --source vc1 --from '2026-01-31 22:00' --to '2026-02-01 06:00' \\
    --destination functions/tag-vm --dry-run
  event-router replay --source vc1 --from 2h --destination audit")]
pub struct RangeReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Source of type `vcenter`
    #[arg(long, value_name = "NAME")]
    source: String,
    /// First time, by vCenter's clock: `2026-01-31T12:00:00Z`, a date or a time of this machine's
    /// time zone such as `2026-01-31 12:00`, an age such as `2h`, or `beginning`
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: i64,
    /// Last time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "now")]
    to: i64,
    /// Destination: `PROCESSOR`, `PROCESSOR/FUNCTION` or `PROCESSOR/BUS`; the namespace of a
    /// function may be left out
    #[arg(long, value_name = "NAME")]
    destination: String,
    /// Count the events, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Time to wait, after the whole range was read, for a target that does not take events
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    patience: Duration,
    /// Print a JSON object each second, and a last one with `ended`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    scalar::duration(text).filter(|time| !time.is_zero()).ok_or("must be a duration such as `10m`")
}

pub(super) fn run(args: &RangeReplayArgs) -> anyhow::Result<Exit> {
    let config = match load(&args.config) {
        Ok((_, config)) => config,
        Err(end) => return Ok(end),
    };
    let request = RangeReplayRequest {
        source: args.source.clone(),
        destination: args.destination.clone(),
        from_us: args.from,
        to_us: args.to,
        dry_run: args.dry_run,
        patience: args.patience,
    };
    let config = match narrowed(&config, &request) {
        Ok(config) => config,
        Err(error) => {
            super::complain(&format!("event-router: {error}"));
            return Ok(Exit::Usage);
        }
    };
    log::install(&args.log.over(&Log { level: LogLevel::Warn, ..Log::default() }));
    supervise::log_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let ended = runtime.block_on(replay(Arc::new(config), &request, args.json));
    runtime.shutdown_background();
    ended
}

async fn replay(config: Arc<Config>, request: &RangeReplayRequest, json: bool) -> anyhow::Result<Exit> {
    let mut replay = RangeReplay::start(config, request)?;
    let mut failed = replay.router.supervisor().failed();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shows = std::io::stderr().is_terminal() && !json;
    let mut looks = 0_u32;
    // Read to the end.
    let interrupted = loop {
        if shows {
            eprint!("\r{} events", replay.counts.delivered());
        }
        if json && looks.is_multiple_of(LOOKS_PER_LINE) {
            say!("{}", progress(request, &replay.counts, None, None))?;
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            read = replay.read.wait_for(|read| *read) => {
                read.map_err(|_| anyhow!("the source ended before the range was read"))?;
                break false;
            }
            _ = terminate.recv() => break true,
            _ = interrupt.recv() => break true,
            _ = failed.wait_for(Option::is_some) => break true,
            () = tokio::time::sleep(LOOK) => {}
        }
    };
    if let Some(reason) = replay.router.supervisor().failure() {
        anyhow::bail!("{reason}");
    }
    // Deliver what was read.
    let RangeReplay { router, counts, .. } = replay;
    let drained = tokio::select! {
        drained = router.stop() => Some(drained?),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    if shows {
        eprintln!();
    }
    let undelivered = drained.as_ref().map(|drained| drained.undelivered);
    let exit = match (interrupted, undelivered) {
        (false, Some(0)) if counts.refused() == 0 => Exit::Done,
        (false, Some(0)) => Exit::Failed,
        _ => Exit::Unsettled,
    };
    if json {
        let ended = match exit {
            Exit::Done => RangeReplayEnd::Done,
            Exit::Failed => RangeReplayEnd::Refused,
            _ if interrupted => RangeReplayEnd::Interrupted,
            _ => RangeReplayEnd::Undelivered,
        };
        say!("{}", progress(request, &counts, undelivered, Some(ended)))?;
        return Ok(exit);
    }
    let verb = if request.dry_run { "would go" } else { "were delivered" };
    let (delivered, refused, to) = (counts.delivered(), counts.refused(), &request.destination);
    let (from, until) = (shown(request.from_us), shown(request.to_us));
    say!("{delivered} events of {} from {from} to {until} {verb} to {to}", request.source)?;
    if refused > 0 {
        say!("{refused} events were refused for good")?;
    }
    match undelivered {
        Some(0) => {}
        Some(left) => say!("{left} events were read and not delivered")?,
        None => say!("interrupted: more events may have been read and not delivered")?,
    }
    Ok(exit)
}

/// A line of progress.
fn progress(
    request: &RangeReplayRequest,
    counts: &ReplayCounts,
    undelivered: Option<u64>,
    ended: Option<RangeReplayEnd>,
) -> String {
    let line = ReplayProgress {
        from: shown(request.from_us),
        to: shown(request.to_us),
        delivered: counts.delivered(),
        refused: counts.refused(),
        undelivered,
        ended,
    };
    serde_json::to_string(&line).expect("numbers and words are JSON")
}
