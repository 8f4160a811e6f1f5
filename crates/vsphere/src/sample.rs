//! Sample events: well-formed by the schema, in a page that a vCenter could have returned. They let
//! an operator try a function without waiting for a real event.
//!
//! ```text
//! type, "vm.name=web-1", … ──► SampleObject ──► XML page ──► the usual decoder
//! ```
//!
//! A sample has the members that its class requires, the members that real events of its kind have
//! (the machine of a VmEvent, …), and those that the caller sets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quick_xml::escape::escape;

use super::api::{format_us, parse_us};
use super::schema::{self, Class, Field, Kind};

/// Maximum nesting of objects. Required members nest 4 deep.
const DEPTH_MAX: usize = 12;

/// Similarity from which a class is suggested: `VmPowerOnEvent` reaches it.
const SIMILARITY_MIN: f64 = 0.85;
/// Distance to the best suggestion within which others are named as well.
const SIMILARITY_SPREAD: f64 = 0.05;
/// Number of suggestions.
const SIMILAR_MAX: usize = 3;

/// A sample event that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error(
        "`{0}` is not an event class{1}; name an EventEx by its eventTypeId, which has dots: `com.vmware.vc.HA.FailedRestartAfterIsolationEvent`"
    )]
    UnknownType(String, String),
    #[error("`{field}`: {class} has no member `{member}`; its members are {known}")]
    UnknownField { field: String, class: &'static str, member: String, known: String },
    #[error("`{0}`: must be `NAME=VALUE`, such as `vm.name=web-1`")]
    NoValue(String),
    #[error("`{field}`: `{value}` is not {expected}")]
    Misfit { field: String, value: String, expected: &'static str },
    #[error("`{0}` is an object; set one of its members, such as `{0}.{1}=…`")]
    NotAMember(String, String),
    #[error("`{0}` is a list of objects, which cannot be set")]
    List(String),
}

/// The members that are set, by name.
#[derive(Debug, Default)]
struct SampleObject(BTreeMap<&'static str, SampleValue>);

#[derive(Debug)]
enum SampleValue {
    Text(String),
    Object(SampleObject),
    /// Keys and values: the arguments of an EventEx or the data of an ExtendedEvent.
    Pairs(Vec<(String, String)>),
}

/// A sample event: its class and its members.
pub struct Sample {
    class: &'static Class,
    members: SampleObject,
}

impl Sample {
    /// Builds an event.
    ///
    /// - `name` is an event class or the eventTypeId of an EventEx.
    /// - `fields` are `NAME=VALUE`. A name with dots is a member of a member. Case is ignored.
    /// - `now_us` is the createdTime, in microseconds since 1970 UTC.
    pub fn new(name: &str, fields: &[String], now_us: i64) -> Result<Self, SampleError> {
        let (class, type_id) = match schema::class(name).filter(|class| class.is_event) {
            Some(class) => (class, None),
            None if name.contains('.') => {
                (schema::class("EventEx").expect("a class of the schema"), Some(name))
            }
            None => return Err(SampleError::UnknownType(name.to_owned(), nearest(name))),
        };
        let mut sample = Sample { class, members: SampleObject::default() };
        // The arguments that real events of this kind have.
        let about = ["vm", "host", "computeResource", "datacenter"];
        let carried = match () {
            () if class.is_a("VmEvent") => &about[..],
            () if class.is_a("HostEvent") => &about[1..],
            () if class.is_a("ClusterEvent") => &about[2..],
            () => &[],
        };
        // The members of every event.
        for (name, value) in [
            ("key", "0".to_owned()),
            ("chainId", "0".to_owned()),
            ("createdTime", format_us(now_us)),
            ("userName", "VSPHERE.LOCAL\\test".to_owned()),
            ("fullFormattedMessage", format!("A test event of type {name}; nothing happened")),
        ] {
            sample.set(name, &value, name)?;
        }
        if let Some(type_id) = type_id {
            sample.set("eventTypeId", type_id, "eventTypeId")?;
        }
        for member in carried {
            let (_, field) = class.field(member).expect("a member of Event");
            let filled = object_of(field.kind).map(|class| SampleValue::Object(required(class, 1)));
            sample.members.0.extend(filled.map(|value| (field.name, value)));
        }
        // The caller's members replace those.
        for text in fields {
            let (path, value) = text.split_once('=').ok_or_else(|| SampleError::NoValue(text.clone()))?;
            sample.set(path, value, text)?;
        }
        sample.members.complete(class, 0);
        Ok(sample)
    }

    fn set(&mut self, path: &str, value: &str, given: &str) -> Result<(), SampleError> {
        self.members.set(self.class, path, value, given)
    }

    /// The answer to `ReadNextEvents` with this event alone.
    pub fn page(&self) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
             <ReadNextEventsResponse xmlns=\"urn:vim25\">",
        );
        let _ = write!(xml, "<returnval xsi:type=\"{}\">", self.class.name);
        self.members.write(self.class, &mut xml);
        xml.push_str("</returnval></ReadNextEventsResponse></soapenv:Body></soapenv:Envelope>\n");
        xml
    }
}

impl SampleObject {
    /// Sets the member at `path`. `given` is the caller's whole text, for errors.
    fn set(
        &mut self,
        class: &'static Class,
        path: &str,
        value: &str,
        given: &str,
    ) -> Result<(), SampleError> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let Some(field) = class.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)) else {
            let known: Vec<_> = class.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            return Err(SampleError::UnknownField {
                field: given.to_owned(),
                class: class.name,
                member: name.to_owned(),
                known: known.join(", "),
            });
        };
        let text = |value: &str| SampleValue::Text(value.to_owned());
        match (object_of(field.kind), rest) {
            // A key of a list of pairs: `arguments.reason=cable`.
            (Some(pair), Some(key)) if field.many && is_pair(pair) => {
                let pairs = self.0.entry(field.name).or_insert_with(|| SampleValue::Pairs(Vec::new()));
                if let SampleValue::Pairs(pairs) = pairs {
                    pairs.retain(|(known, _)| known != key);
                    pairs.push((key.to_owned(), value.to_owned()));
                }
            }
            _ if field.many => return Err(SampleError::List(path.to_owned())),
            // A member of a member.
            (Some(class), Some(rest)) => {
                let inner =
                    self.0.entry(field.name).or_insert_with(|| SampleValue::Object(SampleObject::default()));
                if let SampleValue::Object(inner) = inner {
                    inner.set(class, rest, value, given)?;
                }
            }
            (Some(class), None) => {
                let first = class.fields.first().map_or("…", |field| field.name);
                return Err(SampleError::NotAMember(path.to_owned(), first.to_owned()));
            }
            // A plain value, or the id of a managed object, whose type follows from the member.
            (None, _) => {
                fits(field.kind, value).map_err(|expected| SampleError::Misfit {
                    field: path.to_owned(),
                    value: value.to_owned(),
                    expected,
                })?;
                self.0.insert(field.name, text(value));
            }
        }
        Ok(())
    }

    /// Adds the members that `class` requires.
    fn complete(&mut self, class: &'static Class, depth: usize) {
        for field in &class.fields {
            match self.0.get_mut(field.name) {
                Some(SampleValue::Object(inner)) => {
                    if let Some(class) = object_of(field.kind) {
                        inner.complete(class, depth + 1);
                    }
                }
                Some(_) => {}
                None if field.optional || field.many || depth >= DEPTH_MAX => {}
                None => {
                    let value = match object_of(field.kind) {
                        Some(class) => SampleValue::Object(required(class, depth + 1)),
                        None => SampleValue::Text(example(field)),
                    };
                    self.0.insert(field.name, value);
                }
            }
        }
    }

    /// Writes the members in schema order.
    fn write(&self, class: &'static Class, xml: &mut String) {
        for field in &class.fields {
            let name = field.name;
            // Writing to a String cannot fail.
            let _ = match self.0.get(name) {
                None => Ok(()),
                Some(SampleValue::Text(text)) => match field.kind {
                    Kind::Reference => {
                        write!(xml, "<{name} type=\"{}\">{}</{name}>", referred(name), escape(text))
                    }
                    Kind::Any => write!(xml, "<{name} xsi:type=\"xsd:string\">{}</{name}>", escape(text)),
                    _ => write!(xml, "<{name}>{}</{name}>", escape(text)),
                },
                Some(SampleValue::Pairs(pairs)) => pairs.iter().try_for_each(|(key, value)| {
                    let (key, value) = (escape(key), escape(value));
                    write!(
                        xml,
                        "<{name}><key>{key}</key><value xsi:type=\"xsd:string\">{value}</value></{name}>"
                    )
                }),
                Some(SampleValue::Object(inner)) => {
                    let _ = write!(xml, "<{name}>");
                    if let Some(class) = object_of(field.kind) {
                        inner.write(class, xml);
                    }
                    write!(xml, "</{name}>")
                }
            };
        }
    }
}

/// An object of `class` with the required members alone.
fn required(class: &'static Class, depth: usize) -> SampleObject {
    let mut object = SampleObject::default();
    object.complete(class, depth);
    object
}

fn object_of(kind: Kind) -> Option<&'static Class> {
    match kind {
        Kind::Object(id) => Some(id.class()),
        _ => None,
    }
}

/// Returns true for `KeyAnyValue` and `ExtendedEventPair`.
fn is_pair(class: &Class) -> bool {
    matches!(&*class.fields, [key, value] if key.name == "key" && value.name == "value")
}

/// Checks that `value` is valid for `kind`. The error names the expected value.
fn fits(kind: Kind, value: &str) -> Result<(), &'static str> {
    let (fits, expected) = match kind {
        Kind::Boolean => (matches!(value, "true" | "false"), "`true` or `false`"),
        Kind::Byte => (value.parse::<i8>().is_ok(), "an integer of 8 bits"),
        Kind::Short => (value.parse::<i16>().is_ok(), "an integer of 16 bits"),
        Kind::Int => (value.parse::<i32>().is_ok(), "an integer of 32 bits"),
        Kind::Long => (value.parse::<i64>().is_ok(), "an integer of 64 bits"),
        Kind::Float | Kind::Double => (value.parse::<f64>().is_ok(), "a number"),
        Kind::DateTime => (parse_us(value).is_some(), "a time such as 2026-01-31T12:00:00Z"),
        Kind::String | Kind::Any | Kind::Reference | Kind::Base64 | Kind::Object(_) => {
            let is_xml = value.chars().all(|c| c >= ' ' || matches!(c, '\t' | '\n' | '\r'));
            (is_xml, "valid in XML: it has a control character")
        }
    };
    if fits { Ok(()) } else { Err(expected) }
}

/// A value for a required member.
fn example(field: &Field) -> String {
    match field.kind {
        Kind::Boolean => "false".into(),
        Kind::Byte | Kind::Short | Kind::Int | Kind::Long | Kind::Float | Kind::Double => "0".into(),
        Kind::DateTime => "1970-01-01T00:00:00Z".into(),
        Kind::Base64 => String::new(),
        Kind::Reference => format!("{}-0", field.name),
        Kind::String if field.name == "ipAddress" => "192.0.2.1".into(),
        Kind::String | Kind::Any | Kind::Object(_) => "test".into(),
    }
}

/// The managed object type to which a member with this name refers.
fn referred(member: &str) -> &'static str {
    match member {
        "vm" => "VirtualMachine",
        "host" => "HostSystem",
        "computeResource" => "ClusterComputeResource",
        "datacenter" => "Datacenter",
        "datastore" => "Datastore",
        "network" => "Network",
        "dvs" => "VmwareDistributedVirtualSwitch",
        "resourcePool" => "ResourcePool",
        "folder" => "Folder",
        "alarm" => "Alarm",
        "scheduledTask" => "ScheduledTask",
        _ => "ManagedEntity",
    }
}

/// A hint with the most similar event classes.
fn nearest(name: &str) -> String {
    let names: Vec<_> = similar(name).into_iter().map(|like| format!("`{like}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

/// The event classes with the most similar names, the best one first.
fn similar(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let like = |class: &'static Class| {
        let candidate = class.name.to_lowercase();
        let is_same = candidate.strip_suffix("event").unwrap_or(&candidate) == name || candidate == name;
        (if is_same { 1.0 } else { strsim::jaro_winkler(&candidate, &name) }, class.name)
    };
    let mut found: Vec<_> = schema::classes().filter(|class| class.is_event).map(like).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = found[0].0;
    let near = |(likeness, _): &(f64, _)| *likeness > SIMILARITY_MIN && best - likeness < SIMILARITY_SPREAD;
    found.into_iter().take_while(near).take(SIMILAR_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::Decoded;

    const NOW_US: i64 = 1_700_000_000_123_456;

    fn decoded(name: &str, fields: &[&str]) -> (String, Json) {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let sample = Sample::new(name, &fields, NOW_US).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut decoded = Decoded::default();
        crate::decode::decode(sample.page().as_bytes(), &mut decoded).unwrap();
        assert_eq!((decoded.records.len(), decoded.unknown_classes, decoded.misfits), (1, 0, 0), "{name}");
        let record = &decoded.records[0];
        assert_eq!(record.created_us, Some(NOW_US), "{name}");
        let subject = String::from_utf8(decoded.bytes(record.subject).to_vec()).unwrap();
        (subject, serde_json::from_slice(decoded.bytes(record.data)).unwrap())
    }

    #[test]
    fn every_event_class_can_be_made_and_decodes_whole() {
        for class in schema::classes().filter(|class| class.is_event) {
            let (subject, data) = decoded(class.name, &[]);
            let expected =
                if matches!(class.name, "EventEx" | "ExtendedEvent") { "test" } else { class.name };
            assert_eq!(subject, expected);
            assert_eq!(data["UserName"], "VSPHERE.LOCAL\\test");
        }
    }

    #[test]
    fn members_are_set_by_name() {
        let (_, data) = decoded(
            "VmPoweredOnEvent",
            &[
                "vm.name=<web & \"1\">",
                "Vm.Vm=vm-65",
                "host.name= esx=1 ",
                "template=true",
                "KEY=-7",
                "userName=é",
            ],
        );
        assert_eq!(
            data["Vm"],
            serde_json::json!({"Name": "<web & \"1\">", "Vm": {"Type": "VirtualMachine", "Value": "vm-65"}})
        );
        assert_eq!((&data["Host"]["Name"], &data["Template"]), (&" esx=1 ".into(), &true.into()));
        assert_eq!((&data["Key"], &data["UserName"]), (&(-7).into(), &"é".into()));
        assert_eq!(data["Datacenter"]["Datacenter"]["Type"], "Datacenter");
        assert_eq!(data["Net"], Json::Null);
    }

    #[test]
    fn an_event_type_id_makes_an_event_ex() {
        let (subject, data) = decoded("com.vmware.vc.HA.X", &["arguments.reason=cable", "severity=warning"]);
        assert_eq!((&*subject, &data["EventTypeId"]), ("com.vmware.vc.HA.X", &"com.vmware.vc.HA.X".into()));
        assert_eq!(data["Arguments"], serde_json::json!([{"Key": "reason", "Value": "cable"}]));
        let (subject, data) = decoded("ExtendedEvent", &["eventTypeId=a.b", "data.x=y"]);
        assert_eq!((&*subject, &data["Data"][0]["Key"]), ("a.b", &"x".into()));
    }

    #[test]
    fn invalid_samples_are_refused() {
        let check = |name: &str, field: &str, expected: &str| {
            let error = Sample::new(name, &[field.to_owned()], 0).err().unwrap().to_string();
            assert!(error.contains(expected), "{name} {field}: {error}");
        };
        check("VmPoweredOn", "", "not an event class; did you mean `VmPoweredOnEvent`?");
        check("vmpoweredonevent", "", "did you mean `VmPoweredOnEvent`?");
        check("VmPoweredOfEvent", "", "did you mean `VmPoweredOffEvent` or `VmPoweredOnEvent`?");
        check("VirtualMachine", "", "is not an event class");
        check("VmPoweredOnEvent", "vm", "must be `NAME=VALUE`");
        check("VmPoweredOnEvent", "vm=web", "is an object; set one of its members, such as `vm.name=…`");
        check(
            "VmPoweredOnEvent",
            "vm.nam=web",
            "VmEventArgument has no member `nam`; its members are `name`, `vm`",
        );
        check("VmPoweredOnEvent", "template=yes", "`yes` is not `true` or `false`");
        check("VmPoweredOnEvent", "key=3000000000", "is not an integer of 32 bits");
        check("VmPoweredOnEvent", "userName=\u{1}", "has a control character");
        check("VmPoweredOnEvent", "createdTime=now", "is not a time");
    }
}
