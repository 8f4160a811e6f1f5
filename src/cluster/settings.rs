//! The settings of a cluster and of a connection to NATS, and the formats of names there.

use std::time::Duration;

use super::Connection;
use crate::config::declare::*;
use crate::config::{Secret, SecretError};
use crate::limits::{KV_ANSWER_MAX, NATS_SERVERS_MAX, NODE_NAME_MAX};
use crate::net::TlsError;
use crate::net::settings::{Auth, AuthKeys, ClientTls, is_local};

settings! {
    /// Several routers with the same sources: one of them reads each vCenter, and another one goes
    /// on where it was if it fails. The position of each vCenter is kept in a bucket of NATS
    /// JetStream, which `event-router log init` makes. See
    /// [high availability](high-availability.md).
    #[derive(Clone, Debug, PartialEq)]
    pub struct ClusterConfig in "cluster" {
        /// Name of this node, different from that of every other. Default: the host name.
        pub node: Option<String> = key("node", TEXT).also(&["name", "nodeName"]);
        /// Addresses of the NATS servers, `nats://HOST:PORT` or `tls://HOST:PORT`.
        pub servers: Vec<String> = key("servers", FieldType::OneOrMore(&const { text(&SERVER) }))
            .required()
            .also(&["server", "url", "urls"]);
        /// Name of the bucket. Nodes with the same bucket share their sources.
        pub bucket: String = key("bucket", text(&STREAM_NAME)).or("events-state");
        /// Credentials: a user or a token.
        pub auth: Auth = key("auth", maybe::<AuthKeys>());
        pub credentials: NatsKeys =
            key("credsFile", SECRET_FILE)
                .also(&["credentialsFile", "creds"])
                .doc("Credentials: a file with the JWT and the seed of a user, as `nsc` writes it. Read again at each connection."),
            key("nkeyFile", SECRET_FILE)
                .also(&["nkey", "seedFile"])
                .doc("Credentials: a file with the seed of an NKey. Read again at each connection.");
        /// Certificates to accept and to present. Also without it, `tls://` and a server that
        /// requires TLS are encrypted.
        pub tls: ClientTls = key("tls", block::<ClientTls>());
    }
    rules [FieldRule::AtMostOne(&["auth", "credsFile", "nkeyFile"])];
    check check_cluster;
}

impl ClusterConfig {
    fn link(&self) -> LinkSettings {
        LinkSettings {
            servers: self.servers.clone(),
            auth: self.auth.clone(),
            keys: self.credentials.clone(),
            tls: self.tls.clone(),
            timeout: KV_ANSWER_MAX,
            connect_timeout: KV_ANSWER_MAX,
        }
    }

    /// A connection to its servers, which connects to nothing yet.
    pub fn connection(&self) -> Result<Connection, TlsError> {
        Connection::new(self.link())
    }

    /// The name of this node.
    pub fn node_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = || host().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        self.node.clone().or_else(host).unwrap_or_else(|| "unnamed".to_owned())
    }
}

fn check_cluster(found: &CheckedMap, problems: &mut Problems) {
    check_servers(found, problems);
    if found.maybe_text("node").is_some_and(|node| !(1..=NODE_NAME_MAX).contains(&node.len())) {
        let message = format!("must have 1 to {NODE_NAME_MAX} bytes");
        problems.error(found.line_of("node"), &found.path_of("node"), message);
    }
}

/// Checks `servers` together with `auth`.
pub(crate) fn check_servers(found: &CheckedMap, problems: &mut Problems) {
    let servers = found.texts("servers");
    if servers.len() > NATS_SERVERS_MAX {
        let message = format!("has more than {NATS_SERVERS_MAX} servers; name some of the cluster");
        problems.error(found.line_of("servers"), &found.path_of("servers"), message);
    }
    let is_open = |server: &String| {
        let host = server.strip_prefix("nats://").and_then(|rest| rest.rsplit_once(':'));
        host.is_some_and(|(host, _)| !is_local(host))
    };
    if found.maybe_block("auth").is_some() && servers.iter().any(is_open) {
        let message = "sends credentials without TLS unless the server requires it; use `tls://`";
        problems.warn(found.line_of("servers"), &found.path_of("servers"), message);
    }
}

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
