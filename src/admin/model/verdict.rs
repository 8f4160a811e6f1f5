//! Verdicts: how urgent the state of a source or destination is, and why, in words. Pure.

use std::time::Duration;

use super::shape::{DestinationStatus, SourceStatus, Urgency};
use crate::limits::SOURCE_LAG_WARN;

/// An urgency with its reason.
pub(super) type Verdict = (Urgency, Option<String>);

/// The verdict on a source. `reason`: why it failed, if it did.
pub(super) fn of_source(source: &SourceStatus, reason: Option<&str>) -> Verdict {
    let verdict = |urgency, why: String| (urgency, Some(why));
    match (&*source.state, reason) {
        ("failed", reason) => {
            let since = source.silence_s.map(|silence| format!("; no answer for {}", age(silence)));
            let reason = reason.unwrap_or("no reason is known");
            verdict(Urgency::Critical, format!("it is down: {reason}{}", since.unwrap_or_default()))
        }
        ("standby", Some(node)) => (Urgency::Ok, Some(format!("node {node} reads it"))),
        ("standby", None) => (Urgency::Ok, Some("this node waits for its lease".into())),
        ("stopped", _) => verdict(Urgency::Notice, "it was stopped".into()),
        ("connecting", _) if !source.first_attempt_done => {
            verdict(Urgency::Notice, "it connects for the first time".into())
        }
        ("connecting", _) => verdict(Urgency::Notice, "it connects again".into()),
        _ if source.held_up => {
            verdict(Urgency::Warning, "it waits: undelivered events fill the memory budget".into())
        }
        _ if source.lag_s.is_some_and(|lag| lag >= SOURCE_LAG_WARN.as_secs_f64()) => {
            let lag = age(source.lag_s.unwrap_or_default());
            verdict(Urgency::Warning, format!("reading is {lag} behind its newest event"))
        }
        _ => (Urgency::Ok, None),
    }
}

/// The verdict on a destination. `alert_age`: its setting `alertAge`. `is_failing`: its last
/// request failed.
pub(super) fn of_destination(
    destination: &DestinationStatus,
    alert_age: Duration,
    is_failing: bool,
) -> Verdict {
    let backlog = &destination.backlog;
    let waiting = match backlog.events() {
        0 => String::new(),
        events => format!("; {}, the oldest {} old", events_wait(events), age(backlog.oldest_s)),
    };
    let last = destination.failures.first();
    let reason = last.map_or_else(String::new, |failure| format!(": {}", failure.reason));
    let verdict = |urgency, why: String| (urgency, Some(why));
    if destination.store_full {
        return verdict(Urgency::Critical, format!("its spool or its dead letters are full{waiting}"));
    }
    if destination.refuses_all {
        return verdict(Urgency::Critical, format!("the target refuses every event{reason}{waiting}"));
    }
    if destination.breaker_open {
        return verdict(Urgency::Critical, format!("the target takes nothing{reason}{waiting}"));
    }
    if backlog.events() > 0 && backlog.oldest_s >= alert_age.as_secs_f64() {
        let events = events_wait(backlog.events());
        return verdict(
            Urgency::Warning,
            format!("the target falls behind: {events}, the oldest {} old{reason}", age(backlog.oldest_s)),
        );
    }
    if destination.parked_lanes > 0 {
        let refused = match destination.parked_lanes {
            1 => "1 refused event is sent again".to_owned(),
            events => format!("{events} refused events are sent again"),
        };
        return verdict(Urgency::Warning, format!("{refused}{reason}{waiting}"));
    }
    if is_failing {
        return verdict(Urgency::Warning, format!("the last request failed{reason}{waiting}"));
    }
    if destination.spooling {
        return verdict(Urgency::Notice, format!("new events go through the disk{waiting}"));
    }
    if destination.dead_letters > 0 {
        let count = match destination.dead_letters {
            1 => "1 dead letter is in the store".to_owned(),
            letters => format!("{letters} dead letters are in the store"),
        };
        return verdict(Urgency::Notice, format!("{count}{reason}"));
    }
    if destination.dropped_events_total > 0 {
        let dropped = destination.dropped_events_total;
        return verdict(Urgency::Notice, format!("{dropped} events were dropped, as `overflow.policy` says"));
    }
    (Urgency::Ok, None)
}

fn events_wait(events: u64) -> String {
    if events == 1 { "1 event waits".to_owned() } else { format!("{events} events wait") }
}

/// An age in its largest sensible unit: `45 s`, `12 min`, `3 h`, `4 days`.
pub fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3_600.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{BacklogStatus, FailureStatus};
    use super::*;

    #[test]
    fn the_worst_reason_of_a_destination_comes_first() {
        let failed = FailureStatus { reason: "HTTP 503".into(), ..FailureStatus::default() };
        let mut state = DestinationStatus { failures: vec![failed], ..DestinationStatus::default() };
        let check = |state: &DestinationStatus, failing, urgency, why: Option<&str>| {
            let found = of_destination(state, Duration::from_secs(300), failing);
            assert_eq!(found, (urgency, why.map(Into::into)), "{state:?}");
        };
        check(&state, false, Urgency::Ok, None);
        state.dead_letters = 1;
        check(&state, false, Urgency::Notice, Some("1 dead letter is in the store: HTTP 503"));
        state.dead_letters = 2;
        check(&state, false, Urgency::Notice, Some("2 dead letters are in the store: HTTP 503"));
        check(&state, true, Urgency::Warning, Some("the last request failed: HTTP 503"));
        state.backlog = BacklogStatus { memory_events: 1, oldest_s: 720.0, ..BacklogStatus::default() };
        let late = "the target falls behind: 1 event waits, the oldest 12 min old: HTTP 503";
        check(&state, true, Urgency::Warning, Some(late));
        state.breaker_open = true;
        let open = "the target takes nothing: HTTP 503; 1 event waits, the oldest 12 min old";
        check(&state, true, Urgency::Critical, Some(open));
        state.refuses_all = true;
        let refuses = "the target refuses every event: HTTP 503; 1 event waits, the oldest 12 min old";
        check(&state, true, Urgency::Critical, Some(refuses));
        state.store_full = true;
        let full = "its spool or its dead letters are full; 1 event waits, the oldest 12 min old";
        check(&state, true, Urgency::Critical, Some(full));
    }

    #[test]
    fn a_source_that_is_down_is_critical_and_one_that_lags_is_behind() {
        let source = |state: &str| SourceStatus { state: state.into(), ..SourceStatus::default() };
        let check = |source: &SourceStatus, reason: Option<&str>, urgency, why: Option<&str>| {
            assert_eq!(of_source(source, reason), (urgency, why.map(Into::into)), "{source:?}");
        };
        check(&source("waiting"), None, Urgency::Ok, None);
        check(&source("failed"), Some("no route"), Urgency::Critical, Some("it is down: no route"));
        let silent = SourceStatus { silence_s: Some(600.0), ..source("failed") };
        let since = "it is down: no route; no answer for 10 min";
        check(&silent, Some("no route"), Urgency::Critical, Some(since));
        check(&source("connecting"), None, Urgency::Notice, Some("it connects for the first time"));
        let again = SourceStatus { first_attempt_done: true, ..source("connecting") };
        check(&again, None, Urgency::Notice, Some("it connects again"));
        let late = SourceStatus { lag_s: Some(7_200.0), ..source("reading") };
        check(&late, None, Urgency::Warning, Some("reading is 2 h behind its newest event"));
        let full = SourceStatus { held_up: true, ..source("reading") };
        let waits = "it waits: undelivered events fill the memory budget";
        check(&full, None, Urgency::Warning, Some(waits));
    }

    #[test]
    fn ages_have_a_sensible_unit() {
        let check = |seconds: f64, expected: &str| assert_eq!(age(seconds), expected);
        check(-1.0, "0 s");
        check(99.0, "99 s");
        check(720.0, "12 min");
        check(10_800.0, "3 h");
        check(400_000.0, "5 days");
    }
}
