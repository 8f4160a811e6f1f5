//! `event-router config convert`: an old configuration to the native format.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

/// Writes an old configuration (JSON array or v1alpha1) in the native format, with comments where something means more or else than it did
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The old configuration
    file: PathBuf,
    /// Where to write it; must not be there yet [default: standard output]
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// Errors: what is wrong with the old file, all of it; or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (native, warnings) = crate::config::convert_file(&args.file)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    match &args.output {
        None => std::io::stdout().write_all(native.as_bytes()).context("cannot write to standard output"),
        Some(path) => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            // It holds the secrets of the old file.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let write = || -> std::io::Result<()> {
                let mut file = options.open(path)?;
                file.write_all(native.as_bytes())?;
                file.sync_all()
            };
            write().with_context(|| format!("cannot write `{}`", path.display()))
        }
    }
}
