//! `dlq replay` and `dlq drop`: asks the running router, or does the work here if none runs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;

use super::look::shown;
use super::{ChangeArgs, Exit, LetterSelection, LogArgs};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::app::Router;
use crate::limits::{DLQ_GROUPS_MAX, REPLAY_LINES_MAX};
use crate::outside::{escaped, escaped_json};
use crate::pipeline::replay::{Ended, Replayed};
use crate::settings::{self, Config};
use crate::state::{DeadLetterFilter, Store, StoreReader};
use crate::telemetry::log;

/// Asks the running router, with one request per filter. `each` handles an answer and returns the
/// number of dead letters in it. Returns the number of filters without any dead letter.
pub(super) fn ask(
    dir: &Path,
    selection: &LetterSelection,
    request: impl Fn(DeadLetterFilter) -> ControlRequest,
    mut each: impl FnMut(ControlAnswer) -> io::Result<u64>,
) -> anyhow::Result<usize> {
    let mut missing = 0;
    for filter in selection.filters.iter().cloned() {
        let client = ControlClient::connect(dir)?
            .context("the router has stopped meanwhile; run the command again")?;
        let mut found = Ok(0);
        client.ask(&request(filter), |answer| {
            if let Ok(before) = found {
                found = each(answer).map(|letters| before + letters);
            }
        })?;
        missing += usize::from(found? == 0);
    }
    Ok(missing)
}

/// Drops dead letters.
pub(super) fn drop_letters(
    dir: &Path,
    args: &ChangeArgs,
    selection: &LetterSelection,
    mut out: impl io::Write,
) -> anyhow::Result<Exit> {
    let (mut dropped, mut missing) = (0, 0);
    if ControlClient::connect(dir)?.is_some() {
        missing = ask(dir, selection, ControlRequest::Drop, |answer| {
            let ControlAnswer::Dropped(letters) = answer else { return Ok(0) };
            dropped += letters;
            Ok(letters)
        })?;
    } else {
        // Check that the store exists, so that a mistyped path does not create one.
        drop(StoreReader::open(dir)?);
        let mut store = Store::open(dir)?;
        for filter in &selection.filters {
            let letters = store.remove_dead_letters(filter)?;
            dropped += letters;
            missing += usize::from(letters == 0);
        }
        store.close()?;
    }
    match args.json {
        true => writeln!(out, "{}", json!({ "dropped": dropped }))?,
        false => writeln!(out, "{dropped} dropped")?,
    }
    if !args.all {
        selection.check_found(missing, dir)?;
    }
    Ok(Exit::Done)
}

/// Replays with the processors of the configuration, since no router runs. Returns the number of
/// filters without any dead letter.
pub(super) fn replay_here(
    dir: &Path,
    config: Option<Config>,
    selection: &LetterSelection,
    to: Option<&str>,
    flags: LogArgs,
    report: &mut Report<impl io::Write>,
) -> anyhow::Result<usize> {
    let Some(mut config) = config else {
        bail!(
            "no router runs on this data directory; name its configuration with `--config`, so that this command can deliver"
        );
    };
    // Log only warnings, and nothing on stdout: a person is watching.
    config.log = settings::Log { level: settings::LogLevel::Warn, ..flags.over(&config.log) };
    config.log.invocations = false;
    log::install(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    runtime.block_on(async {
        drop(StoreReader::open(dir)?);
        let router = Router::start_without_sources(Arc::new(config)).await?;
        let letters = router.dead_letters();
        let (mut written, mut missing) = (Ok(()), 0);
        for filter in &selection.filters {
            let before = report.ended();
            let replay = letters.replay(filter, to, |replayed| {
                written = report.line(&replayed);
                written.is_ok()
            });
            tokio::select! {
                done = replay => done?,
                // Deliveries in progress finish in `stop`; the other letters stay.
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    report.interrupted = true;
                    break;
                }
            }
            missing += usize::from(report.ended() == before);
        }
        drop(letters);
        router.stop().await?;
        written?;
        Ok(missing)
    })
}

/// Prints replays as they end, and counts them.
pub(super) struct Report<W> {
    json: bool,
    out: W,
    delivered: u64,
    /// Still dead letters.
    left: u64,
    pub interrupted: bool,
    /// Failures beyond the first [`REPLAY_LINES_MAX`], counted by destination and reason. At most
    /// [`DLQ_GROUPS_MAX`]; the others are in the total alone.
    counted: BTreeMap<(String, String), u64>,
}

impl<W: io::Write> Report<W> {
    pub fn new(json: bool, out: W) -> Self {
        Report { json, out, delivered: 0, left: 0, interrupted: false, counted: BTreeMap::new() }
    }

    pub fn line(&mut self, replayed: &Replayed) -> io::Result<()> {
        match replayed.ended {
            Ended::Delivered => self.delivered += 1,
            _ => self.left += 1,
        }
        if self.json {
            return writeln!(self.out, "{}", escaped_json(&json!(replayed).to_string()));
        }
        let Replayed { letter, destination, ended } = replayed;
        let why = match ended {
            // Only failures get a line.
            Ended::Delivered => return Ok(()),
            Ended::Failed { reason } => format!("failed again: {reason}"),
            Ended::PutOff => "not tried, since the target takes no events now; replay it later".to_owned(),
            Ended::UnderWay => "another replay of it is in progress".to_owned(),
            Ended::NotConfigured => {
                "its processor is not in the configuration; drop it, give the processor its old name, or replay it `--to` another destination"
                    .to_owned()
            }
            Ended::Undecodable { reason } => format!("cannot be delivered: {reason}"),
            Ended::Gone => "was dropped meanwhile".to_owned(),
        };
        if self.left <= REPLAY_LINES_MAX {
            return writeln!(self.out, "{letter} {}: {}", escaped(shown(destination)), escaped(&why));
        }
        let group = (destination.clone(), why);
        if self.counted.len() < DLQ_GROUPS_MAX || self.counted.contains_key(&group) {
            *self.counted.entry(group).or_default() += 1;
        }
        Ok(())
    }

    /// Number of replays that ended, successful or not.
    fn ended(&self) -> u64 {
        self.delivered + self.left
    }

    pub fn end(mut self) -> anyhow::Result<Exit> {
        if !self.json {
            for ((destination, why), letters) in &self.counted {
                let (destination, why) = (escaped(shown(destination)), escaped(why));
                writeln!(self.out, "{letters} more {destination}: {why}")?;
            }
            let rest =
                if self.interrupted { "; interrupted, so the other letters were not tried" } else { "" };
            writeln!(self.out, "{} delivered, {} still dead letters{rest}", self.delivered, self.left)?;
        }
        Ok(if self.left == 0 && !self.interrupted { Exit::Done } else { Exit::Failed })
    }
}
