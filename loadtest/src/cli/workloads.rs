//! `loadtest workloads`: what is built in.

use clap::Args;

use super::End;
use crate::workload::{BUILT_IN, Workload};

/// List the workloads that are built in, or print one as a start for an own file.
#[derive(Debug, Args)]
pub struct WorkloadsArgs {
    /// Print this one
    name: Option<String>,
}

pub(super) fn run(args: &WorkloadsArgs) -> anyhow::Result<End> {
    match &args.name {
        None => {
            let mut list = String::new();
            for (name, _) in BUILT_IN {
                let workload = Workload::load(name)?;
                list.push_str(&format!("{name:<15} {}\n", workload.description));
            }
            super::show(&list)?;
            Ok(End::Done)
        }
        Some(name) => match BUILT_IN.iter().find(|(known, _)| known == name) {
            Some((_, text)) => {
                super::show(text)?;
                Ok(End::Done)
            }
            None => super::usage(&format!(
                "there is no workload `{name}`; `loadtest workloads` lists those that there are"
            )),
        },
    }
}
