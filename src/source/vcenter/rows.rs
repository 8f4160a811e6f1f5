//! Refused rows: rows of vCenter's history that vCenter cannot send. It answers every request for a
//! page with such a row with a fault or with HTTP 500.
//!
//! ```text
//!   page refused twice ──► read in halves, down to the row (cursor/careful.rs)
//!                                      │
//!                                      ▼
//!   row refused repeatedly on new collectors ──► stepped over, with a dead letter
//!                                       by count: the next read of one event
//!                                       by time:  a collector that begins behind the row
//! ```
//!
//! INVARIANT: a row is stepped over only after it was refused [`ROW_REFUSALS`] times within at
//! least [`ROW_REFUSED_FOR`], each time on a new collector, while reads beside it succeed. So a
//! vCenter that refuses every read for a while loses no event.
//! INVARIANT: a refused read is followed by another read on the same collector only if it asked for
//! a single event. So that row is the only one that can be lost.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api::EventApi;
use super::client::CallError;
use super::link::{Link, LinkError, Object};
use crate::limits::{
    GAP_END_MIN, PAGE_REFUSALS, ROW_REFUSALS, ROW_REFUSED_FOR, ROW_REFUSED_FOR_AGAIN, ROWS_EXPECTED_FOR,
    ROWS_REMEMBERED_MAX,
};
use crate::memory::Permit;
use crate::source::Verdict;
use vsphere::api::{EventPosition, FaultKind, format_us};
use vsphere::decode::salvage;
use vsphere::{PageBody, Wire};

/// Returns true if vCenter refused to send a page, as it does for a page with a bad row.
pub(super) fn is_refusal(error: &CallError) -> bool {
    matches!(error, CallError::Foreign { status: 500, .. }) || error.fault() == Some(FaultKind::Other)
}

/// The place of a row: directly behind this event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowPlace {
    pub key: Option<i32>,
    /// Microseconds since 1970 UTC.
    pub created_us: i64,
}

/// The known upper bound of a refused row, for its dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The event behind the row.
    Event(EventPosition),
    /// The time of the row itself, microseconds since 1970 UTC.
    Row(i64),
    /// No event is behind the row yet.
    Nothing,
}

/// Refused pages of one cursor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageRefusals {
    /// The position at the last refusal, microseconds since 1970 UTC, and the number of refusals
    /// there.
    last: Option<(i64, u32)>,
}

impl PageRefusals {
    /// Counts a refusal at `position_us`. Returns true if the page is to be read in halves.
    pub fn count(&mut self, position_us: i64) -> bool {
        let refused = self.last.filter(|(at_us, _)| *at_us == position_us).map_or(0, |(_, refused)| refused);
        self.last = Some((position_us, refused + 1));
        refused + 1 >= PAGE_REFUSALS
    }
}

/// A row that was refused when it was the only one asked for.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    place: RowPlace,
    since: Instant,
    refusals: u32,
}

/// The refused rows of a source: those that vCenter may still send, and those that were stepped
/// over. Both lists are bounded.
#[derive(Debug, Default)]
pub(super) struct RefusedRows {
    suspects: VecDeque<Suspect>,
    stepped_over: VecDeque<RowPlace>,
    /// The time at which a row was last stepped over.
    last_at: Option<Instant>,
}

impl RefusedRows {
    /// Counts a refusal of the single row at `place`. Returns true if the row is to be stepped
    /// over: it was stepped over before, or it was refused often and long enough.
    pub fn refused(&mut self, place: RowPlace) -> bool {
        let known = self.suspects.iter().position(|suspect| suspect.place == place);
        let suspect = known.and_then(|at| self.suspects.remove(at));
        let mut suspect = suspect.unwrap_or(Suspect { place, since: Instant::now(), refusals: 0 });
        suspect.refusals += 1;
        push_bounded(&mut self.suspects, suspect);
        // A vCenter with one bad row is likely to have more, so the next one is given up sooner.
        let expects_more = self.last_at.is_some_and(|at| at.elapsed() < ROWS_EXPECTED_FOR);
        let refused_for = if expects_more { ROW_REFUSED_FOR_AGAIN } else { ROW_REFUSED_FOR };
        self.stepped_over.contains(&place)
            || suspect.refusals >= ROW_REFUSALS && suspect.since.elapsed() >= refused_for
    }

    /// Notes that the row at `place` was stepped over. Returns true if it is a new one.
    fn step_over(&mut self, place: RowPlace) -> bool {
        self.suspects.retain(|suspect| suspect.place != place);
        let is_new = !self.stepped_over.contains(&place);
        if is_new {
            push_bounded(&mut self.stepped_over, place);
            self.last_at = Some(Instant::now());
        }
        is_new
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == ROWS_REMEMBERED_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Finds the time of the refused row at `place`, microseconds since 1970 UTC.
///
/// No event lies between the place and the row. So a window that begins at the place can be read if
/// and only if it ends before the row. Returns `None` if the row can be read after all. Returns
/// `None` as well if the place itself is refused and no other read has succeeded (`answers`).
pub(super) async fn created_us<A: EventApi>(
    link: &Link<A>,
    place: RowPlace,
    end_us: Option<i64>,
    answers: bool,
) -> Result<Option<i64>, LinkError> {
    let from_us = place.created_us;
    let last_us = end_us.unwrap_or(i64::MAX).min(link.vcenter_now_us().max(from_us));
    let mut readable_us = match window(link, from_us, from_us).await? {
        Window::Readable => from_us,
        Window::Refused if answers => return Ok(Some(from_us)),
        Window::Refused | Window::Later => return Ok(None),
    };
    // Double the width until a window is refused.
    let mut width_us = GAP_END_MIN.as_micros() as i64;
    let mut refused_us = loop {
        let until_us = from_us.saturating_add(width_us).min(last_us);
        match window(link, from_us, until_us).await? {
            Window::Refused => break until_us,
            Window::Later => return Ok(None),
            Window::Readable if until_us >= last_us => return Ok(None),
            Window::Readable => readable_us = until_us,
        }
        width_us *= 2;
    };
    // Halve the distance between the last readable window and the first refused one.
    while refused_us - readable_us > GAP_END_MIN.as_micros() as i64 {
        let middle_us = readable_us + (refused_us - readable_us) / 2;
        match window(link, from_us, middle_us).await? {
            Window::Refused => refused_us = middle_us,
            Window::Readable => readable_us = middle_us,
            Window::Later => return Ok(None),
        }
    }
    Ok(Some(refused_us))
}

/// The result of reading a window that begins at the place of a refused row.
enum Window {
    /// Only events at the place.
    Readable,
    /// Events behind the place, so the row can be read after all.
    Later,
    Refused,
}

async fn window<A: EventApi>(link: &Link<A>, from_us: i64, until_us: i64) -> Result<Window, LinkError> {
    link.destroy_doomed().await?;
    let collector = link.create_collector(&link.filter(Some(from_us), Some(until_us))).await?;
    let read = link.read_next(&collector, link.page_events(link.settings.page_events as u32)).await;
    link.doom(Object::Collector(collector));
    match read {
        Ok(page) => {
            let is_later = |page: &PageBody| {
                salvage::events(page.wire, &page.bytes)
                    .into_iter()
                    .filter_map(|range| salvage::created_us(page.wire, &page.bytes[range]))
                    .any(|us| us > from_us)
            };
            Ok(if page.as_ref().is_some_and(is_later) { Window::Later } else { Window::Readable })
        }
        Err(error) if is_refusal(&error) => Ok(Window::Refused),
        Err(error) => Err(error.into()),
    }
}

/// Steps over the row at `place`. A dead letter names the place and the bound `behind` the row.
///
/// The id of the letter depends on the place alone. If a sweep meets the row again, its letter is
/// therefore dropped as a duplicate.
pub(super) async fn step_over<A: EventApi>(
    link: &Link<A>,
    place: RowPlace,
    behind: Behind,
    error: &CallError,
    verdicts: &mpsc::UnboundedSender<Verdict>,
) -> Result<(), LinkError> {
    let (body, reason) = letter(link.api.wire(), place, behind, error);
    link.push(None, body, Some(reason.clone()), Permit::default(), verdicts).await?;
    if link.rows().step_over(place) {
        link.status.rows.fetch_add(1, Relaxed);
        tracing::warn!(source = %link.name, %reason, "vCenter cannot send a row of its history; stepped over it");
    }
    Ok(())
}

/// The dead letter of a row: its bytes and the reason.
fn letter(wire: Wire, place: RowPlace, behind: Behind, error: &CallError) -> (PageBody, String) {
    let after = format_us(place.created_us);
    let key = place.key.map_or("null".to_string(), |key| key.to_string());
    let text = match wire {
        Wire::Soap => {
            format!("<missing><createdTime>{after}</createdTime><afterKey>{key}</afterKey></missing>")
        }
        Wire::ViJson => format!(r#"{{"createdTime":"{after}","afterKey":{key}}}"#),
    };
    let until = match behind {
        Behind::Event(next) => {
            format!("before the event with key {} of {}", next.key, format_us(next.created_us))
        }
        Behind::Row(us) => format!("of {}", format_us(us)),
        Behind::Nothing => "before the next event".to_string(),
    };
    let reason =
        format!("vCenter cannot send the row {until}, after the event with key {key} of {after} ({error})");
    (PageBody { wire, bytes: text.into() }, reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLACE: RowPlace = RowPlace { key: Some(41), created_us: 1_000_000 };

    #[test]
    fn a_page_is_halved_after_it_was_refused_twice_at_one_position() {
        let mut refusals = PageRefusals::default();
        let halved = [7, 7, 8, 8, 7].map(|position_us| refusals.count(position_us));
        assert_eq!(halved, [false, true, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_is_given_up_after_enough_refusals_over_enough_time() {
        let mut rows = RefusedRows::default();
        let other = RowPlace { key: Some(42), ..PLACE };
        assert!((0..10).all(|_| !rows.refused(PLACE)), "all at once");
        tokio::time::advance(ROW_REFUSED_FOR).await;
        assert!(!rows.refused(other), "another row");
        assert!(rows.refused(PLACE));
        assert!(rows.step_over(PLACE) && !rows.step_over(PLACE), "once");
        assert!(rows.refused(PLACE), "known");
        // The next row is given up sooner.
        tokio::time::advance(ROW_REFUSED_FOR_AGAIN).await;
        assert_eq!([(); 2].map(|()| rows.refused(other)), [false, true]);
    }

    #[test]
    fn the_letter_of_a_row_names_its_place_and_has_stable_bytes() {
        let error = CallError::Timeout { method: "ReadNextEvents", after: Duration::from_secs(1) };
        for wire in [Wire::Soap, Wire::ViJson] {
            let next = EventPosition { key: 43, created_us: 3_000_000 };
            let (body, reason) = letter(wire, PLACE, Behind::Event(next), &error);
            assert_eq!(salvage::created_us(wire, &body.bytes), Some(PLACE.created_us));
            assert!(
                reason.contains("key 41 of 1970-01-01T00:00:01")
                    && reason.contains("key 43 of 1970-01-01T00:00:03"),
                "{reason}"
            );
            assert_eq!(letter(wire, PLACE, Behind::Nothing, &error).0.bytes, body.bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn both_lists_are_bounded() {
        let mut rows = RefusedRows::default();
        for us in 0..2 * ROWS_REMEMBERED_MAX {
            let place = RowPlace { key: None, created_us: us as i64 };
            rows.refused(place);
            assert!(us % 2 == 0 || rows.step_over(place));
        }
        assert!(rows.suspects.len() <= ROWS_REMEMBERED_MAX);
        assert_eq!(rows.stepped_over.len(), ROWS_REMEMBERED_MAX);
    }
}
