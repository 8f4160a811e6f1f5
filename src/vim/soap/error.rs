//! What can go wrong in a call, told apart by what a caller does about it, and in words that say what a person does about it.

use std::io::ErrorKind;
use std::time::Duration;

use crate::http::{ConnectError, SendError, find, innermost};
use crate::limits::EXCERPT_BYTES_MAX;

use super::element::Element;
use super::tls;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SoapError {
    /// The client cannot be built from its options.
    #[error("{0}")]
    Setup(String),
    /// No connection: nothing was sent.
    #[error("cannot connect to {host}: {reason}")]
    Connect { host: String, reason: String },
    /// The certificate was refused: nothing was sent.
    #[error("the TLS handshake with {host} failed: {reason}")]
    Tls { host: String, reason: String },
    /// Whether the server did what was asked is unknown.
    #[error("{method}: no complete answer within {after:?}; if the vCenter is slow, raise its `timeouts`")]
    Timeout { method: &'static str, after: Duration },
    /// Whether the server did what was asked is unknown.
    #[error("{method}: the answer was lost: {reason}")]
    Lost { method: &'static str, reason: String },
    /// Something between us and vCenter answered in its place, or the address is not a vCenter's.
    #[error("{method}: HTTP {status} without an answer of the vSphere API{excerpt}; {advice}")]
    Foreign { method: &'static str, status: u16, excerpt: String, advice: &'static str },
    /// The answer is larger than its bound.
    #[error("{method}: the answer has more than {limit} bytes")]
    TooLarge { method: &'static str, limit: usize },
    /// The answer is the API's and makes no sense.
    #[error("{method}: the answer cannot be understood: {reason}")]
    Malformed { method: &'static str, reason: String },
    /// vCenter said no.
    #[error("{method}: {fault}")]
    Fault { method: &'static str, fault: Fault },
}

/// A fault, as SOAP or as VI/JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The fault's class, `ManagedObjectNotFound`; empty where the fault carries no detail.
    pub class: String,
    /// `faultstring`, or the first `faultMessage`.
    pub message: String,
}

/// The faults that the router acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Wrong user or password (also one that has expired): trying again soon locks the account.
    InvalidLogin,
    /// The session is gone.
    NotAuthenticated,
    /// The collector, filter, … is gone.
    ManagedObjectNotFound,
    /// For CreateCollectorForEvents: too many collectors in this session.
    InvalidState,
    NoPermission,
    MethodNotFound,
    /// A property that this server does not have.
    InvalidProperty,
    /// WaitForUpdatesEx was cancelled.
    RequestCanceled,
    Other,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = if self.class.is_empty() { "fault" } else { &self.class };
        match self.message.is_empty() {
            true => write!(f, "vCenter answered {class}"),
            false => write!(f, "vCenter answered {class}: {}", self.message),
        }?;
        match self.kind {
            FaultKind::InvalidLogin => f.write_str("; check `username` and `password`"),
            FaultKind::NoPermission => {
                f.write_str("; the user needs the role Read-only on the vCenter's root, propagated")
            }
            _ => Ok(()),
        }
    }
}

impl Fault {
    /// The fault in this envelope, if it holds one.
    pub(super) fn of(envelope: &Element) -> Option<Fault> {
        let fault = envelope.at(&["Body", "Fault"])?;
        let detail = fault.child("detail").and_then(|detail| detail.children.first());
        let class = detail.map_or(String::new(), |detail| match detail.class.is_empty() {
            false => detail.class.clone(),
            true => detail.name.strip_suffix("Fault").unwrap_or(&detail.name).to_string(),
        });
        Some(Fault::new(class, fault.text_of("faultstring").to_string()))
    }

    pub(super) fn new(class: String, message: String) -> Fault {
        let kind = match &*class {
            "InvalidLogin" | "PasswordExpired" => FaultKind::InvalidLogin,
            "NotAuthenticated" => FaultKind::NotAuthenticated,
            "ManagedObjectNotFound" => FaultKind::ManagedObjectNotFound,
            "InvalidState" => FaultKind::InvalidState,
            "NoPermission" => FaultKind::NoPermission,
            "MethodNotFound" => FaultKind::MethodNotFound,
            "InvalidProperty" => FaultKind::InvalidProperty,
            "RequestCanceled" => FaultKind::RequestCanceled,
            _ => FaultKind::Other,
        };
        Fault { kind, class, message }
    }
}

impl SoapError {
    /// The fault, where vCenter said no.
    pub fn fault(&self) -> Option<FaultKind> {
        match self {
            SoapError::Fault { fault, .. } => Some(fault.kind),
            _ => None,
        }
    }

    /// Why a call to `host` got no answer. INVARIANT: `Connect` and `Tls` only if nothing was sent.
    pub(super) fn from_transport(
        method: &'static str,
        host: &str,
        after: Duration,
        error: SendError,
    ) -> Self {
        let host = host.to_string();
        match error {
            SendError::Connect(ConnectError::Tls { error, .. }) => {
                SoapError::Tls { host, reason: tls::explain(&error) }
            }
            SendError::Connect(error) => SoapError::Connect { host, reason: connect_reason(error) },
            SendError::Unsent(error) => match find::<rustls::Error>(&error) {
                Some(tls) => SoapError::Tls { host, reason: tls::explain(tls) },
                None => {
                    let reason =
                        format!("the connection ended before the request was sent ({})", innermost(&error));
                    SoapError::Connect { host, reason }
                }
            },
            SendError::Http(error) => SoapError::lost(method, &error),
            SendError::TimedOut => SoapError::Timeout { method, after },
        }
    }

    /// An exchange that broke off when the request may have arrived.
    pub(super) fn lost(method: &'static str, error: &hyper::Error) -> Self {
        // With TLS 1.3 a refused client certificate shows after the handshake.
        let reason = find(error).map_or_else(|| innermost(error).to_string(), tls::explain);
        SoapError::Lost { method, reason }
    }

    /// An answer that is not the API's. `secret` leaves its text out: what answers a login may repeat the password.
    pub(super) fn foreign(method: &'static str, status: u16, body: &[u8], secret: bool) -> Self {
        let advice = match status {
            301..=308 => "the address redirects: configure the one it points to",
            401 | 407 => "a proxy before the vCenter wants credentials",
            403 => "something before the vCenter refuses the request",
            404 => "this address is no vCenter's; `/sdk` is its usual path",
            502..=504 => "the vCenter's service is starting or down",
            _ => "is this a vCenter's address, and no proxy's?",
        };
        SoapError::Foreign { method, status, excerpt: excerpt(body, secret), advice }
    }
}

/// `: "…"`, the beginning of `body` in one line.
fn excerpt(body: &[u8], secret: bool) -> String {
    if secret || body.is_empty() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_BYTES_MAX)]);
    let mut line = String::new();
    for word in
        text.split(|char: char| char.is_whitespace() || char.is_control()).filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > EXCERPT_BYTES_MAX {
            let end = (0..=EXCERPT_BYTES_MAX).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    format!(": \"{line}\"")
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

    #[test]
    fn recorded_faults_have_their_kind() {
        let check = |xml: &str, kind: FaultKind, text: &str| {
            let fault = Fault::of(&Element::parse(xml.as_bytes()).unwrap()).unwrap();
            assert_eq!(fault.kind, kind);
            assert_eq!(fault.to_string(), text);
        };
        macro_rules! recorded {
            ($name:literal) => {
                include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/tests/fixtures/soap/pyvmomi9.fault-",
                    $name,
                    ".res.xml"
                ))
            };
        }
        check(
            recorded!("InvalidLogin-Login"),
            FaultKind::InvalidLogin,
            "vCenter answered InvalidLogin: Login failure; check `username` and `password`",
        );
        check(
            recorded!("NotAuthenticated-ReadNextEvents"),
            FaultKind::NotAuthenticated,
            "vCenter answered NotAuthenticated",
        );
        check(
            recorded!("InvalidState-CreateCollectorForEvents"),
            FaultKind::InvalidState,
            "vCenter answered InvalidState: Too many event collectors to create",
        );
        check(
            recorded!("MethodNotFound-LogUserEvent"),
            FaultKind::MethodNotFound,
            "vCenter answered MethodNotFound: EventManager:EventManager does not implement: LogUserEvent",
        );
        let gone = Element::parse(recorded!("ManagedObjectNotFound-ReadNextEvents").as_bytes()).unwrap();
        assert_eq!(Fault::of(&gone).unwrap().kind, FaultKind::ManagedObjectNotFound);
        check(
            "<E><Body><Fault><faultstring>odd</faultstring><detail><FooFault/></detail></Fault></Body></E>",
            FaultKind::Other,
            "vCenter answered Foo: odd",
        );
        check("<E><Body><Fault/></Body></E>", FaultKind::Other, "vCenter answered fault");
    }

    #[test]
    fn an_excerpt_is_one_short_line_and_never_of_a_login() {
        assert_eq!(excerpt(b"<html>\r\n <b>Bad\x07 gateway</b>", false), ": \"<html> <b>Bad gateway</b>\"");
        let long = excerpt("ä".repeat(1_000).as_bytes(), false);
        assert!(long.len() < EXCERPT_BYTES_MAX + 10 && long.ends_with("…\""), "{long}");
        assert_eq!(excerpt(b"the password is hunter2", true), "");
    }
}
