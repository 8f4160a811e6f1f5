//! The delivery settings that every processor has: order, batches, retries, circuit breaker,
//! overflow and dead letters.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use crate::cloudevents::settings::EnvelopeOptions;
use crate::config::SecretError;
use crate::config::declare::*;
use crate::limits;

settings! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct DeliveryPolicy in "delivery", with defaults {
        /// Events among which the order is kept: the order in which the router first read them.
        pub ordering: Ordering = key("ordering", one_of::<Ordering>()).or("source");
        /// Treatment of the events behind a refused one, with `ordering: source`.
        pub on_refusal: OnRefusal = key("onRefusal", one_of::<OnRefusal>()).or("stepAside");
        pub envelope: EnvelopeOptions;
        /// The most requests in flight; for `openfaas`, to each function. With `ordering: source`
        /// there is only one for each source.
        pub concurrency: usize = key("concurrency", whole(1, 1_024)).or("32");
        /// Limits of a request, for targets that take several events at once.
        pub batch: BatchLimits = key("batch", block::<BatchLimits>());
        /// Limit for the load on the target. Default: no limit.
        pub rate_limit: Option<RateLimit> = key("rateLimit", maybe::<RateLimitKeys>());
        /// Retries of an event that the target refuses.
        pub retry: Retry = key("retry", block::<Retry>());
        /// Circuit breaker: pauses deliveries to a failing target, except for single probes.
        pub breaker: Option<Breaker> = key("breaker", block::<Breaker>());
        /// Handling of events that arrive faster than the target takes them.
        pub overflow: Overflow = key("overflow", block::<Overflow>());
        /// Name of a processor (not of type `openfaas` or `eventbridge`) that gets the events that
        /// would become dead letters, with the attributes `knativeerrordest`, `knativeerrorcode`
        /// and `knativeerrordata`. Events that it refuses go to its own `deadLetterTo`, and finally
        /// to the dead letters. Without `routes` it gets no other events. Default: events become
        /// dead letters, for `event-router dlq`.
        pub dead_letter: Option<String> =
            key("deadLetterTo", TEXT).also(&["deadLetterSink", "deadLetter"]);
        /// Age of the oldest undelivered event from which on the log warns that the target falls
        /// behind.
        pub alert_age: Duration = key("alertAge", duration(SECOND, 30 * DAY)).or("5m");
    }
}

words! {
    /// The scope within which events are delivered in the order of their first reading.
    pub enum Ordering {
        /// all events of a source, one request at a time
        Source = "source",
        /// events about the same VM, host or other object, one request at a time; different objects
        /// in parallel
        Entity = "entity",
        /// no order
        None = "none",
    }
}

words! {
    /// The treatment of events behind an event that was refused twice.
    pub enum OnRefusal {
        /// events of the same source pass an event that was refused twice
        StepAside = "stepAside",
        /// they wait for it: strict order
        Hold = "hold",
    }
}

settings! {
    /// Only `cloudevents` with `mode: batched`, `eventbridge`, `nats`, `file` and `console` take
    /// more than one event in a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BatchLimits in "batch", with defaults {
        /// The most events in a request. `cloudevents` and `nats` send at most 1,000, and
        /// `eventbridge` at most 10, whatever the value.
        pub events: usize =
            key("events", whole(1, 100_000)).or("1000").also(&["size", "maxEvents"]);
        /// The most bytes of events in a request. Sizes are estimated: the `data` of `payload:
        /// pascal`, and 340 bytes for the attributes of each event. So requests can be larger with
        /// another `payload` or with long static extensions.
        pub bytes: usize = key("bytes", size(KIB, 64 * MIB)).or("1MiB").also(&["maxBytes"]);
        /// The longest time that a request waits for more events before it is sent. With 0 it is
        /// sent as soon as the target is free.
        pub age: Duration =
            key("age", duration(0, MINUTE)).or("0s").also(&["timeout", "linger"]);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// Events per second, greater than 0.
    Events(f64),
    /// Requests per second, greater than 0.
    Requests(f64),
}

/// One in eleven days. A lower rate is a mistake.
const RATE_MIN: f64 = 0.000_001;
const RATE_MAX: f64 = 1e9;

settings! {
    #[derive(Debug)]
    pub(crate) struct RateLimitKeys in "rateLimit" {
        /// Events per second. A batch never contains more than the events of one second.
        events: Option<f64> = key("eventsPerSecond", decimal(RATE_MIN, RATE_MAX));
        /// Requests per second.
        requests: Option<f64> = key("requestsPerSecond", decimal(RATE_MIN, RATE_MAX));
    }
    rules [FieldRule::ExactlyOne(&["eventsPerSecond", "requestsPerSecond"])];
}

impl FieldValue for RateLimit {
    fn of(value: &Value) -> Option<Self> {
        let RateLimitKeys { events, requests } = RateLimitKeys::of(value)?;
        Some(match events {
            Some(events) => RateLimit::Events(events),
            // Without either, an error was reported.
            None => RateLimit::Requests(requests.unwrap_or(RATE_MAX)),
        })
    }

    fn out(&self, kind: FieldType) -> Result<Out, SecretError> {
        let keys = match *self {
            RateLimit::Events(events) => RateLimitKeys { events: Some(events), requests: None },
            RateLimit::Requests(requests) => RateLimitKeys { events: None, requests: Some(requests) },
        };
        keys.out(kind)
    }
}

settings! {
    /// Retries of an event that the target refuses. If the target itself is at fault (no
    /// connection, time-out, 401, 403, 429, 503 and others), events wait without limit and use no
    /// attempt. See [who is to blame](guarantees.md#who-is-to-blame).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Retry in "retry", with defaults {
        /// Retries of an event that the target refuses while it accepts others. After that the
        /// event becomes a dead letter. After 400, 413, 415 or 422 one
        /// retry is enough if the target refuses little else; see the link above.
        pub attempts: u32 = key("attempts", whole(1, 1_000_000)).or("8").also(&["maxAttempts"]);
        /// Time for which a refused event is retried. Only time in which the target answers counts,
        /// so events do not expire during an outage.
        pub max_age: Duration = key("maxAge", duration(0, 30 * DAY)).or("1h");
        /// The first retry waits a random time up to this. The upper limit doubles with each retry.
        pub backoff_min: Duration = key("backoffMin", duration(1, HOUR)).or("200ms");
        /// Highest value of that limit.
        pub backoff_max: Duration = key("backoffMax", duration(1, DAY)).or("30s");
        pub blame: BlameTable =
            key("blame", FieldType::Map(&BLAME)).doc("Who is to blame for an HTTP status. `target`: the target; the event waits without limit. `evidence`: the event if the target accepts others, otherwise the target. `event`: the event, which becomes a dead letter at once. For the defaults see [who is to blame](guarantees.md#who-is-to-blame)."),
            key("statuses", FieldType::List(&const { text(&STATUS) })).doc("The older form of `blame`: a list of the statuses that are `evidence`; all others blame the event.");
    }
    rules [FieldRule::AtMostOne(&["blame", "statuses"])];
    check check_retry;
}

fn check_retry(found: &CheckedMap, problems: &mut Problems) {
    if found.duration("backoffMin") > found.duration("backoffMax") {
        let key = if found.is_given("backoffMin") { "backoffMin" } else { "backoffMax" };
        let message = "`backoffMin` must not be longer than `backoffMax`";
        problems.error(found.line_of(key), &found.path, message);
    }
    if found.is_given("statuses") {
        problems.warn(found.line_of("statuses"), &found.path_of("statuses"), "use `blame` instead");
    }
}

words! {
    /// The blame for an answer that is not a success.
    pub enum RefusalBlame {
        /// The target: the event waits without limit.
        Target = "target",
        /// Other events decide, see `pipeline::deliver::evidence`.
        Evidence = "evidence",
        /// The event: it becomes a dead letter at once.
        Event = "event",
    }
}

/// `401`, or `5xx` for all statuses from 500 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    Exactly(u16),
    /// The first digit.
    Class(u16),
}

/// The blame for an answer, by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlameTable(pub Vec<(StatusPattern, RefusalBlame)>);

static BLAME: MapFormat = MapFormat {
    allowed: "a map of HTTP statuses (`401`) or classes (`5xx`), 300 to 599, to `target`, `evidence` or `event`",
    has_secrets: false,
    check: |status, blame| match (StatusPattern::parse(status), RefusalBlame::parse(blame)) {
        (None, _) => Err("must be an HTTP status from 300 to 599, or `3xx`, `4xx` or `5xx`".into()),
        (_, None) => Err(format!("must be {}", one_of::<RefusalBlame>().allowed())),
        _ => Ok(()),
    },
    schema: |_| {
        let words: Vec<_> = RefusalBlame::WORDS.iter().map(|(word, _)| *word).collect();
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^([345]xx|[345][0-9][0-9])$" },
            "additionalProperties": { "enum": words },
        })
    },
};

static STATUS: TextFormat = TextFormat {
    allowed: "an HTTP status from 400 to 599",
    check: |text| {
        text.parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status))
            .map(|_| text.into())
            .ok_or_else(|| STATUS.must())
    },
    any_scalar: true,
};

/// Statuses that `retry.statuses` never turned against an event.
const TARGET_STATUSES: [u16; 5] = [408, 429, 502, 503, 504];

/// The key `blame`, or the older `statuses`: the statuses after which an event is tried again; any
/// other blames the event.
impl Setting for BlameTable {
    const MAY_BE_ABSENT: bool = true;

    fn read(found: &CheckedMap, fields: &[Field]) -> Self {
        let [blame, statuses] = [fields[0].key, fields[1].key];
        if !found.is_given(statuses) {
            let pair = |(status, blame): &(String, String)| {
                Some((StatusPattern::parse(status)?, RefusalBlame::parse(blame)?))
            };
            return BlameTable(found.map(blame).iter().filter_map(pair).collect());
        }
        let listed: Vec<u16> =
            found.texts(statuses).iter().filter_map(|status| status.parse().ok()).collect();
        let is_targets = |status: &u16| TARGET_STATUSES.contains(status);
        let tried_again = listed.iter().filter(|status| !is_targets(status));
        let mut table: Vec<_> = tried_again
            .map(|status| (StatusPattern::Exactly(*status), RefusalBlame::Evidence))
            .chain(TARGET_STATUSES.map(|status| (StatusPattern::Exactly(status), RefusalBlame::Target)))
            .collect();
        table.extend([3, 4, 5].map(|class| (StatusPattern::Class(class), RefusalBlame::Event)));
        BlameTable(table)
    }

    fn write(&self, fields: &[Field], out: &mut Fields) -> Result<(), SecretError> {
        let pairs = self.0.iter().map(|(status, blame)| (status.to_string(), blame.word().to_owned()));
        out.push((fields[0].key, Out::Pairs(pairs.collect())));
        Ok(())
    }
}

impl StatusPattern {
    fn parse(text: &str) -> Option<Self> {
        let is_status = |status: &u16| (300..600).contains(status);
        match text.strip_suffix("xx") {
            Some(class) => {
                class.parse().ok().filter(|class| (3..6).contains(class)).map(StatusPattern::Class)
            }
            None => text.parse().ok().filter(is_status).map(StatusPattern::Exactly),
        }
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusPattern::Exactly(status) => write!(f, "{status}"),
            StatusPattern::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl BlameTable {
    /// The blame for `status`. A single status takes precedence over its class.
    pub fn of(&self, status: u16) -> Option<RefusalBlame> {
        let find = |wanted| self.0.iter().find(|(pattern, _)| *pattern == wanted).map(|(_, blame)| *blame);
        find(StatusPattern::Exactly(status)).or_else(|| find(StatusPattern::Class(status / 100)))
    }
}

// The circuit breaker, which pauses deliveries to a failing target except for probes.
settings! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Breaker in "breaker", with defaults {
        /// Failures in a row that open the breaker.
        pub failures: u32 = key("failures", whole(1, 1_000_000)).or("10");
        /// The breaker opens if a smaller share of the requests within `window` succeeds; at least
        /// 20 answers are needed.
        pub success_rate_min: f64 = key("successRateMin", decimal(0.0, 1.0)).or("0.5");
        /// Time over which `successRateMin` is measured.
        pub window: Duration = key("window", duration(SECOND, HOUR)).or("30s");
        /// The longest wait before a probe while the breaker is open. The first wait is at most
        /// `retry.backoffMin`; it doubles with each failed probe.
        pub probe_interval: Duration = key("probeInterval", duration(100, HOUR)).or("5s");
    }
    switch ENABLED;
}

// The action when a destination's memory queue is full, and the bounds of its spool.
settings! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Overflow in "overflow", with defaults {
        /// Action when a destination's share of the memory is full.
        pub policy: OverflowPolicy = key("policy", one_of::<OverflowPolicy>()).or("spill");
        /// Size of the spool of each destination. When it is full, the source waits.
        pub bytes_max: u64 =
            key("bytesMax", size(MIB, 1024 * TIB)).or_bytes(limits::SPOOL_BYTES);
        /// Disk space to keep free. With less, the source waits as if `bytesMax` were reached.
        pub free_disk_floor: u64 = key("freeDiskFloor", size(256 * MIB, 1024 * TIB))
            .or_bytes(limits::DISK_FREE_BYTES_MIN)
            .also(&["freeDiskMin", "diskFreeMin"]);
    }
}

words! {
    pub enum OverflowPolicy {
        /// events wait in the spool on disk, in order
        Spill = "spill",
        /// the source waits, and with it all its other destinations
        Block = "block",
        /// new events are lost, counted and logged
        DropNewest = "dropNewest",
        /// waiting events are lost, counted and logged
        DropOldest = "dropOldest",
    }
}
