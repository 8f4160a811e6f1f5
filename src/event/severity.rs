//! The severity that vCenter gives to an event.
//!
//! ```text
//! EventEx                  its own member `Severity`
//! every other event        the category of its type in `EventManager.description.eventInfo`
//! ```
//!
//! vCenter sorts its event types into the categories info, warning, error and user. A source reads
//! the categories of its vCenter before the first event and again every hour, and stores them here
//! with [`learn`]. They are kept for the process by the vCenter's instanceUuid, because events also
//! come back from the store, where they have no link to a running source.
//!
//! The lookup is made when an attribute is rendered or matched. Nothing is done for an event of
//! which nobody asks the severity.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::limits::{EVENT_TYPES_MAX, SEVERITY_VCENTERS_MAX};
use super::{Batch, Record};
use vsphere::Category;

/// A category of vCenter's event types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
    /// A user's action.
    User,
}

impl Severity {
    /// The words of vSphere, in the order of the variants.
    pub const WORDS: [&str; 4] = ["info", "warning", "error", "user"];

    /// The severity with this word of vSphere.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "info" => Severity::Info,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            "user" => Severity::User,
            _ => return None,
        })
    }

    /// The CloudEvents attribute `category`: vSphere's own word.
    pub fn category(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The CloudEvents attribute `severitytext`.
    pub fn text(self) -> &'static str {
        match self {
            Severity::Info | Severity::User => "INFO",
            Severity::Warning => "WARN",
            Severity::Error => "ERROR",
        }
    }

    /// The CloudEvents attribute `severitynumber`, from the table of OpenTelemetry.
    pub fn number(self) -> i32 {
        match self {
            Severity::Info | Severity::User => 9,
            Severity::Warning => 13,
            Severity::Error => 17,
        }
    }
}

/// The severities of the event types of one vCenter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypeSeverities(FxHashMap<Box<str>, Severity>);

/// The severities by instanceUuid, the one that was read last at the end. The list is replaced when
/// one was read.
static KNOWN: LazyLock<ArcSwap<Vec<ByVcenter>>> = LazyLock::new(ArcSwap::default);

type ByVcenter = (Uuid, Arc<TypeSeverities>);

impl TypeSeverities {
    /// The severity of event `record` of `batch`; `None` if it is unknown, and for an event that
    /// did not come from a vCenter.
    pub fn of(&self, batch: &Batch, record: &Record) -> Option<Severity> {
        if !record.attributes.is_empty() {
            return None;
        }
        let own = match record.category {
            Category::EventEx => own_severity(batch.bytes(record.data)),
            Category::Event | Category::ExtendedEvent => None,
        };
        own.or_else(|| self.0.get(batch.text(record.subject)).copied())
    }

    /// Number of event types.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for TypeSeverities {
    /// Takes event types with their categories. Unknown categories are left out, and so are types
    /// beyond [`EVENT_TYPES_MAX`].
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(types: T) -> Self {
        let known = types.into_iter().filter_map(|(name, word)| Some((name.into(), Severity::of(word)?)));
        TypeSeverities(known.take(EVENT_TYPES_MAX).collect())
    }
}

/// Stores the severities of the vCenter with this instanceUuid.
pub fn learn(instance: Uuid, severities: TypeSeverities) {
    let severities = Arc::new(severities);
    KNOWN.rcu(|known| {
        let others = known.iter().filter(|(other, _)| *other != instance).cloned();
        let mut next: Vec<ByVcenter> = others.collect();
        if next.len() == SEVERITY_VCENTERS_MAX {
            next.remove(0);
        }
        next.push((instance, Arc::clone(&severities)));
        next
    });
}

/// The severities of the vCenter with this instanceUuid; empty before they were read.
pub fn known(instance: Uuid) -> Arc<TypeSeverities> {
    let known = KNOWN.load();
    known.iter().find(|(other, _)| *other == instance).map(|(_, types)| Arc::clone(types)).unwrap_or_default()
}

/// The member `Severity` of an EventEx.
fn own_severity(data: &[u8]) -> Option<Severity> {
    #[derive(serde::Deserialize)]
    struct Own<'a> {
        #[serde(rename = "Severity", borrow)]
        severity: std::borrow::Cow<'a, str>,
    }
    Severity::of(&serde_json::from_slice::<Own<'_>>(data).ok()?.severity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::source;
    use crate::event::{PushedEvent, Span};

    fn batch(category: Category, subject: &str, data: &str) -> Batch {
        let arena = format!("{subject}{data}").into_bytes();
        let (subject, end) = (Span::new(0, subject.len()), arena.len());
        let data = Span::new(subject.range().end, end);
        let record = Record { category, subject, data, ..Record::default() };
        Batch::new(source(), 0, arena, vec![record])
    }

    #[test]
    fn an_eventex_has_its_own_severity_and_other_events_that_of_their_type() {
        let types: TypeSeverities = [
            ("VmPoweredOnEvent", "info"),
            ("HostConnectionLostEvent", "error"),
            ("com.vmware.x", "warning"),
            ("com.vmware.audit", "user"),
            ("OddEvent", "catastrophe"),
        ]
        .into_iter()
        .collect();
        let check = |category, subject: &str, data: &str, expected: Option<Severity>| {
            let batch = batch(category, subject, data);
            assert_eq!(types.of(&batch, &batch.records[0]), expected, "{subject} {data}");
        };
        check(Category::Event, "VmPoweredOnEvent", "{}", Some(Severity::Info));
        check(Category::Event, "HostConnectionLostEvent", "{}", Some(Severity::Error));
        check(Category::Event, "OddEvent", "{}", None);
        check(Category::Event, "OtherEvent", "{}", None);
        // A member of this name means nothing outside an EventEx.
        check(Category::Event, "VmPoweredOnEvent", r#"{"Severity":"error"}"#, Some(Severity::Info));
        check(Category::ExtendedEvent, "com.vmware.x", "{}", Some(Severity::Warning));
        check(Category::EventEx, "com.vmware.x", r#"{"Key":1,"Severity":"error"}"#, Some(Severity::Error));
        check(Category::EventEx, "com.vmware.y", r#"{"Severity":"us\u0065r"}"#, Some(Severity::User));
        check(Category::EventEx, "com.vmware.x", r#"{"Severity":""}"#, Some(Severity::Warning));
        check(Category::EventEx, "com.vmware.x", r#"{"Severity":null}"#, Some(Severity::Warning));
        check(Category::EventEx, "com.vmware.y", r#"{"Key":1}"#, None);
    }

    #[test]
    fn an_event_of_another_kind_has_no_severity_from_vcenter() {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        let attributes = crate::event::Attributes { id: "1", ..crate::event::Attributes::EMPTY };
        batch.push(&PushedEvent { attributes, subject: "VmPoweredOnEvent", ..PushedEvent::default() });
        let types: TypeSeverities = [("VmPoweredOnEvent", "info")].into_iter().collect();
        assert_eq!(types.of(&batch, &batch.records[0]), None);
    }

    #[test]
    fn each_vcenter_has_its_own_types() {
        let [a, b] = [0xa11ce, 0xb0b].map(Uuid::from_u128);
        let types = |word| [("XEvent", word)].into_iter().collect::<TypeSeverities>();
        learn(a, types("info"));
        learn(b, types("error"));
        learn(a, types("warning"));
        assert_eq!((&*known(a), &*known(b)), (&types("warning"), &types("error")));
        assert!(known(Uuid::from_u128(0xdead)).is_empty());
    }

    #[test]
    fn the_number_of_types_is_bounded() {
        let names: Vec<String> = (0..=EVENT_TYPES_MAX).map(|i| format!("E{i}")).collect();
        let types: TypeSeverities = names.iter().map(|name| (name.as_str(), "info")).collect();
        assert_eq!(types.len(), EVENT_TYPES_MAX);
    }
}
