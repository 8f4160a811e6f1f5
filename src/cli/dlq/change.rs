//! Replaying and dropping: asked of the router that runs, or done here where none does.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;

use super::look::{plain, shown};
use super::{ChangeArgs, Exit, LogArgs};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::app::Router;
use crate::config::{self, Config};
use crate::pipeline::replay::{Ended, Replayed};
use crate::state::{DeadLetterFilter, Store, StoreReader};
use crate::telemetry::log;

/// Asks the running router, once for each dead letter that is named; `each` says how many an answer is about. Tells for how many questions there was none.
pub(super) fn ask(
    dir: &Path,
    args: &ChangeArgs,
    request: fn(DeadLetterFilter) -> ControlRequest,
    mut each: impl FnMut(ControlAnswer) -> io::Result<u64>,
) -> anyhow::Result<usize> {
    let mut missing = 0;
    for filter in args.filter.filters() {
        let client = ControlClient::connect(dir)?.context("the router stopped meanwhile")?;
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

pub(super) fn drop_letters(dir: &Path, args: &ChangeArgs, mut out: impl io::Write) -> anyhow::Result<Exit> {
    let (mut dropped, mut missing) = (0, 0);
    if ControlClient::connect(dir)?.is_some() {
        missing = ask(dir, args, ControlRequest::Drop, |answer| {
            let ControlAnswer::Dropped(letters) = answer else { return Ok(0) };
            dropped += letters;
            Ok(letters)
        })?;
    } else {
        // A mistyped path is not made a data directory.
        drop(StoreReader::open(dir)?);
        let mut store = Store::open(dir)?;
        for filter in args.filter.filters() {
            let letters = store.remove_dead_letters(&filter)?;
            dropped += letters;
            missing += usize::from(letters == 0);
        }
        store.close()?;
    }
    match args.json {
        true => writeln!(out, "{}", json!({ "dropped": dropped }))?,
        false => writeln!(out, "{dropped} dropped")?,
    }
    args.filter.all_found(missing)?;
    Ok(Exit::Done)
}

/// Delivers with the processors of the configuration, since no router runs. Tells as [`ask`] does.
pub(super) fn replay_here(
    dir: &Path,
    config: Option<Config>,
    args: &ChangeArgs,
    flags: LogArgs,
    report: &mut Report<impl io::Write>,
) -> anyhow::Result<usize> {
    let Some(mut config) = config else {
        bail!(
            "no router runs on this data directory; name its configuration with `--config`, so that its processors can be reached"
        );
    };
    // What it logs is for a person who watches a command, and not on stdout.
    config.log = config::Log { level: config::LogLevel::Warn, ..flags.over(&config.log) };
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
        for filter in args.filter.filters() {
            let before = report.ended();
            let replay = letters.replay(&filter, |replayed| {
                written = report.line(&replayed);
                written.is_ok()
            });
            tokio::select! {
                done = replay => done?,
                // What is on its way is delivered or stays a dead letter.
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

/// Tells of replays as they end.
pub(super) struct Report<W> {
    json: bool,
    out: W,
    delivered: u64,
    /// Still dead letters.
    left: u64,
    interrupted: bool,
}

impl<W: io::Write> Report<W> {
    pub fn new(json: bool, out: W) -> Self {
        Report { json, out, delivered: 0, left: 0, interrupted: false }
    }

    pub fn line(&mut self, replayed: &Replayed) -> io::Result<()> {
        match replayed.ended {
            Ended::Delivered => self.delivered += 1,
            _ => self.left += 1,
        }
        if self.json {
            return writeln!(self.out, "{}", json!(replayed));
        }
        let Replayed { letter, destination, ended } = replayed;
        let why = match ended {
            // Only what needs a look has a line.
            Ended::Delivered => return Ok(()),
            Ended::Failed { reason } => format!("failed again: {reason}"),
            Ended::PutOff => "not tried: the target takes no events now; replay it later".to_owned(),
            Ended::UnderWay => "is being replayed already".to_owned(),
            Ended::NotConfigured => {
                "its processor is not in the configuration; drop it, or name the processor as before"
                    .to_owned()
            }
            Ended::Undecodable { reason } => format!("cannot be delivered: {reason}"),
            Ended::Gone => "was dropped meanwhile".to_owned(),
        };
        writeln!(self.out, "{letter} {}: {}", shown(destination), plain(&why))
    }

    /// Replays that came to an end.
    fn ended(&self) -> u64 {
        self.delivered + self.left
    }

    pub fn end(mut self) -> anyhow::Result<Exit> {
        if !self.json {
            let rest = if self.interrupted { "; interrupted: what was not tried is still there" } else { "" };
            writeln!(self.out, "{} delivered, {} still dead letters{rest}", self.delivered, self.left)?;
        }
        Ok(if self.left == 0 && !self.interrupted { Exit::Done } else { Exit::Failed })
    }
}
