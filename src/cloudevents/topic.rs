//! The names by which a function asks for events, and how they match.
//!
//! Three generations of names are alive. Any of them in a function's `topic` annotation selects the event:
//!
//! ```text
//! event                               subject                        dotted (the first appliance's names)
//! class VmPoweredOnEvent              VmPoweredOnEvent               vm.powered.on
//! class DrsVmPoweredOnEvent           DrsVmPoweredOnEvent            drs.vm.powered.on
//! EventEx, eventTypeId com.vmware.…   com.vmware.…                   ex
//! ExtendedEvent, eventTypeId …        …                              extended
//! ```
//!
//! A `*` in a topic stands for any run of characters, dots too, none too: `Vm*`, `com.vmware.vc.HA.*`, `*`. Case matters, as it always did.

/// The dotted name of an event class: every `Event` dropped, the words of the rest lower-case with dots between. Empty for the class `Event`.
///
/// A run of capitals is one word up to the capital that begins the next: `DVPortgroupCreatedEvent` is `dv.portgroup.created`.
pub fn dotted(class: &str) -> String {
    let name = class.replace("Event", "");
    let letters: Vec<char> = name.chars().collect();
    let mut dotted = String::with_capacity(name.len() + 8);
    for (at, letter) in letters.iter().enumerate() {
        if at > 0 && letter.is_uppercase() {
            let after_word = !letters[at - 1].is_uppercase();
            let begins_word = letters.get(at + 1).is_some_and(|next| !next.is_uppercase());
            if after_word || begins_word {
                dotted.push('.');
            }
        }
        dotted.extend(letter.to_lowercase());
    }
    dotted
}

/// One entry of a `topic` annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A name without `*`.
    Exact(Box<str>),
    /// The texts between the `*`s of a name; at least two, the first and the last anchored at the ends.
    Wildcard(Box<[Box<str>]>),
}

impl Topic {
    /// The topics of an annotation, a comma list; spaces around an entry and empty entries are dropped.
    pub fn list(annotation: &str) -> impl Iterator<Item = Topic> + '_ {
        annotation.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Topic::parse)
    }

    /// One topic.
    pub fn parse(entry: &str) -> Topic {
        if entry.contains('*') {
            Topic::Wildcard(entry.split('*').map(Box::from).collect())
        } else {
            Topic::Exact(entry.into())
        }
    }

    /// Whether an event with this name is asked for.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Topic::Exact(exact) => **exact == *name,
            Topic::Wildcard(parts) => wildcard(parts, name),
        }
    }
}

/// Takes the leftmost place for each text between two `*`: that never rules out a match that a later place would allow.
fn wildcard(parts: &[Box<str>], name: &str) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(mut rest) = name.strip_prefix(&**first) else { return false };
    for part in middle {
        match rest.find(&**part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(&**last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_have_the_first_appliances_names() {
        for (class, expected) in [
            ("VmPoweredOnEvent", "vm.powered.on"),
            ("DrsVmPoweredOnEvent", "drs.vm.powered.on"),
            ("EventEx", "ex"),
            ("ExtendedEvent", "extended"),
            ("DVPortgroupCreatedEvent", "dv.portgroup.created"),
            ("VmBeingHotMigratedEvent", "vm.being.hot.migrated"),
            ("NASDatastoreCreatedEvent", "nas.datastore.created"),
            ("VmInstanceUuidAssignedEvent", "vm.instance.uuid.assigned"),
            ("HostIpToShortNameFailedEvent", "host.ip.to.short.name.failed"),
            ("VMFSDatastoreExpandedEvent", "vmfs.datastore.expanded"),
            ("HostIPv6AddedEvent", "host.i.pv6.added"),
            ("EventAlarmExpression", "alarm.expression"),
            ("vprob.net.x", "vprob.net.x"),
            ("Event", ""),
            ("", ""),
        ] {
            assert_eq!(dotted(class), expected, "{class}");
        }
    }

    #[test]
    fn topics_match_whole_names() {
        for (topic, name, expected) in [
            ("VmPoweredOnEvent", "VmPoweredOnEvent", true),
            ("VmPoweredOnEvent", "DrsVmPoweredOnEvent", false),
            ("VmPoweredOnEvent", "vmpoweredonevent", false),
            ("*", "", true),
            ("*", "com.vmware.x", true),
            ("Vm*", "VmPoweredOnEvent", true),
            ("Vm*", "DrsVmPoweredOnEvent", false),
            ("*Vm*On*", "DrsVmPoweredOnEvent", true),
            ("vm.*.on", "vm.powered.on", true),
            ("vm.*.on", "vm.on", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab", "aab", true),
            ("a**b", "ab", true),
            ("com.vmware.vc.HA.*", "com.vmware.vc.HA.DasHostFailedEvent", true),
            ("com.vmware.vc.HA.*", "com.vmware.vc.ha.DasHostFailedEvent", false),
        ] {
            assert_eq!(Topic::parse(topic).matches(name), expected, "{topic} on {name}");
        }
    }

    #[test]
    fn an_annotation_is_a_comma_list() {
        let topics: Vec<Topic> = Topic::list(" VmPoweredOnEvent, ,vm.*,,ex ").collect();
        assert_eq!(topics, ["VmPoweredOnEvent", "vm.*", "ex"].map(Topic::parse));
        assert_eq!(Topic::list("").count(), 0);
    }

    /// The definition, slow and plain.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|at| model(rest, &name[at..])),
            [letter, rest @ ..] => name.first() == Some(letter) && model(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_as_their_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(Topic::parse(&pattern).matches(&name), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
