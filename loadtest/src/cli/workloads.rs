//! `loadtest workloads`: lists and prints the built-in workloads.

use clap::Args;

use super::End;
use crate::workload::{BUILT_IN, Workload};

/// List the built-in workloads, or print one as a template.
#[derive(Debug, Args)]
pub struct WorkloadsArgs {
    /// Workload to print
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
            None => super::usage(&format!("there is no workload `{name}`; `loadtest workloads` lists them")),
        },
    }
}
