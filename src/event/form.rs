//! The form in which a destination wants its events.

/// The source of the CloudEvents attribute `time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTime {
    /// When the router read the event.
    #[default]
    Router,
    /// vCenter's `createdTime`.
    Created,
}

/// How `data` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Payload {
    /// PascalCase JSON, as the old router wrote it.
    #[default]
    Pascal,
    /// vSphere's own JSON.
    ViJson,
    /// The element that vCenter sent.
    Xml,
}

/// Opt-in CloudEvents attributes. All are off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The event's key as an unsigned 32-bit number, padded with zeros.
    pub sequence: bool,
    /// The managed object that the event is about.
    pub partitionkey: bool,
    /// The vCenter's `AboutInfo.apiVersion`.
    pub vsphereapiversion: bool,
    /// `event`, `eventex` or `extendedevent`.
    pub eventclass: bool,
    /// The same for every event: name (lower-case letters and digits) and value, in the file's
    /// order.
    pub fixed: Vec<(String, String)>,
}
