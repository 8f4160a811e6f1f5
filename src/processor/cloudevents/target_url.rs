//! The URL of a target, which may be its only credential, like that of a webhook.
//!
//! INVARIANT: the `Debug` output of a [`TargetUrl`] contains no secret.

use std::fmt;

use crate::config::declare::*;
use crate::config::{Secret, SecretError, scalar};
use crate::outside;

#[derive(Clone, PartialEq, Eq)]
pub enum TargetUrl {
    /// A URL without secrets, except for tokens that look random. Empty if there is none.
    Open(String),
    /// A URL that is a secret, and its name for messages.
    Secret(Secret, String),
}

impl TargetUrl {
    /// A secret URL. Its name is empty if the secret is no URL.
    pub fn secret(secret: Secret) -> Self {
        let url = secret.read().ok().and_then(|text| scalar::http_url(&text).ok());
        TargetUrl::Secret(secret, url.map(|url| outside::secret_name(&url)).unwrap_or_default())
    }

    /// The URL for people to see.
    pub fn shown(&self) -> String {
        match self {
            TargetUrl::Open(url) => outside::readable(url),
            TargetUrl::Secret(_, name) => name.clone(),
        }
    }

    /// The URL, or the name of a secret one. Both begin with scheme and host.
    pub(crate) fn with_host(&self) -> &str {
        match self {
            TargetUrl::Open(url) => url,
            TargetUrl::Secret(_, name) => name,
        }
    }
}

impl<T: Into<String>> From<T> for TargetUrl {
    fn from(url: T) -> Self {
        TargetUrl::Open(url.into())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

/// A URL in one key, or in the file that the other names. One with a variable in it is a secret.
impl Setting for TargetUrl {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let [url, file] = fields else { unreachable!("a URL has two keys") };
        match (found.value(file.key), found.maybe_text(url.key)) {
            (Some(Value::Secret(secret)), _) => TargetUrl::secret(secret.clone()),
            (_, Some(text)) if found.has_variable(url.key) && !text.is_empty() => {
                TargetUrl::secret(Secret::inline(text))
            }
            (_, text) => TargetUrl::Open(text.unwrap_or_default().to_owned()),
        }
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        match self {
            TargetUrl::Open(text) if text.is_empty() => {}
            TargetUrl::Open(text) => {
                let [url, _] = fields else { unreachable!("a URL has two keys") };
                out.push((url.key, Out::Text(text.clone())));
            }
            TargetUrl::Secret(secret, _) => secret.write(fields, out)?,
        }
        Ok(())
    }
}

/// Reports a file that contains no URL.
pub(crate) fn check_url_file(found: &CheckedMap, key: &str, problems: &mut Problems) {
    let Some(Value::Secret(secret)) = found.value(key).filter(|_| !found.is_wrong(key)) else { return };
    if let Ok(text) = secret.read()
        && let Err(message) = scalar::http_url(&text)
    {
        let message = format!("the text in this file {message}");
        problems.error(found.line_of(key), &found.path_of(key), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Group;
    use crate::processor::cloudevents::settings::CloudEventsConfig;

    #[test]
    fn a_url_is_written_where_it_was_read() {
        let check = |url: TargetUrl, expected: Option<(&str, &str)>| {
            let mut fields = Fields::new();
            Group::write(&CloudEventsConfig::new(url), &mut fields).unwrap();
            let is_url = |key: &str| matches!(key, "url" | "urlFile");
            let written = fields.iter().find_map(|(key, value)| match value {
                Out::Text(text) if is_url(key) => Some((*key, &**text)),
                _ => None,
            });
            assert_eq!(written, expected);
        };
        check("https://h/x".into(), Some(("url", "https://h/x")));
        check("".into(), None);
        check(TargetUrl::secret(Secret::file("/no/such/file")), Some(("urlFile", "/no/such/file")));
        check(TargetUrl::secret(Secret::inline("https://h/s3cret")), Some(("url", "https://h/s3cret")));
    }

    #[test]
    fn a_secret_url_is_never_shown() {
        let url = TargetUrl::secret(Secret::inline("https://h/s3cret"));
        assert!(url.shown().starts_with("https://h/#") && !format!("{url:?}").contains("s3cret"), "{url:?}");
    }
}
