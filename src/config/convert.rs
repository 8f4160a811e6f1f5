//! An old configuration as one of the native format that does the same, with comments where something means more or else than it did.

use std::path::Path;

use super::model::*;
use super::reference::CLUSTER_VARIABLE;
use super::write;
use super::yaml::Notes;
use super::{ConfigErrors, Warning, load_str_with};

/// Why a file was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    #[error("{file}: is in the native format already", file = .0.display())]
    Native(std::path::PathBuf),
    #[error("a secret cannot be written: {0}")]
    Secret(#[from] super::SecretError),
}

const HEAD: &str = "\
# Converted from the old router's configuration. What changed for the better:
# - An event has the same id whenever it is delivered: after a crash, on a replay, on a second router.
# - What a target does not take is tried again, and kept as a dead letter when it is refused for good. It was dropped.
# - `$` in text: `${NAME}` is an environment variable, and `$${` stands for `${`. The old router took text as it was; what follows is escaped.
";

/// The native file for the old one in `text`; `name` is what messages call it. It holds the secrets that were in the old one.
pub fn convert(text: &str, name: &Path) -> Result<(String, Vec<Warning>), ConvertError> {
    // It is converted here, and runs where it will: a `ref` may stay.
    let env = |variable: &str| match variable {
        CLUSTER_VARIABLE => Some("kubernetes.default.svc".into()),
        other => std::env::var(other).ok(),
    };
    let (config, warnings) = load_str_with(text, name, &env)?;
    if config.format == ConfigFormat::Native {
        return Err(ConvertError::Native(name.into()));
    }
    // The old JSON format has no place for the state: it stays where the default is.
    let with_state = config.format == ConfigFormat::V1alpha1;
    let body = write::write(&config, with_state, &notes(&config))?;
    Ok((format!("{HEAD}{body}"), warnings))
}

/// The native file for the old one at `path`.
pub fn convert_file(path: &Path) -> Result<(String, Vec<Warning>), ConvertError> {
    convert(&super::read(path)?, path)
}

fn notes(config: &Config) -> Notes {
    let mut notes = Vec::new();
    let mut note = |path: &str, text: &'static str| notes.push((path.to_owned(), text));
    match &config.state {
        StateLocation::Dir(_) => {
            note(
                "dataDir",
                "The old `checkpointDir`. Positions are in a database now, spools and dead letters beside them.",
            );
        }
        StateLocation::Ephemeral => {
            note(
                "ephemeral",
                "The old `checkpoint: false`: what happens while the router is down is not delivered, and what waits when it ends is gone.",
            );
            note("ephemeral", "Write `dataDir: /var/lib/event-router` instead, and nothing is lost.");
        }
    }
    note("admin.bindAddress", "`/stats` as before; `/metrics`, `/healthz` and `/readyz` are new.");
    note("sources[0].importCheckpoint", "Read once, when there is no position of this source yet.");
    note(
        "processors[0].contentType",
        "The old router sent none, and functions may rely on it. New ones: `application/cloudevents+json`.",
    );
    note("processors[0].ordering", "One after another, as before. `none` is many times faster.");
    note(
        "processors[0].time",
        "vCenter's time, as in the old router from v0.7 on. Before that it was the router's: `time: router`.",
    );
    note("processors[0].extensions", "As in the old router from v0.7 on.");
    note(
        "processors[0].buses",
        "More rules and buses can be listed; without `rules` all rules of the bus count.",
    );
    if matches!(&config.processors[0].kind, ProcessorKind::CloudEvents(target) if target.auth != Auth::None) {
        note("processors[0].auth", "The old router took no notice of it.");
    }
    notes
}
