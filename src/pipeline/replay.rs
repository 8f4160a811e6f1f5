//! Dead letters of a running pipeline: an operator has them delivered again, or drops them.
//!
//! ```text
//!  filter ─► list ─► for each letter:
//!    reserve memory ─► read ─► core finds the driver ─► engine, in a lane of its own
//!                                                         └─► end is written ─► requester is told
//! ```
//!
//! INVARIANT: a replayed dead letter enters at delivery, with a share of a separate memory budget.
//! It never enters upstream, because that would close a cycle of bounded channels.
//! INVARIANT: a replayed dead letter stays in the store until the target has acknowledged the
//! event. So a crash during the replay loses nothing.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::control::{Control, ControlSender};
use super::driver::now_us;
use super::sources::SourceTable;
use super::storage::StoreHandle;
use crate::event::Selection;
use crate::limits::{DEAD_LETTER_COMMAND_JOBS_MAX, REPLAY_BYTES, REPLAYS_MAX, REPLAYS_QUEUED_MAX};
use crate::memory::Budget;
use crate::processor::BatchSlice;
use crate::state::{
    DeadLetterFilter, DeadLetterPayload, ListedDeadLetter, Store, StoreError, StoreReader, StoredDeadLetter,
    Write, codec,
};

/// A dead letter on its way to a driver.
pub(crate) struct Replay {
    pub letter: i64,
    /// Number of tries so far.
    pub attempts: u32,
    pub slice: BatchSlice,
    pub requester: Requester,
}

/// The requester of the replay of one dead letter, who is told its end.
pub(crate) struct Requester {
    letter: i64,
    destination: String,
    to: mpsc::UnboundedSender<Replayed>,
    /// One of [`REPLAYS_MAX`] turns, held until the end is told. A letter that is not sent needs
    /// none.
    turn: Option<OwnedSemaphorePermit>,
}

impl Requester {
    pub fn tell(self, ended: Ended) {
        // The requester may have gone.
        let _ = self.to.send(Replayed { letter: self.letter, destination: self.destination, ended });
    }
}

/// Result of the replay of one dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// Number of the dead letter.
    pub letter: i64,
    pub destination: String,
    pub ended: Ended,
}

/// The end of a replay. All but `Delivered` leave the dead letter where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    Delivered,
    /// The delivery failed again.
    Failed {
        reason: String,
    },
    /// The target accepts no events at present.
    PutOff,
    /// Another replay of this dead letter has not ended.
    UnderWay,
    /// The destination is not in the configuration.
    NotConfigured,
    /// The dead letter holds bytes that cannot be decoded.
    Undecodable {
        reason: String,
    },
    /// The dead letter was dropped in the meantime.
    Gone,
}

/// The reason why dead letters could not be replayed or dropped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the router stopped")]
    Stopped,
}

/// Access to the dead letters of a running pipeline.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) store: StoreHandle<Store>,
    pub(super) control: ControlSender,
    /// Memory of all replays together.
    pub(super) budget: Budget,
    /// See [`REPLAYS_MAX`].
    turns: Arc<Semaphore>,
    /// See [`REPLAYS_QUEUED_MAX`].
    places: Arc<Semaphore>,
    /// See [`DEAD_LETTER_COMMAND_JOBS_MAX`].
    jobs: Arc<Semaphore>,
    pub(super) sources: SourceTable,
}

impl DeadLetters {
    pub(super) fn new(store: StoreHandle<Store>, control: ControlSender, sources: SourceTable) -> Self {
        DeadLetters {
            store,
            control,
            budget: Budget::new(REPLAY_BYTES),
            turns: Arc::new(Semaphore::new(REPLAYS_MAX)),
            places: Arc::new(Semaphore::new(REPLAYS_QUEUED_MAX)),
            jobs: Arc::new(Semaphore::new(DEAD_LETTER_COMMAND_JOBS_MAX)),
            sources,
        }
    }

    /// Delivers the dead letters that match `filter` again, the lowest numbers first and at most
    /// its limit, under the settings of their destinations, or of the destination `to` in place of
    /// all of them.
    ///
    /// `tell` is called with every result; if it returns false, no more replays begin. Letters that
    /// fail during this call are not tried a second time. Once a destination has put a letter off,
    /// its other letters are put off without a try.
    pub async fn replay(
        &self,
        filter: &DeadLetterFilter,
        to: Option<&str>,
        mut tell: impl FnMut(Replayed) -> bool,
    ) -> Result<(), ReplayError> {
        let (teller, mut ends) = mpsc::unbounded_channel();
        let mut filter = filter.clone();
        filter.until_us.get_or_insert_with(now_us);
        let mut begun = 0_u64;
        let mut put_off: HashSet<String> = HashSet::new();
        loop {
            let page = self.list(&filter).await?;
            let Some(last) = page.last() else { break };
            filter.advance(last.row, page.len());
            for listed in page {
                begun += 1;
                let destination = to.unwrap_or(&listed.facts.destination).to_owned();
                let is_put_off = put_off.contains(&destination);
                let requester = Requester { letter: listed.row, destination, to: teller.clone(), turn: None };
                if is_put_off {
                    requester.tell(Ended::PutOff);
                } else {
                    self.begin(&listed, requester).await?;
                }
                // Report the replays that have ended meanwhile.
                while let Ok(replayed) = ends.try_recv() {
                    begun -= 1;
                    if replayed.ended == Ended::PutOff {
                        put_off.insert(replayed.destination.clone());
                    }
                    if !tell(replayed) {
                        return Ok(());
                    }
                }
            }
        }
        // Wait for the others.
        drop(teller);
        while let Some(replayed) = ends.recv().await {
            begun -= 1;
            if !tell(replayed) {
                return Ok(());
            }
        }
        // A driver that stops drops its replays without telling their end.
        if begun > 0 { Err(ReplayError::Stopped) } else { Ok(()) }
    }

    /// Drops the dead letters that match `filter`, the lowest numbers first and at most its limit.
    /// Returns their number.
    pub async fn remove(&self, filter: &DeadLetterFilter) -> Result<u64, ReplayError> {
        let mut filter = filter.clone();
        let mut removed = 0;
        // One page at a time, so that the storage thread can do other work in between.
        loop {
            let rows: Vec<i64> = self.list(&filter).await?.iter().map(|letter| letter.row).collect();
            let Some(last) = rows.last() else { return Ok(removed) };
            removed += rows.len() as u64;
            filter.advance(*last, rows.len());
            let (done, wait) = oneshot::channel();
            let job = acquire(&self.jobs).await;
            self.store.apply(vec![Write::DeadLetterRemove { rows }], move |_| {
                drop(job);
                let _ = done.send(());
            });
            wait.await.map_err(|_| ReplayError::Stopped)?;
        }
    }

    /// Reads a dead letter and sends it to its driver. Tells the requester if it cannot be sent.
    async fn begin(&self, listed: &ListedDeadLetter, mut requester: Requester) -> Result<(), ReplayError> {
        requester.turn = Some(acquire(&self.turns).await);
        let letter = listed.row;
        // The letter is larger once it is decompressed; the permit is corrected below.
        let mut permit = self.budget.reserve(listed.bytes as usize).await;
        let Some(whole) = self.read(move |reader| reader.dead_letter(letter)).await? else {
            requester.tell(Ended::Gone);
            return Ok(());
        };
        let blob = match whole.payload {
            DeadLetterPayload::Event(blob) => blob,
            DeadLetterPayload::Raw(_) => {
                requester.tell(Ended::Undecodable { reason: whole.facts.reason });
                return Ok(());
            }
        };
        let mut batch = match codec::decode(&blob, |source| self.sources.index_of(source)) {
            Ok(batch) => batch,
            Err(error) => {
                requester.tell(Ended::Undecodable { reason: error.to_string() });
                return Ok(());
            }
        };
        permit.resize(batch.size());
        batch.permit = permit;
        let selection = Selection::first(batch.records.len());
        let replay = Replay {
            letter,
            attempts: whole.facts.attempts,
            slice: BatchSlice { batch: Arc::new(batch), selection },
            requester,
        };
        let destination = replay.requester.destination.clone();
        let place = acquire(&self.places).await;
        let is_sent = self.control.send(Control::Replay { destination, replay, place });
        if is_sent { Ok(()) } else { Err(ReplayError::Stopped) }
    }

    /// One page of the dead letters that match `filter`, the lowest numbers first.
    pub async fn list(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, ReplayError> {
        let filter = filter.clone();
        self.read(move |reader| reader.dead_letters(&filter)).await
    }

    /// A dead letter with its event; `None` if there is none with this number.
    pub async fn letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, ReplayError> {
        self.read(move |reader| reader.dead_letter(row)).await
    }

    /// Reads the store on its thread. A damaged dead letter is an error of the request and does not
    /// end the process.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StoreReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReplayError> {
        let (done, wait) = oneshot::channel();
        let job = acquire(&self.jobs).await;
        self.store.with(move |store| {
            drop(job);
            let _ = done.send(read(store.reader()));
            Ok(())
        });
        Ok(wait.await.map_err(|_| ReplayError::Stopped)??)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("it is never closed")
}
