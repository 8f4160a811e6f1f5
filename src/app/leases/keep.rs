//! The task of one lease: tells the source when this node reads, and gives the lease back.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{HandOver, LeaseStage, Leases, SourceLease, lock};
use crate::cluster::{Keeper, LeaseEvent};
use crate::limits::{LEASE_HELD_BACK, LEASE_LOOK_INTERVAL, LEASE_REST};
use crate::state::Checkpoint;
use crate::supervise::Supervisor;
use crate::telemetry::metrics as names;
use std::sync::Arc;

/// Keeps one lease until it is given back, and ends with the router.
pub(super) async fn keep(keeper: Keeper, lease: Arc<SourceLease>, leases: Leases, supervisor: Supervisor) {
    let mut ends = leases.0.ends.subscribe();
    keep_until_given_back(keeper, &lease, &leases, &supervisor).await;
    // The table lives as long as this task.
    let _ = ends.wait_for(|ends| *ends).await;
}

async fn keep_until_given_back(
    mut keeper: Keeper,
    lease: &Arc<SourceLease>,
    leases: &Leases,
    supervisor: &Supervisor,
) {
    let source = &lease.source;
    let held = metrics::gauge!(names::LEASE_HELD, "source" => source.clone());
    let takeovers = metrics::counter!(names::LEASE_TAKEOVERS, "source" => source.clone());
    held.set(0.0);
    takeovers.absolute(0);
    let mut contents = lease.contents.subscribe();
    let mut is_wanted = lease.is_wanted.subscribe();
    let mut hand_over = lease.hand_over.subscribe();
    let mut is_given_back = false;
    // Set after a hand-over: the time at which this node wants the lease again.
    let mut rest: Option<Instant> = None;
    // Set while the store takes the position.
    let mut beginning: Option<oneshot::Receiver<()>> = None;
    loop {
        let begun = async {
            match &mut beginning {
                Some(done) => done.await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = keeper.next() => match event {
                LeaseEvent::Acquired(found) => {
                    // A hand-over before the first checkpoint leaves the position as it is.
                    lease.contents.send_replace(found.clone());
                    let position = match &found[..] {
                        [] => None,
                        bytes => match Checkpoint::from_bytes(source, bytes) {
                            Ok(position) => Some(position),
                            Err(error) => {
                                return supervisor.fail(format!(
                                    "the position of source `{source}` in the bucket cannot be read: {error}"
                                ));
                            }
                        },
                    };
                    // The router may be about to end.
                    if let Some(store) = &*lock(&leases.0.store) {
                        takeovers.increment(1);
                        let (done, wait) = oneshot::channel();
                        lease.take_over(position, store, done);
                        beginning = Some(wait);
                    }
                }
                LeaseEvent::Kept(_) => {}
                LeaseEvent::Deposed { by } => {
                    let by = by.unwrap_or_else(|| "another node".to_owned());
                    return supervisor.fail(format!(
                        "{by} has taken over source `{source}`, since this node did not renew its lease in time; this router ends, and waits for its turn after the next start"
                    ));
                }
                LeaseEvent::Released => {
                    held.set(0.0);
                    lease.stage.send_replace(LeaseStage::Waiting { owner: None });
                    if is_given_back {
                        return;
                    }
                    rest = Some(Instant::now() + LEASE_REST);
                    lease.hand_over.send_replace(HandOver::No(None));
                }
            },
            is_begun = begun => {
                beginning = None;
                if is_begun && !is_given_back {
                    held.set(1.0);
                    tracing::info!(%source, "this node reads the source now");
                    lease.stage.send_replace(LeaseStage::Held);
                }
            }
            // The owner that this node waits for may have changed.
            () = tokio::time::sleep(LEASE_LOOK_INTERVAL), if !keeper.is_owner() => {}
            Ok(_) = hand_over.wait_for(|hand_over| *hand_over == HandOver::Left), if keeper.is_owner() && !is_given_back && rest.is_none() => {
                keeper.set_contents(contents.borrow_and_update().clone());
                keeper.want(false);
                rest = Some(Instant::now() + LEASE_REST);
            }
            Ok(()) = contents.changed() => keeper.set_contents(contents.borrow_and_update().clone()),
            Ok(_) = is_wanted.wait_for(|is_wanted| !is_wanted), if !is_given_back => {
                is_given_back = true;
                let last = contents.borrow_and_update().clone();
                if !last.is_empty() {
                    keeper.set_contents(last);
                }
                keeper.want(false);
                if !keeper.is_owner() {
                    return;
                }
            }
        }
        if !keeper.is_owner() {
            if !is_given_back && rest.is_some_and(|until| Instant::now() >= until) {
                rest = None;
                keeper.want(true);
            }
            keeper.hold_back(if leases.has_its_share() { LEASE_HELD_BACK } else { Duration::ZERO });
            let owner = keeper.owner().map(str::to_owned);
            let stage = LeaseStage::Waiting { owner };
            lease.stage.send_if_modified(|before| {
                *before != stage && {
                    *before = stage;
                    true
                }
            });
        }
    }
}
