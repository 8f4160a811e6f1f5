//! The vSphere data objects that control calls send and receive.

use uuid::Uuid;

use super::element::Element;
use super::time::parse_us;

/// A managed object reference, as the server sent it.
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

    /// The reference in `element`, or `None` if it has no id.
    pub fn of(element: &Element) -> Option<MoRef> {
        let id = element.text.trim();
        (!id.is_empty()).then(|| MoRef::new(&element.kind, id))
    }
}

/// A server's `ServiceContent`, limited to the members that the router uses.
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
    /// `8.0.3.0`; delivered as the attribute `vsphereapiversion`.
    pub api_version: String,
    /// `VirtualCenter` or `HostAgent` (an ESXi host).
    pub api_type: String,
    /// `None` for a server without one (an ESXi host).
    pub instance_uuid: Option<Uuid>,
}

/// vSphere's EventFilterSpecRecursionOption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// The object alone.
    SelfOnly,
    /// The object's children without the object.
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

/// vSphere's EventFilterSpec: the events to read.
///
/// `disableFullMessage` is always sent as false: if it is absent, some servers leave out
/// `fullFormattedMessage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilterSpec {
    /// `None` means the root folder and everything below it.
    pub entity: Option<(MoRef, Recursion)>,
    /// `time.beginTime`, inclusive, microseconds since 1970 UTC.
    pub begin_us: Option<i64>,
    /// `time.endTime`, inclusive, microseconds since 1970 UTC.
    pub end_us: Option<i64>,
    /// `userName.userList`; empty means all users.
    pub users: Vec<String>,
    /// `eventTypeId`: class names and event type ids; empty means all.
    pub event_types: Vec<String>,
    /// `maxCount`: for a collector the size of its latestPage, for QueryEvents the number of
    /// events. Not sent to servers older than 6.5.
    pub max_count: Option<u32>,
    /// `delayedInit`: creating the collector does not fill latestPage. Not sent to servers older
    /// than 8.0.3.0.
    pub delayed_init: bool,
}

/// The position of an event: its key and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPosition {
    pub key: i32,
    /// `createdTime`, microseconds since 1970 UTC by vCenter's clock.
    pub created_us: i64,
}

impl EventPosition {
    /// The position of the event in `event`, or `None` if key or time is missing or malformed.
    pub fn of(event: &Element) -> Option<EventPosition> {
        Some(EventPosition {
            key: event.text_of("key").parse().ok()?,
            created_us: parse_us(event.text_of("createdTime"))?,
        })
    }
}

/// An entry of `EventManager.description.eventInfo`: an event class or type id that this vCenter
/// knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// The class name. For an EventEx or ExtendedEvent it is the base class, and `full_format`
    /// begins with `ID|`.
    pub key: String,
    pub description: String,
    /// `info`, `warning`, `error` or `user`.
    pub category: String,
    pub full_format: String,
}

impl EventInfo {
    /// The name that a filter uses: the eventTypeId for EventEx and ExtendedEvent, else the class
    /// name.
    ///
    /// The eventTypeId is the part of `fullFormat` before the first `|` (vSphere API reference).
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
    /// The version to send with the next wait.
    pub version: String,
    /// The newest event in the collector's latestPage, if the answer carries it.
    pub latest: Option<EventPosition>,
}
