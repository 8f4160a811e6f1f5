//! `loadtest compare`: checks whether one result is worse than another.

use std::path::PathBuf;

use clap::Args;

use super::End;
use crate::compare::{compare, differences, table};
use crate::result::Outcome;

/// Compare two JSON results of `run` or of `limit`; exit code 1 if the second is worse.
///
/// A difference in latency of half a millisecond also counts as equal. Compare only results that
/// were measured on one machine, one after the other.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The earlier result
    first: PathBuf,
    /// The later result
    second: PathBuf,
    /// Difference that still counts as equal, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    tolerance: u32,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<End> {
    let (first, second) = match (Outcome::read(&args.first), Outcome::read(&args.second)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(error), _) | (_, Err(error)) => return super::usage(&error.to_string()),
    };
    for difference in differences(&first, &second) {
        super::complain(&difference);
    }
    match compare(&first, &second, f64::from(args.tolerance) / 100.0) {
        Ok(rows) => {
            super::show(&table(&rows))?;
            Ok(if rows.iter().any(|row| row.regressed) { End::Failed } else { End::Done })
        }
        Err(error) => super::usage(&error.to_string()),
    }
}
