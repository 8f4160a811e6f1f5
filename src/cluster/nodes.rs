//! The nodes of a cluster, and the even share of its leases that each should hold.
//!
//! All nodes write themselves into one record of the bucket, with the number of leases that they
//! hold:
//!
//! ```text
//! nodes   {"version":1,"nodes":{"a":{"counter":71,"held":3,"config":92834},"b":{…}}}
//! ```
//!
//! A node whose counter no longer changes is down. A wrong picture of the others does no harm: it
//! only makes a node keep too many leases for a while, or give one away too early.
//!
//! The table is pure: time and records come in, decisions go out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::{NODE_ALIVE_FOR, NODE_FORGOTTEN_AFTER};

/// The key of the record.
pub const NODES_KEY: &str = "nodes";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct NodesRecord {
    version: u32,
    nodes: BTreeMap<String, NodeEntry>,
}

/// What a node writes about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeEntry {
    /// Another one with each write.
    counter: u64,
    /// Leases that it holds.
    held: usize,
    /// A checksum of what decides about its deliveries.
    #[serde(default)]
    config: u32,
}

/// What this node tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Leases that it holds.
    pub held: usize,
    /// A checksum of what decides about its deliveries.
    pub config: u32,
}

/// Another node.
#[derive(Clone, Copy, Debug)]
struct SeenNode {
    entry: NodeEntry,
    /// The time at which its entry was first seen like this.
    since: Duration,
    /// True once its entry has changed, so that it is known to live.
    has_changed: bool,
}

/// The nodes as one of them sees them.
#[derive(Debug)]
pub struct NodeTable {
    me: String,
    counter: u64,
    others: BTreeMap<String, SeenNode>,
}

impl NodeTable {
    /// The table of node `me`. `counter`: a random start, so that a restarted node differs from
    /// before.
    pub fn new(me: String, counter: u64) -> Self {
        NodeTable { me, counter, others: BTreeMap::new() }
    }

    /// Takes the record as it was read at `now`. One that cannot be read names nobody.
    pub fn see(&mut self, now: Duration, record: Option<&Bytes>) {
        let record = record.and_then(|bytes| serde_json::from_slice::<NodesRecord>(bytes).ok());
        let nodes = record.filter(|record| record.version == VERSION).map(|record| record.nodes);
        let nodes = nodes.unwrap_or_default();
        self.others.retain(|name, _| nodes.contains_key(name));
        for (name, entry) in nodes.into_iter().filter(|(name, _)| *name != self.me) {
            let seen = self.others.get(&name).copied();
            let seen = match seen {
                Some(seen) if seen.entry == entry => seen,
                seen => SeenNode { entry, since: now, has_changed: seen.is_some() },
            };
            self.others.insert(name, seen);
        }
    }

    /// The record to write at `now`: as it was read, with `me`, or without this node. Nodes that
    /// have been down for long are left out.
    pub fn record(&mut self, now: Duration, me: Option<NodeFacts>) -> Bytes {
        self.counter = self.counter.wrapping_add(1);
        let others = self.others.iter().filter(|(_, seen)| now < seen.since + NODE_FORGOTTEN_AFTER);
        let mut nodes: BTreeMap<_, _> = others.map(|(name, seen)| (name.clone(), seen.entry)).collect();
        if let Some(NodeFacts { held, config }) = me {
            nodes.insert(self.me.clone(), NodeEntry { counter: self.counter, held, config });
        }
        let record = NodesRecord { version: VERSION, nodes };
        serde_json::to_vec(&record).expect("texts and numbers are JSON").into()
    }

    fn alive(&self, now: Duration) -> impl Iterator<Item = &SeenNode> {
        self.others.values().filter(move |seen| now < seen.since + NODE_ALIVE_FOR)
    }

    /// The nodes that live and deliver by another configuration than `config`.
    pub fn with_other_config(&self, now: Duration, config: u32) -> Vec<&str> {
        let alive = self.others.iter().filter(|(_, seen)| now < seen.since + NODE_ALIVE_FOR);
        let differs = alive.filter(|(_, seen)| seen.has_changed && seen.entry.config != config);
        differs.map(|(name, _)| name.as_str()).collect()
    }

    /// Number of other nodes that live.
    pub fn others(&self, now: Duration) -> usize {
        self.alive(now).count()
    }

    /// The most of `leases` that this node should hold at `now`.
    pub fn share(&self, now: Duration, leases: usize) -> usize {
        leases.div_ceil(self.alive(now).count() + 1)
    }

    /// True if this node, which holds `held` of `leases`, should give one to a node that lives and
    /// has fewer.
    pub fn has_too_many(&self, now: Duration, leases: usize, held: usize) -> bool {
        let nodes = self.alive(now).count() + 1;
        let (least, most) = (leases / nodes, leases.div_ceil(nodes));
        let has_fewer = |than: usize| self.alive(now).any(|seen| seen.has_changed && seen.entry.held < than);
        held > most && has_fewer(most) || held > least && has_fewer(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn facts(held: usize) -> NodeFacts {
        NodeFacts { held, config: 7 }
    }

    /// Nodes that hold leases, and exchange their records.
    struct Nodes {
        now: Duration,
        record: Option<Bytes>,
        /// Each with its leases; `None` for one that is down.
        all: Vec<(NodeTable, Option<usize>)>,
    }

    impl Nodes {
        fn new(held: &[Option<usize>]) -> Self {
            let node = |(n, held): (usize, &Option<usize>)| (NodeTable::new(format!("n{n}"), 0), *held);
            let all = held.iter().enumerate().map(node).collect();
            Nodes { now: SECOND, record: None, all }
        }

        /// One round: each node sees the record, and may give a lease to the poorest one.
        fn round(&mut self, leases: usize) {
            self.now += SECOND;
            for at in 0..self.all.len() {
                let (table, Some(held)) = &mut self.all[at] else { continue };
                table.see(self.now, self.record.as_ref());
                self.record = Some(table.record(self.now, Some(facts(*held))));
                if table.has_too_many(self.now, leases, *held) {
                    *held -= 1;
                    let alive = self.all.iter_mut().filter_map(|(_, held)| held.as_mut());
                    *alive.min().expect("this one lives") += 1;
                }
            }
        }

        fn held(&self) -> Vec<usize> {
            self.all.iter().filter_map(|(_, held)| *held).collect()
        }
    }

    #[test]
    fn leases_spread_evenly_over_the_nodes_that_live() {
        let check = |held: &[Option<usize>], expected: &[usize]| {
            let mut nodes = Nodes::new(held);
            let leases = nodes.held().iter().sum();
            (0..40).for_each(|_| nodes.round(leases));
            let mut spread = nodes.held();
            spread.sort_unstable();
            assert_eq!(spread, expected, "{held:?}");
            let before = nodes.held();
            (0..20).for_each(|_| nodes.round(leases));
            assert_eq!(nodes.held(), before, "nothing moves any more");
        };
        check(&[Some(10), Some(0)], &[5, 5]);
        check(&[Some(10), Some(0), Some(0)], &[3, 3, 4]);
        check(&[Some(1), Some(0)], &[0, 1]);
        check(&[Some(2), Some(0), Some(0)], &[0, 1, 1]);
        check(&[Some(3), Some(2)], &[2, 3]);
        check(&[Some(4), Some(0), None], &[2, 2]);
        check(&[Some(7)], &[7]);
        check(&[Some(0), Some(0)], &[0, 0]);
    }

    #[test]
    fn a_node_that_is_down_counts_for_a_few_seconds() {
        let mut nodes = Nodes::new(&[Some(4), Some(0)]);
        nodes.round(4);
        let (table, _) = &nodes.all[1];
        assert_eq!(table.share(nodes.now, 4), 2);
        assert_eq!(table.share(nodes.now + NODE_ALIVE_FOR, 4), 4);
        // Its entry goes in the end.
        let (table, _) = &mut nodes.all[1];
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text(table.record(nodes.now, Some(facts(0)))).contains("n0"));
        assert!(!text(table.record(nodes.now + NODE_FORGOTTEN_AFTER, Some(facts(0)))).contains("n0"));
        assert!(!text(table.record(nodes.now, None)).contains("n1"), "it has said goodbye");
    }

    #[test]
    fn a_node_with_another_configuration_is_named_while_it_lives() {
        let mut nodes = Nodes::new(&[Some(1), Some(1)]);
        (0..3).for_each(|_| nodes.round(2));
        let (table, _) = &nodes.all[0];
        assert_eq!(table.with_other_config(nodes.now, 7), [""; 0]);
        assert_eq!(table.with_other_config(nodes.now, 8), ["n1"]);
        assert_eq!(table.with_other_config(nodes.now + NODE_ALIVE_FOR, 8), [""; 0]);
    }

    #[test]
    fn an_old_entry_or_a_foreign_record_moves_no_lease() {
        let mut table = NodeTable::new("a".into(), 0);
        let old = Bytes::from_static(br#"{"version":1,"nodes":{"b":{"counter":1,"held":0}}}"#);
        table.see(SECOND, Some(&old));
        table.see(SECOND * 2, Some(&old));
        assert!(!table.has_too_many(SECOND * 2, 4, 4), "it was never seen to live");
        let foreign = Bytes::from_static(b"hello");
        table.see(SECOND * 3, Some(&foreign));
        assert_eq!(table.share(SECOND * 3, 4), 4);
    }
}
