//! The state of one source within the core.

use std::sync::Arc;

use crate::event::SourceInfo;
use crate::pipeline::order::Order;
use crate::pipeline::settle::Settle;
use crate::source::Progress;

/// One source within the core.
pub(super) struct Flow {
    pub name: String,
    /// Length of the overlap before the resume time, microseconds.
    pub overlap_us: i64,
    /// Events from this time on are in the seen set, microseconds since 1970 UTC: set when the
    /// overlap grows.
    pub seen_from_us: i64,
    /// False once a reload has removed the source.
    pub is_configured: bool,
    /// Set once the source has begun, until it leaves.
    pub begun: Option<Begun>,
    /// Pages that were put in order before the source left; 0 if it has not.
    pub pages: u64,
}

pub(super) struct Begun {
    pub info: Arc<SourceInfo>,
    pub order: Order,
    pub settle: Settle,
    pub progress: Arc<Progress>,
    /// The resume time of the last checkpoint, microseconds since 1970 UTC.
    pub resume_us: i64,
    /// Time at which the source first began, over all runs; see [`Checkpoint::first_us`].
    pub first_us: Option<i64>,
    pub changed: bool,
    /// The last row of the inbox that was routed; 0 before the first.
    pub inbox_row: i64,
    /// Destinations that the last checkpoint named.
    pub known: Vec<String>,
}

impl Flow {
    pub fn new(name: String, overlap_us: i64) -> Self {
        Flow { name, overlap_us, seen_from_us: i64::MIN, is_configured: true, begun: None, pages: 0 }
    }

    /// Changes the overlap. A longer one does not reach events that may be forgotten already: they
    /// would count as new.
    pub fn set_overlap(&mut self, overlap_us: i64) {
        if let Some(begun) = self.begun.as_ref().filter(|_| overlap_us > self.overlap_us) {
            self.seen_from_us = self.seen_from_us.max(begun.resume_us.saturating_sub(self.overlap_us));
        }
        self.overlap_us = overlap_us;
    }
}
