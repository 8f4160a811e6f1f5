//! The delivery settings that every processor has: order, batches, retries, circuit breaker,
//! overflow and dead letters.

use std::fmt;
use std::time::Duration;

use crate::event::{EventTime, Extensions, Payload};

/// The delivery settings that every processor has.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPolicy {
    /// [`Ordering::Source`]; EventBridge: [`Ordering::None`].
    pub ordering: Ordering,
    /// [`EventTime::Router`].
    pub time: EventTime,
    /// [`Payload::Pascal`].
    pub payload: Payload,
    pub extensions: Extensions,
    /// The most requests in flight, 1 to 1,024. With [`Ordering::Source`] there is only one for
    /// each source; 32.
    pub concurrency: usize,
    pub batch: BatchLimits,
    /// No limit.
    pub rate_limit: Option<RateLimit>,
    pub retry: Retry,
    /// On.
    pub breaker: Option<Breaker>,
    pub overflow: Overflow,
    pub on_refusal: OnRefusal,
    /// The processor that gets events which failed for good, instead of the store's dead letters;
    /// none.
    pub dead_letter: Option<String>,
}

/// The scope within which events are delivered in the order of their first reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    #[default]
    Source,
    /// The managed object that the event is about. Deliveries for different entities run in
    /// parallel.
    Entity,
    None,
}

/// The treatment of events behind an event that was refused twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// It steps aside, and they pass.
    #[default]
    StepAside,
    /// They wait: strict order, at the price of the lane.
    Hold,
}

/// The limits of a request, besides those of the processor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// 1,000.
    pub events: usize,
    /// Bytes of rendered events; 1 MiB.
    pub bytes: usize,
    /// Time that a request which is not full waits for more events; 0, which does not wait.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// Events per second, greater than 0.
    Events(f64),
    /// Requests per second, greater than 0.
    Requests(f64),
}

/// Retries of a refused event. If the target itself fails, events wait without a limit and use up
/// no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts for an event, including the first; 8.
    pub attempts: u32,
    /// Time for which an event is retried after its first refusal, counting only time in which the
    /// target answers; 1 h.
    pub max_age: Duration,
    /// The first wait is a random time up to this, which doubles with each attempt; 200 ms.
    pub backoff_min: Duration,
    /// Upper bound of that doubling; 30 s.
    pub backoff_max: Duration,
    /// The blame for answers with these statuses. The processor decides for all others.
    pub blame: BlameTable,
}

/// The blame for an answer that is not a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalBlame {
    /// The target: the event waits without limit.
    Target,
    /// Other events decide, see `pipeline::deliver::evidence`.
    Evidence,
    /// The event: it becomes a dead letter at once.
    Event,
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

impl RefusalBlame {
    pub(in crate::config) fn parse(word: &str) -> Option<Self> {
        match word {
            "target" => Some(RefusalBlame::Target),
            "evidence" => Some(RefusalBlame::Evidence),
            "event" => Some(RefusalBlame::Event),
            _ => None,
        }
    }

    pub(in crate::config) fn word(self) -> &'static str {
        match self {
            RefusalBlame::Target => "target",
            RefusalBlame::Evidence => "evidence",
            RefusalBlame::Event => "event",
        }
    }
}

impl OnRefusal {
    pub(in crate::config) fn word(self) -> &'static str {
        match self {
            OnRefusal::StepAside => "stepAside",
            OnRefusal::Hold => "hold",
        }
    }
}

impl StatusPattern {
    pub(in crate::config) fn parse(text: &str) -> Option<Self> {
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

/// The circuit breaker, which pauses deliveries to a failing target except for probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it; 10.
    pub failures: u32,
    /// Share of requests, 0 to 1, that must succeed within `window`; 0.5.
    pub success_rate_min: f64,
    /// 30 s.
    pub window: Duration,
    /// The longest wait before a probe while it is open; 5 s.
    pub probe_interval: Duration,
}

/// The action when a destination's memory queue is full, and the bounds of its spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// [`OverflowPolicy::Spill`].
    pub policy: OverflowPolicy,
    /// The most bytes of a destination's spool; 10 GiB.
    pub bytes_max: u64,
    /// Bytes to keep free on the disk. With less, the spool counts as full; 256 MiB.
    pub free_disk_floor: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowPolicy {
    #[default]
    Spill,
    Block,
    DropNewest,
    DropOldest,
}
