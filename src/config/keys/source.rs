//! Keys of a source: a vCenter with its filter, sweep and time-outs.

use super::{DAY, ENABLED, HOUR, MINUTE, NAME, SECOND, TEXT, TLS};
use crate::config::field::{Block, Field, FieldRule, FieldType, TextFormat, Variant};

pub(super) static SOURCE: Block = Block {
    name: "sources",
    doc: "A source has a `name`, a `type` and the fields of that type.",
    fields: &[
        NAME,
        Field::new("type", FieldType::OneOf(&[("vcenter", "a vCenter")]), "Kind of the source.").required().also(&["provider"]),
    ],
    variants: &[Variant {
        word: "vcenter",
        doc: "The event history of a vCenter. A read-only user is sufficient.",
        fields: &[
            Field::new(
                "address",
                FieldType::Text(TextFormat::SdkUrl),
                "SDK URL of the vCenter; `vc1.example` is short for `https://vc1.example/sdk`. It becomes the attribute `source` of the events.",
            )
            .required()
            .also(&["url", "host", "server"]),
            Field::new("username", TEXT, "User, such as `ro@vsphere.local`.").required().also(&["user"]),
            Field::new("password", FieldType::Secret, "Password of the user."),
            Field::new("passwordFile", FieldType::SecretFile, "File with the password, read again at each login."),
            Field::new("tls", FieldType::Block(&TLS), "Certificates to accept; and a client certificate, for a proxy in front of the vCenter that asks for one."),
            Field::new(
                "startAt",
                FieldType::Text(TextFormat::StartAt),
                "Time from which to read if there is no checkpoint yet, by vCenter's clock.",
            )
            .or("now"),
            Field::new("filter", FieldType::Block(&FILTER), "Events to ask vCenter for. Other events never reach the router."),
            Field::new("pageSize", FieldType::Whole(1, 1_000), "Events per read. vCenter's own maximum is 1,000.").or("1000"),
            Field::new(
                "pollInterval",
                FieldType::Duration(1, MINUTE),
                "The longest pause after a page that was not full. It is shorter while many events arrive, but at least 1 ms for each source. The first event after an idle time is read at once.",
            )
            .or("20ms")
            .also(&["interval", "minInterval"]),
            Field::new(
                "maxCallsPerSecond",
                FieldType::Whole(1, 10_000),
                "The most vSphere API calls per second. Lower it to spare a vCenter while the router catches up. The default is no limit in practice, because reads run one after another, and an idle vCenter gets about nine calls a minute.",
            )
            .or("10000"),
            Field::new(
                "overlap",
                FieldType::Duration(SECOND, DAY),
                "Time before the position from which a restarted router reads again. Events that were read before are recognized and dropped.",
            )
            .or("2m"),
            Field::new("sweep", FieldType::Block(&SWEEP), "Periodic second read that finds late events."),
            Field::new("timeouts", FieldType::Block(&TIMEOUTS), "Time-outs of calls."),
            Field::new(
                "protocol",
                FieldType::OneOf(&[
                    ("soap", "SOAP, which every vCenter supports and the router decodes fastest"),
                    ("vijson", "VI/JSON, of vCenter 8.0 U1 and later"),
                    ("auto", "VI/JSON if the vCenter offers it (8.0 U2 and later) and no processor wants `payload: xml`, else SOAP"),
                ]),
                "Protocol to the vCenter. Events, ids and positions are the same with each.",
            )
            .or("soap"),
            Field::new(
                "importCheckpoint",
                FieldType::Text(TextFormat::Path),
                "Checkpoint file of the old router (`cp-HOST.json`). It is imported once, if the router has no position for this source yet. A missing file is no error.",
            ),
        ],
        rules: &[FieldRule::ExactlyOne(&["password", "passwordFile"])],
    }],
    rules: &[],
};

static FILTER: Block = Block {
    name: "filter",
    doc: "An event must match all given fields. vCenter itself applies the filter (EventFilterSpec).",
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
            "Object that the events are about. Default: the whole inventory.",
        ),
    ],
    variants: &[],
    rules: &[],
};

static ENTITY: Block = Block {
    name: "filter.entity",
    doc: "A vSphere object. The URL in the vSphere Client shows its type and id: `…ClusterComputeResource:domain-c8…`.",
    fields: &[
        Field::new("type", TEXT, "Type, such as `ClusterComputeResource`.").required(),
        Field::new("id", TEXT, "Id, such as `domain-c8`.").required().also(&["value"]),
        Field::new(
            "recursion",
            FieldType::OneOf(&[
                ("all", "the object and everything below it"),
                ("children", "its children, without the object itself"),
                ("self", "only the object itself"),
            ]),
            "Objects to include.",
        )
        .or("all"),
    ],
    variants: &[],
    rules: &[],
};

static SWEEP: Block = Block {
    name: "sweep",
    doc: "vCenter can commit an event late, behind events that were already read. A sweep reads the last minutes again and finds it.",
    fields: &[
        ENABLED,
        Field::new("interval", FieldType::Duration(SECOND, HOUR), "Time between two sweeps.").or("1m"),
        Field::new("window", FieldType::Duration(SECOND, HOUR), "Time span that a sweep reads again. It finds events that are at most `window` less `interval` late.").or("2m"),
    ],
    variants: &[],
    rules: &[],
};

static TIMEOUTS: Block = Block {
    name: "timeouts",
    doc: "",
    fields: &[
        Field::new("connect", FieldType::Duration(100, 10 * MINUTE), "Time for TCP and TLS.").or("10s"),
        Field::new("call", FieldType::Duration(SECOND, 10 * MINUTE), "The longest silence during a call. An answer that keeps arriving may take up to ten minutes. Page reads have a shorter limit: 10s, or four times the usual silence. After each time-out that limit doubles, and the page becomes smaller.")
            .or("1m"),
        Field::new(
            "wait",
            FieldType::Duration(SECOND, MINUTE),
            "The longest time that one call waits for new events. vCenter then answers that there are none, and the router calls again.",
        )
        .or("1m"),
    ],
    variants: &[],
    rules: &[],
};
