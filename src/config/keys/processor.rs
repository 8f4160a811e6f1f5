//! Keys of a processor, by its `type`. The keys that every type has are in
//! [`delivery`](super::delivery).

use super::delivery::{
    BATCH, BREAKER, EXTENSIONS, ORDERING_DOC, ORDERING_WORDS, OVERFLOW, RATE_LIMIT, RETRY,
};
use super::{AUTH, CA_FILE, DAY, HOUR, KIB, MIB, MINUTE, NAME, SECOND, TEXT, TLS};
use crate::config::field::{Block, Field, FieldRule, FieldType, MapFormat, TextFormat, Variant};

/// Basic authentication only, for targets that know no tokens.
static BASIC_AUTH: Block = Block {
    name: "basicAuth",
    doc: "Basic authentication.",
    fields: &[
        Field::new("username", TEXT, "User name.").required().also(&["user"]),
        Field::new("password", FieldType::Secret, "Password of the user."),
        Field::new("passwordFile", FieldType::SecretFile, "File with the password, read again at each use."),
    ],
    variants: &[],
    rules: &[FieldRule::ExactlyOne(&["password", "passwordFile"])],
};

pub(in crate::config) static REFERENCE: Block = Block {
    name: "cloudevents.ref",
    doc: "A Kubernetes Service, or an object with a `status.address.url`, such as a Broker, a Channel or a Knative Service. The service account of the pod must be allowed to `get` it.",
    fields: &[
        Field::new(
            "apiVersion",
            FieldType::Text(TextFormat::ObjectName),
            "API group and version, such as `eventing.knative.dev/v1`.",
        )
        .required(),
        Field::new("kind", FieldType::Text(TextFormat::ObjectName), "Kind, such as `Broker`.").required(),
        Field::new("name", FieldType::Text(TextFormat::ObjectName), "Name.").required(),
        Field::new(
            "namespace",
            FieldType::Text(TextFormat::ObjectName),
            "Namespace. Default: the namespace of the pod.",
        ),
    ],
    variants: &[],
    rules: &[],
};

/// The connection to AWS needs no other TLS setting than additional roots.
static AWS_TLS: Block = Block {
    name: "eventbridge.tls",
    doc: "Certificates in the TLS handshake with AWS.",
    fields: &[CA_FILE],
    variants: &[],
    rules: &[],
};

const HTTP_TLS: Field = Field::new("tls", FieldType::Block(&TLS), "Certificates to accept and to present.");

const TIMEOUT: Field = Field::new(
    "timeout",
    FieldType::Duration(100, HOUR),
    "Time for a request, to the last byte of the answer.",
)
.or("30s");

const CONNECT_TIMEOUT: Field =
    Field::new("connectTimeout", FieldType::Duration(100, 10 * MINUTE), "Time for TCP and TLS.").or("10s");

const PROXY: Field = Field::new(
    "proxy",
    FieldType::Text(TextFormat::ProxyUrl),
    "HTTP proxy. `environment` means the one in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.",
)
.or("environment");

const PROXY_TLS: Field = Field::new(
    "proxyTls",
    FieldType::Block(&TLS),
    "Certificates to accept from, and to present to, a proxy whose URL begins with `https://`. `tls` does not apply to it.",
);

pub(super) static PROCESSOR: Block = Block {
    name: "processors",
    doc: "A processor has a `name`, a `type`, the fields of that type, and the delivery settings in this table.",
    fields: &[
        NAME,
        Field::new(
            "type",
            FieldType::OneOf(&[
                ("cloudevents", "any CloudEvents target over HTTP: Knative, webhooks"),
                ("openfaas", "the functions of an OpenFaaS gateway"),
                ("eventbridge", "AWS EventBridge"),
                ("console", "stdout, one JSON event per line"),
                ("blackhole", "accepts every event and drops it"),
            ]),
            "Kind of the processor.",
        )
        .required()
        .also(&["provider"]),
        Field::new("ordering", ORDERING_WORDS, ORDERING_DOC).or("source"),
        Field::new(
            "onRefusal",
            FieldType::OneOf(&[
                ("stepAside", "events of the same source pass an event that was refused twice"),
                ("hold", "they wait for it: strict order"),
            ]),
            "Treatment of the events behind a refused one, with `ordering: source`.",
        )
        .or("stepAside"),
        Field::new(
            "time",
            FieldType::OneOf(&[("router", "the time when the router read the event"), ("created", "vCenter's `createdTime`")]),
            "Value of the CloudEvents attribute `time`.",
        )
        .or("router"),
        Field::new(
            "payload",
            FieldType::OneOf(&[
                ("pascal", "JSON with PascalCase keys, as the old router wrote it"),
                ("vijson", "vSphere's own JSON: lowerCamelCase keys, `_typeName` in every object, absent fields left out"),
                ("xml", "the XML element that vCenter sent"),
            ]),
            "Format of `data`.",
        )
        .or("pascal"),
        Field::new("extensions", FieldType::Block(&EXTENSIONS), "Additional CloudEvents attributes."),
        Field::new(
            "concurrency",
            FieldType::Whole(1, 1_024),
            "The most requests in flight; for `openfaas`, to each function. With `ordering: source` there is only one for each source.",
        )
        .or("32"),
        Field::new("batch", FieldType::Block(&BATCH), "Limits of a request, for targets that take several events at once."),
        Field::new("rateLimit", FieldType::Maybe(&RATE_LIMIT), "Limit for the load on the target. Default: no limit."),
        Field::new("retry", FieldType::Block(&RETRY), "Retries of an event that the target refuses."),
        Field::new("breaker", FieldType::Block(&BREAKER), "Circuit breaker: pauses deliveries to a failing target, except for single probes."),
        Field::new("overflow", FieldType::Block(&OVERFLOW), "Handling of events that arrive faster than the target takes them."),
        Field::new(
            "deadLetterTo",
            TEXT,
            "Name of a processor (`cloudevents`, `console` or `blackhole`) that gets the events that would become dead letters, with the attributes `knativeerrordest`, `knativeerrorcode` and `knativeerrordata`. Events that it refuses go to its own `deadLetterTo`, and finally to the dead letters. Without `routes` it gets no other events. Default: events become dead letters, for `event-router dlq`.",
        )
        .also(&["deadLetterSink", "deadLetter"]),
    ],
    variants: &[
        Variant {
            word: "cloudevents",
            doc: "POSTs events to a URL as CloudEvents 1.0.",
            fields: &[
                Field::new("url", FieldType::Text(TextFormat::HttpUrl), "URL of the target. Default: `$K_SINK`, which Knative sets; the router then also applies `$K_CE_OVERRIDES`.")
                    .also(&["address", "uri", "sink", "destination"]),
                Field::new("urlFile", FieldType::SecretFile, "File with the URL, if the URL is a secret like that of a webhook. Read again when it changes. Messages and pages show scheme, host and a short hash of such a URL, also if `url` has a variable in it."),
                Field::new("ref", FieldType::Maybe(&REFERENCE), "Instead of `url`: an object in the router's own Kubernetes cluster from which the router gets the address."),
                Field::new(
                    "mode",
                    FieldType::OneOf(&[
                        ("structured", "one event per request, completely in the body"),
                        ("binary", "one event per request, attributes in headers"),
                        ("batched", "many events per request, as a JSON array"),
                    ]),
                    "Content mode.",
                )
                .or("structured")
                .also(&["encoding", "contentMode"]),
                Field::new("auth", FieldType::Maybe(&AUTH), "Credentials for the target."),
                Field::new("headers", FieldType::Map(MapFormat::Headers), "Additional headers of each request."),
                HTTP_TLS,
                TIMEOUT,
                CONNECT_TIMEOUT,
                PROXY,
                PROXY_TLS,
            ],
            rules: &[FieldRule::AtMostOne(&["url", "urlFile", "ref"])],
        },
        Variant {
            word: "openfaas",
            doc: "Invokes each function whose annotation `topic` matches the subject of the event. Each function is a destination of its own.",
            fields: &[
                Field::new("gateway", FieldType::Text(TextFormat::HttpUrl), "URL of the gateway.").required().also(&["address", "url"]),
                Field::new("auth", FieldType::Maybe(&BASIC_AUTH), "Credentials for the gateway."),
                Field::new("authOnInvoke", FieldType::Flag, "Also sends `auth` with invocations. The gateway passes it on to the function.").or("false"),
                Field::new(
                    "async",
                    FieldType::Flag,
                    "Invokes functions through the gateway's queue. An event counts as delivered when the gateway has queued it, whether or not the function succeeds later. The annotation `async` of a function, \"true\" or \"false\", overrides this.",
                )
                .or("false"),
                Field::new("callbackUrl", FieldType::Text(TextFormat::HttpUrl), "`X-Callback-Url` of asynchronous invocations."),
                Field::new(
                    "contentType",
                    FieldType::Text(TextFormat::MayBeEmpty),
                    "`Content-Type` of an invocation; empty (`''`) sends none, like the old router.",
                )
                .or("application/cloudevents+json"),
                Field::new("topicAnnotation", TEXT, "Annotation that lists the topics of a function, separated by commas. A topic is a subject such as `VmPoweredOnEvent`; `*` stands for any characters.").or("topic"),
                Field::new("namespaces", FieldType::List(&TEXT), "Namespaces of the gateway to look for functions in. Default: all."),
                Field::new("refreshInterval", FieldType::Duration(SECOND, HOUR), "Time between two listings of functions.").or("10s"),
                Field::new("vanishedGrace", FieldType::Duration(0, DAY), "Time for which events wait for a function that the gateway no longer lists, since a redeploy looks like a removal. After a start, events wait this long for the functions of the last run.")
                    .or("1m"),
                HTTP_TLS,
                TIMEOUT.or("1m"),
                CONNECT_TIMEOUT,
                PROXY,
                PROXY_TLS,
            ],
            rules: &[],
        },
        Variant {
            word: "eventbridge",
            doc: "Sends an event to an AWS EventBridge bus if a rule of the bus matches it.",
            fields: &[
                Field::new("region", TEXT, "AWS region.").required(),
                Field::new("auth", FieldType::Maybe(&AWS_AUTH), "Credentials. Default: AWS's own chain of environment, profile, web identity, container and instance roles."),
                Field::new("assumeRole", FieldType::Maybe(&ASSUME_ROLE), "Role to assume with these credentials."),
                Field::new("endpoint", FieldType::Text(TextFormat::HttpUrl), "Endpoint to use instead of AWS's own."),
                Field::new("buses", FieldType::Blocks(&BUS), "Event buses. Default: the bus `default` with all its rules.").also(&["eventBus"]),
                Field::new("refreshInterval", FieldType::Duration(SECOND, DAY), "Time between two readings of the rules.").or("5m"),
                Field::new("entryBytesMax", FieldType::Size(KIB, 16 * MIB), "The largest size of a request and of each entry in it, as AWS computes it. A larger event becomes a dead letter.")
                    .or("256KiB"),
                Field::new("tls", FieldType::Block(&AWS_TLS), "Certificates to accept."),
                TIMEOUT,
                CONNECT_TIMEOUT,
                PROXY,
                PROXY_TLS,
                Field::new("ordering", ORDERING_WORDS, ORDERING_DOC).or("none"),
            ],
            rules: &[],
        },
        Variant { word: "console", doc: "Writes events to stdout, one JSON event per line.", fields: &[], rules: &[] },
        Variant { word: "blackhole", doc: "Accepts every event and drops it, for measurements.", fields: &[], rules: &[] },
    ],
    rules: &[],
};

static AWS_AUTH: Block = Block {
    name: "eventbridge.auth",
    doc: "An access key, or a profile from AWS's own configuration files.",
    fields: &[
        Field::new("accessKeyId", TEXT, "Id of the access key.").also(&["accessKey", "aws_access_key_id"]),
        Field::new("secretAccessKey", FieldType::Secret, "Secret access key.")
            .also(&["secretKey", "aws_secret_access_key"]),
        Field::new("secretAccessKeyFile", FieldType::SecretFile, "File with the secret access key."),
        Field::new("sessionToken", FieldType::Secret, "Session token of temporary credentials."),
        Field::new("sessionTokenFile", FieldType::SecretFile, "File with the session token."),
        Field::new("profile", TEXT, "Name of the profile."),
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
        Field::new("roleArn", TEXT, "ARN of the role.").required().also(&["arn", "role"]),
        Field::new("externalId", TEXT, "External id, if the role's trust policy requires one."),
        Field::new("sessionName", TEXT, "Name of the session in AWS's logs.").or("event-router"),
    ],
    variants: &[],
    rules: &[],
};

static BUS: Block = Block {
    name: "eventbridge.buses",
    doc: "An event bus.",
    fields: &[
        Field::new("name", TEXT, "Name or ARN.").required(),
        Field::new(
            "rules",
            FieldType::List(&TEXT),
            "Names or ARNs of the rules whose patterns select the events. Default: all rules of the bus.",
        )
        .also(&["ruleARN", "rule"]),
        Field::new("forwardAll", FieldType::Flag, "Sends every event, and reads no rules.").or("false"),
    ],
    variants: &[],
    rules: &[],
};
