//! Topics: the names by which an OpenFaaS function selects events.
//!
//! An event has several names, from different releases of the appliance. A function receives the
//! event if its `topic` annotation lists any of them:
//!
//! ```text
//! event                               subject               dotted name (first appliance)
//! class VmPoweredOnEvent              VmPoweredOnEvent      vm.powered.on
//! class DrsVmPoweredOnEvent           DrsVmPoweredOnEvent   drs.vm.powered.on
//! EventEx, eventTypeId com.vmware.…   com.vmware.…          ex
//! ExtendedEvent, eventTypeId …        …                     extended
//! ```
//!
//! An event of a push source is named by its subject or, if it has none, by its CloudEvents type.
//!
//! A topic can also be a severity, `severity:error`, see [`SEVERITY_TOPICS`].
//!
//! A `*` in a topic stands for any run of characters, including dots and the empty run: `Vm*`,
//! `com.vmware.vc.HA.*`, `*`. Matching is case-sensitive, as in the appliance.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use crate::event::{Batch, Category, Record};
use vsphere::schema;

/// The topics that select events by severity, in the order of [`crate::event::Severity::WORDS`].
/// They are no names of events: a topic with a `*` never stands for them.
pub const SEVERITY_TOPICS: [&str; 4] =
    ["severity:info", "severity:warning", "severity:error", "severity:user"];

/// The dotted name of an event class: all occurrences of `Event` removed, then the words in lower
/// case with dots between them. Empty for the class `Event`.
///
/// In a run of capitals, the last one begins the next word: `DVPortgroupCreatedEvent` becomes
/// `dv.portgroup.created`.
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

/// The first name of an event: its subject. An event of a push source without a subject has its
/// CloudEvents type instead.
pub fn first_name<'b>(batch: &'b Batch, record: &Record) -> &'b str {
    match (batch.text(record.subject), batch.attributes(record)) {
        ("", Some(own)) => own.kind,
        (subject, _) => subject,
    }
}

/// The names by which topics select an event of this kind: its [`first_name`] and its older
/// name, which is empty for the class `Event`.
pub fn names(category: Category, first: &str) -> [String; 2] {
    let older = match category {
        Category::Event => dotted(first),
        Category::EventEx => dotted("EventEx"),
        Category::ExtendedEvent => dotted("ExtendedEvent"),
    };
    [first.to_owned(), older]
}

/// One entry of a `topic` annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A name without `*`.
    Exact(Box<str>),
    /// The parts of a name between its `*`s. At least two: the first must match at the start of an
    /// event's name, the last at its end.
    Wildcard(Box<[Box<str>]>),
}

impl Topic {
    /// Parses an annotation, a comma-separated list. Spaces around entries and empty entries are
    /// ignored.
    pub fn list(annotation: &str) -> impl Iterator<Item = Topic> + '_ {
        annotation.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Topic::parse)
    }

    /// Parses one topic.
    pub fn parse(entry: &str) -> Topic {
        if entry.contains('*') {
            Topic::Wildcard(entry.split('*').map(Box::from).collect())
        } else {
            Topic::Exact(entry.into())
        }
    }

    /// Returns true if the topic selects the events of a class that vSphere's schema has.
    pub fn selects_a_class(&self) -> bool {
        static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
            let names = schema::classes().filter(|class| class.is_event).map(|class| class.name);
            names.flat_map(|class| [class.to_owned(), dotted(class)]).collect()
        });
        match self {
            Topic::Exact(exact) => NAMES.contains(&**exact),
            Topic::Wildcard(parts) => NAMES.iter().any(|name| wildcard(parts, name)),
        }
    }

    /// Returns true if the topic selects an event with this name.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Topic::Exact(exact) => **exact == *name,
            Topic::Wildcard(parts) => wildcard(parts, name),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Exact(name) => f.write_str(name),
            Topic::Wildcard(parts) => f.write_str(&parts.join("*")),
        }
    }
}

/// Matches each middle part at the leftmost possible place. This finds every match: an earlier
/// place leaves more text for the parts that follow.
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
    fn a_topic_that_selects_no_class_is_noticed() {
        for topic in ["VmPoweredOnEvent", "vm.powered.on", "Vm*", "*", "drs.*", "EventEx"] {
            assert!(Topic::parse(topic).selects_a_class(), "{topic}");
        }
        for topic in ["VmPoweredOn", "vmpoweredonevent", "Vm*X", "com.vmware.vc.HA.*"] {
            assert!(!Topic::parse(topic).selects_a_class(), "{topic}");
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
        let shown: Vec<String> = topics.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["VmPoweredOnEvent", "vm.*", "ex"]);
    }

    /// The definition of a match: slow and obvious.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|at| model(rest, &name[at..])),
            [letter, rest @ ..] => name.first() == Some(letter) && model(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn wildcards_agree_with_their_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(Topic::parse(&pattern).matches(&name), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
