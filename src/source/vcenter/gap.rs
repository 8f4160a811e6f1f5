//! Stepping over a stretch that gives only empty pages although later events are there.
//!
//! ```text
//!  position      empty     empty     empty   │  not empty
//!     ├─────────────┼─────────┼─────────┼────┴────┤            windows of time, one collector each, then the
//!                                       └─ halves ┘            end of the gap is closed in on
//! ```

use std::sync::atomic::Ordering::Relaxed;

use super::api::EventApi;
use super::cursor::Cursor;
use super::link::{Link, Object, Trouble};
use crate::limits::{
    GAP_END_MIN, GAP_EVENTS_A_WINDOW, GAP_WINDOW_MIN, GAP_WINDOWS_MAX, GAP_WINDOWS_MIN, PAGE_RESERVE_BYTES,
    TIME_RENDERING, batch_bytes,
};
use crate::memory::Permit;
use vsphere::PageBody;
use vsphere::api::{EventMark, MoRef, format_us};
use vsphere::decode::salvage::created_us;

/// A collector whose first page is not empty, and that page.
struct FirstPage {
    begin_us: i64,
    collector: MoRef,
    body: PageBody,
    permit: Permit,
}

/// Moves `cursor` to the first events after its position that can be read, or to `to` where there
/// are none.
pub(super) async fn step_over<A: EventApi>(
    link: &Link<A>,
    cursor: &mut Cursor,
    to: EventMark,
) -> Result<(), Trouble> {
    // Its collector is of no more use, and a session has room for so many.
    cursor.rebuild(link);
    let (from_us, to_us) = (cursor.position_us(), to.created_us);
    // Across the int32 wrap the difference is right, too.
    let events = cursor.last_key().map_or(0, |last| i64::from(to.key.wrapping_sub(last)));
    let windows = (events / GAP_EVENTS_A_WINDOW).clamp(GAP_WINDOWS_MIN, GAP_WINDOWS_MAX);
    let width = ((to_us - from_us) / windows).max(GAP_WINDOW_MIN.as_micros() as i64);
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
        say(link, cursor, from_us, to_us);
        cursor.jump(link, to_us);
        return Ok(());
    };
    while found.begin_us - empty_us > GAP_END_MIN.as_micros() as i64 {
        let middle_us = empty_us + (found.begin_us - empty_us) / 2;
        let room = link.take(PAGE_RESERVE_BYTES);
        match probe(link, middle_us, cursor.end_us(), room).await {
            Ok(Some(earlier)) => {
                let later = std::mem::replace(&mut found, earlier);
                link.doom(Object::Collector(later.collector));
            }
            Ok(None) => empty_us = middle_us,
            Err(trouble) => {
                link.doom(Object::Collector(found.collector));
                return Err(trouble);
            }
        }
    }
    say(link, cursor, from_us, empty_us);
    let begin_us = found.begin_us.max(first_us(&found.body).unwrap_or(found.begin_us));
    cursor.adopt(link, begin_us, found.collector, found.body, found.permit).await
}

/// When the first event of a page was created, at the earliest. Up to a page of what may not be
/// seen lies between where its collector begins and this: smaller pages from there would be empty.
fn first_us(body: &PageBody) -> Option<i64> {
    let us = created_us(body.wire, &body.bytes)?;
    // A time in milliseconds may have been rounded up.
    Some(if us % 1_000 == 0 { us - TIME_RENDERING.as_micros() as i64 } else { us })
}

/// Counts the stretch, and says so where no filter of our own is the likely reason. Of one that is
/// read again both were done before.
fn say<A: EventApi>(link: &Link<A>, cursor: &Cursor, from_us: i64, to_us: i64) {
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

async fn probe<A: EventApi>(
    link: &Link<A>,
    begin_us: i64,
    end_us: Option<i64>,
    mut permit: Permit,
) -> Result<Option<FirstPage>, Trouble> {
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
