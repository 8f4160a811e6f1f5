//! Spreads the leases evenly over the nodes of a cluster: a node that joins gets its share within
//! seconds, and what a lost node read goes to all others.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::leases::Leases;
use crate::cluster::{Bucket, KvError, NODES_KEY, NodeFacts, NodeTable};
use crate::limits::NODES_INTERVAL;
use crate::telemetry::metrics as names;

/// Runs until the router stops. At the end the node takes its leave, so that the others do not
/// leave its share to it.
pub(super) async fn run(leases: Leases, bucket: Bucket, node: String) {
    let mut stops = leases.stops();
    let mut table = NodeTable::new(node, Uuid::new_v4().as_u64_pair().0);
    let epoch = Instant::now();
    let gauge = metrics::gauge!(names::OTHER_CONFIGS);
    let mut differing: Vec<String> = Vec::new();
    loop {
        let is_stopping = *stops.borrow();
        let (wanted, held) = leases.counts();
        let config = leases.config();
        let shown = (!is_stopping).then_some(NodeFacts { held, config });
        // Another node may have written at the same time. The next round repeats it, but the last
        // one has to succeed.
        while round(&mut table, &bucket, epoch.elapsed(), shown)
            .await
            .is_err_and(|error| is_stopping && error == KvError::Changed)
        {}
        if is_stopping {
            return;
        }
        let now = epoch.elapsed();
        let others = table.with_other_config(now, config);
        gauge.set(others.len() as f64);
        if !others.is_empty() && others != differing {
            let nodes = others.join(", ");
            tracing::warn!(%nodes, "other nodes have another configuration or version; each vCenter is delivered as the node that reads it says");
        }
        // Another node may not know a source that this one hands over.
        let may_move = others.is_empty();
        differing = others.into_iter().map(str::to_owned).collect();
        leases.set_share(table.share(now, wanted), table.others(now));
        if may_move && table.has_too_many(now, wanted, held) {
            leases.hand_one_over();
        }
        tokio::select! {
            () = sleep(NODES_INTERVAL) => {}
            _ = stops.wait_for(|stops| *stops) => {}
        }
    }
}

/// Reads the record of nodes, and writes this node into it.
async fn round(
    table: &mut NodeTable,
    bucket: &Bucket,
    now: Duration,
    me: Option<NodeFacts>,
) -> Result<(), KvError> {
    let found = bucket.get(NODES_KEY).await?;
    table.see(now, found.value.as_ref());
    let record: Bytes = table.record(now, me);
    bucket.put(NODES_KEY, found.revision, record).await.map(|_| ())
}
