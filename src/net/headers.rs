//! The headers that every request of a client carries: credentials and configured headers. Their
//! values may come from files that are rotated.
//!
//! INVARIANT: none of these values reaches a log or an error. [`Headers::redact`] removes them from
//! a target's answer, even after a rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use crate::config::{Auth, Secret, SecretError};
use crate::limits::{FILES_CHECK_INTERVAL, FORMER_SECRETS_MAX};

/// The headers cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("`{0}` is not a header name; use letters, digits and dashes")]
    Name(String),
    #[error("the value of header `{0}` has a character that headers cannot carry, such as a line end")]
    Value(String),
    #[error("header `{0}` is set by the router itself; remove it from `headers`")]
    Reserved(String),
}

/// The longest beginning of a secret that may be shown, in bytes: so short, it gives nothing away.
const SHOWN_MAX: usize = 3;

/// Headers whose values may change.
#[derive(Debug)]
pub struct Headers {
    auth: Auth,
    extra: Vec<(HeaderName, Secret)>,
    /// Headers that never change.
    fixed: HeaderMap,
    now: ArcSwap<Values>,
    /// Names of the headers whose value comes from a file.
    rotating: Vec<HeaderName>,
    started: Instant,
    /// Time at which the files are read again, in milliseconds after `started`.
    next_read_ms: AtomicU64,
}

#[derive(Clone)]
struct Values {
    headers: Arc<HeaderMap>,
    /// All secrets to redact. The longest come first: a secret may contain a shorter one, and must
    /// be replaced as a whole.
    secrets: Vec<String>,
    /// The part of `secrets` that `headers` no longer contains, newest first.
    former: Vec<String>,
}

impl Values {
    /// Adds earlier secrets, which a target may still mention.
    fn after(mut self, last: &Values) -> Self {
        let kept = last.secrets.iter().filter(|secret| !last.former.contains(secret)).chain(&last.former);
        self.former = kept.filter(|secret| !self.secrets.contains(secret)).cloned().collect();
        self.former.truncate(FORMER_SECRETS_MAX);
        self.secrets.extend(self.former.iter().cloned());
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self
    }
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

impl Headers {
    /// Combines `fixed`, the credentials and the configured headers. A configured header replaces a
    /// fixed header of the same name.
    pub fn new(auth: &Auth, extra: &[(String, Secret)], fixed: HeaderMap) -> Result<Self, HeadersError> {
        let mut names = Vec::with_capacity(extra.len());
        for (name, value) in extra {
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeadersError::Name(name.clone()))?;
            let framing = ["host", "content-length", "transfer-encoding", "connection"];
            if framing.contains(&parsed.as_str()) || parsed.as_str().starts_with("ce-") {
                return Err(HeadersError::Reserved(name.clone()));
            }
            names.push((parsed, value.clone()));
        }
        let credential = match auth {
            Auth::None => None,
            Auth::Basic { password: secret, .. } | Auth::Bearer { token: secret } => Some(secret),
        };
        let secrets =
            names.iter().map(|(name, value)| (name, value)).chain(credential.map(|c| (&AUTHORIZATION, c)));
        let in_files = secrets.filter(|(_, secret)| secret.path().is_some());
        let rotating = in_files.map(|(name, _)| name.clone()).collect();
        let values = read(auth, &names, &fixed)?;
        Ok(Headers {
            auth: auth.clone(),
            extra: names,
            fixed,
            now: ArcSwap::from_pointee(values),
            rotating,
            started: Instant::now(),
            next_read_ms: AtomicU64::new(FILES_CHECK_INTERVAL.as_millis() as u64),
        })
    }

    /// The current headers. Files are read again after [`FILES_CHECK_INTERVAL`]; if one cannot be
    /// read, its last good value stays.
    pub fn current(&self) -> Arc<HeaderMap> {
        if self.rotates() {
            let now_ms = self.started.elapsed().as_millis() as u64;
            let due = self.next_read_ms.load(Ordering::Relaxed);
            let next = now_ms + FILES_CHECK_INTERVAL.as_millis() as u64;
            let mine = now_ms >= due
                && self
                    .next_read_ms
                    .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if mine {
                self.read_again();
            }
        }
        Arc::clone(&self.now.load().headers)
    }

    /// Returns true if a value comes from a file.
    pub fn rotates(&self) -> bool {
        !self.rotating.is_empty()
    }

    /// Reads the files again after the target refused the credentials of a request (401). Returns
    /// true if the values differ from those in `sent`, so that another try makes sense.
    pub fn refused(&self, sent: &HeaderMap) -> bool {
        if !self.rotates() {
            return false;
        }
        self.read_again();
        let now = self.now.load();
        self.rotating.iter().any(|name| now.headers.get(name) != sent.get(name))
    }

    fn read_again(&self) {
        match read(&self.auth, &self.extra, &self.fixed) {
            Ok(values) => drop(self.now.rcu(|last| values.clone().after(last))),
            Err(error) => tracing::warn!(%error, "cannot read a credential again; keeping the last one"),
        }
    }

    /// Removes all secrets from `text`. It may be cut anywhere, so the beginning of a secret at its
    /// end is removed as well.
    pub fn redact(&self, text: String) -> String {
        redact(text, &self.now.load().secrets)
    }
}

/// Removes `secrets`, which come longest first, from `text`, and the beginning of one at its end.
pub fn redact(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), "…");
        }
    }
    for secret in secrets {
        let begun = (SHOWN_MAX + 1..secret.len()).rev().filter(|end| secret.is_char_boundary(*end));
        let begun = begun.map(|end| &secret[..end]).find(|begun| text.ends_with(begun));
        if let Some(begun) = begun {
            text.truncate(text.len() - begun.len());
            text.push('…');
        }
    }
    text
}

/// Reads all values.
fn read(auth: &Auth, extra: &[(HeaderName, Secret)], fixed: &HeaderMap) -> Result<Values, HeadersError> {
    let mut headers = fixed.clone();
    let mut secrets = Vec::new();
    let mut put = |name: &HeaderName, value: String| {
        let mut header = HeaderValue::from_str(&value).map_err(|_| HeadersError::Value(name.to_string()))?;
        header.set_sensitive(true);
        headers.insert(name.clone(), header);
        Ok::<_, HeadersError>(value)
    };
    match auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            let password = password.read()?;
            let encoded = BASE64_STANDARD.encode(format!("{username}:{password}"));
            put(&AUTHORIZATION, format!("Basic {encoded}"))?;
            secrets.extend([encoded, password.to_string()]);
        }
        Auth::Bearer { token } => {
            let token = token.read()?;
            put(&AUTHORIZATION, format!("Bearer {token}"))?;
            secrets.push(token.to_string());
        }
    }
    for (name, secret) in extra {
        secrets.push(put(name, secret.read()?.to_string())?);
    }
    // Requests may also carry the proxy's credentials.
    let proxy = fixed.get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(encoded) = proxy.and_then(|value| value.strip_prefix("Basic ")) {
        let pair = BASE64_STANDARD.decode(encoded).ok().and_then(|pair| String::from_utf8(pair).ok());
        secrets.extend(
            pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password.to_owned()),
        );
        secrets.push(encoded.to_owned());
    }
    // Redacting a secret of a few letters would only garble the target's words.
    secrets.retain(|secret| secret.len() > SHOWN_MAX);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    Ok(Values { headers: Arc::new(headers), secrets, former: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(headers: &Headers, name: &str) -> Option<String> {
        headers.current().get(name).map(|value| value.to_str().unwrap().to_string())
    }

    #[test]
    fn credentials_are_headers() {
        let basic = Auth::Basic { username: "ädmin".into(), password: Secret::inline("p:w\"$") };
        let headers = Headers::new(&basic, &[], HeaderMap::new()).unwrap();
        assert_eq!(value(&headers, "authorization").unwrap(), "Basic w6RkbWluOnA6dyIk");
        let bearer = Auth::Bearer { token: Secret::inline("abc.def") };
        let extra = [("X-Api-Key".to_string(), Secret::inline("k"))];
        let headers = Headers::new(&bearer, &extra, HeaderMap::new()).unwrap();
        assert_eq!(value(&headers, "authorization").unwrap(), "Bearer abc.def");
        assert_eq!(value(&headers, "x-api-key").unwrap(), "k");
    }

    #[test]
    fn a_rotated_credential_is_read_when_the_target_refuses_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let auth = Auth::Bearer { token: Secret::file(&path) };
        let headers = Headers::new(&auth, &[], HeaderMap::new()).unwrap();
        let sent = headers.current();
        assert!(!headers.refused(&sent), "there is no other");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(value(&headers, "authorization").unwrap(), "Bearer one");
        assert!(headers.refused(&sent));
        assert_eq!(value(&headers, "authorization").unwrap(), "Bearer two");
        assert!(headers.refused(&sent), "another request got the refusal first");
        assert!(!headers.refused(&headers.current()));
        std::fs::remove_file(&path).unwrap();
        assert!(!headers.refused(&headers.current()));
        assert_eq!(value(&headers, "authorization").unwrap(), "Bearer two", "the last good one stays");
    }

    #[test]
    fn a_rotated_secret_is_still_redacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "token-0").unwrap();
        let headers =
            Headers::new(&Auth::Bearer { token: Secret::file(&path) }, &[], HeaderMap::new()).unwrap();
        let last = FORMER_SECRETS_MAX + 1;
        for n in 1..=last {
            std::fs::write(&path, format!("token-{n}-{}", "x".repeat(n))).unwrap();
            headers.refused(&headers.current());
            headers.refused(&headers.current());
        }
        let said = |n: usize| format!("token-{n}-{} is no more", "x".repeat(n));
        for n in [2, last - 1, last] {
            assert_eq!(headers.redact(said(n)), "… is no more");
        }
        assert_eq!(headers.now.load().former.len(), FORMER_SECRETS_MAX);
        assert_eq!(headers.redact("token-0 is no more".into()), "token-0 is no more", "kept are a few");
    }

    #[test]
    fn secrets_are_removed_from_a_targets_answer() {
        let auth = Auth::Basic { username: "u".into(), password: Secret::inline("hunter2") };
        let extra = [("X-Key".to_string(), Secret::inline("hunter2-and-more"))];
        let headers = Headers::new(&auth, &extra, HeaderMap::new()).unwrap();
        let said = format!("you sent {} and hunter2-and-more, hunter2", BASE64_STANDARD.encode("u:hunter2"));
        assert_eq!(headers.redact(said), "you sent … and …, …");
        assert_eq!(headers.redact("cut: hunter2-an".into()), "cut: …-an");
        assert_eq!(headers.redact("cut: hunte".into()), "cut: …");
        assert_eq!(headers.redact("a hun".into()), "a hun", "as good as nothing");
        let mut fixed = HeaderMap::new();
        fixed.insert(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic dXNlcjpodW50ZXIz"));
        let headers = Headers::new(&Auth::None, &[], fixed).unwrap();
        assert_eq!(headers.redact("Basic dXNlcjpodW50ZXIz is hunter3".into()), "Basic … is …");
        assert!(!format!("{headers:?}").contains("hunter2"));
    }

    #[test]
    fn odd_headers_are_refused() {
        let error = |name: &str, value: &str| {
            let extra = [(name.to_string(), Secret::inline(value))];
            Headers::new(&Auth::None, &extra, HeaderMap::new()).unwrap_err().to_string()
        };
        assert!(error("a b", "v").contains("not a header name"));
        assert!(error("X-A", "se\ncret").contains("`x-a`") && !error("X-A", "se\ncret").contains("cret`"));
        assert!(error("Host", "h").contains("set by the router"));
        assert!(error("CE-Id", "1").contains("set by the router"));
    }
}
