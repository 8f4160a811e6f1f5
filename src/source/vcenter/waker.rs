//! The waker: a second, tiny collector whose latestPage of one event is watched, so that the first
//! event after idle is read at once.
//!
//! Each answer carries the whole latestPage, hence its one event; and it waits only while the
//! reader is idle, since under load the reader needs no waking and vCenter no further calls. While
//! it is at work the reader at rest reads every `WATCHED_POLL`, in case an event did not change
//! that page. Without it (a vCenter that refuses it, say) reading goes on every `IDLE_POLL`.

use super::api::{EventApi, Waker};
use super::backoff::Backoff;
use super::link::{End, Link, Object, Trouble};
use super::status::Method;
use crate::limits::BACKOFF_MAX;
use vsphere::api::EventFilterSpec;

/// Watches until the session ends.
pub(super) async fn run<A: EventApi>(link: &Link<A>) -> End {
    let mut backoff = Backoff::default();
    loop {
        let spec = EventFilterSpec { max_count: Some(1), ..link.filter(None, None) };
        let trouble = match link.create_waker(&spec).await {
            Ok(waker) => {
                let trouble = watch(link, &waker, &mut backoff).await;
                link.doom(Object::Waker(waker));
                trouble
            }
            Err(error) => error.into(),
        };
        link.note(|marks| marks.watching = false);
        // A reader at rest relies on being woken.
        link.wake.notify_one();
        if let Some(end) = trouble.end() {
            return end;
        }
        tracing::debug!(source = %link.name, error = %trouble, "not woken by vCenter; asking it instead");
        tokio::time::sleep(backoff.next(BACKOFF_MAX)).await;
    }
}

async fn watch<A: EventApi>(link: &Link<A>, waker: &Waker, backoff: &mut Backoff) -> Trouble {
    let mut idle = link.idle.subscribe();
    let mut version = String::new();
    loop {
        if idle.wait_for(|idle| *idle).await.is_err() {
            return Trouble::Closed(crate::source::Closed);
        }
        let max_wait = link.settings.timeouts.wait;
        match link.call(Method::WaitForUpdatesEx, link.api.wait(waker, &version, max_wait)).await {
            Ok(None) => {}
            Ok(Some(update)) => {
                version = update.version;
                let known = tokio::time::Instant::now();
                link.note(|marks| {
                    if let Some(mark) = update.latest {
                        marks.visible = Some((mark, known));
                    }
                });
                link.wake.notify_one();
            }
            Err(error) => return error.into(),
        }
        link.note(|marks| marks.watching = true);
        backoff.reset();
    }
}
