//! `event-router man`: prints the manual pages, made from the same definitions as `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::{Cli, Exit};

/// Print the manual page, or write the pages of all commands into a directory.
///
/// To read it: `event-router man | man -l -`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write `event-router.1`, `event-router-run.1`, … into this directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.output {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            super::print(&page)?;
        }
        Some(dir) => {
            let failed = || format!("cannot write manual pages into `{}`", dir.display());
            std::fs::create_dir_all(dir).with_context(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).with_context(failed)?;
        }
    }
    Ok(Exit::Done)
}
