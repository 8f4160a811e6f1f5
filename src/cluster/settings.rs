//! The settings of a connection to NATS, and the formats of names there.

use std::time::Duration;

use crate::config::declare::*;
use crate::config::{Secret, SecretError};
use crate::net::settings::{Auth, ClientTls};

/// The settings of a connection to one cluster of NATS servers.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSettings {
    /// Addresses of the servers, `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// Credentials: a user or a token.
    pub auth: Auth,
    /// Credentials that sign a challenge.
    pub keys: NatsKeys,
    pub tls: ClientTls,
    /// Time for an answer.
    pub timeout: Duration,
    /// Time for a connection to one server, with TLS and credentials.
    pub connect_timeout: Duration,
}

/// The address of a server.
pub(crate) static SERVER: TextFormat = TextFormat {
    allowed: "`nats://HOST:PORT` or `tls://HOST:PORT`, without credentials in it",
    check: |text| {
        let parsed = url::Url::parse(text).map_err(|_| SERVER.must())?;
        let is_whole = matches!(parsed.scheme(), "nats" | "tls")
            && parsed.host_str().is_some_and(|host| !host.is_empty())
            && parsed.username().is_empty()
            && parsed.password().is_none()
            && matches!(parsed.path(), "" | "/")
            && parsed.query().is_none();
        let host = parsed.host_str().filter(|_| is_whole).ok_or_else(|| SERVER.must())?;
        Ok(format!("{}://{host}:{}", parsed.scheme(), parsed.port().unwrap_or(4_222)))
    },
    any_scalar: false,
};

/// Names of streams become parts of subjects and of file names at the server.
pub(crate) static STREAM_NAME: TextFormat = TextFormat {
    allowed: "a name of 1 to 64 letters, digits, `-` and `_`",
    check: |text| {
        let fits = (1..=64).contains(&text.len());
        if fits && text.bytes().all(is_plain) { Ok(text.into()) } else { Err(STREAM_NAME.must()) }
    },
    any_scalar: false,
};

/// The first part of subjects.
pub(crate) static SUBJECT: TextFormat = TextFormat {
    allowed: "words of letters, digits, `-` and `_`, separated by dots, of 64 characters at most",
    check: |text| {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
        if text.len() <= 64 && text.split('.').all(is_word) { Ok(text.into()) } else { Err(SUBJECT.must()) }
    },
    any_scalar: false,
};

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

/// Credentials that sign a challenge of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NatsKeys {
    #[default]
    None,
    /// A file of `nsc` with a JWT and a seed.
    Creds(Secret),
    /// The seed of an NKey.
    Seed(Secret),
}

/// The keys `credsFile` and `nkeyFile`.
impl Setting for NatsKeys {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let secret = |field: &[Field]| Option::<Secret>::read(found, field);
        match (secret(&fields[..1]), secret(&fields[1..])) {
            (Some(creds), _) => NatsKeys::Creds(creds),
            (None, Some(seed)) => NatsKeys::Seed(seed),
            (None, None) => NatsKeys::None,
        }
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        match self {
            NatsKeys::None => Ok(()),
            NatsKeys::Creds(secret) => write_file(secret, &fields[0], out),
            NatsKeys::Seed(secret) => write_file(secret, &fields[1], out),
        }
    }
}

fn write_file(secret: &Secret, field: &Field, out: &mut Fields) -> Result<(), SecretError> {
    if let Some(path) = secret.path() {
        out.push((field.key, Out::Text(path.display().to_string())));
    }
    Ok(())
}
