//! `event-router config convert`: writes an old configuration in the native format.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use clap::Args;

use super::Exit;
use crate::settings::convert_file;

/// Convert an old configuration (the JSON array or v1alpha1) into the native format.
///
/// A comment marks every setting whose meaning has changed. The result behaves like the old file,
/// and contains its secrets: only its owner can read a file that `--output` creates. The exit code
/// is 2 if the old file has errors.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The old configuration
    file: PathBuf,
    /// The file to write; it must not exist [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints all errors of the old file itself; an error means that the output cannot be written.
pub fn run(args: &ConvertArgs) -> anyhow::Result<Exit> {
    let (native, warnings) = match convert_file(&args.file) {
        Ok(converted) => converted,
        Err(error) => {
            super::complain(&error.to_string());
            return Ok(Exit::Usage);
        }
    };
    warnings.iter().for_each(|warning| super::complain(&warning.to_string()));
    match &args.output {
        None => super::print(native.as_bytes())?,
        Some(path) => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            // The file contains the secrets of the old one.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            write(&options, path, &native).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    anyhow!("`{}` exists already; choose another name, or move it away", path.display())
                }
                _ => anyhow!("cannot write `{}`: {error}", path.display()),
            })?;
        }
    }
    Ok(Exit::Done)
}

fn write(options: &OpenOptions, path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
