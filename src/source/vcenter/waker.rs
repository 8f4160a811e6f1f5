//! The waker wakes an idle reader, so that the first event after a quiet time is read at once.
//!
//! It watches the latestPage of a second collector with `WaitForUpdatesEx`. Each answer carries the
//! whole page, so the page holds only one event. The waker waits only while the reader is idle: a
//! busy reader needs no waking, and vCenter is spared the calls.
//!
//! An event might not change the page, so an idle reader still reads every `WATCHED_POLL`. If the
//! waker does not work, for example because the vCenter refuses it, the reader reads every
//! `IDLE_POLL`.

use super::api::{EventApi, Waker};
use super::backoff::Backoff;
use super::link::{End, Link, LinkError, Object};
use super::status::Method;
use crate::limits::BACKOFF_MAX;
use vsphere::api::EventFilterSpec;

/// Watches until the session ends.
pub(super) async fn run<A: EventApi>(link: &Link<A>) -> End {
    let mut backoff = Backoff::default();
    loop {
        let spec = EventFilterSpec { max_count: Some(1), ..link.filter(None, None) };
        let error = match link.create_waker(&spec).await {
            Ok(waker) => {
                let error = watch(link, &waker, &mut backoff).await;
                link.doom(Object::Waker(waker));
                error
            }
            Err(error) => error.into(),
        };
        link.note_seen(|seen| seen.watching = false);
        // The idle reader relies on the waker: wake it, so that it changes its interval.
        link.wake.notify_one();
        if let Some(end) = error.end() {
            return end;
        }
        tracing::debug!(source = %link.name, %error, "vCenter does not wake the source; polling instead");
        tokio::time::sleep(backoff.next(BACKOFF_MAX)).await;
    }
}

async fn watch<A: EventApi>(link: &Link<A>, waker: &Waker, backoff: &mut Backoff) -> LinkError {
    let mut idle = link.idle.subscribe();
    let mut version = String::new();
    loop {
        if idle.wait_for(|idle| *idle).await.is_err() {
            return LinkError::Closed(crate::source::Closed);
        }
        let max_wait = link.settings.timeouts.wait;
        match link.call(Method::WaitForUpdatesEx, link.api.wait(waker, &version, max_wait)).await {
            Ok(None) => {}
            Ok(Some(update)) => {
                version = update.version;
                let known = tokio::time::Instant::now();
                link.note_seen(|seen| {
                    if let Some(event) = update.latest {
                        seen.visible = Some((event, known));
                    }
                });
                link.wake.notify_one();
            }
            Err(error) => return error.into(),
        }
        link.note_seen(|seen| seen.watching = true);
        backoff.reset();
    }
}
