//! The error of a call. Its variants differ by the reaction of the caller, above all by the
//! question if the call can have had an effect. Its messages tell the operator what to do.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use crate::limits::{EXCERPT_BYTES_MAX, REASON_BYTES_MAX};
use crate::net::{ConnectError, SendError, explain, find, innermost};
use crate::outside;
use crate::redact::redact;

use vsphere::api::{Fault, FaultKind};

/// The reason why a call returned no value.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The client cannot be built from its options.
    #[error("{0}")]
    Setup(String),
    /// No connection: nothing was sent.
    #[error("cannot connect to {host}: {reason}")]
    Connect { host: String, reason: String },
    /// The certificate was refused: nothing was sent.
    #[error("the TLS handshake with {host} failed: {reason}")]
    Tls { host: String, reason: String },
    /// It is unknown if the server carried out the call.
    #[error("{method}: vCenter was silent for {after:?}; if it is slow, raise its `timeouts`")]
    Timeout { method: &'static str, after: Duration },
    /// The answer kept arriving and was not complete in time.
    #[error("{method}: no complete answer within {after:?}; the link to vCenter is too slow")]
    Endless { method: &'static str, after: Duration },
    /// It is unknown if the server carried out the call.
    #[error("{method}: the answer was lost: {reason}")]
    Lost { method: &'static str, reason: Said },
    /// The answer is not from vCenter: a proxy answered, or the address is not a vCenter's.
    #[error("{method}: HTTP {status} without an answer of the vSphere API{excerpt}; {advice}")]
    Foreign { method: &'static str, status: u16, excerpt: String, advice: &'static str },
    /// The answer is larger than its bound.
    #[error("{method}: the answer has more than {limit} bytes")]
    TooLarge { method: &'static str, limit: usize },
    /// The answer is from the API but is not valid.
    #[error("{method}: the answer cannot be understood: {reason}")]
    Malformed { method: &'static str, reason: Said },
    /// vCenter answered with a fault.
    #[error("{method}: {said}")]
    Fault { method: &'static str, kind: FaultKind, said: Said },
}

/// The words of a server, safe to show.
///
/// INVARIANT: no secret that was known when they arrived is in them. They are redacted at once,
/// because a session's id is a secret only while its client lives, and an error may be shown later.
#[derive(Debug)]
pub struct Said(String);

impl Said {
    pub fn new(words: impl fmt::Display) -> Self {
        Said(outside::display(words, REASON_BYTES_MAX))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CallError {
    /// The kind of the fault, if vCenter answered with one.
    pub fn fault(&self) -> Option<FaultKind> {
        match self {
            CallError::Fault { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// Returns true if the answer took too long. A smaller one may arrive in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, CallError::Timeout { .. } | CallError::Endless { .. })
    }

    /// The error of a call that vCenter answered with a fault.
    pub fn refused(method: &'static str, fault: &Fault) -> Self {
        CallError::Fault { method, kind: fault.kind, said: Said::new(fault) }
    }

    /// The error of a call to `host` that got no answer.
    ///
    /// INVARIANT: it is `Connect` or `Tls` only if nothing was sent.
    pub(super) fn from_transport(
        method: &'static str,
        host: &str,
        after: Duration,
        error: SendError,
    ) -> Self {
        let host = host.to_string();
        match error {
            SendError::Connect(ConnectError::Tls { error, .. }) => {
                CallError::Tls { host, reason: explain(&error) }
            }
            SendError::Connect(error) => CallError::Connect { host, reason: connect_reason(error) },
            SendError::Unsent(error) => match find::<rustls::Error>(&error) {
                Some(tls) => CallError::Tls { host, reason: explain(tls) },
                None => {
                    let reason =
                        format!("the connection ended before the request was sent ({})", innermost(&error));
                    CallError::Connect { host, reason }
                }
            },
            SendError::Http(error) => CallError::lost(method, &error),
            SendError::TimedOut => CallError::Timeout { method, after },
        }
    }

    /// The error of an exchange that broke off after the request may have arrived.
    pub(super) fn lost(method: &'static str, error: &hyper::Error) -> Self {
        // With TLS 1.3 a client certificate is refused after the handshake.
        let mut reason = find(error).map_or_else(|| innermost(error).to_string(), explain);
        if error.is_parse() {
            reason += "; the port sent no HTTP answer: check it, and write `https://` in `address` if it speaks TLS";
        }
        CallError::Lost { method, reason: Said::new(reason) }
    }

    /// The error of an answer that is not from the API. `secret` leaves its text out, since the
    /// answer to a login may repeat the password.
    pub(super) fn foreign(method: &'static str, status: u16, body: &[u8], secret: bool) -> Self {
        let advice = match status {
            301..=308 => "the address redirects: configure the one it points to",
            401 | 407 => "a proxy before the vCenter wants credentials",
            403 => "something before the vCenter refuses the request",
            404 => "this address is no vCenter's; `/sdk` is its usual path",
            502..=504 => "the vCenter's service is starting or down",
            _ => "is this a vCenter's address, and no proxy's?",
        };
        CallError::Foreign { method, status, excerpt: excerpt(body, secret), advice }
    }
}

/// `: "…"`, the beginning of `body` in one line.
fn excerpt(body: &[u8], secret: bool) -> String {
    if secret || body.is_empty() {
        return String::new();
    }
    // Secrets go first: they may contain white space.
    let text = redact(&String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_BYTES_MAX)]));
    let words = text.split(|char: char| char.is_whitespace() || char.is_ascii_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    format!(": \"{}\"", outside::text(&line, EXCERPT_BYTES_MAX))
}

fn connect_reason(error: ConnectError) -> String {
    match error {
        ConnectError::Dns { host, error } => {
            format!("the name `{host}` cannot be resolved ({error}): check the address and the DNS")
        }
        ConnectError::Tcp { kind: ErrorKind::ConnectionRefused, .. } => {
            "connection refused: nothing listens there, or the vCenter is starting".to_string()
        }
        ConnectError::Tcp {
            kind: ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable, error, ..
        } => {
            format!("{error}: no route to the address")
        }
        ConnectError::Tcp { error, .. } => error,
        ConnectError::TimedOut { limit, .. } => {
            format!("no answer within {} ms: a firewall, or the wrong address", limit.as_millis())
        }
        other @ (ConnectError::Proxy { .. } | ConnectError::Tls { .. }) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Former;

    #[test]
    fn an_error_that_outlives_its_client_shows_no_session() {
        let sessions = Former::default();
        let session = sessions.keep("error-test-session");
        let words = format!("no session {session}");
        let fault = Fault::new("NotAuthenticated".into(), words.clone());
        let errors = [
            CallError::refused("Logout", &fault),
            CallError::Lost { method: "Logout", reason: Said::new(&words) },
            CallError::Malformed { method: "Logout", reason: Said::new(&words) },
            CallError::foreign("Logout", 500, words.as_bytes(), false),
        ];
        drop((sessions, session));
        // A new secret makes the process forget those that are gone.
        let _other = Former::of(&["error-test-other".into()]);
        for error in errors {
            assert!(error.to_string().contains("no session …"), "{error}");
            assert!(!format!("{error:?}").contains("error-test-session"), "{error:?}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line_and_never_of_a_login() {
        assert_eq!(excerpt(b"<html>\r\n <b>Bad\x07 gateway</b>", false), ": \"<html> <b>Bad gateway</b>\"");
        let long = excerpt("ä".repeat(1_000).as_bytes(), false);
        assert!(long.len() < EXCERPT_BYTES_MAX + 10 && long.ends_with("…\""), "{long}");
        assert_eq!(excerpt(b"the password is hunter2", true), "");
    }
}
