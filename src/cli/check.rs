//! `event-router check`: reads a configuration and says all that is wrong with it.

use clap::Args;

use super::{ConfigArgs, End};
use crate::config::SourceKind;
use crate::processor;

/// Read a configuration and say all that is wrong with it. Exit code 2 if anything is.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<End> {
    let (file, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let file = file.display();
    let mut end = End::Done;
    let mut fail = |message: String| {
        eprintln!("{message}");
        end = End::Usage;
    };
    for error in config.processors.iter().filter_map(|processor| processor::build(processor).err()) {
        fail(format!("{file}: {error}"));
    }
    if end == End::Done {
        println!(
            "{file}: {} sources, {} processors, {} routes",
            config.sources.len(),
            config.processors.len(),
            config.routes.len()
        );
        for source in &config.sources {
            let SourceKind::Vcenter(vcenter) = &source.kind;
            println!("  source {}: {}", source.name, vcenter.sdk_url);
        }
        for route in &config.routes {
            let pattern = if route.pattern.is_some() { " by pattern" } else { "" };
            println!(
                "  route {}: {} to {}{pattern}",
                route.name,
                route.sources.join(", "),
                route.processors.join(", ")
            );
        }
    }
    Ok(end)
}
