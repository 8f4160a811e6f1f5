//! The headers that every request of a client carries: credentials and configured headers. Their
//! values may come from files that are rotated.
//!
//! INVARIANT: none of these values reaches a log or an error. They are
//! [registered](crate::redact) for redaction, also after a rotation.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use crate::config::{Secret, SecretError};
use crate::net::FileTimer;
use crate::net::settings::Auth;
use crate::redact::Former;

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

/// Headers whose values may change.
pub struct Headers {
    auth: Auth,
    extra: Vec<(HeaderName, Secret)>,
    /// Headers that never change.
    fixed: HeaderMap,
    now: ArcSwap<HeaderMap>,
    /// The parts of the values that a server may repeat alone.
    parts: Former,
    /// Names of the headers whose value comes from a file.
    rotating: Vec<HeaderName>,
    timer: FileTimer,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").field("rotating", &self.rotating).finish_non_exhaustive()
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
        let parts = Former::default();
        let values = read(auth, &names, &fixed, &parts)?;
        Ok(Headers {
            auth: auth.clone(),
            extra: names,
            fixed,
            now: ArcSwap::from_pointee(values),
            parts,
            rotating,
            timer: FileTimer::default(),
        })
    }

    /// The current headers. Files are read again after [`crate::limits::FILES_CHECK_INTERVAL`]; if
    /// one cannot be read, its last good value stays.
    pub fn current(&self) -> Arc<HeaderMap> {
        if self.rotates() && self.timer.is_due() {
            self.read_again();
        }
        self.now.load_full()
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
        self.rotating.iter().any(|name| now.get(name) != sent.get(name))
    }

    fn read_again(&self) {
        match read(&self.auth, &self.extra, &self.fixed, &self.parts) {
            Ok(values) => self.now.store(Arc::new(values)),
            Err(error) => tracing::warn!(%error, "cannot read a credential again; keeping the last one"),
        }
    }
}

/// Reads all values.
fn read(
    auth: &Auth,
    extra: &[(HeaderName, Secret)],
    fixed: &HeaderMap,
    parts: &Former,
) -> Result<HeaderMap, HeadersError> {
    let mut headers = fixed.clone();
    let mut put = |name: &HeaderName, value: &str| {
        let mut header = HeaderValue::from_str(value).map_err(|_| HeadersError::Value(name.to_string()))?;
        header.set_sensitive(true);
        headers.insert(name.clone(), header);
        Ok::<_, HeadersError>(())
    };
    let mut found = Vec::new();
    match auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            let encoded = BASE64_STANDARD.encode(format!("{username}:{}", password.read()?));
            put(&AUTHORIZATION, &format!("Basic {encoded}"))?;
            // The password alone may be too short to be found in it.
            found.push(encoded);
        }
        Auth::Bearer { token } => put(&AUTHORIZATION, &format!("Bearer {}", token.read()?))?,
    }
    for (name, secret) in extra {
        let value = secret.read()?;
        put(name, &value)?;
        found.extend(parts_of(&value));
    }
    // Requests may also carry the proxy's credentials.
    if let Some(value) = fixed.get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        found.extend(parts_of(value));
    }
    parts.keep_all(found.iter().map(String::as_str));
    Ok(headers)
}

/// The parts of a header's value that are secrets by themselves: the credentials behind a scheme,
/// and the password in those of `Basic`.
fn parts_of(value: &str) -> Vec<String> {
    // The pairs of a cookie, of which a server may repeat a single value.
    let mut parts: Vec<String> = value
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .collect();
    let Some((scheme, credentials)) = value.split_once(' ') else { return parts };
    parts.push(credentials.trim().to_owned());
    if scheme.eq_ignore_ascii_case("basic") {
        let pair =
            BASE64_STANDARD.decode(credentials.trim()).ok().and_then(|pair| String::from_utf8(pair).ok());
        parts.extend(
            pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password.into()),
        );
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::redact;

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
        std::fs::write(&path, "headers-test-token-1").unwrap();
        let headers =
            Headers::new(&Auth::Bearer { token: Secret::file(&path) }, &[], HeaderMap::new()).unwrap();
        std::fs::write(&path, "headers-test-token-2").unwrap();
        headers.refused(&headers.current());
        assert_eq!(redact("headers-test-token-1 or headers-test-token-2"), "… or …");
    }

    #[test]
    fn credentials_are_redacted_as_a_whole_and_in_parts() {
        let auth = Auth::Basic { username: "u".into(), password: Secret::inline("headers-test-pa55") };
        let extra = [("X-Key".to_string(), Secret::inline("Key headers-test-k3y"))];
        let mut fixed = HeaderMap::new();
        let proxy = format!("Basic {}", BASE64_STANDARD.encode("u:headers-test-proxy"));
        fixed.insert(PROXY_AUTHORIZATION, proxy.parse().unwrap());
        let headers = Headers::new(&auth, &extra, fixed).unwrap();
        let said = format!("you sent {} and {proxy}", BASE64_STANDARD.encode("u:headers-test-pa55"));
        assert_eq!(redact(&said), "you sent … and Basic …");
        let short = Auth::Basic { username: "headers-test".into(), password: Secret::inline("abc") };
        let _short = Headers::new(&short, &[], HeaderMap::new()).unwrap();
        assert_eq!(redact(&BASE64_STANDARD.encode("headers-test:abc")), "…");
        assert_eq!(redact("headers-test-pa55, headers-test-k3y, headers-test-proxy"), "…, …, …");
        assert!(!format!("{headers:?}").contains("headers-test"), "{headers:?}");
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
