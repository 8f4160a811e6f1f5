//! The settings for the form of an event: its time, its payload, and its extension attributes.

use serde_json::json;

use crate::config::declare::*;
use crate::config::scalar;

words! {
    /// The source of the CloudEvents attribute `time`.
    pub enum EventTime {
        /// the time when the router read the event
        Router = "router",
        /// vCenter's `createdTime`
        Created = "created",
    }
}

words! {
    /// The form of the CloudEvents attribute `data`.
    #[derive(Hash)]
    pub enum Payload {
        /// JSON with PascalCase keys, as the old router wrote it
        Pascal = "pascal",
        /// vSphere's own JSON: lowerCamelCase keys, `_typeName` in every object, absent fields left
        /// out
        ViJson = "vijson",
        /// the XML element that vCenter sent
        Xml = "xml",
    }
}

// The options of a destination's envelopes.
//
// `time: created` falls back to the router's time if vCenter sent none. `payload: vijson` and
// `payload: xml` render the event as it was sent, and fall back to the batch's JSON if that is
// impossible: the event was spooled before the option was set, or `xml` is wanted and it was sent
// as JSON. A fixed extension replaces a generated one of the same name.
settings! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EnvelopeOptions in "envelope", with defaults {
        /// Value of the CloudEvents attribute `time`.
        pub time: EventTime = key("time", one_of::<EventTime>()).or("router");
        /// Format of `data`.
        pub payload: Payload = key("payload", one_of::<Payload>()).or("pascal");
        /// Additional CloudEvents attributes.
        pub extensions: Extensions = key("extensions", block::<Extensions>());
    }
}

// Opt-in CloudEvents attributes.
settings! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Extensions in "extensions", with defaults {
        /// `sequence`: the key of the event as an unsigned number, with leading zeros for sorting.
        pub sequence: bool = key("sequence", FLAG).or("false");
        /// `partitionkey`: the object that the event is about, such as `VirtualMachine:vm-65`.
        pub partitionkey: bool = key("partitionkey", FLAG).or("false").also(&["partitionKey"]);
        /// `vsphereapiversion`: the API version of the vCenter.
        pub vsphereapiversion: bool =
            key("vsphereapiversion", FLAG).or("false").also(&["vsphereApiVersion"]);
        /// `eventclass`: `event`, `eventex` or `extendedevent`.
        pub eventclass: bool = key("eventclass", FLAG).or("false").also(&["eventClass"]);
        /// Attributes with a fixed value for every event.
        pub fixed: Vec<(String, String)> = key("static", FieldType::Map(&ATTRIBUTES));
    }
}

/// Names and values of additional attributes.
static ATTRIBUTES: MapFormat = MapFormat {
    allowed: "a map of attribute names (at most 20 lower-case letters and digits) to values",
    has_secrets: false,
    check: |name, value| scalar::check_extension(name, value).map_err(Into::into),
    schema: |text| {
        json!({
            "type": "object", "propertyNames": { "pattern": "^[a-z0-9]{1,20}$" }, "additionalProperties": text,
        })
    },
};
