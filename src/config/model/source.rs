//! The configuration of a source: address and credentials of a vCenter, the events to ask for, and
//! how to read them.

use std::path::PathBuf;
use std::time::Duration;

use super::ClientTls;
use crate::config::Secret;

/// A source of events.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The name in logs, metrics and the checkpoint. A renamed source is a new one.
    pub name: String,
    pub kind: SourceKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    Vcenter(Vcenter),
}

/// A vCenter.
#[derive(Clone, Debug, PartialEq)]
pub struct Vcenter {
    /// The SDK URL, `https://HOST[:PORT]/sdk`. Missing scheme and path are added; the rest is as
    /// written.
    pub sdk_url: String,
    pub username: String,
    pub password: Secret,
    pub tls: ClientTls,
    /// The start of reading if there is no checkpoint; [`StartAt::Now`].
    pub start_at: StartAt,
    /// The events to ask vCenter for; all.
    pub filter: EventFilter,
    /// Events per read, 1 to 1,000; `limits::PAGE_EVENTS`.
    pub page_events: usize,
    /// The pause between a page that was not full and the next read; 20 ms.
    pub poll_interval: Duration,
    /// The most calls per second; 10,000, which is no limit in practice.
    pub max_calls_per_second: u32,
    /// Time before the resume time at which a new collector begins; 2 min.
    pub overlap: Duration,
    /// Periodic re-read that finds events which became visible late; on.
    pub sweep: Option<Sweep>,
    pub timeouts: VcenterTimeouts,
    /// [`Protocol::Soap`].
    pub protocol: Protocol,
    /// The old router's `cp-HOST.json`, imported once if the state has no position for this source;
    /// none.
    pub import_checkpoint: Option<PathBuf>,
}

/// The start of a source that has no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At vCenter's current time.
    #[default]
    Now,
    /// At the oldest event that vCenter keeps.
    Beginning,
    /// At this time, in microseconds since 1970 UTC.
    At(i64),
    /// This long before vCenter's current time.
    Ago(Duration),
}

/// The supported part of vSphere's EventFilterSpec. Empty lists select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Class names and event type ids (`eventTypeId` of the spec); all.
    pub event_types: Vec<String>,
    /// `userName.userList` of the spec; all.
    pub users: Vec<String>,
    /// The managed object that events are about; the root folder.
    pub entity: Option<EntityFilter>,
}

/// `entity` of vSphere's EventFilterSpec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityFilter {
    /// The type of the managed object, such as `ClusterComputeResource`.
    pub kind: String,
    /// Its id, such as `domain-c8`.
    pub id: String,
    /// [`Recursion::All`].
    pub recursion: Recursion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// Only the object.
    SelfOnly,
    /// Its children, without the object.
    Children,
    /// The object and everything below it.
    #[default]
    All,
}

/// A periodic re-read of a recent time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Time between two re-reads; 1 min.
    pub interval: Duration,
    /// The time span to read again; 2 min.
    pub window: Duration,
}

impl Sweep {
    /// The longest delay between creation and visibility at which an event is still found: the
    /// window less the time until the next sweep.
    pub fn late(&self) -> Duration {
        self.window.checked_sub(self.interval).filter(|late| !late.is_zero()).unwrap_or(self.window)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcenterTimeouts {
    /// Time for TCP and TLS; 10 s.
    pub connect: Duration,
    /// The longest silence during a call; 1 min. The read of a page has a shorter
    /// limit first (`limits::PAGE_WAIT_MIN`).
    pub call: Duration,
    /// `maxWaitSeconds` of WaitForUpdatesEx, whose time-out is this plus `call`; 1 min.
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// VI/JSON if the vCenter offers it, else SOAP.
    Auto,
    /// The default: every vCenter supports it, and the fast decoder reads it.
    #[default]
    Soap,
    ViJson,
}
