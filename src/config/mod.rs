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

mod check;
mod convert;
mod defaults;
mod describe;
mod field;
mod found;
mod json_array;
mod keys;
mod model;
mod native;
mod old;
mod problem;
mod reference;
mod scalar;
mod secret;
mod tree;
mod v1alpha1;
mod write;
mod yaml;

use std::io::Read;
use std::path::Path;

pub use convert::{ConvertError, convert, convert_file};
pub use describe::{json_schema, json_schema_text, reference_manual};
pub use model::*;
pub use problem::{ConfigErrors, Problem, Warning};
pub use secret::{SECRET_FILE_BYTES_MAX, Secret, SecretError};
pub use tree::FILE_BYTES_MAX;

pub(crate) use scalar::start_at;

use problem::Problems;
use tree::{Node, NodeData};

/// Reads and validates the configuration file at `path`, whichever of the three formats it has. Names of files in it are relative to the working directory.
///
/// Errors: all that is wrong with the file, with lines; or that it cannot be read, in line 1.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str(&read(path)?, path)
}

/// The text of a file within bounds.
fn read(path: &Path) -> Result<String, ConfigErrors> {
    let fail = |line: usize, message: String| {
        let problems = vec![Problem { line, path: String::new(), message }];
        ConfigErrors { file: path.into(), problems }
    };
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| fail(1, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(1, format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    // UTF-16 without its mark is UTF-8 with zero bytes.
    let wrong_at = match std::str::from_utf8(&bytes) {
        Ok(text) => text.find('\0'),
        Err(error) => Some(error.valid_up_to()),
    };
    match wrong_at {
        None => Ok(String::from_utf8(bytes).expect("it has just been looked at")),
        Some(at) => {
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(fail(line, "is not UTF-8 text".into()))
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
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('[');
    let read = if json { tree::read_json } else { tree::read_yaml };
    let Some(root) = read(text, &mut problems) else {
        return problems.finish(name, ()).map(|_| unreachable!("there is an error"));
    };
    let config = match format_of(&root) {
        ConfigFormat::Native => native::build(&root, env, &mut problems),
        ConfigFormat::V1alpha1 => v1alpha1::build(&root, env, &mut problems),
        ConfigFormat::JsonArray => json_array::build(&root, env, &mut problems),
    };
    problems.finish(name, config)
}

/// Which format a file has, by what is in it.
fn format_of(root: &Node) -> ConfigFormat {
    let api_version = root.get("apiVersion").and_then(|entry| entry.value.text()).unwrap_or_default();
    match &root.data {
        NodeData::List(_) => ConfigFormat::JsonArray,
        _ if api_version == keys::API_VERSION => ConfigFormat::Native,
        _ if api_version.starts_with(v1alpha1::API_GROUP) => ConfigFormat::V1alpha1,
        _ if v1alpha1::TELLING.iter().any(|key| root.get(key).is_some()) => ConfigFormat::V1alpha1,
        _ => ConfigFormat::Native,
    }
}
