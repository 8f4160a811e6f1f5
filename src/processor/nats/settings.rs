//! The settings of a stream of NATS JetStream.

use std::sync::Arc;
use std::time::Duration;

use super::Nats;
use crate::cloudevents::Envelope;
use crate::cluster::settings::{LinkSettings, NatsKeys, SERVER, STREAM_NAME, SUBJECT, check_servers};
use crate::config::declare::*;
use crate::limits::NATS_PARTITIONS_MAX;
use crate::net::settings::{Auth, AuthKeys, ClientTls};
use crate::processor::Processor;
use crate::processor::settings::{KindSettings, MakeError};

settings! {
    /// Publishes each event as one message to a stream of NATS JetStream. The event counts as
    /// delivered when the stream has acknowledged it. `event-router log init` makes the stream, and
    /// `event-router log check` inspects it. See [NATS](nats.md).
    #[derive(Clone, Debug, PartialEq)]
    pub struct NatsConfig in "nats" {
        /// Addresses of the servers of one cluster, `nats://HOST:PORT` or `tls://HOST:PORT`.
        pub servers: Vec<String> = key("servers", FieldType::OneOrMore(&const { text(&SERVER) }))
            .required()
            .also(&["server", "url", "urls", "address"]);
        /// Name of the stream. The other names follow from it: the stream `NAME-letters` and the
        /// bucket `NAME-state`.
        pub stream: String = key("stream", text(&STREAM_NAME)).or("events");
        /// First part of the subjects, which are `SUBJECT.SOURCE.PARTITION`.
        pub subject: String = key("subject", text(&SUBJECT)).or("events").also(&["prefix", "subjectPrefix"]);
        /// Number of partitions. It is fixed when the stream is made.
        pub partitions: usize = key("partitions", whole(1, NATS_PARTITIONS_MAX)).or("16");
        /// Choice of the partition of an event.
        pub partition_by: PartitionBy = key("partitionBy", one_of::<PartitionBy>()).or("source");
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
        /// Time for the acknowledgement of a message or batch.
        pub timeout: Duration = key("timeout", duration(100, HOUR)).or("10s");
        /// Time for a connection to one server, with TLS and credentials.
        pub connect_timeout: Duration = key("connectTimeout", duration(100, 10 * MINUTE)).or("5s");
    }
    rules [FieldRule::AtMostOne(&["auth", "credsFile", "nkeyFile"])];
    check check_servers;
}

impl NatsConfig {
    /// A stream with every other setting at its default.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        NatsConfig { servers: servers.into_iter().map(Into::into).collect(), ..defaults() }
    }

    /// The settings of its connection.
    pub fn link(&self) -> LinkSettings {
        LinkSettings {
            servers: self.servers.clone(),
            auth: self.auth.clone(),
            keys: self.credentials.clone(),
            tls: self.tls.clone(),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
        }
    }

    /// The name of the stream of dead letters.
    pub fn letters(&self) -> String {
        format!("{}-letters", self.stream)
    }

    /// The name of the bucket for the state of routers.
    pub fn bucket(&self) -> String {
        format!("{}-state", self.stream)
    }
}

impl KindSettings for NatsConfig {
    fn make(&self, envelope: Envelope) -> Result<Arc<dyn Processor>, MakeError> {
        Ok(Arc::new(Nats::new(self, envelope)?))
    }

    fn shown(&self) -> String {
        self.servers.join(", ")
    }
}

words! {
    /// The choice of the partition of an event.
    pub enum PartitionBy {
        /// all events of a source in one partition, in the order of their reading
        Source = "source",
        /// events about the same VM, host or other object in one partition
        Entity = "entity",
    }
}
