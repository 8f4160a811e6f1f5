//! Destinations: the unit of delivery, ordering, retries, spool, dead letters and settlement.
//!
//! A processor is one destination, with two exceptions. Each function of an OpenFaaS gateway and
//! each bus of an EventBridge processor is a destination of its own.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Name of a destination in the store, metrics and logs: `processor`, or `processor/part` for one
/// function or bus.
pub fn name_of(processor: &str, part: &str) -> String {
    if part.is_empty() { processor.to_owned() } else { format!("{processor}/{part}") }
}

/// Splits a name that [`name_of`] made into the processor and the part. The part is empty if the
/// processor is a single destination. A processor's name has no `/`; a part may have one (the ARN
/// of a bus).
pub fn split_name(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

/// Returns true if `given` is the name of a destination, or that of a function without its
/// namespace.
pub fn is_named(name: &str, given: &str) -> bool {
    let rest = name.strip_prefix(given);
    rest.is_some_and(|rest| rest.is_empty() || given.contains('/') && rest.starts_with('.'))
}

/// As [`is_named`]. The name of a processor means all of its destinations.
pub fn is_meant(name: &str, given: &str) -> bool {
    is_named(name, given) || split_name(name).0 == given
}

/// Ends the name of the pseudo-destination of an undecided processor.
const UNDECIDED: &str = "#undecided";

/// Name of the pseudo-destination that keeps the events of `processor` while its functions or rules
/// are not known; see [`undecided`](super::undecided).
pub fn undecided_name(processor: &str) -> String {
    format!("{processor}{UNDECIDED}")
}

/// The processor of a name that [`undecided_name`] made; `None` for a real destination. A function
/// or bus that is named so has a `/` in its destination's name, and a processor's name has no `#`.
pub fn undecided_processor(name: &str) -> Option<&str> {
    name.strip_suffix(UNDECIDED).filter(|processor| !processor.contains('/'))
}

/// Number of a destination in this run. Only its name is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u32);

/// A destination: a processor, and the function or bus if the processor has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Index of the processor in the configuration.
    pub processor: usize,
    /// The function or bus; empty if the processor is a single destination.
    pub function: Arc<str>,
    /// See [`name_of`].
    pub name: Arc<str>,
}

/// All destinations that this run has met so far.
#[derive(Debug, Default)]
pub struct Destinations {
    all: Vec<Destination>,
    by_name: FxHashMap<Arc<str>, DestinationId>,
}

impl Destinations {
    /// Returns the number of this destination. A new destination gets the next one.
    pub fn intern(&mut self, processor: usize, processor_name: &str, function: &str) -> DestinationId {
        self.intern_named(processor, function, name_of(processor_name, function).into())
    }

    /// Returns the number of the pseudo-destination of an undecided processor.
    pub fn intern_undecided(&mut self, processor: usize, processor_name: &str) -> DestinationId {
        self.intern_named(processor, "", undecided_name(processor_name).into())
    }

    fn intern_named(&mut self, processor: usize, function: &str, name: Arc<str>) -> DestinationId {
        if let Some(id) = self.by_name.get(&name) {
            return *id;
        }
        let id = DestinationId(self.all.len() as u32);
        self.by_name.insert(Arc::clone(&name), id);
        self.all.push(Destination { processor, function: function.into(), name });
        id
    }

    pub fn get(&self, id: DestinationId) -> &Destination {
        &self.all[id.0 as usize]
    }

    pub fn by_name(&self, name: &str) -> Option<DestinationId> {
        self.by_name.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (DestinationId, &Destination)> {
        self.all.iter().enumerate().map(|(i, destination)| (DestinationId(i as u32), destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_not_taken_for_the_pseudo_destination() {
        assert_eq!(undecided_processor(&undecided_name("fn")), Some("fn"));
        for real in ["fn", "fn/tag", "fn/#undecided", "fn/tag#undecided", "undecided"] {
            assert_eq!(undecided_processor(real), None, "{real}");
        }
        let mut destinations = Destinations::default();
        let function = destinations.intern(0, "fn", "#undecided");
        assert_ne!(destinations.intern_undecided(0, "fn"), function);
    }

    #[test]
    fn a_processor_and_a_function_without_its_namespace_are_meant() {
        for given in ["fn", "fn/tag", "fn/tag.ns"] {
            assert!(is_meant("fn/tag.ns", given), "{given}");
        }
        for given in ["f", "fn/ta", "fn/tag.n", "fn/tag.ns.x", "tag", "other"] {
            assert!(!is_meant("fn/tag.ns", given), "{given}");
        }
        assert!(is_meant("fn", "fn") && !is_meant("fn.x", "fn"));
    }

    #[test]
    fn names_split_into_their_parts() {
        let check = |processor: &str, part: &str, name: &str| {
            assert_eq!(name_of(processor, part), name);
            assert_eq!(split_name(name), (processor, part));
        };
        check("fn", "", "fn");
        check("fn", "tag-vm", "fn/tag-vm");
        check("fn", "tag-vm.openfaas-fn", "fn/tag-vm.openfaas-fn");
        check("eb", "arn:aws:events:eu-west-1:1:event-bus/b", "eb/arn:aws:events:eu-west-1:1:event-bus/b");
        check("a processor", "ü", "a processor/ü");
    }
}
