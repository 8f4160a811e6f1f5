//! The few vSphere data objects that the client's calls take and give.

use uuid::Uuid;

use super::element::Element;
use super::time::parse_us;

/// A managed object reference, as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MoRef {
    /// The managed object's type, `EventHistoryCollector`.
    pub kind: String,
    pub id: String,
}

impl MoRef {
    pub fn new(kind: &str, id: &str) -> Self {
        MoRef { kind: kind.to_string(), id: id.to_string() }
    }

    pub fn of(element: &Element) -> Option<MoRef> {
        let id = element.text.trim();
        (!id.is_empty()).then(|| MoRef::new(&element.kind, id))
    }
}

/// What a server is: its `ServiceContent`, as far as the router looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceContent {
    pub root_folder: MoRef,
    pub property_collector: MoRef,
    pub session_manager: MoRef,
    pub event_manager: MoRef,
    pub about: About,
}

/// vSphere's AboutInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub full_name: String,
    /// `8.0.3.0`; sent as `vsphereapiversion`.
    pub api_version: String,
    /// `VirtualCenter` or `HostAgent` (an ESXi host).
    pub api_type: String,
    /// None for a server that has none (an ESXi host).
    pub instance_uuid: Option<Uuid>,
}

/// vSphere's EventFilterSpecRecursionOption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// The object alone.
    SelfOnly,
    /// Its children without itself.
    Children,
    #[default]
    All,
}

impl Recursion {
    pub fn as_str(self) -> &'static str {
        match self {
            Recursion::SelfOnly => "self",
            Recursion::Children => "children",
            Recursion::All => "all",
        }
    }
}

/// vSphere's EventFilterSpec: which events are asked for. `disableFullMessage` is always sent as false: without it some servers leave
/// `fullFormattedMessage` out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilterSpec {
    /// None stands for the root folder and all below it.
    pub entity: Option<(MoRef, Recursion)>,
    /// `time.beginTime`, inclusive, microseconds since 1970 UTC.
    pub begin_us: Option<i64>,
    /// `time.endTime`, inclusive, microseconds since 1970 UTC.
    pub end_us: Option<i64>,
    /// `userName.userList`; empty stands for everyone.
    pub users: Vec<String>,
    /// `eventTypeId`: class names and event type ids; empty stands for all.
    pub event_types: Vec<String>,
    /// `maxCount`: for a collector the size of its latestPage, for QueryEvents the events returned; left out for a server older than 6.5.
    pub max_count: Option<u32>,
    /// `delayedInit`: does not fill latestPage when the collector is created; left out for a server older than 8.0.3.0.
    pub delayed_init: bool,
}

/// Where an event stands: its key and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMark {
    pub key: i32,
    /// `createdTime`, microseconds since 1970 UTC by vCenter's clock.
    pub created_us: i64,
}

impl EventMark {
    pub fn of(event: &Element) -> Option<EventMark> {
        Some(EventMark {
            key: event.text_of("key").parse().ok()?,
            created_us: parse_us(event.text_of("createdTime"))?,
        })
    }
}

/// One entry of `EventManager.description.eventInfo`: an event class or type id that this vCenter knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// The class name, or for EventEx and ExtendedEvent that base class; their `full_format` then begins with `ID|`.
    pub key: String,
    pub description: String,
    /// `info`, `warning`, `error` or `user`.
    pub category: String,
    pub full_format: String,
}

impl EventInfo {
    /// The eventTypeId where the entry is of an EventEx or ExtendedEvent (vSphere API reference: it stands before the first `|` of
    /// `fullFormat`), else the class name: what a filter names it by.
    pub fn event_type(&self) -> &str {
        match (&*self.key, self.full_format.split_once('|')) {
            ("EventEx" | "ExtendedEvent", Some((id, _))) => id,
            _ => &self.key,
        }
    }
}

/// An answer of `WaitForUpdatesEx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// To be sent with the next wait.
    pub version: String,
    /// The newest event in the collector's latestPage, where the answer carries it.
    pub latest: Option<EventMark>,
}
