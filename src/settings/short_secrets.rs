//! Finds secrets that are too short to be redacted.

use super::*;
use crate::limits::SECRET_CHARS_MIN;
use crate::redact::is_redactable;

/// A warning for each secret of `config` that is too short to be redacted where a server repeats
/// it: the path of its field, and a message. Headers are left out: most of them are no secrets.
pub fn short_secrets(config: &Config) -> Vec<String> {
    let mut all: Vec<(String, &Secret)> = Vec::new();
    all.extend(config.admin.auth.secrets("admin.auth"));
    for (at, source) in config.sources.iter().enumerate() {
        let secrets = source.kind.as_type().secrets().into_iter();
        all.extend(secrets.map(|(field, secret)| (format!("sources[{at}].{field}"), secret)));
    }
    for (at, processor) in config.processors.iter().enumerate() {
        let secrets = processor.kind.settings().secrets();
        all.extend(secrets.into_iter().map(|(path, secret)| (format!("processors[{at}].{path}"), secret)));
    }
    // An unreadable file is reported where it is used.
    let is_short =
        |secret: &Secret| secret.read().is_ok_and(|text| !text.is_empty() && !is_redactable(&text));
    let short = all.into_iter().filter(|(_, secret)| is_short(secret));
    short
        .map(|(path, _)| {
            format!(
                "{path}: has fewer than {SECRET_CHARS_MIN} characters, too few to be redacted where a server repeats it; use a longer one"
            )
        })
        .collect()
}
