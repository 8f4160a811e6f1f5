//! The table of keys of the native format: every key with its type, default and meaning. A key that
//! is not here is an error.

mod delivery;
mod processor;
mod source;

use self::processor::PROCESSOR;
pub(super) use self::processor::REFERENCE;
use self::source::SOURCE;
use super::field::{Block, Field, FieldRule, FieldType, TextFormat};

/// The value of `apiVersion` in a file of the native format.
pub(super) const API_VERSION: &str = "event-router/v1";

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const TEXT: FieldType = FieldType::Text(TextFormat::Any);
const NAMES: FieldType = FieldType::NonEmpty(&FieldType::Text(TextFormat::Name));

const NAME: Field = Field::new(
    "name",
    FieldType::Text(TextFormat::Name),
    "Name in logs, metrics and the state. The state belongs to the name: after a rename, the router does not use the old position or spool.",
)
.required();

/// The file as a whole.
pub(super) static ROOT: Block = Block {
    name: "",
    doc: "",
    fields: &[
        Field::new(
            "apiVersion",
            FieldType::OneOf(&[(API_VERSION, "this format")]),
            "Marks a file in this format.",
        )
        .required(),
        Field::new(
            "dataDir",
            FieldType::Text(TextFormat::Path),
            "Directory for positions, spools and dead letters; a single process owns it. Default: `$STATE_DIRECTORY` (set by systemd), else `/var/lib/event-router` if it is writable, else `./event-router-data`.",
        )
        .also(&["stateDir", "checkpointDir"]),
        Field::new(
            "ephemeral",
            FieldType::Flag,
            "Keeps the state only while the process runs. Every start begins at the `startAt` of the sources, and events that were read and not yet delivered are lost.",
        )
        .or("false"),
        Field::new("admin", FieldType::Block(&ADMIN), "Serves health, metrics and statistics.")
            .also(&["metrics", "metricsProvider"]),
        Field::new("sources", FieldType::Blocks(&SOURCE), "Sources of events.").required().also(&["eventProvider"]),
        Field::new("processors", FieldType::Blocks(&PROCESSOR), "Targets of events.").required().also(&["eventProcessor", "sinks"]),
        Field::new(
            "routes",
            FieldType::Blocks(&ROUTE),
            "Rules for which events go to which processors. Without routes, every event of every source goes to every processor.",
        ),
        Field::new("memoryMax", FieldType::Size(4 * MIB, 64 * GIB), "Memory for events, shared by all sources and destinations. When it is full, sources wait.")
            .or("24MiB")
            .also(&["memory"]),
        Field::new(
            "shutdownTimeout",
            FieldType::Duration(0, HOUR),
            "Time for deliveries to finish after SIGTERM. Remaining events are delivered after the next start.",
        )
        .or("20s"),
        Field::new(
            "checkpointInterval",
            FieldType::Duration(10, MINUTE),
            "Time between two checkpoints. After a crash, events that were delivered within the last two intervals may be delivered again.",
        )
        .or("500ms"),
        Field::new("deadLetters", FieldType::Block(&DEAD_LETTERS), "Limits of the dead letters."),
        Field::new("log", FieldType::Block(&LOG), "Logging."),
    ],
    variants: &[],
    rules: &[],
};

static ADMIN: Block = Block {
    name: "admin",
    doc: "Read-only HTTP for operators: `/healthz`, `/readyz`, `/metrics`, `/stats`.",
    fields: &[
        Field::new(
            "bindAddress",
            FieldType::Text(TextFormat::BindAddress),
            "Address to listen on; `none` turns the listener off.",
        )
        .or("127.0.0.1:8082")
        .also(&["address", "listen"]),
        Field::new(
            "auth",
            FieldType::Maybe(&AUTH),
            "Credentials that `/metrics` and `/stats` require; `/healthz` and `/readyz` never do. Default: none, so everybody who reaches the port can read all pages.",
        ),
        Field::new("tls", FieldType::Maybe(&SERVER_TLS), "Serves HTTPS instead of HTTP."),
    ],
    variants: &[],
    rules: &[],
};

static SERVER_TLS: Block = Block {
    name: "admin.tls",
    doc: "The certificate of the admin listener.",
    fields: &[
        Field::new(
            "certFile",
            FieldType::Text(TextFormat::CertFile),
            "PEM file with the certificate and its intermediates.",
        )
        .required(),
        Field::new(
            "keyFile",
            FieldType::Text(TextFormat::KeyFile),
            "PEM file with the key of the certificate.",
        )
        .required(),
    ],
    variants: &[],
    rules: &[],
};

static DEAD_LETTERS: Block = Block {
    name: "deadLetters",
    doc: "[Dead letters](guarantees.md#dead-letters) stay in the state until an operator replays or drops them.",
    fields: &[
        Field::new(
            "bytesMax",
            FieldType::Size(MIB, 1024 * TIB),
            "Disk space for all dead letters. A quarter of it is a reserve, of which each destination has an equal share. When a destination has no room left, the events that it refuses wait.",
        )
        .or("256MiB"),
        Field::new(
            "maxAge",
            FieldType::Duration(SECOND, 3_650 * DAY),
            "Time since its last try after which a dead letter is removed for good. Default: dead letters are kept.",
        ),
    ],
    variants: &[],
    rules: &[],
};

static LOG: Block = Block {
    name: "log",
    doc: "Flags of the command line override these settings.",
    fields: &[
        Field::new(
            "level",
            FieldType::OneOf(&[
                ("error", "problems that need a person"),
                ("warn", "problems that the router recovers from"),
                ("info", "normal operation"),
                ("debug", "details"),
                ("trace", "everything"),
            ]),
            "Lines of this level and above are written.",
        )
        .or("info"),
        Field::new("format", FieldType::OneOf(&[("human", "for people"), ("json", "one JSON object per line")]), "Format of the lines.").or("human"),
        Field::new("invocations", FieldType::Flag, "Writes a JSON line to stdout for each delivery of an event: key, id, subject, destination, status, milliseconds, attempt.")
            .or("false"),
        Field::new("invocationsPerSecond", FieldType::Whole(1, 1_000_000), "The most invocation lines per second. Default: no limit."),
    ],
    variants: &[],
    rules: &[],
};

/// Credentials of a request.
static AUTH: Block = Block {
    name: "auth",
    doc: "Basic authentication (`username` and `password`) or a bearer token.",
    fields: &[
        Field::new("username", TEXT, "User for basic authentication.").also(&["user"]),
        Field::new("password", FieldType::Secret, "Password of the user."),
        Field::new("passwordFile", FieldType::SecretFile, "File with the password, read again at each use."),
        Field::new("token", FieldType::Secret, "Token for bearer authentication.").also(&["bearer"]),
        Field::new("tokenFile", FieldType::SecretFile, "File with the token, read again at each use."),
    ],
    variants: &[],
    rules: &[
        FieldRule::ExactlyOne(&["password", "passwordFile", "token", "tokenFile"]),
        FieldRule::Needs("username", &["password", "passwordFile"]),
        FieldRule::Needs("password", &["username"]),
        FieldRule::Needs("passwordFile", &["username"]),
    ],
};

const INSECURE: Field = Field::new(
    "insecure",
    FieldType::Flag,
    "Accepts any certificate, so the connection is not protected against attackers. A warning says so at every start.",
)
.or("false")
.also(&["insecureSSL", "insecureSkipVerify", "skipTLSVerify", "skipVerify"]);

const CA_FILE: Field = Field::new(
    "caFile",
    FieldType::OneOrMore(&FieldType::Text(TextFormat::CertFile)),
    "PEM files with additional trusted roots, besides the system's.",
)
.also(&["ca", "caFiles", "rootCAs", "certificates"]);

const CERT_FILE: Field = Field::new(
    "certFile",
    FieldType::Text(TextFormat::CertFile),
    "PEM file with the client certificate that the router presents (mTLS).",
)
.also(&["cert"]);

const KEY_FILE: Field = Field::new(
    "keyFile",
    FieldType::Text(TextFormat::KeyFile),
    "PEM file with the key of the client certificate.",
)
.also(&["key"]);

const THUMBPRINT: Field = Field::new(
    "thumbprint",
    FieldType::Text(TextFormat::Thumbprint),
    "SHA-256 of the server's certificate. Only this certificate is accepted, whoever signed it.",
)
.also(&["fingerprint", "sha256"]);

const TLS_RULES: &[FieldRule] =
    &[FieldRule::Needs("certFile", &["keyFile"]), FieldRule::Needs("keyFile", &["certFile"])];

static TLS: Block = Block {
    name: "tls",
    doc: "Certificates in the TLS handshake.",
    fields: &[INSECURE, CA_FILE, THUMBPRINT, CERT_FILE, KEY_FILE],
    variants: &[],
    rules: TLS_RULES,
};

const ENABLED: Field = Field::new("enabled", FieldType::Flag, "Turns it on or off.").or("true");

static ROUTE: Block = Block {
    name: "routes",
    doc: "A route sends the events of its `sources` that match its `pattern` to its `processors`. If several routes send an event to the same processor, it arrives there once.",
    fields: &[
        Field::new("name", FieldType::Text(TextFormat::Name), "Name in the output of `event-router check`. Default: `route-1` for the first, and so on."),
        Field::new("sources", NAMES, "Names of sources. Default: all.").also(&["source", "from"]),
        Field::new(
            "pattern",
            FieldType::Pattern,
            "Pattern in the language of EventBridge that the CloudEvent must match, such as `{subject: [VmPoweredOnEvent, {prefix: com.vmware.vc.HA.}]}`. Default: every event.",
        )
        .also(&["filter", "match", "when"]),
        Field::new("processors", NAMES, "Names of processors.").required().also(&["processor", "to"]),
    ],
    variants: &[],
    rules: &[],
};
