//! The table of the native format: every key, what it takes, its default, its meaning. A key that is not here is an error.

use super::field::{Block, Field, FieldRule, FieldType, MapFormat, TextFormat, Variant};

/// What `apiVersion` says in a file of the native format.
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
    "Its name in logs, metrics and the state. Whatever gets another name is new to the router and starts without its old position.",
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
            "Says that the file is in this format.",
        )
        .required(),
        Field::new(
            "dataDir",
            FieldType::Text(TextFormat::Path),
            "The directory for positions, spools and dead letters; one process owns it. Default: `$STATE_DIRECTORY` (systemd sets it), else `/var/lib/event-router` if that can be written to, else `./event-router-data`.",
        )
        .also(&["stateDir", "checkpointDir"]),
        Field::new(
            "ephemeral",
            FieldType::Flag,
            "Keeps the state only while the process runs: every start begins at the sources' `startAt`, and what was waiting is gone.",
        )
        .or("false"),
        Field::new("admin", FieldType::Block(&ADMIN), "Where health, metrics and statistics are served.")
            .also(&["metrics", "metricsProvider"]),
        Field::new("sources", FieldType::Blocks(&SOURCE), "Where events come from.").required().also(&["eventProvider"]),
        Field::new("processors", FieldType::Blocks(&PROCESSOR), "Where events go.").required().also(&["eventProcessor", "sinks"]),
        Field::new(
            "routes",
            FieldType::Blocks(&ROUTE),
            "Which events go where. Without routes every event of every source goes to every processor.",
        ),
        Field::new("memoryMax", FieldType::Size(4 * MIB, 64 * GIB), "Memory for events, over all sources and destinations. When it is full, sources wait.")
            .or("24MiB")
            .also(&["memory"]),
        Field::new(
            "shutdownTimeout",
            FieldType::Duration(0, HOUR),
            "How long deliveries may go on after SIGTERM. What is left then is delivered after the next start.",
        )
        .or("20s"),
        Field::new(
            "checkpointInterval",
            FieldType::Duration(10, MINUTE),
            "The longest time from a delivery to the checkpoint that knows of it: after a crash, at most what was delivered in this time is delivered again.",
        )
        .or("500ms"),
        Field::new("log", FieldType::Block(&LOG), "What is logged."),
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
            "Where to listen; `none` for not at all.",
        )
        .or("127.0.0.1:8082")
        .also(&["address", "listen"]),
        Field::new(
            "auth",
            FieldType::Maybe(&AUTH),
            "What a request must bring. Without it everybody who reaches the port may read.",
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
            "PEM file with the certificate and what is between it and its root.",
        )
        .required(),
        Field::new("keyFile", FieldType::Text(TextFormat::KeyFile), "PEM file with the certificate's key.")
            .required(),
    ],
    variants: &[],
    rules: &[],
};

static LOG: Block = Block {
    name: "log",
    doc: "Flags of the command line come before these.",
    fields: &[
        Field::new(
            "level",
            FieldType::OneOf(&[
                ("error", "what needs a person"),
                ("warn", "what recovers by itself"),
                ("info", "what happens"),
                ("debug", "how"),
                ("trace", "everything"),
            ]),
            "The least important lines that are written.",
        )
        .or("info"),
        Field::new("format", FieldType::OneOf(&[("human", "for people"), ("json", "one object a line")]), "How lines look.").or("human"),
        Field::new("invocations", FieldType::Flag, "Writes one line to stdout for each invocation: key, id, subject, destination, status, milliseconds, attempt.")
            .or("false"),
        Field::new("invocationsPerSecond", FieldType::Whole(1, 1_000_000), "Invocation lines a second at most. Default: no limit."),
    ],
    variants: &[],
    rules: &[],
};

/// Credentials of a request.
static AUTH: Block = Block {
    name: "auth",
    doc: "Basic authentication (`username` and `password`) or a bearer token.",
    fields: &[
        Field::new("username", TEXT, "The user, for basic authentication.").also(&["user"]),
        Field::new("password", FieldType::Secret, "The user's password."),
        Field::new(
            "passwordFile",
            FieldType::SecretFile,
            "The file with the password, read again at each use.",
        ),
        Field::new("token", FieldType::Secret, "The token, for bearer authentication.").also(&["bearer"]),
        Field::new("tokenFile", FieldType::SecretFile, "The file with the token, read again at each use."),
    ],
    variants: &[],
    rules: &[
        FieldRule::ExactlyOne(&["password", "passwordFile", "token", "tokenFile"]),
        FieldRule::Needs("username", &["password", "passwordFile"]),
        FieldRule::Needs("password", &["username"]),
        FieldRule::Needs("passwordFile", &["username"]),
    ],
};

/// The same without a token, for what knows only users.
static BASIC_AUTH: Block = Block {
    name: "basicAuth",
    doc: "Basic authentication.",
    fields: &[
        Field::new("username", TEXT, "The user.").required().also(&["user"]),
        Field::new("password", FieldType::Secret, "The user's password."),
        Field::new(
            "passwordFile",
            FieldType::SecretFile,
            "The file with the password, read again at each use.",
        ),
    ],
    variants: &[],
    rules: &[FieldRule::ExactlyOne(&["password", "passwordFile"])],
};

const INSECURE: Field = Field::new(
    "insecure",
    FieldType::Flag,
    "Accepts any certificate. The router warns about it at every start.",
)
.or("false")
.also(&["insecureSSL", "insecureSkipVerify", "skipTLSVerify", "skipVerify"]);
const CA_FILE: Field = Field::new(
    "caFile",
    FieldType::OneOrMore(&FieldType::Text(TextFormat::CertFile)),
    "PEM files with roots that are trusted besides the system's.",
)
.also(&["ca", "caFiles", "rootCAs", "certificates"]);
const CERT_FILE: Field = Field::new(
    "certFile",
    FieldType::Text(TextFormat::CertFile),
    "PEM file with the certificate that the router shows (mTLS).",
)
.also(&["cert"]);
const KEY_FILE: Field =
    Field::new("keyFile", FieldType::Text(TextFormat::KeyFile), "PEM file with that certificate's key.")
        .also(&["key"]);
const THUMBPRINT: Field = Field::new(
    "thumbprint",
    FieldType::Text(TextFormat::Thumbprint),
    "SHA-256 of the one certificate that is accepted, whoever signed it.",
)
.also(&["fingerprint", "sha256"]);
const TLS_RULES: &[FieldRule] =
    &[FieldRule::Needs("certFile", &["keyFile"]), FieldRule::Needs("keyFile", &["certFile"])];

static TLS: Block = Block {
    name: "tls",
    doc: "What the router accepts and shows in a TLS handshake.",
    fields: &[INSECURE, CA_FILE, THUMBPRINT, CERT_FILE, KEY_FILE],
    variants: &[],
    rules: TLS_RULES,
};

pub(super) static REFERENCE: Block = Block {
    name: "cloudevents.ref",
    doc: "A Broker, a Channel, a Knative Service or anything else with a `status.address.url`; or a Service. The pod's service account must be allowed to `get` it.",
    fields: &[
        Field::new(
            "apiVersion",
            FieldType::Text(TextFormat::ObjectName),
            "Its group and version, `eventing.knative.dev/v1`.",
        )
        .required(),
        Field::new("kind", FieldType::Text(TextFormat::ObjectName), "Its kind, `Broker`.").required(),
        Field::new("name", FieldType::Text(TextFormat::ObjectName), "Its name.").required(),
        Field::new(
            "namespace",
            FieldType::Text(TextFormat::ObjectName),
            "Its namespace. Default: the pod's own.",
        ),
    ],
    variants: &[],
    rules: &[],
};

/// AWS's SDK brings its own handshake: roots can be added to it, nothing else.
static AWS_TLS: Block = Block {
    name: "eventbridge.tls",
    doc: "What the router accepts in a TLS handshake with AWS.",
    fields: &[CA_FILE],
    variants: &[],
    rules: &[],
};

static SOURCE: Block = Block {
    name: "sources",
    doc: "A source has a `name`, a `type`, and the fields of that type.",
    fields: &[
        NAME,
        Field::new("type", FieldType::OneOf(&[("vcenter", "a vCenter")]), "What kind of source it is.").required().also(&["provider"]),
    ],
    variants: &[Variant {
        word: "vcenter",
        doc: "A vCenter's event history. A read-only user is enough.",
        fields: &[
            Field::new(
                "address",
                FieldType::Text(TextFormat::SdkUrl),
                "The SDK URL; `vc1.example` is short for `https://vc1.example/sdk`. It is the `source` of the events.",
            )
            .required()
            .also(&["url", "host", "server"]),
            Field::new("username", TEXT, "The user, such as `ro@vsphere.local`.").required().also(&["user"]),
            Field::new("password", FieldType::Secret, "The user's password."),
            Field::new("passwordFile", FieldType::SecretFile, "The file with the password, read again at each login."),
            Field::new("tls", FieldType::Block(&TLS), "What certificate is accepted, and which one is shown to a proxy in front of the vCenter that asks for it."),
            Field::new(
                "startAt",
                FieldType::Text(TextFormat::StartAt),
                "Where to begin without a checkpoint, by vCenter's clock.",
            )
            .or("now"),
            Field::new("filter", FieldType::Block(&FILTER), "What vCenter is asked for. What it does not send can be routed nowhere."),
            Field::new("pageSize", FieldType::Whole(1, 1_000), "Events that one read asks for. vCenter's own maximum is 1,000.").or("1000"),
            Field::new(
                "pollInterval",
                FieldType::Duration(1, MINUTE),
                "The longest time from a page that was not full to the next read; it is shorter while events come fast, and 1 ms for each source at least. The first event after idle is read at once.",
            )
            .or("20ms")
            .also(&["interval", "minInterval"]),
            Field::new(
                "maxCallsPerSecond",
                FieldType::Whole(1, 10_000),
                "Calls of the vSphere API a second at most, full pages included: a brake for a vCenter that must be spared while the router catches up. The default limits nothing: reads run one after another, and while there are no new events the router waits and does not poll.",
            )
            .or("10000"),
            Field::new(
                "overlap",
                FieldType::Duration(SECOND, DAY),
                "How far before the checkpoint a new collector begins. What was delivered already is known and dropped.",
            )
            .or("2m"),
            Field::new("sweep", FieldType::Block(&SWEEP), "The re-read that catches events which became visible late."),
            Field::new("timeouts", FieldType::Block(&TIMEOUTS), "How long calls may take."),
            Field::new(
                "protocol",
                FieldType::OneOf(&[
                    ("soap", "SOAP, which every vCenter speaks and the router decodes fastest"),
                    ("vijson", "VI/JSON, of vCenter 8.0 U1 and later"),
                    ("auto", "VI/JSON where the vCenter offers it (8.0 U2 and later) and no processor wants `payload: xml`, else SOAP"),
                ]),
                "How the router talks to the vCenter. Events, ids and positions are the same.",
            )
            .or("soap"),
            Field::new(
                "importCheckpoint",
                FieldType::Text(TextFormat::Path),
                "A checkpoint file of the old router (`cp-HOST.json`), imported once where the router has no position of this source. A file that is not there is no error.",
            ),
        ],
        rules: &[FieldRule::ExactlyOne(&["password", "passwordFile"])],
    }],
    rules: &[],
};

static FILTER: Block = Block {
    name: "filter",
    doc: "vSphere's EventFilterSpec. Several fields must all match.",
    fields: &[
        Field::new(
            "eventTypes",
            FieldType::List(&TEXT),
            "Class names (`VmPoweredOnEvent`, subclasses included) and event type ids (`com.vmware.vc.HA.…`). Default: all.",
        ),
        Field::new(
            "users",
            FieldType::List(&TEXT),
            "Users that caused the event, as events name them (`VSPHERE.LOCAL\\Administrator`). Default: all.",
        ),
        Field::new(
            "entity",
            FieldType::Maybe(&ENTITY),
            "The object that events are about. Default: the whole inventory.",
        ),
    ],
    variants: &[],
    rules: &[],
};

static ENTITY: Block = Block {
    name: "filter.entity",
    doc: "A managed object, as the URL of the vSphere client shows it: `…ClusterComputeResource:domain-c8…`.",
    fields: &[
        Field::new("type", TEXT, "Its type, `ClusterComputeResource`.").required(),
        Field::new("id", TEXT, "Its id, `domain-c8`.").required().also(&["value"]),
        Field::new(
            "recursion",
            FieldType::OneOf(&[
                ("all", "it and everything under it"),
                ("children", "what is under it"),
                ("self", "it alone"),
            ]),
            "Which objects are meant.",
        )
        .or("all"),
    ],
    variants: &[],
    rules: &[],
};

const ENABLED: Field = Field::new("enabled", FieldType::Flag, "Whether there is one.").or("true");

static SWEEP: Block = Block {
    name: "sweep",
    doc: "An event that becomes visible behind the collector's cursor is never returned by it; a re-read of the last minutes is.",
    fields: &[
        ENABLED,
        Field::new("interval", FieldType::Duration(SECOND, HOUR), "From one re-read to the next.").or("1m"),
        Field::new("window", FieldType::Duration(SECOND, HOUR), "How far back it reads.").or("2m"),
    ],
    variants: &[],
    rules: &[],
};

static TIMEOUTS: Block = Block {
    name: "timeouts",
    doc: "",
    fields: &[
        Field::new("connect", FieldType::Duration(100, 10 * MINUTE), "TCP and TLS.").or("10s"),
        Field::new("call", FieldType::Duration(SECOND, 10 * MINUTE), "One call, to the last byte of the answer. A page is given up sooner: after 10s or four times what was usual, twice as long after each time-out.")
            .or("1m"),
        Field::new(
            "wait",
            FieldType::Duration(SECOND, MINUTE),
            "How long vCenter may hold back the answer that there is nothing new.",
        )
        .or("1m"),
    ],
    variants: &[],
    rules: &[],
};

const HTTP_TLS: Field = Field::new("tls", FieldType::Block(&TLS), "What certificate is accepted, and shown.");
const TIMEOUT: Field =
    Field::new("timeout", FieldType::Duration(100, HOUR), "One request, to the last byte of its answer.")
        .or("30s");
const CONNECT_TIMEOUT: Field =
    Field::new("connectTimeout", FieldType::Duration(100, 10 * MINUTE), "TCP and TLS.").or("10s");
const PROXY: Field = Field::new(
    "proxy",
    FieldType::Text(TextFormat::ProxyUrl),
    "The HTTP proxy. `environment`: what `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.",
)
.or("environment");
const ORDERING_WORDS: FieldType = FieldType::OneOf(&[
    ("source", "all events of a source, one request at a time"),
    ("entity", "events about the same object; objects in parallel"),
    ("none", "no order"),
]);
const ORDERING_DOC: &str = "Within what events arrive in the order of their first reading.";

static PROCESSOR: Block = Block {
    name: "processors",
    doc: "A processor has a `name`, a `type`, the fields of that type, and the delivery settings that are the same for every type.",
    fields: &[
        NAME,
        Field::new(
            "type",
            FieldType::OneOf(&[
                ("cloudevents", "any CloudEvents target over HTTP: Knative, webhooks"),
                ("openfaas", "the functions of an OpenFaaS gateway"),
                ("eventbridge", "AWS EventBridge"),
                ("console", "one JSON event a line on stdout"),
                ("blackhole", "takes everything and keeps nothing"),
            ]),
            "What kind of processor it is.",
        )
        .required()
        .also(&["provider"]),
        Field::new("ordering", ORDERING_WORDS, ORDERING_DOC).or("source"),
        Field::new(
            "time",
            FieldType::OneOf(&[("router", "when the router read the event"), ("created", "vCenter's `createdTime`")]),
            "What the CloudEvents `time` says.",
        )
        .or("router"),
        Field::new(
            "payload",
            FieldType::OneOf(&[
                ("pascal", "JSON with PascalCase keys, as the old router wrote it"),
                ("vijson", "vSphere's own JSON: lowerCamelCase keys, `_typeName` in every object, absent fields left out"),
                ("xml", "the element that vCenter sent"),
            ]),
            "How `data` is written.",
        )
        .or("pascal"),
        Field::new("extensions", FieldType::Block(&EXTENSIONS), "CloudEvents attributes besides the usual ones."),
        Field::new(
            "concurrency",
            FieldType::Whole(1, 1_024),
            "Requests in flight at most, to each function for `openfaas`. With `ordering: source` there is one a source in any case.",
        )
        .or("32"),
        Field::new("batch", FieldType::Block(&BATCH), "When a request is full, where the target takes more than one event in it."),
        Field::new("rateLimit", FieldType::Maybe(&RATE_LIMIT), "How much the target gets at most. Default: no limit."),
        Field::new("retry", FieldType::Block(&RETRY), "How often an event is tried again that the target refuses."),
        Field::new("breaker", FieldType::Block(&BREAKER), "When a failing target is left alone but for a probe."),
        Field::new("overflow", FieldType::Block(&OVERFLOW), "What happens when the target is slower than its events come."),
        Field::new(
            "deadLetterTo",
            TEXT,
            "The processor (`cloudevents`, `console` or `blackhole`) that gets what could not be delivered, with the attributes `knativeerrordest`, `knativeerrorcode` and `knativeerrordata`. What it does not take either goes to its own `deadLetterTo`, at last to the dead letters. Without `routes` it gets nothing else. Default: the dead letters, for `event-router dlq`.",
        )
        .also(&["deadLetterSink", "deadLetter"]),
    ],
    variants: &[
        Variant {
            word: "cloudevents",
            doc: "POSTs CloudEvents 1.0 to a URL.",
            fields: &[
                Field::new("url", FieldType::Text(TextFormat::HttpUrl), "The target. Default: `$K_SINK`, which Knative sets; `$K_CE_OVERRIDES` is read too.")
                    .also(&["address", "uri", "sink", "destination"]),
                Field::new("ref", FieldType::Maybe(&REFERENCE), "Instead of `url`: an object in the Kubernetes cluster that the router runs in, which says itself where it takes events."),
                Field::new(
                    "mode",
                    FieldType::OneOf(&[
                        ("structured", "one event a request, all in the body"),
                        ("binary", "one event a request, attributes in headers"),
                        ("batched", "many events a request, a JSON array"),
                    ]),
                    "The content mode.",
                )
                .or("structured")
                .also(&["encoding", "contentMode"]),
                Field::new("auth", FieldType::Maybe(&AUTH), "Credentials for the target."),
                Field::new("headers", FieldType::Map(MapFormat::Headers), "Headers that each request carries besides its own."),
                HTTP_TLS,
                TIMEOUT,
                CONNECT_TIMEOUT,
                PROXY,
            ],
            rules: &[FieldRule::AtMostOne(&["url", "ref"])],
        },
        Variant {
            word: "openfaas",
            doc: "Invokes each function whose annotation names the event's topic. Each function is a destination of its own.",
            fields: &[
                Field::new("gateway", FieldType::Text(TextFormat::HttpUrl), "The gateway's URL.").required().also(&["address", "url"]),
                Field::new("auth", FieldType::Maybe(&BASIC_AUTH), "Credentials for the gateway."),
                Field::new("authOnInvoke", FieldType::Flag, "Sends `auth` with invocations too. The gateway hands it on to the function.").or("false"),
                Field::new(
                    "async",
                    FieldType::Flag,
                    "Invokes through the gateway's queue. An event counts as delivered when the gateway has queued it; what the function does with it then is the queue's business. A function's own annotation `async`, \"true\" or \"false\", comes before it.",
                )
                .or("false"),
                Field::new("callbackUrl", FieldType::Text(TextFormat::HttpUrl), "`X-Callback-Url` of asynchronous invocations."),
                Field::new(
                    "contentType",
                    FieldType::Text(TextFormat::MayBeEmpty),
                    "`Content-Type` of an invocation; empty (`''`) for none, as the old router did.",
                )
                .or("application/cloudevents+json"),
                Field::new("topicAnnotation", TEXT, "The annotation with a function's topics, separated by commas.").or("topic"),
                Field::new("namespaces", FieldType::List(&TEXT), "The gateway's namespaces to look for functions in. Default: all."),
                Field::new("refreshInterval", FieldType::Duration(SECOND, HOUR), "How often functions are listed.").or("10s"),
                Field::new("vanishedGrace", FieldType::Duration(0, DAY), "How long a function that is no longer listed keeps its events: a redeploy looks like a removal. After a start, how long the functions of the last run are waited for.")
                    .or("1m"),
                HTTP_TLS,
                TIMEOUT.or("1m"),
                CONNECT_TIMEOUT,
                PROXY,
            ],
            rules: &[],
        },
        Variant {
            word: "eventbridge",
            doc: "Puts events on AWS EventBridge buses, only those that a rule asks for.",
            fields: &[
                Field::new("region", TEXT, "The AWS region.").required(),
                Field::new("auth", FieldType::Maybe(&AWS_AUTH), "Credentials. Default: AWS's chain of environment, profile, web identity, container and instance roles."),
                Field::new("assumeRole", FieldType::Maybe(&ASSUME_ROLE), "A role to assume with them."),
                Field::new("endpoint", FieldType::Text(TextFormat::HttpUrl), "Instead of AWS's own endpoint."),
                Field::new("buses", FieldType::Blocks(&BUS), "The event buses. Default: the bus `default` with all its rules.").also(&["eventBus"]),
                Field::new("refreshInterval", FieldType::Duration(SECOND, DAY), "How often rules are read.").or("5m"),
                Field::new("entryBytesMax", FieldType::Size(KIB, 16 * MIB), "Size of a request and of an entry in it, by AWS's formula. An event that is larger is a dead letter.")
                    .or("256KiB"),
                Field::new("tls", FieldType::Block(&AWS_TLS), "What certificate is accepted."),
                TIMEOUT,
                CONNECT_TIMEOUT,
                PROXY,
                Field::new("ordering", ORDERING_WORDS, ORDERING_DOC).or("none"),
            ],
            rules: &[],
        },
        Variant { word: "console", doc: "Writes one JSON event a line to stdout.", fields: &[], rules: &[] },
        Variant { word: "blackhole", doc: "Takes everything and keeps nothing: for measuring.", fields: &[], rules: &[] },
    ],
    rules: &[],
};

static AWS_AUTH: Block = Block {
    name: "eventbridge.auth",
    doc: "An access key, or a profile of AWS's own configuration files.",
    fields: &[
        Field::new("accessKeyId", TEXT, "The access key's id.").also(&["accessKey", "aws_access_key_id"]),
        Field::new("secretAccessKey", FieldType::Secret, "The secret access key.")
            .also(&["secretKey", "aws_secret_access_key"]),
        Field::new("secretAccessKeyFile", FieldType::SecretFile, "The file with the secret access key."),
        Field::new("sessionToken", FieldType::Secret, "The session token of temporary credentials."),
        Field::new("sessionTokenFile", FieldType::SecretFile, "The file with the session token."),
        Field::new("profile", TEXT, "The profile's name."),
    ],
    variants: &[],
    rules: &[
        FieldRule::ExactlyOne(&["accessKeyId", "profile"]),
        FieldRule::AtMostOne(&["secretAccessKey", "secretAccessKeyFile"]),
        FieldRule::AtMostOne(&["sessionToken", "sessionTokenFile"]),
        FieldRule::Needs("accessKeyId", &["secretAccessKey", "secretAccessKeyFile"]),
        FieldRule::Needs("secretAccessKey", &["accessKeyId"]),
        FieldRule::Needs("secretAccessKeyFile", &["accessKeyId"]),
        FieldRule::Needs("sessionToken", &["accessKeyId"]),
        FieldRule::Needs("sessionTokenFile", &["accessKeyId"]),
    ],
};

static ASSUME_ROLE: Block = Block {
    name: "eventbridge.assumeRole",
    doc: "STS AssumeRole.",
    fields: &[
        Field::new("roleArn", TEXT, "The role's ARN.").required().also(&["arn", "role"]),
        Field::new("externalId", TEXT, "What the role's trust policy asks for."),
        Field::new("sessionName", TEXT, "The name of the session in AWS's logs.").or("event-router"),
    ],
    variants: &[],
    rules: &[],
};

static BUS: Block = Block {
    name: "eventbridge.buses",
    doc: "An event bus.",
    fields: &[
        Field::new("name", TEXT, "Its name or ARN.").required(),
        Field::new(
            "rules",
            FieldType::List(&TEXT),
            "Names or ARNs of the rules whose patterns decide what is sent. Default: all rules of the bus.",
        )
        .also(&["ruleARN", "rule"]),
        Field::new("forwardAll", FieldType::Flag, "Sends every event and reads no rules.").or("false"),
    ],
    variants: &[],
    rules: &[],
};

static EXTENSIONS: Block = Block {
    name: "extensions",
    doc: "",
    fields: &[
        Field::new(
            "sequence",
            FieldType::Flag,
            "`sequence`: the event's key as an unsigned number with leading zeros, so that it sorts.",
        )
        .or("false"),
        Field::new(
            "partitionkey",
            FieldType::Flag,
            "`partitionkey`: the object that the event is about, `VirtualMachine:vm-65`.",
        )
        .or("false")
        .also(&["partitionKey"]),
        Field::new("vsphereapiversion", FieldType::Flag, "`vsphereapiversion`: the vCenter's API version.")
            .or("false")
            .also(&["vsphereApiVersion"]),
        Field::new("eventclass", FieldType::Flag, "`eventclass`: `event`, `eventex` or `extendedevent`.")
            .or("false")
            .also(&["eventClass"]),
        Field::new(
            "static",
            FieldType::Map(MapFormat::Extensions),
            "Attributes with the same value for every event.",
        ),
    ],
    variants: &[],
    rules: &[],
};

static BATCH: Block = Block {
    name: "batch",
    doc: "Only `cloudevents` with `mode: batched` and `eventbridge` send more than one event in a request.",
    fields: &[
        Field::new("events", FieldType::Whole(1, 100_000), "Events in a request at most.").or("1000").also(&["size", "maxEvents"]),
        Field::new("bytes", FieldType::Size(KIB, 64 * MIB), "Bytes of events in a request at most, reckoned before they are rendered: their `data` as the old router writes it, and 340 for the attributes of each. Long static extensions and other payloads come on top.").or("1MiB").also(&["maxBytes"]),
        Field::new("age", FieldType::Duration(0, MINUTE), "How long a request that is not full waits for more events; 0: it goes as soon as the target is free.")
            .or("0s")
            .also(&["timeout", "linger"]),
    ],
    variants: &[],
    rules: &[],
};

/// One in eleven days: what is slower is a mistake.
const RATE_MIN: f64 = 0.000_001;
const RATE_MAX: f64 = 1e9;

static RATE_LIMIT: Block = Block {
    name: "rateLimit",
    doc: "",
    fields: &[
        Field::new(
            "eventsPerSecond",
            FieldType::Decimal(RATE_MIN, RATE_MAX),
            "Events a second; a batch has no more than a second's.",
        ),
        Field::new("requestsPerSecond", FieldType::Decimal(RATE_MIN, RATE_MAX), "Requests a second."),
    ],
    variants: &[],
    rules: &[FieldRule::ExactlyOne(&["eventsPerSecond", "requestsPerSecond"])],
};

static RETRY: Block = Block {
    name: "retry",
    doc: "For what is wrong with an event. What is the target's own trouble (no connection, time-out, 408, 429, 502, 503, 504) waits without limit and uses up no attempt.",
    fields: &[
        Field::new(
            "attempts",
            FieldType::Whole(1, 1_000_000),
            "Tries of an event, the first included. Then it is a dead letter.",
        )
        .or("8")
        .also(&["maxAttempts"]),
        Field::new(
            "maxAge",
            FieldType::Duration(0, 30 * DAY),
            "How long an event is tried again after it was first refused. Only time in which the target answers counts: while it is gone no event grows old.",
        )
        .or("1h"),
        Field::new(
            "backoffMin",
            FieldType::Duration(1, HOUR),
            "The first wait is a random time up to this; each further one up to twice as long.",
        )
        .or("200ms"),
        Field::new("backoffMax", FieldType::Duration(1, DAY), "What the doubling ends at.").or("30s"),
        Field::new(
            "statuses",
            FieldType::List(&FieldType::Text(TextFormat::Status)),
            "HTTP statuses after which an event is tried again. Default: 404, 409, 425 and 500 to 599 but 501.",
        ),
    ],
    variants: &[],
    rules: &[],
};

static BREAKER: Block = Block {
    name: "breaker",
    doc: "",
    fields: &[
        ENABLED,
        Field::new("failures", FieldType::Whole(1, 1_000_000), "Failures in a row that open it.").or("10"),
        Field::new(
            "successRateMin",
            FieldType::Decimal(0.0, 1.0),
            "The share of requests within `window` that must succeed.",
        )
        .or("0.5"),
        Field::new("window", FieldType::Duration(SECOND, HOUR), "The time over which that share is taken.")
            .or("30s"),
        Field::new(
            "probeInterval",
            FieldType::Duration(100, HOUR),
            "From one probe to the next while it is open.",
        )
        .or("5s"),
    ],
    variants: &[],
    rules: &[],
};

static OVERFLOW: Block = Block {
    name: "overflow",
    doc: "",
    fields: &[
        Field::new(
            "policy",
            FieldType::OneOf(&[
                ("spill", "events wait on disk, in order"),
                ("block", "the source waits, and with it all its other processors"),
                ("dropNewest", "new events are lost, counted and logged"),
                ("dropOldest", "waiting events are lost, counted and logged"),
            ]),
            "What happens when its memory is full.",
        )
        .or("spill"),
        Field::new(
            "bytesMax",
            FieldType::Size(MIB, 1024 * TIB),
            "Disk that its waiting events may take. When it is full, the source waits.",
        )
        .or("10GiB"),
        Field::new(
            "freeDiskFloor",
            FieldType::Size(256 * MIB, 1024 * TIB),
            "Disk that must stay free: with less, the source waits as if `bytesMax` were reached.",
        )
        .or("256MiB")
        .also(&["freeDiskMin", "diskFreeMin"]),
    ],
    variants: &[],
    rules: &[],
};

static ROUTE: Block = Block {
    name: "routes",
    doc: "Events of these sources that match this pattern go to these processors. An event that several routes send to one processor arrives there once.",
    fields: &[
        Field::new("name", FieldType::Text(TextFormat::Name), "Its name in metrics. Default: `route-1` for the first, and so on."),
        Field::new("sources", NAMES, "Names of sources. Default: all.").also(&["source", "from"]),
        Field::new(
            "pattern",
            FieldType::Pattern,
            "An EventBridge pattern over the CloudEvent: `{subject: [VmPoweredOnEvent, {prefix: com.vmware.vc.HA.}]}`. Default: everything.",
        )
        .also(&["filter", "match", "when"]),
        Field::new("processors", NAMES, "Names of processors.").required().also(&["processor", "to"]),
    ],
    variants: &[],
    rules: &[],
};
