//! Configuration: a file in one of three formats becomes one validated [`Config`]. Read at the start, before anything flows.
//!
//! ```text
//!             tree            check               native | v1alpha1 | json_array
//! file text ───────► tree ───────────► values ─────────────────────────────────► Config
//!                  with lines    table of keys        problems: all of them, each with its line
//! ```
//!
//! A format is a table of keys ([`keys`] for ours) and a builder. The JSON schema and `docs/configuration.md` come from the same table.
//!
//! INVARIANT: whoever holds a [`Config`] need not check it again, and cannot make it print a secret.
//! INVARIANT: no error or warning carries a value of the file, but for names.

#![allow(dead_code)] // TEMPORARY
mod check;
mod field;
mod found;
mod keys;
mod model;
mod native;
mod problem;
mod scalar;
mod secret;
mod tree;

use std::io::Read;
use std::path::Path;

pub use model::*;
pub use problem::{ConfigErrors, Problem, Warning};
pub use secret::{SECRET_FILE_BYTES_MAX, Secret, SecretError};
pub use tree::FILE_BYTES_MAX;

use problem::Problems;

/// Reads and validates the configuration file at `path`, whichever of the three formats it has. Names of files in it are relative to the working directory.
///
/// Errors: all that is wrong with the file, with lines; or that it cannot be read, in line 1.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let fail = |line: usize, message: String| {
        let mut problems = Problems::default();
        problems.error(line, "", message);
        problems.finish(path, ()).map(|_| unreachable!("there is an error"))
    };
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return fail(1, format!("cannot be read: {error}"));
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return fail(1, format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => load_str(&text, path),
        Err(error) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            fail(line, "is not UTF-8 text".into())
        }
    }
}

/// Validates the configuration in `text`; `name` is what messages call the file. Environment variables are the process's.
pub fn load_str(text: &str, name: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str_with(text, name, &|variable| std::env::var(variable).ok())
}

/// As [`load_str`], with `env` to look up environment variables.
pub fn load_str_with(
    text: &str,
    name: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let mut problems = Problems::default();
    let Some(root) = tree::read_yaml(text, &mut problems) else {
        return problems.finish(name, ()).map(|_| unreachable!("there is an error"));
    };
    let config = native::build(&root, env, &mut problems);
    problems.finish(name, config)
}
