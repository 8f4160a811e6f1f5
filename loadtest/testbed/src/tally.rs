//! A verifier's counts and latencies, in the form in which they are shown and written to files.

use std::collections::HashMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::content::WrongContent;

/// The counts of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Number of deliveries, repeated ones included.
    pub delivered: u64,
    /// Number of different events.
    pub unique: u64,
    /// Number of different events that existed before the start and so have no latency. `unique`
    /// less these is the number of latencies, including those of the warm-up.
    pub from_backlog: u64,
    /// Number of events that must have arrived by now.
    pub expected: u64,
    pub missing: u64,
    /// Deliveries of an event that had arrived before, with the same id.
    pub duplicates: u64,
    /// Deliveries, first or repeated, with an id that is not the event's.
    pub wrong_ids: u64,
    /// Events first seen after an event that was created later.
    pub out_of_order: u64,
    /// Same count within one virtual machine, host or user.
    pub out_of_order_in_entity: u64,
    /// Events first seen out of order because vCenter showed them late.
    pub late: u64,
    /// Deliveries that name an event that was never created.
    pub unknown: u64,
    /// Events that arrived although they were forbidden or not well-formed.
    pub unexpected: u64,
    pub bytes: u64,
    /// Different events whose content was compared with what the vCenter made.
    #[serde(default)]
    pub content_verified: u64,
    /// Deliveries whose content is not the event's, of those that were compared.
    #[serde(default)]
    pub wrong_content: u64,
    #[serde(default)]
    pub wrong_contents: Vec<WrongContent>,
    pub missing_keys: Vec<i32>,
    pub out_of_order_keys: Vec<i32>,
    pub overtaken_in_entity: Vec<Overtaken>,
}

/// An event that arrived after a later one of the same object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overtaken {
    pub index: u64,
    pub key: i32,
    /// Index of the later one.
    pub by: u64,
    /// Microseconds since 1970.
    pub received_us: i64,
}

/// Latency from createdTime to receipt, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub mean_us: f64,
}

impl Latency {
    /// The figures of recorded microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
            mean_us: histogram.mean(),
        }
    }
}

/// The verdict so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub sources: Vec<SourceReport>,
    /// Sums over all sources, without the examples.
    pub total: Tally,
    /// Latency of every event that was received after the warm-up, or of every event if there was
    /// none.
    pub latency: Latency,
    /// Latency of the events that were received during the warm-up.
    pub warm_up: Latency,
    /// Deliveries that name no known source, by their source.
    pub stray_sources: HashMap<String, u64>,
    /// Deliveries without a readable envelope, key or time.
    pub unreadable: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    pub source: String,
    pub tally: Tally,
    pub latency: Latency,
}

impl Report {
    /// True if nothing is lost or invented and no id or content is changed. The caller judges
    /// duplicates and order.
    pub fn is_complete(&self) -> bool {
        self.total.missing == 0
            && self.total.wrong_ids == 0
            && self.total.wrong_content == 0
            && self.total.unknown == 0
            && self.unreadable == 0
            && self.stray_sources.is_empty()
    }
}

impl Tally {
    /// Sums the counts; examples stay those of `self`.
    pub fn add(&mut self, other: &Tally) {
        self.delivered += other.delivered;
        self.unique += other.unique;
        self.from_backlog += other.from_backlog;
        self.expected += other.expected;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.wrong_ids += other.wrong_ids;
        self.out_of_order += other.out_of_order;
        self.out_of_order_in_entity += other.out_of_order_in_entity;
        self.late += other.late;
        self.unknown += other.unknown;
        self.unexpected += other.unexpected;
        self.bytes += other.bytes;
        self.content_verified += other.content_verified;
        self.wrong_content += other.wrong_content;
    }
}
