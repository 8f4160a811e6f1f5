//! `event-router config convert`: an old configuration to the native format.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::anyhow;

use super::Exit;
use crate::config::convert_file;

/// Write an old configuration (the JSON array or v1alpha1) in the native format.
///
/// With a comment wherever something means more or else than it did. The result does the same as the old file, and holds its secrets: a file that `--output`
/// makes can be read by its owner alone. Exit code 2 where the old file is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The old configuration
    file: PathBuf,
    /// Where to write it; must not be there yet [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Errors: the output cannot be written. What is wrong with the old file is said here, all of it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (native, warnings) = match convert_file(&args.file) {
        Ok(converted) => converted,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::Usage);
        }
    };
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    match &args.output {
        None => super::print(native.as_bytes())?,
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
            write().map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    anyhow!("`{}` exists already; name a file that does not, or move it away", path.display())
                }
                _ => anyhow!("cannot write `{}`: {error}", path.display()),
            })?;
        }
    }
    Ok(Exit::Done)
}
