//! Health of a destination: its circuit breaker, and the waits that its target asks for.
//!
//! ```text
//!  closed ──(failures in a row, a low success rate, ──► open ──(wait over)──► probing
//!    ▲       or every event refused)                     ▲                      │ │
//!    │                                                   └──────(failure)───────┘ │
//!    └─────────────────────────────(success)──────────────────────────────────────┘
//! ```
//!
//! Two signals open the breaker. Consecutive failures detect a target that is gone. The success
//! rate within a window detects a target that fails most requests but never ten in a row. A third
//! reason comes from outside: the evidence finds that the target refuses every event (see
//! `evidence.rs`).
//!
//! While the breaker is open, one probe at a time may go. The wait before a probe doubles with each
//! failed probe, up to `breaker.probeInterval`.

use std::time::Duration;

use super::backoff::backoff;
use crate::limits::{BREAKER_ANSWERS_MIN, RETRY_AFTER_MAX};
use crate::pipeline::deliver::settings::{Breaker, DeliveryPolicy};

/// Decides whether and when a destination may be sent to. Times count from the start of the
/// process.
#[derive(Debug)]
pub(super) struct Health {
    state: State,
    /// Nothing is sent before this time, whatever the state (`Retry-After`).
    quiet_until: Duration,
    failures_in_row: u32,
    /// Times that the breaker opened since the last success.
    openings: u32,
    /// Times that the breaker opened in total.
    opened: u64,
    /// Time at which the breaker opened because the target refused every event. Only an accepted
    /// event closes it then.
    blamed_at: Option<Duration>,
    window_start: Duration,
    good: u32,
    bad: u32,
    /// Total time between consecutive answers, without stretches in which the target failed.
    answering: Duration,
    /// Time of the last answer, unless the target failed since.
    answered_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            state: State::Closed,
            quiet_until: Duration::ZERO,
            failures_in_row: 0,
            openings: 0,
            opened: 0,
            blamed_at: None,
            window_start: Duration::ZERO,
            good: 0,
            bad: 0,
            answering: Duration::ZERO,
            answered_at: None,
        }
    }
}

impl Health {
    /// Returns true if a request may be sent now. `under_way`: requests in flight. Turns an open
    /// breaker into a probing one when its wait is over.
    pub fn admits(&mut self, now: Duration, under_way: usize) -> bool {
        if now < self.quiet_until {
            return false;
        }
        match self.state {
            State::Closed => true,
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                under_way == 0
            }
            State::Open { .. } => false,
            State::Probing => under_way == 0,
        }
    }

    /// Returns true if nothing can be sent before a request in flight ends, however much time
    /// passes.
    pub fn awaits_answer(&self, under_way: usize) -> bool {
        self.state != State::Closed && under_way > 0
    }

    /// Returns the time to ask again, if waiting is all that is missing.
    pub fn wakes_at(&self) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until.max(self.quiet_until)),
            _ => (self.quiet_until > Duration::ZERO).then_some(self.quiet_until),
        }
    }

    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Returns true if the breaker is open and its next probe is not due yet.
    pub fn rests(&self, now: Duration) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// Returns true if the target asked for a pause that lasts longer than `wait` from now.
    pub fn is_quiet_for(&self, now: Duration, wait: Duration) -> bool {
        self.quiet_until > now + wait
    }

    /// The age clock of refused events. It stands still while the target is gone or receives
    /// nothing.
    pub fn answering(&self) -> Duration {
        self.answering
    }

    /// Number of times the breaker opened so far. A request keeps the number at its send; a later
    /// answer with an older number says nothing about the present.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// The target accepted an event. `sent`: [`Health::opened`] when the request was sent. An
    /// answer to a request from before the breaker opened is outdated and does not close it.
    pub fn success(&mut self, now: Duration, sent: u64, policy: &DeliveryPolicy) {
        if sent != self.opened {
            return;
        }
        self.roll(now, policy.breaker.as_ref());
        self.note_answer(now);
        self.good += 1;
        self.failures_in_row = 0;
        self.openings = 0;
        self.blamed_at = None;
        self.state = State::Closed;
    }

    /// The target could not take a request. `sent`: as in [`Health::success`]. `wait`: the pause
    /// that the target asked for.
    pub fn failure(
        &mut self,
        now: Duration,
        sent: u64,
        wait: Option<Duration>,
        policy: &DeliveryPolicy,
        random: f64,
    ) {
        self.roll(now, policy.breaker.as_ref());
        // The moment at which the target stopped answering is unknown. No time since its last
        // answer counts.
        self.answered_at = None;
        if let Some(wait) = wait {
            self.quiet_until = self.quiet_until.max(now + wait.min(RETRY_AFTER_MAX));
        }
        if sent != self.opened {
            return;
        }
        self.bad += 1;
        self.failures_in_row += 1;
        if self.is_blamed() && self.state == State::Probing {
            return self.open(now, policy, random);
        }
        let Some(breaker) = &policy.breaker else { return };
        let answers = self.good + self.bad;
        let rate_low = answers >= BREAKER_ANSWERS_MIN
            && f64::from(self.good) < f64::from(answers) * breaker.success_rate_min;
        let opens = self.state == State::Probing || self.failures_in_row >= breaker.failures || rate_low;
        if opens && !matches!(self.state, State::Open { .. }) {
            self.open(now, policy, random);
        }
    }

    /// The target answered and refused. This is neither a success nor a failure, since the events
    /// may be at fault. `sent`: as in [`Health::success`].
    pub fn refused(&mut self, now: Duration, sent: u64, policy: &DeliveryPolicy, random: f64) {
        if sent != self.opened {
            return;
        }
        if self.is_blamed() {
            self.open(now, policy, random);
            return;
        }
        self.roll(now, policy.breaker.as_ref());
        self.note_answer(now);
        // The target can be reached. The evidence decides whether it refuses everything.
        self.state = State::Closed;
    }

    /// The target refuses every event. Only probes go to it until it accepts one.
    pub fn blame(&mut self, now: Duration, policy: &DeliveryPolicy, random: f64) {
        self.blamed_at.get_or_insert(now);
        self.open(now, policy, random);
    }

    /// Returns true from [`Health::blame`] on until an event is accepted.
    pub fn is_blamed(&self) -> bool {
        self.blamed_at.is_some()
    }

    /// Returns true if the target has refused every event for longer than `age`.
    pub fn is_blamed_for(&self, now: Duration, age: Duration) -> bool {
        self.blamed_at.is_some_and(|since| now.saturating_sub(since) >= age)
    }

    /// The settings have changed and may name another target. Ends the waits that the old target
    /// caused: the next request goes at once, as a probe if the breaker is open. Answers to
    /// requests in flight are outdated.
    pub fn retarget(&mut self, policy: &DeliveryPolicy) {
        self.opened += 1;
        self.quiet_until = Duration::ZERO;
        (self.failures_in_row, self.openings) = (0, 0);
        (self.good, self.bad) = (0, 0);
        self.answered_at = None;
        if policy.breaker.is_none() && !self.is_blamed() {
            self.state = State::Closed;
        } else if self.is_open() {
            self.state = State::Open { until: Duration::ZERO };
        }
    }

    fn open(&mut self, now: Duration, policy: &DeliveryPolicy, random: f64) {
        let probe_interval = policy.breaker.unwrap_or_default().probe_interval;
        // The random share is at least half of the step. It spreads the probes of a gateway's many
        // destinations, and no probe goes at once.
        let step = backoff(policy.retry.backoff_min, probe_interval, self.openings, 0.5 + random / 2.0);
        self.state = State::Open { until: now + step };
        self.openings = self.openings.saturating_add(1);
        self.opened += 1;
        (self.good, self.bad) = (0, 0);
        self.answered_at = None;
    }

    fn note_answer(&mut self, now: Duration) {
        self.answering += self.answered_at.map_or(Duration::ZERO, |before| now.saturating_sub(before));
        self.answered_at = Some(now);
    }

    fn roll(&mut self, now: Duration, breaker: Option<&Breaker>) {
        if breaker.is_some_and(|breaker| now.saturating_sub(self.window_start) > breaker.window) {
            (self.good, self.bad) = (0, 0);
            self.window_start = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Fails a request that was just sent.
    fn fail(
        health: &mut Health,
        now: Duration,
        wait: Option<Duration>,
        policy: &DeliveryPolicy,
        random: f64,
    ) {
        health.failure(now, health.opened(), wait, policy, random);
    }

    fn succeed(health: &mut Health, now: Duration, policy: &DeliveryPolicy) {
        health.success(now, health.opened(), policy);
    }

    #[test]
    fn opens_after_failures_in_a_row_probes_once_and_closes() {
        let policy = DeliveryPolicy::default();
        let mut health = Health::default();
        for i in 0..10 {
            assert!(health.admits(at(i), 0));
            fail(&mut health, at(i), None, &policy, 1.0);
        }
        assert!(!health.admits(at(11), 0), "open");
        let until = health.wakes_at().expect("an open breaker has an end");
        assert!(health.admits(until, 0), "a probe");
        assert!(!health.admits(until, 1), "one probe only");
        fail(&mut health, until, None, &policy, 1.0);
        let later = health.wakes_at().expect("open again");
        assert!(later - until > until - at(9), "waits longer the second time");
        assert!(health.admits(later, 0));
        succeed(&mut health, later, &policy);
        assert!(health.admits(later, 31), "closed");
    }

    #[test]
    fn opens_when_the_success_rate_in_the_window_is_low() {
        let policy = DeliveryPolicy::default();
        let mut health = Health::default();
        for i in 0..40u64 {
            if i % 4 == 0 {
                succeed(&mut health, at(i), &policy);
            } else {
                fail(&mut health, at(i), None, &policy, 1.0);
            }
            if health.is_open() {
                assert!(i >= 19, "only with enough answers");
                return;
            }
        }
        panic!("three of four fail, never ten in a row: it should have opened");
    }

    #[test]
    fn the_age_of_events_stands_still_while_the_target_does_not_answer() {
        let policy = DeliveryPolicy::default();
        let mut health = Health::default();
        let mut check = |ms, answers, expected| {
            if answers {
                succeed(&mut health, at(ms), &policy);
            } else {
                fail(&mut health, at(ms), None, &policy, 0.0);
            }
            assert_eq!(health.answering(), at(expected), "at {ms} ms");
        };
        check(1_000, true, 0);
        check(1_500, true, 500);
        check(9_000, false, 500);
        check(20_000, false, 500);
        check(90_000, true, 500);
        check(90_100, true, 600);
    }

    #[test]
    fn answers_to_earlier_requests_do_not_move_an_open_breaker() {
        let policy = DeliveryPolicy::default();
        let mut health = Health::default();
        let mut sent = Vec::new();
        for _ in 0..32 {
            assert!(health.admits(at(0), sent.len()));
            sent.push(health.opened());
        }
        for sent in &sent[..10] {
            health.failure(at(1), *sent, None, &policy, 1.0);
        }
        let until = health.wakes_at().expect("open");
        health.success(at(2), sent[10], &policy);
        assert!(health.rests(at(3)), "still open");
        health.failure(at(3), sent[11], None, &policy, 1.0);
        assert_eq!(health.wakes_at(), Some(until));
        // A probe is due, but some requests are still in flight.
        assert!(!health.admits(until, 20));
        for sent in &sent[12..30] {
            health.failure(until, *sent, None, &policy, 1.0);
            health.success(until, *sent, &policy);
        }
        assert!(health.is_open() && !health.rests(until), "waits for the others' end");
        assert!(health.admits(until, 0));
        let probe = health.opened();
        health.failure(until, probe, None, &policy, 1.0);
        let later = health.wakes_at().expect("open again");
        assert!(later - until > until - at(1), "no success came between");
        assert!(health.admits(later, 0));
        health.success(later, health.opened(), &policy);
        assert!(!health.is_open());
        health.failure(later, sent[31], None, &policy, 1.0);
        assert!(!health.is_open());
    }

    #[test]
    fn honours_retry_after_up_to_its_cap() {
        let policy = DeliveryPolicy::default();
        let mut health = Health::default();
        fail(&mut health, at(0), Some(Duration::from_secs(9_999)), &policy, 0.0);
        assert!(!health.admits(RETRY_AFTER_MAX - at(1), 0));
        assert!(health.admits(RETRY_AFTER_MAX, 0));
    }
}
