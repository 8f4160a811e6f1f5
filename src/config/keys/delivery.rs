//! Keys of the delivery settings, which every processor has: batches, retries, breaker, overflow.

use super::{DAY, ENABLED, HOUR, KIB, MIB, MINUTE, SECOND, TIB};
use crate::config::field::{Block, Field, FieldRule, FieldType, MapFormat, TextFormat};

pub(super) const ORDERING_WORDS: FieldType = FieldType::OneOf(&[
    ("source", "all events of a source, one request at a time"),
    (
        "entity",
        "events about the same VM, host or other object, one request at a time; different objects in parallel",
    ),
    ("none", "no order"),
]);

pub(super) const ORDERING_DOC: &str =
    "Events among which the order is kept: the order in which the router first read them.";

pub(super) static EXTENSIONS: Block = Block {
    name: "extensions",
    doc: "",
    fields: &[
        Field::new(
            "sequence",
            FieldType::Flag,
            "`sequence`: the key of the event as an unsigned number, with leading zeros for sorting.",
        )
        .or("false"),
        Field::new(
            "partitionkey",
            FieldType::Flag,
            "`partitionkey`: the object that the event is about, such as `VirtualMachine:vm-65`.",
        )
        .or("false")
        .also(&["partitionKey"]),
        Field::new(
            "vsphereapiversion",
            FieldType::Flag,
            "`vsphereapiversion`: the API version of the vCenter.",
        )
        .or("false")
        .also(&["vsphereApiVersion"]),
        Field::new("eventclass", FieldType::Flag, "`eventclass`: `event`, `eventex` or `extendedevent`.")
            .or("false")
            .also(&["eventClass"]),
        Field::new(
            "static",
            FieldType::Map(MapFormat::Extensions),
            "Attributes with a fixed value for every event.",
        ),
    ],
    variants: &[],
    rules: &[],
};

pub(super) static BATCH: Block = Block {
    name: "batch",
    doc: "Only `cloudevents` with `mode: batched` and `eventbridge` send more than one event in a request.",
    fields: &[
        Field::new("events", FieldType::Whole(1, 100_000), "The most events in a request. `cloudevents` sends at most 1,000, and `eventbridge` at most 10, whatever the value.").or("1000").also(&["size", "maxEvents"]),
        Field::new("bytes", FieldType::Size(KIB, 64 * MIB), "The most bytes of events in a request. Sizes are estimated: the `data` of `payload: pascal`, and 340 bytes for the attributes of each event. So requests can be larger with another `payload` or with long static extensions.").or("1MiB").also(&["maxBytes"]),
        Field::new("age", FieldType::Duration(0, MINUTE), "The longest time that a request waits for more events before it is sent. With 0 it is sent as soon as the target is free.")
            .or("0s")
            .also(&["timeout", "linger"]),
    ],
    variants: &[],
    rules: &[],
};

/// One in eleven days. A lower rate is a mistake.
const RATE_MIN: f64 = 0.000_001;

const RATE_MAX: f64 = 1e9;

pub(super) static RATE_LIMIT: Block = Block {
    name: "rateLimit",
    doc: "",
    fields: &[
        Field::new(
            "eventsPerSecond",
            FieldType::Decimal(RATE_MIN, RATE_MAX),
            "Events per second. A batch never contains more than the events of one second.",
        ),
        Field::new("requestsPerSecond", FieldType::Decimal(RATE_MIN, RATE_MAX), "Requests per second."),
    ],
    variants: &[],
    rules: &[FieldRule::ExactlyOne(&["eventsPerSecond", "requestsPerSecond"])],
};

pub(super) static RETRY: Block = Block {
    name: "retry",
    doc: "Retries of an event that the target refuses. If the target itself is at fault (no connection, time-out, 401, 403, 429, 503 and others), events wait without limit and use no attempt. See [who is to blame](guarantees.md#who-is-to-blame).",
    fields: &[
        Field::new(
            "attempts",
            FieldType::Whole(1, 1_000_000),
            "Retries of an event that the target refuses while it accepts others. After that the event becomes a dead letter. After 400, 413, 415 or 422 one retry is enough.",
        )
        .or("8")
        .also(&["maxAttempts"]),
        Field::new(
            "maxAge",
            FieldType::Duration(0, 30 * DAY),
            "Time for which a refused event is retried. Only time in which the target answers counts, so events do not expire during an outage.",
        )
        .or("1h"),
        Field::new(
            "backoffMin",
            FieldType::Duration(1, HOUR),
            "The first retry waits a random time up to this. The upper limit doubles with each retry.",
        )
        .or("200ms"),
        Field::new("backoffMax", FieldType::Duration(1, DAY), "Highest value of that limit.").or("30s"),
        Field::new(
            "blame",
            FieldType::Map(MapFormat::Blame),
            "Who is to blame for an HTTP status. `target`: the target; the event waits without limit. `evidence`: the event if the target accepts others, otherwise the target. `event`: the event, which becomes a dead letter at once. For the defaults see [who is to blame](guarantees.md#who-is-to-blame).",
        ),
        Field::new(
            "statuses",
            FieldType::List(&FieldType::Text(TextFormat::Status)),
            "The older form of `blame`: a list of the statuses that are `evidence`; all others blame the event.",
        ),
    ],
    variants: &[],
    rules: &[FieldRule::AtMostOne(&["blame", "statuses"])],
};

pub(super) static BREAKER: Block = Block {
    name: "breaker",
    doc: "",
    fields: &[
        ENABLED,
        Field::new("failures", FieldType::Whole(1, 1_000_000), "Failures in a row that open the breaker.")
            .or("10"),
        Field::new(
            "successRateMin",
            FieldType::Decimal(0.0, 1.0),
            "The breaker opens if a smaller share of the requests within `window` succeeds; at least 20 answers are needed.",
        )
        .or("0.5"),
        Field::new("window", FieldType::Duration(SECOND, HOUR), "Time over which `successRateMin` is measured.")
            .or("30s"),
        Field::new(
            "probeInterval",
            FieldType::Duration(100, HOUR),
            "The longest wait before a probe while the breaker is open. The first wait is at most `retry.backoffMin`; it doubles with each failed probe.",
        )
        .or("5s"),
    ],
    variants: &[],
    rules: &[],
};

pub(super) static OVERFLOW: Block = Block {
    name: "overflow",
    doc: "",
    fields: &[
        Field::new(
            "policy",
            FieldType::OneOf(&[
                ("spill", "events wait in the spool on disk, in order"),
                ("block", "the source waits, and with it all its other destinations"),
                ("dropNewest", "new events are lost, counted and logged"),
                ("dropOldest", "waiting events are lost, counted and logged"),
            ]),
            "Action when a destination's share of the memory is full.",
        )
        .or("spill"),
        Field::new(
            "bytesMax",
            FieldType::Size(MIB, 1024 * TIB),
            "Size of the spool of each destination. When it is full, the source waits.",
        )
        .or("10GiB"),
        Field::new(
            "freeDiskFloor",
            FieldType::Size(256 * MIB, 1024 * TIB),
            "Disk space to keep free. With less, the source waits as if `bytesMax` were reached.",
        )
        .or("256MiB")
        .also(&["freeDiskMin", "diskFreeMin"]),
    ],
    variants: &[],
    rules: &[],
};
