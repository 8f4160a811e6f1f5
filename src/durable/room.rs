//! What the store may take of the disk, and what it has taken.
//!
//! INVARIANT: the sums change with the rows, in the same `apply`; after a failed transaction they are not used again, since nothing is.

use std::collections::BTreeMap;

use super::{Full, SpoolAppend};
use crate::limits;

/// What the store may take of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// All spools together, compressed bytes.
    pub spool_bytes: u64,
    /// All dead letters.
    pub dead_letter_bytes: u64,
    /// Below this much free disk nothing is spooled or dead-lettered.
    pub disk_free_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            spool_bytes: limits::SPOOL_BYTES_TOTAL,
            dead_letter_bytes: limits::DEAD_LETTER_BYTES,
            disk_free_bytes: limits::DISK_FREE_BYTES_MIN,
        }
    }
}

/// One destination's spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolSize {
    /// Batches.
    pub rows: u64,
    /// Events, those of a row that is settled in part included.
    pub events: u64,
    /// Compressed bytes.
    pub bytes: u64,
}

/// What is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Destinations with something in their spool.
    pub spools: BTreeMap<String, SpoolSize>,
    pub spool_bytes: u64,
    pub dead_letter_bytes: u64,
}

impl Usage {
    /// Whether a row may be added, with `free` bytes left on the disk. Into an empty spool one row of any size may go, since it would never fit otherwise.
    pub fn refuse_spool(&self, bounds: &Bounds, free: u64, append: &SpoolAppend) -> Option<Full> {
        let adding = append.batch.blob().len() as u64;
        let own = self.spools.get(&append.destination).map_or(0, |size| size.bytes);
        if free < bounds.disk_free_bytes.saturating_add(adding) {
            return Some(Full::Disk { free, floor: bounds.disk_free_bytes });
        }
        if own > 0 && own + adding > append.bytes_max {
            return Some(Full::Spool {
                destination: append.destination.clone(),
                bytes: own,
                bytes_max: append.bytes_max,
            });
        }
        if self.spool_bytes > 0 && self.spool_bytes + adding > bounds.spool_bytes {
            return Some(Full::AllSpools { bytes: self.spool_bytes, bytes_max: bounds.spool_bytes });
        }
        None
    }

    /// Whether a dead letter of `adding` bytes may take the place of one of `replacing` bytes (0 for none).
    pub fn refuse_dead_letter(
        &self,
        bounds: &Bounds,
        free: u64,
        adding: u64,
        replacing: u64,
    ) -> Option<Full> {
        if free < bounds.disk_free_bytes.saturating_add(adding) {
            return Some(Full::Disk { free, floor: bounds.disk_free_bytes });
        }
        let others = self.dead_letter_bytes - replacing;
        if others > 0 && others + adding > bounds.dead_letter_bytes {
            return Some(Full::DeadLetters {
                bytes: self.dead_letter_bytes,
                bytes_max: bounds.dead_letter_bytes,
            });
        }
        None
    }

    pub fn add_row(&mut self, destination: &str, events: u64, bytes: u64) {
        let size = self.spools.entry(destination.to_owned()).or_default();
        size.rows += 1;
        size.events += events;
        size.bytes += bytes;
        self.spool_bytes += bytes;
    }

    pub fn remove_row(&mut self, destination: &str, events: u64, bytes: u64) {
        let size = self.spools.get_mut(destination).expect("a row is removed once, after it was added");
        size.rows -= 1;
        size.events -= events;
        size.bytes -= bytes;
        self.spool_bytes -= bytes;
        if size.rows == 0 {
            self.spools.remove(destination);
        }
    }
}
