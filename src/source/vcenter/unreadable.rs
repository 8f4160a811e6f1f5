//! Pages and events that cannot be decoded, on their way to the decoder and to the dead letters.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;

use super::api::EventApi;
use super::link::{Link, LinkError};
use crate::limits::{REASON_BYTES_MAX, UNREADABLE_BYTES_MAX};
use crate::memory::Permit;
use crate::outside;
use crate::source::{Closed, PageForm, Verdict};
use vsphere::PageBody;

impl<A: EventApi> Link<A> {
    /// Hands a page to the decoder whose events are to be decoded one by one, and gives its number.
    pub async fn push_to_salvage(
        &self,
        body: PageBody,
        permit: Permit,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) -> Result<u64, Closed> {
        self.push_as(PageForm::Salvage(body.wire), None, body.bytes, None, permit, verdicts).await
    }

    /// Hands an event that cannot be decoded on to the dead letters.
    pub async fn push_poison(
        &self,
        body: PageBody,
        reason: String,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) -> Result<(), LinkError> {
        let reason = outside::text(&reason, REASON_BYTES_MAX);
        let bytes = body.bytes.len();
        match self.count_undecodable() {
            Some(events) => {
                tracing::error!(source = %self.name, events, bytes, %reason, "an event cannot be decoded; it becomes a dead letter");
            }
            None => tracing::debug!(source = %self.name, bytes, %reason, "another event cannot be decoded"),
        }
        let body = PageBody { bytes: unreadable(&body.bytes), ..body };
        let room = self.take(body.bytes.len());
        self.push(None, body, Some(reason), room, verdicts).await?;
        self.status.poisons.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// The bytes of an undecodable event as its dead letter keeps them: a copy, so that the page that
/// the event came in can go.
///
/// The id of the dead letter follows from its bytes. A cut event therefore ends with the hash of
/// all of them.
fn unreadable(event: &[u8]) -> Bytes {
    let Some(kept) = event.get(..UNREADABLE_BYTES_MAX).filter(|kept| kept.len() < event.len()) else {
        return Bytes::copy_from_slice(event);
    };
    let hash: String = Sha1::digest(event).iter().map(|byte| format!("{byte:02x}")).collect();
    let end = format!("[cut: {} bytes in all, SHA-1 {hash}]", event.len());
    [kept, end.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_undecodable_event_is_cut_and_stays_distinct() {
        let event = |last: u8| {
            let mut event = vec![b'x'; 2 * UNREADABLE_BYTES_MAX];
            event.push(last);
            unreadable(&event)
        };
        assert_ne!(event(b'a'), event(b'b'));
        assert!(event(b'a').len() < UNREADABLE_BYTES_MAX + 128);
        let whole = vec![b'x'; UNREADABLE_BYTES_MAX];
        assert_eq!(unreadable(&whole), whole);
    }
}
