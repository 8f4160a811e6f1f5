//! Converts an old configuration into the native format, with a comment wherever the meaning of a
//! setting has changed.

use std::path::Path;

use super::write;
use super::*;
use crate::config::yaml::Notes;
use crate::processor::cloudevents::settings::CLUSTER_VARIABLE;

/// A file was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    #[error("{file}: is in the native format already", file = .0.display())]
    Native(std::path::PathBuf),
    #[error("cannot write a secret: {0}")]
    Secret(#[from] super::SecretError),
}

const HEAD: &str = "\
# Converted from the old router's configuration. Differences to the old router:
# - An event always has the same id: after a crash, on a replay, on a second router.
# - An event that a target does not take is retried, and kept as a dead letter if it is refused for good. The old router dropped it.
# - `${NAME}` in text is an environment variable, and `$${` stands for `${`. The old router took text literally, so it is escaped below.
";

/// Converts the old configuration in `text`; messages refer to the file as `name`. The result
/// contains the secrets of the old file.
pub fn convert(text: &str, name: &Path) -> Result<(String, Vec<Warning>), ConvertError> {
    // Pretend to be in a cluster: the file may be meant for another machine, so a `ref` is fine.
    let env = |variable: &str| match variable {
        CLUSTER_VARIABLE => Some("kubernetes.default.svc".into()),
        other => std::env::var(other).ok(),
    };
    let (config, warnings) = load_str_with(text, name, &env)?;
    if config.format == ConfigFormat::Native {
        return Err(ConvertError::Native(name.into()));
    }
    // The JSON format and the webhook provider have no setting for the state, which therefore stays
    // in the default directory.
    let has_state = config.sources.iter().any(|source| source.kind.vcenter().is_some());
    let with_state = config.format == ConfigFormat::V1alpha1 && has_state;
    let body = write::write(&config, with_state, &notes(&config))?;
    Ok((format!("{HEAD}{body}"), warnings))
}

/// Converts the old configuration in the file at `path`.
pub fn convert_file(path: &Path) -> Result<(String, Vec<Warning>), ConvertError> {
    convert(&super::read(path)?, path)
}

/// The comments for a converted configuration.
fn notes(config: &Config) -> Notes {
    let mut notes = Vec::new();
    let mut note = |path: &str, text: &'static str| notes.push((path.to_owned(), text));
    match &config.state {
        StateLocation::Dir(_) => {
            note(
                "dataDir",
                "The old `checkpointDir`. It now contains a database with positions, spools and dead letters.",
            );
        }
        StateLocation::Ephemeral => {
            note(
                "ephemeral",
                "The old `checkpoint: false`: events that occur while the router is down are not delivered, and undelivered ones are lost when it ends.",
            );
            note("ephemeral", "With `dataDir: /var/lib/event-router` instead, nothing is lost.");
        }
    }
    note("admin.bindAddress", "`/stats` as before; `/metrics`, `/healthz` and `/readyz` are new.");
    note("sources[0].importCheckpoint", "Read once, if there is no position for this source yet.");
    note(
        "processors[0].contentType",
        "The old router sent none, and functions may rely on that. For new functions use `application/cloudevents+json`.",
    );
    note("processors[0].ordering", "One event after another, as before. `none` is many times faster.");
    note(
        "processors[0].time",
        "vCenter's time, as in the old router since v0.7. Earlier releases had the router's: `time: router`.",
    );
    note("processors[0].extensions", "As in the old router since v0.7.");
    note(
        "processors[0].buses",
        "You can list more rules and buses; without `rules`, all rules of the bus apply.",
    );
    if matches!(&config.processors[0].kind, ProcessorKind::CloudEvents(target) if target.auth != Auth::None) {
        note("processors[0].auth", "The old router ignored it.");
    }
    notes
}
