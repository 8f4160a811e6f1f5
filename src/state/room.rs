//! Room on the disk: the bounds of the spools and dead letters, and the bytes used of them.
//!
//! A destination may have several spools: its main spool, and one for each parked lane that holds
//! more than fits in memory. They share one bound, so bytes are also summed by their *owner*, the
//! destination.
//!
//! ```text
//! spool name    PROCESSOR/FUNCTION                           the main spool
//!               PROCESSOR/FUNCTION#parked/0123456789abcdef   the spool of one lane, 16 hex digits
//! ```
//!
//! INVARIANT: the sums change together with the rows, in the same `apply`. After a failed
//! transaction the sums may be wrong, but then the store accepts no further write.

use std::collections::BTreeMap;

use super::SpoolAppend;
use super::dead_letter_usage::{DeadLetterUsage, shown_destination};
use super::write::DeadLetterWrite;
use crate::limits;

/// The bounds of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Compressed bytes of all spools together.
    pub spool_bytes: u64,
    /// Bytes of all dead letters.
    pub dead_letter_bytes: u64,
    /// Bytes of the disk that stay free: below this nothing is spooled or dead-lettered.
    pub disk_free_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            spool_bytes: limits::SPOOL_BYTES,
            dead_letter_bytes: limits::DEAD_LETTER_BYTES,
            disk_free_bytes: limits::DISK_FREE_BYTES_MIN,
        }
    }
}

/// The bound that is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error(
        "the spool of `{destination}` is full ({bytes} of {bytes_max} bytes); it waits until the target takes events again, or raise its `overflow.bytesMax`"
    )]
    Spool { destination: String, bytes: u64, bytes_max: u64 },
    #[error("all spools together are full ({bytes} of {bytes_max} bytes)")]
    AllSpools { bytes: u64, bytes_max: u64 },
    #[error(
        "the dead letters of `{destination}` are full ({bytes} of {bytes_max} bytes; with all others {all_bytes} of {all_bytes_max}); replay or drop some with `event-router dlq`, or raise `deadLetters.bytesMax`"
    )]
    DeadLetters { destination: String, bytes: u64, bytes_max: u64, all_bytes: u64, all_bytes_max: u64 },
    #[error(
        "the disk of the data directory has {free} bytes left and {floor} are kept free; free some space"
    )]
    Disk { free: u64, floor: u64 },
}

/// Separates the destination from the lane in the name of a lane's spool.
const LANE: &str = "#parked/";

/// The name of a destination's main spool, or of the spool of one of its lanes.
pub fn spool_name(destination: &str, lane: Option<u64>) -> String {
    lane.map_or_else(|| destination.to_owned(), |lane| format!("{destination}{LANE}{lane:016x}"))
}

/// The destination that owns a spool, and the lane if the spool belongs to one. The inverse of
/// [`spool_name`].
pub fn spool_owner(name: &str) -> (&str, Option<u64>) {
    let parts = name.rsplit_once(LANE).filter(|(_, lane)| lane.len() == 16);
    match parts.and_then(|(owner, lane)| Some((owner, u64::from_str_radix(lane, 16).ok()?))) {
        Some((owner, lane)) => (owner, Some(lane)),
        None => (name, None),
    }
}

/// The size of one spool, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolSize {
    /// Rows; each is one batch.
    pub rows: u64,
    /// Events, including the settled events of rows that are settled in part.
    pub events: u64,
    /// Compressed bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for SpoolSize {
    fn add_assign(&mut self, more: SpoolSize) {
        self.rows += more.rows;
        self.events += more.events;
        self.bytes += more.bytes;
    }
}

/// The bytes in use, and the decision whether a write still fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// The size of each spool that is not empty.
    pub spools: BTreeMap<String, SpoolSize>,
    /// Compressed bytes in all spools of each destination.
    owners: BTreeMap<String, u64>,
    pub spool_bytes: u64,
    pub dead_letters: DeadLetterUsage,
}

impl Usage {
    /// Returns the bound that refuses `append`, with `free` bytes left on the disk. A group of any
    /// size fits an empty spool, since otherwise it would never fit.
    pub fn refuse_spool(&self, bounds: &Bounds, free: u64, append: &SpoolAppend) -> Option<Full> {
        // The first append of a group was checked for all of it.
        let adding = append.group_bytes?;
        let (owner, _) = spool_owner(&append.destination);
        let own = self.owners.get(owner).copied().unwrap_or(0);
        let floor = bounds.disk_free_bytes.max(append.disk_free_min);
        if free < floor.saturating_add(adding) {
            return Some(Full::Disk { free, floor });
        }
        if own > 0 && own + adding > append.bytes_max {
            return Some(Full::Spool {
                destination: owner.to_owned(),
                bytes: own,
                bytes_max: append.bytes_max,
            });
        }
        if self.spool_bytes > 0 && self.spool_bytes + adding > bounds.spool_bytes {
            return Some(Full::AllSpools { bytes: self.spool_bytes, bytes_max: bounds.spool_bytes });
        }
        None
    }

    /// Returns the bound that refuses a move of `appends`, which frees `freed` bytes, with `free`
    /// bytes left on the disk.
    ///
    /// A row may be moved to several spools, so a move can need more room than it frees. It may
    /// exceed the bound of all spools by [`SPOOL_MOVE_BYTES`](limits::SPOOL_MOVE_BYTES): otherwise
    /// the full spool that it empties would stop it. Into empty spools it always fits.
    pub fn refuse_move(
        &self,
        bounds: &Bounds,
        free: u64,
        appends: &[SpoolAppend],
        freed: u64,
    ) -> Option<Full> {
        let bytes: u64 = appends.iter().map(|append| append.batch.blob().len() as u64).sum();
        let adding = bytes.saturating_sub(freed);
        let floors = appends.iter().map(|append| append.disk_free_min);
        let floor = floors.fold(bounds.disk_free_bytes, u64::max);
        if adding > 0 && free < floor.saturating_add(adding) {
            return Some(Full::Disk { free, floor });
        }
        let own =
            |append: &SpoolAppend| self.owners.get(spool_owner(&append.destination).0).copied().unwrap_or(0);
        for append in appends {
            let (own, bytes_max) = (own(append), append.bytes_max);
            if own > 0 && own + append.batch.blob().len() as u64 > bytes_max {
                let destination = spool_owner(&append.destination).0.to_owned();
                return Some(Full::Spool { destination, bytes: own, bytes_max });
            }
        }
        let bytes_max = bounds.spool_bytes.saturating_add(limits::SPOOL_MOVE_BYTES);
        if appends.iter().any(|append| own(append) > 0) && self.spool_bytes + adding > bytes_max {
            return Some(Full::AllSpools { bytes: self.spool_bytes, bytes_max });
        }
        None
    }

    /// Returns the bound that refuses a dead letter of `adding` bytes, which replaces one of
    /// `replacing` bytes (0 for none).
    pub fn refuse_dead_letter(
        &self,
        bounds: &Bounds,
        free: u64,
        write: &DeadLetterWrite,
        adding: u64,
        replacing: u64,
    ) -> Option<Full> {
        if free < bounds.disk_free_bytes.saturating_add(adding) {
            return Some(Full::Disk { free, floor: bounds.disk_free_bytes });
        }
        let destination = &write.letter.facts.destination;
        let limit = self.dead_letters.limit_of(destination, bounds.dead_letter_bytes, write.destinations);
        if self.dead_letters.fits(destination, limit, adding, replacing) {
            return None;
        }
        Some(Full::DeadLetters {
            destination: shown_destination(destination).to_owned(),
            bytes: self.dead_letters.of(destination).bytes,
            bytes_max: limit,
            all_bytes: self.dead_letters.bytes,
            all_bytes_max: bounds.dead_letter_bytes,
        })
    }

    pub fn add_row(&mut self, destination: &str, events: u64, bytes: u64) {
        self.add(destination, SpoolSize { rows: 1, events, bytes });
    }

    /// Adds several rows of one spool.
    pub fn add(&mut self, destination: &str, more: SpoolSize) {
        *self.spools.entry(destination.to_owned()).or_default() += more;
        *self.owners.entry(spool_owner(destination).0.to_owned()).or_default() += more.bytes;
        self.spool_bytes += more.bytes;
    }

    pub fn remove_row(&mut self, destination: &str, events: u64, bytes: u64) {
        let size = self.spools.get_mut(destination).expect("a row is removed once, after it was added");
        size.rows -= 1;
        size.events -= events;
        size.bytes -= bytes;
        if size.rows == 0 {
            self.spools.remove(destination);
        }
        self.free(destination, bytes);
    }

    /// Removes all rows of one spool.
    pub fn clear(&mut self, destination: &str) {
        if let Some(size) = self.spools.remove(destination) {
            self.free(destination, size.bytes);
        }
    }

    fn free(&mut self, destination: &str, bytes: u64) {
        self.spool_bytes -= bytes;
        let (owner, _) = spool_owner(destination);
        if let Some(own) = self.owners.get_mut(owner) {
            *own -= bytes;
            if *own == 0 {
                self.owners.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_name_contains_its_owner() {
        for (destination, lane) in
            [("a", None), ("a/b", Some(0)), ("a#parked/", Some(u64::MAX)), ("#", Some(17))]
        {
            assert_eq!(spool_owner(&spool_name(destination, lane)), (destination, lane));
        }
        assert_eq!(spool_owner("a#parked/17"), ("a#parked/17", None));
    }

    #[test]
    fn the_spools_of_a_destination_share_its_bound() {
        let mut usage = Usage::default();
        for (name, bytes) in [("a", 100), ("a#parked/0000000000000001", 50), ("b", 30)] {
            usage.add_row(name, 1, bytes);
        }
        assert_eq!(usage.owners, BTreeMap::from([("a".into(), 150), ("b".into(), 30)]));
        usage.remove_row("a", 1, 100);
        usage.clear("b");
        assert_eq!((&usage.owners, usage.spool_bytes), (&BTreeMap::from([("a".into(), 50)]), 50));
    }
}
