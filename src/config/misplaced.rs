//! Messages about text that may be a secret in the wrong place: a password instead of a key, of the
//! path of its file, or of the name of a header.

use std::path::Path;

use super::scalar::ExpandError;

/// A key for messages. Text that does not look like a key may be a misplaced secret, and is hidden.
pub(super) fn shown(key: &str) -> String {
    let looks_like_one =
        key.len() <= 40 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if looks_like_one && !key.is_empty() { format!("`{key}`") } else { NOT_SHOWN.into() }
}

/// Stands for text that may be a secret.
pub(super) const NOT_SHOWN: &str = "(not shown)";

/// Returns true for the usual name of an environment variable.
fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns true if `key` is the name of a field with a wrong letter or two.
pub(super) fn is_typo(key: &str, field: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphabetic()) && strsim::osa_distance(key, field) <= 2
}

/// The message about a variable that cannot be replaced.
pub(super) fn variable_problem(error: &ExpandError) -> String {
    match error {
        ExpandError::Missing(name) => {
            format!(
                "the environment variable `{name}` is not set (for the text `${{{name}}}` write `$${{{name}}}`)"
            )
        }
        ExpandError::NotAName => {
            "`${` is not followed by the name of a variable and `}`; for the text `${` write `$${`".into()
        }
    }
}

/// The same for a secret, which may contain `${` by itself: then it must not be shown.
pub(super) fn variable_in_secret(text: &str, error: &ExpandError) -> String {
    match error {
        // A name with nothing around it, or one that no password resembles.
        ExpandError::Missing(name)
            if !is_variable_name(name) || (text != format!("${{{name}}}") && !name.contains('_')) =>
        {
            "an environment variable in it is not set; for the text `${` write `$${`".into()
        }
        error => variable_problem(error),
    }
}

/// Returns true for text that is certainly a path: in a directory that exists, or such as
/// `/etc/event-router/password`. Other text in the place of a path may be the secret itself.
pub(super) fn is_path(text: &str) -> bool {
    let path = Path::new(text);
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte);
    let is_usual = path.is_absolute() && path.components().count() > 2 && text.bytes().all(is_plain);
    is_usual || path.parent().is_some_and(|parent| parent.components().count() > 1 && parent.is_dir())
}

/// A name of a header for messages. The value of a header is a secret that may stand in its place.
pub(super) fn header_shown(name: &str) -> String {
    const KNOWN: [&str; 6] =
        ["authorization", "cookie", "content-type", "content-length", "host", "connection"];
    let lower = name.to_ascii_lowercase();
    let is_known = KNOWN.contains(&&*lower) || lower.starts_with("x-") || lower.starts_with("ce-");
    if is_known { shown(name) } else { NOT_SHOWN.to_owned() }
}
