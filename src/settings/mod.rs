//! The settings of the router: composes what the parts declare into one file, and turns a file in
//! one of three formats into a validated [`Config`] at the start of the process.
//!
//! ```text
//!             tree             check              native | v1alpha1 | json_array
//! file text ───────► tree ───────────► values ─────────────────────────────────► Config
//!                  with lines    table of keys
//!                └──────────── problems: all of them, each with its line ───────┘
//! ```
//!
//! A format is a table of keys and a builder. Those of the native format come from the declarations
//! in the `settings.rs` of each part, see [`config::declare`](crate::config::declare); so do the
//! JSON schema and `docs/configuration.md`.
//!
//! INVARIANT: a [`Config`] needs no further checks, and its `Debug` output contains no secret.

mod admin;
mod advice;
pub mod changes;
mod convert;
mod describe;
mod json_array;
mod native;
mod old;
mod processor;
mod references;
mod root;
mod route;
mod v1alpha1;
mod write;

use std::io::Read;
use std::path::Path;

pub use self::admin::Admin;
pub use self::convert::{ConvertError, convert, convert_file};
pub use self::describe::{json_schema, json_schema_text, reference_manual};
pub use self::processor::{ProcessorConfig, ProcessorKind};
pub use self::root::{Config, ConfigFormat};
pub use self::route::RouteConfig;
pub use crate::cloudevents::settings::{EnvelopeOptions, EventTime, Extensions, Payload};
pub use crate::config::{
    ConfigErrors, FILE_BYTES_MAX, Problem, SECRET_FILE_BYTES_MAX, Secret, SecretError, Warning,
};
pub use crate::net::settings::{Auth, ClientCert, ClientTls, HttpClient, Proxy, ServerTls};
pub use crate::pipeline::deliver::settings::{
    BatchLimits, BlameTable, Breaker, DeliveryPolicy, OnRefusal, Ordering, Overflow, OverflowPolicy,
    RateLimit, RefusalBlame, Retry, StatusPattern,
};
pub use crate::processor::cloudevents::settings::{CloudEventsConfig, ContentMode, Reference};
pub use crate::processor::cloudevents::target_url::TargetUrl;
pub use crate::processor::eventbridge::settings::{AssumeRole, AwsAuth, EventBridgeConfig, EventBus};
pub use crate::processor::openfaas::settings::OpenFaasConfig;
pub use crate::source::settings::{SourceConfig, SourceKind};
pub use crate::source::vcenter::settings::{
    EntityFilter, EventFilter, Protocol, Recursion, StartAt, Sweep, Vcenter, VcenterTimeouts,
};
pub use crate::source::webhook::settings::{Mapping, Signature, SignatureEncoding, Webhook};
pub use crate::state::settings::{DeadLetterLimits, StateLocation};
pub use crate::telemetry::settings::{Log, LogFormat, LogLevel};

pub(crate) use crate::source::vcenter::settings::start_at;

use self::root::API_VERSION;
use self::route::RouteKeys;
use crate::config::problem::Problems;
use crate::config::tree::{self, Node, NodeData};

/// A valid configuration, and what deserves attention in it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Printed by every command that reads the file.
    pub warnings: Vec<Warning>,
    /// Printed by `check` alone.
    pub advice: Vec<Warning>,
}

/// Reads and validates the configuration file at `path`, in any of the three formats. File names in
/// it are relative to the working directory.
///
/// # Errors
/// All errors in the file with their lines; or a single one without a line if it cannot be read.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str(&read(path)?, path)
}

/// Like [`load`], with advice. `without_secrets`: on a machine that has neither the secrets nor the
/// certificates of the configuration, which are not read then.
pub fn examine(path: &Path, without_secrets: bool) -> Result<Loaded, ConfigErrors> {
    let mut problems = Problems { without_secrets, ..Problems::default() };
    let text = read(path)?;
    let config = build(&text, &|variable| std::env::var(variable).ok(), &mut problems);
    let secrets = std::mem::take(&mut problems.secrets);
    let (config, warnings) = problems.finish(path, config)?;
    let config = config.expect("a file without a configuration has an error");
    let advice = advice::advice(path, &secrets).into_iter();
    let advice = advice.map(|problem| Warning { file: path.into(), problem }).collect();
    Ok(Loaded { config, warnings, advice })
}

/// Reads the text of a file of bounded size.
fn read(path: &Path) -> Result<String, ConfigErrors> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, 0, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(path, 0, format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    // UTF-16 without a byte-order mark is valid UTF-8 with zero bytes.
    let wrong_at = match std::str::from_utf8(&bytes) {
        Ok(text) => text.find('\0'),
        Err(error) => Some(error.valid_up_to()),
    };
    match wrong_at {
        None => Ok(String::from_utf8(bytes).expect("checked above")),
        Some(at) => {
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(unreadable(path, line, "is not UTF-8 text".into()))
        }
    }
}

fn unreadable(file: &Path, line: usize, message: String) -> ConfigErrors {
    let problems = vec![Problem { line, path: String::new(), message }];
    ConfigErrors { file: file.into(), problems }
}

/// Validates the configuration in `text`, with the environment variables of the process. Messages
/// refer to the file as `name`.
pub fn load_str(text: &str, name: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_str_with(text, name, &|variable| std::env::var(variable).ok())
}

/// Like [`load_str`], with environment variables from `env`.
pub fn load_str_with(
    text: &str,
    name: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let mut problems = Problems::default();
    let config = build(text, env, &mut problems);
    let (config, warnings) = problems.finish(name, config)?;
    Ok((config.expect("a file without a configuration has an error"), warnings))
}

/// Parses the text, checks it and builds the configuration. The configuration is meaningless if
/// `problems` has errors afterwards; it is `None` if the text cannot be parsed, which is one.
fn build(text: &str, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Option<Config> {
    // The text may begin with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('[');
    let read = if json { tree::read_json } else { tree::read_yaml };
    let root = read(text, problems)?;
    Some(match format_of(&root) {
        ConfigFormat::Native => native::build(&root, env, problems),
        ConfigFormat::V1alpha1 => v1alpha1::build(&root, env, problems),
        ConfigFormat::JsonArray => json_array::build(&root, env, problems),
    })
}

/// Detects the format of a file from its content.
fn format_of(root: &Node) -> ConfigFormat {
    let api_version = root.get("apiVersion").and_then(|entry| entry.value.text()).unwrap_or_default();
    match &root.data {
        NodeData::List(_) => ConfigFormat::JsonArray,
        _ if api_version == API_VERSION => ConfigFormat::Native,
        _ if api_version.starts_with(v1alpha1::API_GROUP) => ConfigFormat::V1alpha1,
        _ if v1alpha1::DISTINCTIVE_FIELDS.iter().any(|key| root.get(key).is_some()) => ConfigFormat::V1alpha1,
        _ => ConfigFormat::Native,
    }
}
