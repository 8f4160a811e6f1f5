//! Shared by commands on the router's state: finds the data directory, reads and prints times.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::{ConfigArgs, Exit};
use crate::settings::{self, Config, StartAt, StateLocation};
use crate::state::SpoolSize;

/// The flags that name the state.
#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The router's data directory, instead of a configuration that names it
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The data directory that the flags name.
pub struct Located {
    pub dir: PathBuf,
    /// The configuration, unless `--data-dir` was given.
    pub config: Option<Config>,
}

impl StateArgs {
    /// Finds the data directory.
    ///
    /// # Errors
    /// The outer error means that the configuration keeps no state. The inner one means that it
    /// cannot be read, which was already printed.
    pub fn locate(&self) -> anyhow::Result<Result<Located, Exit>> {
        if let Some(dir) = self.data_dir.clone() {
            return Ok(Ok(Located { dir, config: None }));
        }
        let (file, config) = match super::load(&self.config) {
            Ok(loaded) => loaded,
            Err(end) => return Ok(Err(end)),
        };
        match &config.state {
            StateLocation::Dir(dir) => Ok(Ok(Located { dir: dir.clone(), config: Some(config) })),
            StateLocation::Ephemeral => bail!(
                "{} keeps its state only while the router runs (`ephemeral: true`, or the old `checkpoint: false`); name the directory of the running router with `--data-dir`",
                file.display()
            ),
        }
    }
}

/// The spooled events of each destination, as `--json` prints them.
pub fn spools_json(spools: &BTreeMap<String, SpoolSize>) -> Value {
    let size = |size: &SpoolSize| json!({"events": size.events, "bytes": size.bytes});
    spools.iter().map(|(name, spool)| (name.clone(), size(spool))).collect()
}

/// A list of the existing names, for a message about an unknown one.
pub fn known<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Parses a time argument into microseconds since 1970 UTC. An age counts from this machine's
/// clock.
pub fn time(text: &str) -> Result<i64, &'static str> {
    let now_us = crate::clock::now_us();
    match settings::start_at(text) {
        Some(StartAt::At(us)) => Ok(us),
        Some(StartAt::Ago(age)) => {
            Ok(now_us.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)))
        }
        Some(StartAt::Now) => Ok(now_us),
        Some(StartAt::Beginning) => Ok(0),
        None => local_time(text, &jiff::tz::TimeZone::system()).ok_or(
            "write a time such as `2026-01-31T12:00:00Z`, a date or a local time such as `2026-01-31 12:00`, an age such as `2h`, `now`, or `beginning`",
        ),
    }
}

/// Parses a date, or a time without an offset, as a time in `zone`. A time that occurs twice, at
/// the end of summer time, is the first of both.
fn local_time(text: &str, zone: &jiff::tz::TimeZone) -> Option<i64> {
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
}

/// A time for people to read.
pub fn shown(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_local_times() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|utc| utc.parse::<jiff::Timestamp>().unwrap().as_microsecond());
            assert_eq!(local_time(text, &zone), expected, "{text}");
        };
        check("2026-01-31", Some("2026-01-30T22:00:00Z"));
        check("2026-01-31 12:30", Some("2026-01-31T10:30:00Z"));
        check("2026-01-31T12:30:05.5", Some("2026-01-31T10:30:05.5Z"));
        check("2026-02-30", None);
        check("12:30", None);
        check("yesterday", None);
        assert_eq!(time("2026-01-31T12:30:00+01:00"), Ok(1_769_859_000_000_000));
    }
}
