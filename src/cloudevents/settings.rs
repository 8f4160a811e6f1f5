//! The settings for the form of an event: its time, its payload, and its extension attributes.

use serde_json::json;

use crate::config::declare::*;
use crate::config::scalar;

words! {
    /// The attributes that an event has.
    pub enum EventFormat {
        /// those of the old router, v0.3 to v0.7: `type` by kind, and a `subject`
        Router = "router",
        /// those of the appliance v0.8: `type` by event (`com.vmware.vsphere.VmPoweredOnEvent.v0`),
        /// no `subject`, vCenter's `time`, and the attributes `eventclass` and `vsphereapiversion`;
        /// `cloudevents` then has `mode: binary` unless another mode is given
        VebaV08 = "veba-v0.8",
    }
}

words! {
    /// The CloudEvents attribute `id`.
    pub enum IdForm {
        /// a UUID that identifies the event everywhere and always
        Uuid = "uuid",
        /// the event's key, as in the appliance v0.8. Keys are not unique: each vCenter counts its
        /// own, and one that is restored from a backup uses them again
        Key = "key",
    }
}

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
// as JSON. Events of push sources keep their own attributes in every format. A fixed extension
// replaces a generated one of the same name.
settings! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EnvelopeOptions in "envelope", with defaults {
        /// Attributes of the events. [migration.md](migration.md#events) compares the formats.
        pub format: EventFormat = key("format", one_of::<EventFormat>()).or("router");
        /// CloudEvents attribute `id`.
        pub event_id: IdForm = key("eventId", one_of::<IdForm>()).or("uuid");
        /// Value of the CloudEvents attribute `time`.
        pub time: EventTime = key("time", one_of::<EventTime>()).or("router");
        /// Format of `data`.
        pub payload: Payload = key("payload", one_of::<Payload>()).or("pascal");
        /// Additional CloudEvents attributes.
        pub extensions: Extensions = key("extensions", block::<Extensions>());
    }
    check warn_of_keys;
}

/// Warns of ids that do not identify an event.
fn warn_of_keys(found: &CheckedMap, problems: &mut Problems) {
    if found.text("eventId") == IdForm::Key.word() {
        let message = "keys are not unique: each vCenter counts its own, and a restored one uses them again; a consumer that drops known ids can lose events";
        problems.warn(found.line_of("eventId"), &found.path_of("eventId"), message);
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
        /// `severitytext` and `severitynumber` of the CloudEvents extension for severity: `INFO`
        /// and 9 for vCenter's categories info and user, `WARN` and 13 for warning, `ERROR` and 17
        /// for error. An event of an unknown category has neither.
        pub severity: bool = key("severity", FLAG).or("false");
        /// `category`: vCenter's own word for it, `info`, `warning`, `error` or `user`.
        pub category: bool = key("category", FLAG).or("false");
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
