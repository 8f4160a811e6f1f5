//! The screen of positions and replays: counts the events of a range first, and then has them
//! delivered again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::admin::replays::{RangeReplayEnd, RangeReplayJob, RangeReplays, ReplayForm, ReplayProgress};
use crate::limits::{PAGE_REPLAY_FIELD_BYTES_MAX, REASON_BYTES_MAX};
use crate::outside;

/// A button of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayAction {
    Count,
    Start,
    Stop,
}

impl ReplayAction {
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "count" => Some(ReplayAction::Count),
            "start" => Some(ReplayAction::Start),
            "stop" => Some(ReplayAction::Stop),
            _ => None,
        }
    }
}

/// Carries out an action.
///
/// # Errors
/// Returns, in words, why nothing has changed.
pub(super) fn act(
    replays: &RangeReplays,
    action: ReplayAction,
    fields: &mut BTreeMap<String, String>,
    peer: Option<IpAddr>,
) -> Result<(), String> {
    match action {
        ReplayAction::Stop => replays.stop(),
        ReplayAction::Count => replays.start(form(fields)?, true)?,
        ReplayAction::Start => {
            let counted = replays.job().filter(is_counted);
            let Some(counted) = counted else { return Err("Count the events first.".to_owned()) };
            let typed = fields.get("count").and_then(|count| count.trim().parse::<u64>().ok());
            let expected = counted.progress.delivered;
            if typed != Some(expected) {
                return Err(format!("Nothing has started: the number does not match. It is {expected}."));
            }
            // The times that were counted, whatever `now` is meanwhile.
            let ReplayProgress { from, to, .. } = counted.progress;
            let form = ReplayForm { from, to, ..counted.form };
            let ReplayForm { source, from, to, destination } = &form;
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            tracing::warn!(
                source,
                from,
                to,
                destination,
                expected,
                peer,
                "an operator replays a range on the page"
            );
            replays.start(form, false)?;
        }
    }
    Ok(())
}

/// The range that a form asks for.
fn form(fields: &mut BTreeMap<String, String>) -> Result<ReplayForm, String> {
    let mut field = |name: &str, needed: &str| {
        let text = fields.remove(name).unwrap_or_default().trim().to_owned();
        match text.len() {
            0 => Err(format!("{needed} is missing.")),
            1..=PAGE_REPLAY_FIELD_BYTES_MAX => Ok(text),
            _ => Err(format!("{needed} is too long.")),
        }
    };
    Ok(ReplayForm {
        source: field("source", "The source")?,
        from: field("from", "The first time")?,
        to: field("to", "The last time")?,
        destination: field("destination", "The destination")?,
    })
}

/// True if a job is the count of a whole range with events in it.
fn is_counted(job: &RangeReplayJob) -> bool {
    job.is_dry_run && job.progress.ended == Some(RangeReplayEnd::Done) && job.progress.delivered > 0
}

/// A replay in the words of the screen.
#[derive(Debug, Serialize)]
pub(super) struct ShownReplay {
    pub urgency: &'static str,
    pub text: String,
    pub is_running: bool,
    /// The number to type before a replay; 0 if none can start.
    pub counted: u64,
}

impl ShownReplay {
    pub fn of(job: &RangeReplayJob) -> Self {
        let ReplayForm { source, from, to, destination } = &job.form;
        let safe = |text: &str| outside::text(text, REASON_BYTES_MAX);
        let range = format!("{} from {} to {}", safe(source), safe(from), safe(to));
        let (to, progress) = (safe(destination), &job.progress);
        let events = match progress.delivered {
            1 => "1 event".to_owned(),
            count => format!("{count} events"),
        };
        let verb = if job.is_dry_run { "would go" } else { "went" };
        let (urgency, text) = match (progress.ended, &job.error) {
            _ if job.is_running && job.is_dry_run => {
                ("notice", format!("Counting {range}: {events} so far."))
            }
            _ if job.is_running => ("notice", format!("Replaying {range} to {to}: {events} so far.")),
            (_, Some(error)) => ("critical", format!("It failed: {error}")),
            (Some(RangeReplayEnd::Done), None) => ("ok", format!("{events} of {range} {verb} to {to}.")),
            (Some(RangeReplayEnd::Refused), None) => {
                let refused = progress.refused;
                ("warning", format!("{events} of {range} {verb} to {to}; {refused} were refused for good."))
            }
            (Some(RangeReplayEnd::Interrupted), None) => {
                ("warning", format!("Stopped: {events} {verb} to {to}."))
            }
            (Some(RangeReplayEnd::Undelivered) | None, None) => {
                ("warning", format!("{events} {verb} to {to}; others were read and not delivered in time."))
            }
        };
        let counted = if is_counted(job) { progress.delivered } else { 0 };
        ShownReplay { urgency, text, is_running: job.is_running, counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(is_dry_run: bool, delivered: u64, ended: Option<RangeReplayEnd>) -> RangeReplayJob {
        let [source, from, to, destination] = ["vc", "2h", "now", "audit"].map(str::to_owned);
        RangeReplayJob {
            form: ReplayForm { source, from, to, destination },
            is_dry_run,
            is_running: ended.is_none(),
            progress: ReplayProgress { delivered, ended, ..ReplayProgress::default() },
            error: None,
        }
    }

    #[test]
    fn only_a_count_with_events_can_be_replayed() {
        let check = |job: RangeReplayJob, counted: u64, text: &str| {
            let shown = ShownReplay::of(&job);
            assert_eq!((shown.counted, shown.text.as_str()), (counted, text));
        };
        let done = Some(RangeReplayEnd::Done);
        check(job(true, 3, None), 0, "Counting vc from 2h to now: 3 events so far.");
        check(job(true, 3, done), 3, "3 events of vc from 2h to now would go to audit.");
        check(job(true, 0, done), 0, "0 events of vc from 2h to now would go to audit.");
        check(job(true, 3, Some(RangeReplayEnd::Interrupted)), 0, "Stopped: 3 events would go to audit.");
        check(job(false, 1, done), 0, "1 event of vc from 2h to now went to audit.");
        let failed = RangeReplayJob { error: Some("no source `vd`".into()), ..job(true, 0, done) };
        check(failed, 0, "It failed: no source `vd`");
    }

    #[test]
    fn a_form_names_everything() {
        let mut fields: BTreeMap<String, String> =
            ["source", "from", "to"].map(|name| (name.to_owned(), "x".to_owned())).into();
        assert_eq!(form(&mut fields.clone()), Err("The destination is missing.".to_owned()));
        fields.insert("destination".into(), "x".repeat(PAGE_REPLAY_FIELD_BYTES_MAX + 1));
        assert_eq!(form(&mut fields), Err("The destination is too long.".to_owned()));
    }
}
