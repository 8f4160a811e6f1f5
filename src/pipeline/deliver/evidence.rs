//! Evidence: decides whether a refused event or its destination is at fault.
//!
//! A refusal alone does not say who is at fault. A function may answer 500 because of one odd
//! event, or because its database is away. Other events are the evidence. An event that is refused
//! while others are accepted is at fault. A destination that refuses several events in a row, and
//! accepts none, is at fault.
//!
//! ```text
//!                        ┌─ others are accepted between its tries ─► the event is at fault
//!  an event is refused ──┤
//!                        └─ several in a row, none is accepted ────► the destination is at fault
//! ```
//!
//! Both thresholds follow from the *refusal rate*: the share of events that are refused at their
//! first send while the destination accepts others. For a destination that refuses half of all
//! requests by chance, many refusals in a row prove nothing. The thresholds keep the probability of
//! a wrong verdict by chance below 10^-[`CERTAINTY_DIGITS`].
//!
//! linkerd's failure accrual and Envoy's outlier detection combine the same two signals,
//! consecutive failures and a success rate. They judge hosts alone; here each event is judged as
//! well.
//!
//! The module is pure. It knows events by their identity and knows neither lanes nor requests.
//!
//! INVARIANT: a refusal counts against an event only if another event, sent after the event's
//! previous refusal, was accepted. So an outage counts at most once against any event, however long
//! it lasts.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::item::LaneItem;
use crate::event::Identity;
use crate::limits::{CERTAINTY_DIGITS, STREAK_MAX, STREAK_MIN};

/// Identity of an event across all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventKey {
    /// `SourceRef::index` of the event's batch.
    pub source: usize,
    pub identity: Identity,
}

impl EventKey {
    /// The key of the first event of `item`.
    pub fn of(item: &LaneItem) -> Self {
        EventKey { source: item.batch.source.index, identity: item.batch.records[item.first()].identity }
    }
}

/// The refusals of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trial {
    /// Sends that the destination refused.
    pub refusals: u32,
    /// Refusals that count against the event.
    pub counted: u32,
    /// Time of the last refusal.
    refused_at: Duration,
    /// True if the event was part of an earlier streak: see [`Evidence::remember`].
    recalled: bool,
    /// True if the event was found at fault and waits for room among the dead letters.
    pub convicted: bool,
}

impl Trial {
    /// Returns true if the event was refused at least once.
    pub fn has_begun(&self) -> bool {
        self.refusals > 0
    }

    /// Counts a refusal that is certain to be the event's fault.
    pub fn with_certain_refusal(self, now: Duration) -> Self {
        let (refusals, counted) = (self.refusals.saturating_add(1), self.counted.saturating_add(1));
        Trial { refusals, counted, refused_at: now, ..self }
    }

    /// The trial of an event that was found at fault.
    pub fn with_conviction(self) -> Self {
        Trial { refusals: self.refusals.max(1), convicted: true, ..self }
    }
}

/// The strength of a refusal as evidence against its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firmness {
    /// The status may blame the event or the destination (500, 404). The event needs
    /// `retry.attempts` counted tries.
    Ordinary,
    /// The status names the event (400, 413, 415, 422). One counted try is enough.
    Firm,
}

/// The party that a refusal shows to be at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Undecided,
    Event,
    Destination,
}

/// The evidence that one destination's answers provide.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Send time of the latest request of which an event was accepted. An answer may take long: a
    /// request that was sent before a refusal says nothing about the time after it.
    accepted_sent_at: Option<Duration>,
    /// The streak: events refused since the last acceptance, each once; at most [`STREAK_MAX`].
    streak: Vec<EventKey>,
    /// Recalled events that were refused since the last acceptance, each once.
    recalled_streak: Vec<EventKey>,
    /// First sends among the refusals of the streak.
    streak_first_sends: u32,
    /// Trials of events that returned to shared lanes after the destination was at fault.
    recalled: FxHashMap<EventKey, Trial>,
    current: FirstSends,
    /// The window before the current one. It provides a rate while the current window is young.
    previous: FirstSends,
    window_start: Duration,
}

/// First sends that a healthy destination answered. A refused request with several events is not
/// counted, because only one of its events may be at fault.
#[derive(Clone, Copy, Debug, Default)]
struct FirstSends {
    accepted: u32,
    refused: u32,
}

impl Evidence {
    /// The destination accepted a request, which was sent at `sent_at`. `is_first_send`: none of
    /// its events was sent before.
    pub fn accepted(&mut self, now: Duration, sent_at: Duration, window: Duration, is_first_send: bool) {
        self.roll(now, window);
        self.accepted_sent_at = self.accepted_sent_at.max(Some(sent_at));
        // The destination accepts events, so these refusals were chance or the fault of their
        // events.
        self.current.refused =
            self.current.refused.saturating_add(std::mem::take(&mut self.streak_first_sends));
        self.current.accepted = self.current.accepted.saturating_add(u32::from(is_first_send));
        self.forget_streak();
    }

    /// The destination refused a request with one event. It was healthy when the request was sent.
    pub fn refused(
        &mut self,
        now: Duration,
        event: EventKey,
        trial: &mut Trial,
        firmness: Firmness,
        attempts: u32,
    ) -> Judgement {
        let is_first_send = !trial.has_begun();
        let counts = !is_first_send && self.accepted_sent_at >= Some(trial.refused_at);
        trial.refusals = trial.refusals.saturating_add(1);
        trial.counted = trial.counted.saturating_add(u32::from(counts));
        trial.refused_at = now;
        // A conviction stands until an acceptance.
        if trial.convicted {
            return Judgement::Event;
        }
        if counts && trial.counted >= self.tries_needed(firmness, attempts) {
            return Judgement::Event;
        }
        // An event that was refused while others were accepted says nothing about the destination.
        // A recalled event has already been part of a streak and joins no other.
        if trial.counted > 0 {
            return Judgement::Undecided;
        }
        if trial.recalled {
            join(&mut self.recalled_streak, event);
            return Judgement::Undecided;
        }
        self.streak_first_sends = self.streak_first_sends.saturating_add(u32::from(is_first_send));
        join(&mut self.streak, event);
        if self.streak.len() >= self.streak_needed() { Judgement::Destination } else { Judgement::Undecided }
    }

    /// The destination, which is at fault, refused a probe.
    pub fn refused_while_blamed(&mut self, now: Duration, trial: &mut Trial) -> Judgement {
        trial.refusals = trial.refusals.saturating_add(1);
        trial.refused_at = now;
        // A conviction stands until an acceptance.
        if trial.convicted { Judgement::Event } else { Judgement::Undecided }
    }

    /// Keeps the trials of events that return to shared lanes. Poisonous events among them would
    /// form the same streak again, and the destination would be blamed without end. Recalled events
    /// therefore join no other streak.
    pub fn remember(&mut self, now: Duration, trials: Vec<(EventKey, Trial)>) {
        let renewed = |trial| Trial { refused_at: now, recalled: true, ..trial };
        self.recalled = trials.into_iter().map(|(event, trial)| (event, renewed(trial))).collect();
    }

    /// Returns true if so many events were refused since the last acceptance that the destination
    /// may be at fault, counting those that join no streak.
    pub fn may_be_outage(&self) -> bool {
        self.streak.len() + self.recalled_streak.len() >= STREAK_MIN
    }

    /// Takes the trial of an event, if it is [remembered](Evidence::remember).
    pub fn recall(&mut self, event: EventKey) -> Trial {
        self.recalled.remove(&event).unwrap_or_default()
    }

    /// Clears the streak because the destination was found at fault. A new one begins after the
    /// next acceptance.
    pub fn forget_streak(&mut self) {
        self.streak.clear();
        self.recalled_streak.clear();
    }

    /// Number of counted tries after which an event is at fault. Chance alone refuses it that often
    /// with a probability below 10^-[`CERTAINTY_DIGITS`].
    fn tries_needed(&self, firmness: Firmness, attempts: u32) -> u32 {
        let least = match firmness {
            Firmness::Ordinary => attempts,
            Firmness::Firm => 1,
        };
        least.max(self.refusals_by_chance())
    }

    /// Number of distinct events, refused in a row, after which the destination is at fault.
    fn streak_needed(&self) -> usize {
        (self.refusals_by_chance() as usize).clamp(STREAK_MIN, STREAK_MAX)
    }

    /// Refusals in a row that chance alone does not explain; 0 if the destination refuses nothing.
    fn refusals_by_chance(&self) -> u32 {
        // The refusal under judgement is left out: a single refused event says nothing about
        // chance.
        let refused = self.current.refused.saturating_add(self.previous.refused).saturating_sub(1);
        if refused == 0 {
            return 0;
        }
        let sends = refused.saturating_add(self.current.accepted).saturating_add(self.previous.accepted);
        // Laplace's estimate, since few sends prove little.
        let rate = (f64::from(refused) + 1.0) / (f64::from(sends) + 2.0);
        (CERTAINTY_DIGITS / -rate.log10()).ceil() as u32
    }

    fn roll(&mut self, now: Duration, window: Duration) {
        let age = now.saturating_sub(self.window_start);
        if age > window {
            self.previous = if age > 2 * window { FirstSends::default() } else { self.current };
            self.current = FirstSends::default();
            self.window_start = now;
        }
    }
}

/// Adds an event to a streak, once, up to [`STREAK_MAX`].
fn join(streak: &mut Vec<EventKey>, event: EventKey) {
    if streak.len() < STREAK_MAX && !streak.contains(&event) {
        streak.push(event);
    }
}
