//! Which spools a destination has, and what they are called in the store.

use std::collections::HashMap;

use crate::state::{inbox, spool_name, spool_owner};

/// Which of a destination's spools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpoolKey {
    /// The destination's own.
    Main,
    /// That of a lane that is parked.
    Lane(u64),
}

impl SpoolKey {
    /// Its name in the store.
    pub fn name(self, destination: &str) -> String {
        let lane = match self {
            SpoolKey::Main => None,
            SpoolKey::Lane(key) => Some(key),
        };
        spool_name(destination, lane)
    }
}

/// What former runs left in a destination's spools, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    pub main: usize,
    pub lanes: Vec<(u64, usize)>,
}

impl Spooled {
    /// From the names of all spools in the store and their rows: what each destination has.
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
