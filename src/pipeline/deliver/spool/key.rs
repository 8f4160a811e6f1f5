//! Keys of a destination's spools, and their names in the store.

use std::collections::HashMap;

use crate::state::{inbox, spool_name, spool_owner};

/// One of a destination's spools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpoolKey {
    /// The destination's own spool.
    Main,
    /// The spool of a parked lane.
    Lane(u64),
}

impl SpoolKey {
    /// Returns the name in the store.
    pub fn name(self, destination: &str) -> String {
        let lane = match self {
            SpoolKey::Main => None,
            SpoolKey::Lane(key) => Some(key),
        };
        spool_name(destination, lane)
    }
}

/// Rows that former runs left in a destination's spools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    pub main: usize,
    pub lanes: Vec<(u64, usize)>,
}

impl Spooled {
    /// Groups all spools in the store by destination, from their names and numbers of rows.
    pub fn by_destination<'a>(
        spools: impl IntoIterator<Item = (&'a String, u64)>,
    ) -> HashMap<String, Spooled> {
        let mut all: HashMap<String, Spooled> = HashMap::new();
        for (name, rows) in spools.into_iter().filter(|(name, _)| inbox::source_of(name).is_none()) {
            let (destination, lane) = spool_owner(name);
            let own = all.entry(destination.to_owned()).or_default();
            match lane {
                None => own.main = rows as usize,
                Some(key) => own.lanes.push((key, rows as usize)),
            }
        }
        all
    }
}
