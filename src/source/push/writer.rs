//! The writer: gathers the events of requests, makes them durable, and answers the requests.

use tokio::sync::{mpsc, oneshot, watch};

use super::group::RequestGroup;
use super::window::IdWindow;
use super::{Push, PushedRequest, RequestShare};
use crate::clock;
use crate::limits::{PUSH_DEDUP_ID_BYTES, PUSH_DEDUP_MEMORY_SHARE};
use crate::source::{InboxAppend, InboxFull};

/// A request of a group: the way to its answer, and its share of memory.
type Waiting = (oneshot::Sender<Result<(), InboxFull>>, RequestShare);

impl Push {
    /// Writes until the last [`PushHandle`](super::PushHandle) is gone. `durable` tells the last
    /// row that was written.
    pub(super) async fn write(
        &self,
        mut requests: mpsc::Receiver<PushedRequest>,
        durable: watch::Sender<i64>,
    ) {
        let events_max = self.settings.dedup_events;
        let recent = if events_max == 0 { Vec::new() } else { self.inbox.recent_ids(events_max).await };
        let mut window = IdWindow::new(events_max, recent);
        let mut window_share = self.intake.take(window_bytes(window.len(), self.intake.budget_bytes()));
        let mut next = None;
        loop {
            // Gather what has come while the last group was written.
            let first = match next.take() {
                Some(request) => Some(request),
                None => requests.recv().await,
            };
            let Some(PushedRequest { batch, share, answer }) = first else { return };
            let (mut group, mut waiting) = (RequestGroup::begin(batch, &window), vec![(answer, share)]);
            while let Ok(request) = requests.try_recv() {
                if !group.has_room(&request.batch) {
                    next = Some(request);
                    break;
                }
                group.add(&request.batch, &window);
                waiting.push((request.answer, request.share));
            }
            // Make it durable.
            let (ids, duplicates) = (group.new_ids(), group.duplicates());
            let result = if ids.is_empty() {
                Ok(())
            } else {
                let (mut batch, new) = group.into_parts();
                batch.produced_us = clock::now_us();
                let forget_before = window.first_row();
                let bytes_max = self.settings.inbox_bytes_max;
                self.inbox.append(InboxAppend { batch, new, bytes_max, forget_before }).await.map(|row| {
                    self.status.stored(ids.len());
                    window.add(row, ids);
                    window_share.resize(window_bytes(window.len(), self.intake.budget_bytes()));
                    durable.send_replace(row);
                })
            };
            match &result {
                Ok(()) => self.status.duplicates(duplicates),
                Err(full) => self.status.full(self.name(), full),
            }
            answer_all(waiting, &result);
        }
    }
}

/// Bytes of the memory budget for a window of `ids`. The budget is for events, so most of it stays
/// theirs.
fn window_bytes(ids: usize, budget: usize) -> usize {
    (ids * PUSH_DEDUP_ID_BYTES).min(budget / PUSH_DEDUP_MEMORY_SHARE)
}

fn answer_all(waiting: Vec<Waiting>, result: &Result<(), InboxFull>) {
    for (answer, _share) in waiting {
        // A client that is gone repeats its request.
        let _ = answer.send(result.clone());
    }
}
