//! The connection to a cluster of NATS servers.
//!
//! The client library reconnects by itself and sends again whatever it had buffered. Here a
//! connection that is not up is dropped, and the next request makes a new one: the reason of a
//! failure becomes visible, and messages of a former attempt do not pile up.
//!
//! INVARIANT: a message is published only over a connection that was up just before.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth as ServerAuth, AuthError, Client, ConnectErrorKind, ConnectOptions};
use nkeys::KeyPair;
use tokio::sync::Mutex;

use super::settings::{LinkSettings, NatsKeys};
use crate::config::Secret;
use crate::net::settings::{Auth, ClientTls};
use crate::net::{ServerKind, TlsError, client_config};
use crate::redact::Former;

/// There is no connection; the text has the reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotConnected(String);

/// Makes connections, and keeps the current one.
pub struct Connection {
    settings: LinkSettings,
    /// The JWT and the seed in a file of `nsc`: the secret is the whole file, but a message could
    /// quote a part.
    parts: Former,
    current: Mutex<Option<Client>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("servers", &self.settings.servers).finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads the TLS files, and connects to nothing yet.
    pub fn new(settings: LinkSettings) -> Result<Self, TlsError> {
        client_config(&settings.tls, ServerKind::Target)?;
        Ok(Connection { settings, parts: Former::default(), current: Mutex::new(None) })
    }

    /// The servers, for messages.
    pub fn target(&self) -> String {
        self.settings.servers.join(", ")
    }

    /// Time for an answer.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The current connection, or else a new one.
    pub async fn client(&self) -> Result<Client, NotConnected> {
        let mut current = self.current.lock().await;
        if let Some(client) = current.as_ref().filter(|client| client.connection_state() == State::Connected)
        {
            return Ok(client.clone());
        }
        *current = None;
        let client = self.connect().await?;
        Ok(current.insert(client).clone())
    }

    /// Drops the current connection: an answer is missing on it.
    pub async fn discard(&self) {
        *self.current.lock().await = None;
    }

    async fn connect(&self) -> Result<Client, NotConnected> {
        let target = self.target();
        let LinkSettings { servers, auth, keys, tls, timeout, connect_timeout } = self.settings.clone();
        let needs_tls = tls != ClientTls::default();
        let tls = client_config(&tls, ServerKind::Target)
            .map_err(|error| NotConnected(format!("{target}: {error}")))?;
        let parts = self.parts.clone();
        let options = ConnectOptions::with_auth_callback(move |nonce| {
            let answer = credentials(&auth, &keys, &parts, &nonce);
            std::future::ready(answer)
        });
        // As many attempts as servers, so that the library gives up and names the reason.
        let options = options
            .name("event-router")
            .tls_client_config(tls)
            .require_tls(needs_tls)
            .connection_timeout(connect_timeout)
            .request_timeout(Some(timeout))
            .max_reconnects(servers.len())
            .ignore_discovered_servers();
        // A name may stand for many addresses, and the library tries each.
        let whole = connect_timeout * u32::try_from(servers.len()).unwrap_or(u32::MAX);
        match tokio::time::timeout(whole, options.connect(&servers)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => {
                let advice = match error.kind() {
                    ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                        "; check `auth`, `credsFile` or `nkeyFile`"
                    }
                    ConnectErrorKind::Tls => "; check `tls`",
                    _ => "",
                };
                Err(NotConnected(format!("cannot connect to {target}: {}{advice}", causes(&error))))
            }
            Err(_) => Err(NotConnected(format!(
                "cannot connect to {target}: none answered within {} ms",
                whole.as_millis()
            ))),
        }
    }
}

/// An error with its causes; the library's own text often lacks them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// The credentials for a server that sent the challenge `nonce`.
fn credentials(auth: &Auth, keys: &NatsKeys, parts: &Former, nonce: &[u8]) -> Result<ServerAuth, AuthError> {
    let mut answer = ServerAuth::new();
    match auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            answer.username = Some(username.clone());
            answer.password = Some(value(password)?);
        }
        Auth::Bearer { token } => answer.token = Some(value(token)?),
    }
    match keys {
        NatsKeys::None => {}
        NatsKeys::Seed(seed) => {
            let pair = key_pair(&value(seed)?)?;
            answer.nkey = Some(pair.public_key());
            answer.signature = Some(signature(&pair, nonce)?);
        }
        NatsKeys::Creds(creds) => {
            let text = value(creds)?;
            let (jwt, seed) = jwt_and_seed(&text).ok_or_else(|| {
                AuthError::new("the credentials file has no JWT or no seed; make it with `nsc`")
            })?;
            parts.keep_all([jwt, seed]);
            answer.signature = Some(signature(&key_pair(seed)?, nonce)?);
            answer.jwt = Some(jwt.to_owned());
        }
    }
    Ok(answer)
}

fn value(secret: &Secret) -> Result<String, AuthError> {
    secret.read().map(|text| text.to_string()).map_err(AuthError::new)
}

fn key_pair(seed: &str) -> Result<KeyPair, AuthError> {
    // The error must not quote the seed.
    KeyPair::from_seed(seed.trim()).map_err(|_| AuthError::new("the seed of the NKey is wrong"))
}

fn signature(pair: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, AuthError> {
    pair.sign(nonce).map_err(|_| AuthError::new("the NKey cannot sign"))
}

/// The two values in a file of `nsc`, each on the line after a line of dashes.
fn jwt_and_seed(text: &str) -> Option<(&str, &str)> {
    let mut values =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).scan(false, |is_after_head, line| {
            let is_head = line.starts_with("---") && line.contains("BEGIN");
            let is_value = std::mem::replace(is_after_head, is_head);
            Some(is_value.then_some(line))
        });
    let mut next = || values.by_ref().flatten().next();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::redact;

    #[test]
    fn a_credentials_file_has_a_jwt_and_a_seed() {
        let file = "-----BEGIN NATS USER JWT-----\r\neyJ0\r\n------END NATS USER JWT------\r\n\n\
                    *** IMPORTANT ***\n-----BEGIN USER NKEY SEED-----\nSUA\n------END USER NKEY SEED------\n";
        assert_eq!(jwt_and_seed(file), Some(("eyJ0", "SUA")));
        assert_eq!(jwt_and_seed("-----BEGIN NATS USER JWT-----\neyJ0\n"), None);
        assert_eq!(jwt_and_seed("SUA"), None);
    }

    #[test]
    fn a_challenge_is_signed_with_the_seed() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().expect("a new pair has a seed");
        let file =
            format!("-----BEGIN JWT-----\neyJ0aGVqd3Q\n---END---\n-----BEGIN SEED-----\n{seed}\n---END---\n");
        let parts = Former::default();
        let sign = |keys: NatsKeys| credentials(&Auth::None, &keys, &parts, b"nonce");
        let by_seed = sign(NatsKeys::Seed(Secret::inline(seed.as_str()))).expect("a good seed");
        assert_eq!(by_seed.nkey, Some(pair.public_key()));
        pair.verify(b"nonce", &by_seed.signature.unwrap()).expect("its own signature");
        let by_file = sign(NatsKeys::Creds(Secret::inline(file))).expect("a good file");
        assert_eq!(by_file.jwt.as_deref(), Some("eyJ0aGVqd3Q"));
        pair.verify(b"nonce", &by_file.signature.unwrap()).expect("its own signature");
        assert!(!redact("sent eyJ0aGVqd3Q").contains("eyJ0aGVqd3Q"), "a part of the file is shown");
        let wrong = sign(NatsKeys::Seed(Secret::inline("SUXX")));
        assert!(wrong.is_err_and(|error| !error.to_string().contains("SUXX")));
    }
}
