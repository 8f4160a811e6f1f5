//! Keys of the delivery settings, which every processor has: batches, retries, breaker, overflow.

use super::{DAY, ENABLED, HOUR, KIB, MIB, MINUTE, SECOND, TIB};
use crate::config::field::{Block, Field, FieldRule, FieldType, MapFormat, TextFormat};

pub(super) const ORDERING_WORDS: FieldType = FieldType::OneOf(&[
    ("source", "all events of a source, one request at a time"),
    ("entity", "events about the same object; objects in parallel"),
    ("none", "no order"),
]);

pub(super) const ORDERING_DOC: &str = "Scope within which events arrive in the order of their first reading.";

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
        Field::new("events", FieldType::Whole(1, 100_000), "The most events in a request.").or("1000").also(&["size", "maxEvents"]),
        Field::new("bytes", FieldType::Size(KIB, 64 * MIB), "The most bytes of events in a request. Sizes are estimated before rendering: `data` as the old router writes it, and 340 bytes for the attributes of each event. Long static extensions and other payloads are not counted.").or("1MiB").also(&["maxBytes"]),
        Field::new("age", FieldType::Duration(0, MINUTE), "Time that a request which is not full waits for more events. With 0 it is sent as soon as the target is free.")
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
    doc: "Retries of an event that the target refuses. If the target itself is at fault (no connection, time-out, 401, 403, 429, 503 and others), events wait without a limit and use up no attempt. See [who is to blame](guarantees.md#who-is-to-blame).",
    fields: &[
        Field::new(
            "attempts",
            FieldType::Whole(1, 1_000_000),
            "Attempts for an event that the target refuses while it accepts others. After that it becomes a dead letter.",
        )
        .or("8")
        .also(&["maxAttempts"]),
        Field::new(
            "maxAge",
            FieldType::Duration(0, 30 * DAY),
            "Time for which an event is retried after its first refusal. Only time in which the target answers counts, so events do not expire during an outage.",
        )
        .or("1h"),
        Field::new(
            "backoffMin",
            FieldType::Duration(1, HOUR),
            "The first wait is a random time up to this. The limit doubles with each further wait.",
        )
        .or("200ms"),
        Field::new("backoffMax", FieldType::Duration(1, DAY), "Upper bound of that doubling.").or("30s"),
        Field::new(
            "blame",
            FieldType::Map(MapFormat::Blame),
            "Who is to blame for an HTTP status. `target`: the target; the event waits without limit. `evidence`: the event, if the target accepts others, and else the target. `event`: the event, which becomes a dead letter at once. Other statuses keep their default, see [who is to blame](guarantees.md#who-is-to-blame).",
        ),
        Field::new(
            "statuses",
            FieldType::List(&FieldType::Text(TextFormat::Status)),
            "The older form of `blame`: statuses that are `evidence`; all other refusals blame the event.",
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
            "Share of requests within `window` that must succeed.",
        )
        .or("0.5"),
        Field::new("window", FieldType::Duration(SECOND, HOUR), "Time over which that share is measured.")
            .or("30s"),
        Field::new(
            "probeInterval",
            FieldType::Duration(100, HOUR),
            "Time between two probes while the breaker is open.",
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
                ("spill", "events wait on disk, in order"),
                ("block", "the source waits, and with it all its other processors"),
                ("dropNewest", "new events are lost, counted and logged"),
                ("dropOldest", "waiting events are lost, counted and logged"),
            ]),
            "Action when the destination's share of memory is full.",
        )
        .or("spill"),
        Field::new(
            "bytesMax",
            FieldType::Size(MIB, 1024 * TIB),
            "Disk space for waiting events. When it is full, the source waits.",
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
