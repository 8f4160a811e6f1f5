//! Bounds of leases, which decide about the node that reads a source or delivers a partition.
//!
//! ```text
//! owner   sends a write ──── acts ────► 3 s
//! other   sees it ─────────── waits ───────────► 6 s ─► takes over
//! ```

use std::time::Duration;

/// Time for which an owner begins requests after it sent its last accepted write: three writes of a
/// second each.
pub const LEASE_ACT_FOR: Duration = Duration::from_secs(3);
/// Time without a change of the record after which another node takes over. Twice
/// [`LEASE_ACT_FOR`], so that a clock may run twice as fast as another one.
pub const LEASE_TAKE_OVER_AFTER: Duration = Duration::from_secs(6);
/// Time between two looks of a node that waits for a lease. 64 leases * 5 reads/s are 320 reads/s.
pub const LEASE_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Writes of a lease without a known outcome that are remembered. A write waits for its answer for
/// [`KV_ANSWER_MAX`], so these last for longer than a lease.
pub const LEASE_DOUBTS_MAX: usize = 8;
/// Bytes of the name of a node.
pub const NODE_NAME_MAX: usize = 128;
/// vCenters of one router that is part of a cluster: each writes its record twice a second.
pub const LEASED_SOURCES_MAX: usize = 64;
/// Bytes of the contents of a record: half of what a NATS server takes by default.
pub const LEASE_CONTENTS_MAX: usize = 512 << 10;
/// Longest time between two writes of an owner: three fit into [`LEASE_ACT_FOR`].
pub const LEASE_RENEW_INTERVAL_MAX: Duration = Duration::from_millis(750);
/// Time in which a node that ends gives its leases back. After it, they run out by themselves.
pub const LEASE_RELEASE_MAX: Duration = Duration::from_secs(2);
/// Time for an answer of the bucket. Three of them fit into [`LEASE_ACT_FOR`].
pub const KV_ANSWER_MAX: Duration = Duration::from_secs(1);
/// Interval at which a node writes itself into the record of nodes, and looks at the others.
pub const NODES_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a change of its entry after which a node counts as down.
pub const NODE_ALIVE_FOR: Duration = Duration::from_secs(6);
/// Time without a change after which the entry of a node is removed.
pub const NODE_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Time for which a node that has its share leaves a lease to others. A lease that has run out is
/// taken over after 6 + 1 = 7 s by the latest.
pub const LEASE_HELD_BACK: Duration = Duration::from_secs(1);
/// Time for a source to leave nothing behind before it is handed to another node. After it, this
/// node reads on.
pub const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// Age of the oldest event that waits for a target from which on no source is handed over: it would
/// only stop reading for a while.
pub const HAND_OVER_OLDEST_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at a source that is to leave nothing behind.
pub const HAND_OVER_LOOK: Duration = Duration::from_millis(50);
/// Time after a hand-over that failed before the source may be handed over again.
pub const HAND_OVER_REST: Duration = Duration::from_secs(15);
/// Time after a hand-over for which a node does not want the lease back.
pub const LEASE_REST: Duration = Duration::from_secs(3);
/// Time without an answer of a vCenter after which another node may try, at first and at most. It
/// doubles with each try of this node.
pub const UNREACHABLE_MIN: Duration = Duration::from_secs(15);
pub const UNREACHABLE_MAX: Duration = Duration::from_secs(600);
/// Time between two looks at a vCenter that does not answer.
pub const UNREACHABLE_LOOK: Duration = Duration::from_secs(1);
