//! Steps over a gap: a stretch of events that this user may not read. All its pages are empty,
//! although vCenter has later events.
//!
//! ```text
//!  position      empty     empty     empty   │  not empty
//!     ├─────────────┼─────────┼─────────┼────┴────┤      1. windows of time, a collector for each
//!                                       └─ halves ┘      2. the end of the gap, by halving
//! ```
//!
//! The watchdog decides that there is a gap. This module finds its end and moves the cursor there.

use std::sync::atomic::Ordering::Relaxed;

use super::api::EventApi;
use super::cursor::Cursor;
use super::link::{Link, LinkError, Object};
use crate::limits::{
    GAP_END_MIN, GAP_EVENTS_A_WINDOW, GAP_WINDOW_MIN, GAP_WINDOWS_MAX, GAP_WINDOWS_MIN, PAGE_RESERVE_BYTES,
    TIME_RENDERING, batch_bytes,
};
use crate::memory::Permit;
use vsphere::PageBody;
use vsphere::api::{EventPosition, MoRef, format_us};
use vsphere::decode::salvage::created_us;

/// A collector whose first page is not empty, and that page.
struct FirstPage {
    begin_us: i64,
    collector: MoRef,
    body: PageBody,
    permit: Permit,
}

/// Moves `cursor` to the first readable events after its position, or to `to` if there are none.
pub(super) async fn step_over<A: EventApi>(
    link: &Link<A>,
    cursor: &mut Cursor,
    to: EventPosition,
) -> Result<(), LinkError> {
    // The old collector is useless, and the number of collectors in a session is limited.
    cursor.rebuild(link);
    let (from_us, to_us) = (cursor.position_us(), to.created_us);
    // Wrapping, so that the difference is right across the wrap of keys.
    let events = cursor.last_key().map_or(0, |last| i64::from(to.key.wrapping_sub(last)));
    let windows = (events / GAP_EVENTS_A_WINDOW).clamp(GAP_WINDOWS_MIN, GAP_WINDOWS_MAX);
    let width = ((to_us - from_us) / windows).max(GAP_WINDOW_MIN.as_micros() as i64);
    // Go forward until a window is not empty.
    let mut empty_us = from_us;
    let mut found = None;
    while found.is_none() && empty_us < to_us {
        let begin_us = (empty_us + width).min(to_us);
        let room = link.reserve(PAGE_RESERVE_BYTES).await;
        found = probe(link, begin_us, cursor.end_us(), room).await?;
        if found.is_none() {
            empty_us = begin_us;
        }
    }
    let Some(mut found) = found else {
        log_gap(link, cursor, from_us, to_us);
        cursor.jump(link, to_us);
        return Ok(());
    };
    // Halve the distance between the last empty window and the first one with events.
    while found.begin_us - empty_us > GAP_END_MIN.as_micros() as i64 {
        let middle_us = empty_us + (found.begin_us - empty_us) / 2;
        let room = link.take(PAGE_RESERVE_BYTES);
        match probe(link, middle_us, cursor.end_us(), room).await {
            Ok(Some(earlier)) => {
                let later = std::mem::replace(&mut found, earlier);
                link.doom(Object::Collector(later.collector));
            }
            Ok(None) => empty_us = middle_us,
            Err(error) => {
                link.doom(Object::Collector(found.collector));
                return Err(error);
            }
        }
    }
    log_gap(link, cursor, from_us, empty_us);
    let begin_us = found.begin_us.max(first_us(&found.body).unwrap_or(found.begin_us));
    cursor.adopt(link, begin_us, found.collector, found.body, found.permit).await
}

/// The earliest time at which the first event of a page can have been created.
///
/// Up to a page of unreadable events may lie between the beginning of the collector and this time.
/// Smaller pages from that beginning would be empty.
fn first_us(body: &PageBody) -> Option<i64> {
    let us = created_us(body.wire, &body.bytes)?;
    // A time in milliseconds may have been rounded up.
    Some(if us % 1_000 == 0 { us - TIME_RENDERING.as_micros() as i64 } else { us })
}

/// Counts the gap. Warns of it unless the configured filter is the likely reason. Does neither for
/// a stretch that is read again, because both were done before.
fn log_gap<A: EventApi>(link: &Link<A>, cursor: &Cursor, from_us: i64, to_us: i64) {
    if !cursor.is_live() {
        return;
    }
    link.status.gaps.fetch_add(1, Relaxed);
    if !link.is_filtered() {
        tracing::warn!(
            source = %link.name,
            from = %format_us(from_us),
            to = %format_us(to_us),
            "vCenter has events here that it does not show to this user; stepped over them. The role Read-only on the vCenter's root, propagated, shows all"
        );
    }
}

/// Reads the first page from `begin_us` on with a collector of its own.
async fn probe<A: EventApi>(
    link: &Link<A>,
    begin_us: i64,
    end_us: Option<i64>,
    mut permit: Permit,
) -> Result<Option<FirstPage>, LinkError> {
    link.destroy_doomed().await?;
    let collector = link.create_collector(&link.filter(Some(begin_us), end_us)).await?;
    let events = link.page_events(link.settings.page_events as u32);
    match link.read_next(&collector, events).await {
        Ok(Some(body)) => {
            permit.resize(batch_bytes(body.bytes.len()));
            Ok(Some(FirstPage { begin_us, collector, body, permit }))
        }
        Ok(None) => {
            link.doom(Object::Collector(collector));
            Ok(None)
        }
        Err(error) => {
            link.doom(Object::Collector(collector));
            Err(error.into())
        }
    }
}
