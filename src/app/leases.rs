//! The leases of a cluster: which node reads a vCenter, and where the next one goes on.
//!
//! ```text
//!  Keeper, one for each vCenter ─ acquired ─► position into the store ─► the source reads
//!     ▲ contents                                                            │
//!     └── PositionSink ◄── each checkpoint that is durable in the store ◄───┘
//!  fences ─► around every processor: no request begins once a lease has run out
//! ```
//!
//! The leases spread evenly over the nodes ([`spread`]): a node with too many hands one over, once
//! its source has left nothing behind.
//!
//! A node that waits does not log in at the vCenter. A node that was deposed ends, and its service
//! manager starts it again: so nothing of its time as the owner is left.
//!
//! INVARIANT: the position in the bucket is never ahead of that in the store of its owner.
//! INVARIANT: a source begins with the position in the bucket, whatever the store had before.

mod keep;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{RouterError, spread};
use crate::cluster::{Bucket, Fence, Keeper, source_key};
use crate::limits::{
    HAND_OVER_REST, LEASE_CONTENTS_MAX, LEASE_LOOK_INTERVAL, LEASE_RELEASE_MAX, LEASE_RENEW_INTERVAL_MAX,
};
use crate::pipeline::storage::{PositionSink, StoreHandle};
use crate::processor::wrapped::{WrappedProcessor, Wrapping};
use crate::processor::{Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor};
use crate::settings::{Config, SourceConfig, SourceKind};
use crate::source::{SourceReport, SourceState};
use crate::state::{Checkpoint, CheckpointWrite, Storage, Store, Write};
use crate::supervise::{Part, PartKind, Supervisor};

/// The lease of one vCenter, as its source and its keeper see it.
pub(super) struct SourceLease {
    source: String,
    fence: Fence,
    stage: watch::Sender<LeaseStage>,
    /// The position for the next write of the record.
    contents: watch::Sender<Bytes>,
    /// The last durable position. `None` before this node owns the lease.
    position: Mutex<Option<Checkpoint>>,
    hand_over: watch::Sender<HandOver>,
    /// Number of other nodes that live.
    others: Arc<AtomicUsize>,
    /// Turns false when the node gives the lease back, or no longer waits for it.
    is_wanted: watch::Sender<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LeaseStage {
    /// Another node reads, if its name is known.
    Waiting { owner: Option<String> },
    /// This node reads.
    Held,
}

/// The way of a lease to another node while this one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    /// This node keeps it. `Some`: a hand-over failed then.
    No(Option<Instant>),
    /// The source is to stop, and to leave nothing behind.
    Asked,
    /// The source has left, so the lease can go.
    Left,
}

/// All leases of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<LeaseTable>);

#[derive(Default)]
struct LeaseTable {
    /// `None` for a router that is alone.
    cluster: Option<Membership>,
    /// By source. Those of removed sources stay, since a name has one lease in a run.
    all: RwLock<BTreeMap<String, Arc<SourceLease>>>,
    /// `None` before the first source starts, and once the router stops: then the store closes.
    store: Mutex<Option<StoreHandle<Store>>>,
    /// Turns true when the keepers have to end.
    ends: watch::Sender<bool>,
    /// Turns true when the router begins to stop.
    stops: watch::Sender<bool>,
    /// The number of leases that this node should hold at most; 0 while it is unknown.
    share: AtomicUsize,
    /// A checksum of what decides about the deliveries of this node.
    config: AtomicU32,
    /// Number of other nodes that live.
    others: Arc<AtomicUsize>,
}

/// The place of this node in its cluster.
struct Membership {
    bucket: Bucket,
    node: String,
    renew_every: Duration,
}

/// The tasks that keep the leases.
#[derive(Default)]
pub(super) struct Keepers(JoinSet<()>);

impl Leases {
    /// The leases of a router with this configuration; none yet.
    pub fn of(config: &Config) -> Result<Self, RouterError> {
        let Some(cluster) = &config.cluster else { return Ok(Leases::default()) };
        let connection = cluster.connection().map_err(RouterError::Cluster)?;
        let membership = Membership {
            bucket: Bucket::new(Arc::new(connection), &cluster.bucket),
            node: cluster.node_name(),
            renew_every: config.checkpoint_interval.min(LEASE_RENEW_INTERVAL_MAX),
        };
        let leases = Leases(Arc::new(LeaseTable { cluster: Some(membership), ..LeaseTable::default() }));
        leases.set_config(config);
        Ok(leases)
    }

    /// Notes the configuration that this node delivers by, for the comparison with the others.
    pub fn set_config(&self, config: &Config) {
        let sources: Vec<_> = config.sources.iter().filter(|source| is_leased(source)).collect();
        let version = env!("CARGO_PKG_VERSION");
        let deciding = format!("{:?}", (version, sources, &config.processors, &config.routes));
        self.0.config.store(crc32fast::hash(deciding.as_bytes()), Relaxed);
    }

    /// A checksum of what decides about the deliveries of this node.
    pub fn config(&self) -> u32 {
        self.0.config.load(Relaxed)
    }

    /// The lease of a source that is about to start, with a task that keeps it. `None` without a
    /// cluster, and for a source that is not read.
    pub fn of_started(
        &self,
        source: &SourceConfig,
        keepers: &mut Keepers,
        (store, supervisor): (&StoreHandle<Store>, &Supervisor),
    ) -> Option<Arc<SourceLease>> {
        let cluster = self.0.cluster.as_ref().filter(|_| is_leased(source))?;
        let name = &source.name;
        let mut all = self.0.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = all.get(name) {
            return Some(Arc::clone(lease));
        }
        let keeper =
            Keeper::new(cluster.bucket.clone(), source_key(name), &cluster.node, cluster.renew_every);
        let lease = Arc::new(SourceLease {
            source: name.clone(),
            fence: keeper.fence(),
            stage: watch::Sender::new(LeaseStage::Waiting { owner: None }),
            contents: watch::Sender::default(),
            position: Mutex::default(),
            hand_over: watch::Sender::new(HandOver::No(None)),
            others: Arc::clone(&self.0.others),
            is_wanted: watch::Sender::new(true),
        });
        store.expect(1);
        lock(&self.0.store).get_or_insert_with(|| store.clone());
        let task = keep::keep(keeper, Arc::clone(&lease), self.clone(), supervisor.clone());
        keepers.0.spawn(supervisor.task(Part::new(PartKind::Lease, format!("lease/{name}")), task));
        all.insert(name.clone(), Arc::clone(&lease));
        Some(lease)
    }

    /// The problem of a source that comes back after its lease was given back, in words.
    pub fn problem(&self, source: &str) -> Option<String> {
        let is_gone = self.get(source).is_some_and(|lease| !*lease.is_wanted.borrow());
        is_gone.then(|| format!("source `{source}` was removed before; restart this node to add it again"))
    }

    /// Gives the lease of a removed source back.
    pub fn give_back(&self, source: &str) {
        if let Some(lease) = self.get(source) {
            lease.give_back();
        }
    }

    fn get(&self, source: &str) -> Option<Arc<SourceLease>> {
        self.0.all.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    fn all(&self) -> Vec<Arc<SourceLease>> {
        self.0.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes the positions that the store has made durable. `None` without a cluster.
    pub fn sink(&self) -> Option<PositionSink> {
        let leases = self.clone();
        let sink = move |write: &CheckpointWrite| {
            if let Some(lease) = leases.get(&write.source) {
                lease.note(write);
            }
        };
        self.0.cluster.as_ref().map(|_| Arc::new(sink) as PositionSink)
    }

    /// Has a processor begin no request once a lease of this node has run out.
    pub fn fence(&self, processor: Arc<dyn Processor>) -> Arc<dyn Processor> {
        match self.0.cluster {
            None => processor,
            Some(_) => WrappedProcessor::around(processor, self.clone()),
        }
    }

    /// The source whose lease has run out, if there is one.
    fn run_out(&self) -> Option<String> {
        let all = self.0.all.read().unwrap_or_else(PoisonError::into_inner);
        let mut held = all.values().filter(|lease| lease.is_held());
        held.find(|lease| !lease.fence.is_open()).map(|lease| lease.source.clone())
    }

    /// Keeps the leases of this node even with those of the others, until the router stops.
    pub fn start_spreading(&self, keepers: &mut Keepers, supervisor: &Supervisor) {
        let Some(cluster) = &self.0.cluster else { return };
        let (bucket, node) = (cluster.bucket.clone(), cluster.node.clone());
        let task = spread::run(self.clone(), bucket, node);
        keepers.0.spawn(supervisor.task(Part::new(PartKind::Lease, "lease/spread"), task));
    }

    /// Number of leases that this node waits for or holds, and of those that it holds.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.0.all.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = all.values().filter(|lease| *lease.is_wanted.borrow()).count();
        (wanted, all.values().filter(|lease| lease.is_held()).count())
    }

    /// True if this node holds as many leases as it should.
    fn has_its_share(&self) -> bool {
        let share = self.0.share.load(Relaxed);
        share > 0 && self.counts().1 >= share
    }

    /// Sets the number of leases that this node should hold at most, and the number of other nodes
    /// that live.
    pub fn set_share(&self, share: usize, others: usize) {
        self.0.share.store(share, Relaxed);
        self.0.others.store(others, Relaxed);
    }

    /// Turns true when the router begins to stop.
    pub fn stops(&self) -> watch::Receiver<bool> {
        self.0.stops.subscribe()
    }

    /// Begins to hand one lease over, if none is on its way.
    pub fn hand_one_over(&self) {
        let all = self.all();
        if all.iter().any(|lease| !matches!(*lease.hand_over.borrow(), HandOver::No(_))) {
            return;
        }
        let may_go = |lease: &&Arc<SourceLease>| {
            let HandOver::No(failed) = *lease.hand_over.borrow() else { return false };
            lease.is_held() && failed.is_none_or(|failed| failed.elapsed() >= HAND_OVER_REST)
        };
        if let Some(lease) = all.iter().rev().find(may_go) {
            lease.hand_over.send_replace(HandOver::Asked);
        }
    }

    /// Waits for no lease any more. Those that are held stay until [`Keepers::release`].
    pub fn stop_waiting(&self) {
        self.0.stops.send_replace(true);
        lock(&self.0.store).take();
        self.all().iter().filter(|lease| !lease.is_held()).for_each(|lease| lease.give_back());
    }
}

impl Keepers {
    /// Gives all leases back with the last positions, so that other nodes go on at once. A lease
    /// that cannot be given back in time runs out by itself.
    pub async fn release(mut self, leases: &Leases) {
        leases.all().iter().for_each(|lease| lease.give_back());
        leases.0.ends.send_replace(true);
        let all = async { while self.0.join_next().await.is_some() {} };
        if timeout(LEASE_RELEASE_MAX, all).await.is_err() {
            tracing::warn!("a lease could not be given back; other nodes take over when it has run out");
        }
    }
}

impl SourceLease {
    fn is_held(&self) -> bool {
        *self.stage.borrow() == LeaseStage::Held
    }

    /// The state of the source on this node: that of the `reading`, or its wait for the lease.
    pub fn report(&self, reading: impl FnOnce() -> SourceReport) -> SourceReport {
        match &*self.stage.borrow() {
            LeaseStage::Held => reading(),
            LeaseStage::Waiting { owner } => SourceReport {
                state: SourceState::Standby(owner.clone()),
                first_attempt_done: true,
                ..SourceReport::default()
            },
        }
    }

    /// Waits until this node reads. Ends now and then to show that it lives; true if it reads.
    pub async fn wait(&self) -> bool {
        let mut stage = self.stage.subscribe();
        let held = stage.wait_for(|stage| *stage == LeaseStage::Held);
        timeout(LEASE_LOOK_INTERVAL, held).await.is_ok()
    }

    fn give_back(&self) {
        self.is_wanted.send_replace(false);
    }

    /// True if another node could read the source.
    pub fn has_others(&self) -> bool {
        self.others.load(Relaxed) > 0
    }

    /// Waits until the source is to be handed over.
    pub async fn handed_over(&self) {
        // The sender lives in `self`.
        let _ = self.hand_over.subscribe().wait_for(|hand_over| *hand_over == HandOver::Asked).await;
    }

    /// Ends a hand-over. `has_left`: the source has left nothing behind, so the lease can go.
    pub fn end_hand_over(&self, has_left: bool) {
        if has_left {
            // No request of this node is for this lease any more.
            self.stage.send_replace(LeaseStage::Waiting { owner: None });
            self.hand_over.send_replace(HandOver::Left);
        } else {
            self.hand_over.send_replace(HandOver::No(Some(Instant::now())));
        }
    }

    /// Takes a durable checkpoint of the source.
    fn note(&self, write: &CheckpointWrite) {
        let mut position = lock(&self.position);
        let before = position.take();
        let before =
            before.unwrap_or_else(|| Checkpoint::at(&self.source, write.instance_uuid, write.resume_us));
        let after = position.insert(before.after(write));
        match after.to_bytes(LEASE_CONTENTS_MAX) {
            Some(bytes) => drop(self.contents.send_replace(bytes.into())),
            None => tracing::warn!(
                source = %self.source,
                "too many events are unsettled for the record in the bucket; another node would go on at an older position and repeat events"
            ),
        }
    }

    /// Brings the position of the record into the store. Without one, as at the first start of the
    /// cluster, the store's own position counts. `done` is told that the source may begin.
    fn take_over(
        self: &Arc<Self>,
        found: Option<Checkpoint>,
        store: &StoreHandle<Store>,
        done: oneshot::Sender<()>,
    ) {
        let lease = Arc::clone(self);
        store.with(move |store| {
            let position = match found {
                Some(found) => {
                    store.forget(&lease.source)?;
                    store.apply(&[Write::Checkpoint(CheckpointWrite::whole(&found))])?;
                    Some(found)
                }
                None => store.load(&lease.source)?,
            };
            *lock(&lease.position) = position;
            // The task has ended if nobody listens.
            let _ = done.send(());
            Ok(())
        });
    }
}

/// True for a source that one node reads at a time. Events are pushed to the others.
fn is_leased(source: &SourceConfig) -> bool {
    matches!(source.kind, SourceKind::Vcenter(_))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins no request once a lease has run out, since another node may deliver the events.
impl Wrapping for Leases {
    fn deliver<'a>(
        &'a self,
        inner: &'a dyn Processor,
        request: &'a DeliveryRequest,
    ) -> BoxFuture<'a, DeliveryOutcome> {
        let Some(source) = self.run_out() else { return inner.deliver(request) };
        let reason = format!(
            "the lease of source `{source}` has run out, since the bucket does not answer; events wait"
        );
        let failure = Failure::new(Blame::Target, reason);
        Box::pin(std::future::ready(DeliveryOutcome::Failed(failure)))
    }
}
