//! The options for the form of an event: its time, its payload, and its extension attributes. Each
//! destination has its own; `cloudevents` renders accordingly.

/// The source of the CloudEvents attribute `time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTime {
    /// The time at which the router read the event.
    #[default]
    Router,
    /// vCenter's `createdTime`.
    Created,
}

/// The form of the CloudEvents attribute `data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Payload {
    /// JSON with PascalCase names, as the old router wrote it.
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
    /// Constant extensions as pairs of name (lower-case letters and digits) and value, in the order
    /// of the configuration file.
    pub fixed: Vec<(String, String)>,
}
