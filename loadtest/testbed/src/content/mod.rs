//! Compares what was delivered with what the synthetic vCenter made, field by field.
//!
//! ```text
//! templates.txt ──► XML and VI/JSON of the vCenter ──► router ──► delivered event
//!       └── types.txt (govmomi's types) ──► expected attributes and data ──────┴──► first difference
//! ```
//!
//! The expectation is made from the templates and from a table of govmomi's types. Nothing of the router takes part in it.
//!
//! Each check has two ways. The quick one compares bytes with the form that the appliance documents and costs less than a
//! microsecond. Where it finds any difference, the other one parses JSON and decides: the order of fields, escapes and white
//! space are no fault.

mod quick;
#[cfg(test)]
mod tests;
mod types;
mod want;

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::quick::Quick;
use self::want::{Difference, TimeForm, Values, Want, difference, pascal, vijson, xml_difference};
use crate::truth::{Truth, event_id};
use crate::vcenter::clock::{format_micros, parse_micros};
use crate::vcenter::model::{Model, chain_id};
use crate::vcenter::xml::{self, Node};
use crate::vcenter::{MixError, VCenter};

/// Longest text of an expected or found value that is kept.
const SHOWN_BYTES_MAX: usize = 160;
/// How far the clocks of vCenter, router and target may be apart, in microseconds: they are one clock, read one after another.
const CLOCK_SLACK_US: i64 = 1_000_000;

/// How the router was told to write `data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    #[default]
    Pascal,
    ViJson,
    Xml,
}

/// What `time` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTime {
    /// When the router read the event: between its creation and its receipt.
    #[default]
    Router,
    /// vCenter's createdTime.
    Created,
}

/// What the router was told about the form of events; the default is the router's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub payload: Payload,
    pub time: EventTime,
    /// Attributes besides the usual ones are allowed; their values are not checked.
    pub extensions: bool,
}

/// A delivery whose content is not the event's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrongContent {
    pub index: u64,
    pub key: i32,
    /// The first field that differs: an attribute, or a path such as `data.Vm.Name`.
    pub path: String,
    pub expected: String,
    pub found: String,
}

/// An event that is not from the model: posted, or of an unknown class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialContent {
    pub class: String,
    pub event_type_id: Option<String>,
    /// The elements after createdTime.
    pub elements: String,
}

/// The event as the vCenter made it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub index: u64,
    pub key: i32,
    pub created_us: i64,
    pub special: Option<SpecialContent>,
    /// The most that vCenter's clock was ever ahead of this machine's: by how much it was at this event is not known.
    pub clock_offset_us: i64,
    pub instance_uuid: Uuid,
    /// Of the vCenter.
    pub url: String,
    /// When it was received, microseconds since 1970.
    pub received_us: i64,
}

/// What was delivered.
#[derive(Clone, Copy)]
pub(crate) enum Delivery<'a> {
    /// JSON that begins with a structured event; more may follow.
    Structured(&'a [u8]),
    Parsed(&'a Value),
    Binary {
        headers: &'a HeaderMap,
        data: &'a [u8],
    },
}

/// An entry of PutEvents around a structured event.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub source: &'a str,
    pub detail_type: &'a str,
    /// `Time` in microseconds since 1970, if it is there and a time.
    pub time_us: Option<i64>,
}

/// What every event of one template has in common.
struct Template {
    class: String,
    kind: &'static str,
    subject: String,
    want: Want,
    quick: Option<Quick>,
}

/// The expected content of all events of a model, in one form.
pub(crate) struct Contents {
    model: Arc<Model>,
    form: Form,
    templates: Vec<Template>,
}

impl Contents {
    pub fn new(model: Arc<Model>, form: Form) -> Contents {
        let templates = model
            .templates()
            .iter()
            .map(|template| {
                Template::new(form, &template.class, template.event_type_id.as_deref(), &template.body)
            })
            .collect();
        Contents { model, form, templates }
    }

    /// The first difference between an event and what was delivered as this event.
    pub fn check(
        &self,
        made: &Made,
        delivery: Delivery<'_>,
        entry: Option<Entry<'_>>,
    ) -> Option<WrongContent> {
        let pick = self.model.pick(made.index);
        let special = made.special.as_ref().map(|special| {
            Template::new(self.form, &special.class, special.event_type_id.as_deref(), &special.elements)
        });
        let template = special.as_ref().unwrap_or(&self.templates[pick.template]);
        let is_special = special.is_some();
        let values = Values {
            vm: pick.vm,
            host: pick.host,
            index: made.index,
            key: made.key,
            chain_id: if is_special { made.key } else { chain_id(made.key, made.index) },
            created_us: made.created_us,
            times: if self.form.payload == Payload::Pascal { TimeForm::Go } else { TimeForm::Instant },
        };
        let checked = Checked { contents: self, made, template, values: &values };
        if checked.quickly(delivery, entry) {
            return None;
        }
        let found = checked.slowly(delivery, entry)?;
        Some(WrongContent {
            index: made.index,
            key: made.key,
            path: found.path,
            expected: shown(&found.expected),
            found: shown(&found.found),
        })
    }

    /// An event of the model as a structured CloudEvent in the documented form.
    fn example(&self, made: &Made) -> Option<Vec<u8>> {
        let pick = self.model.pick(made.index);
        let template = &self.templates[pick.template];
        let values = Values {
            vm: pick.vm,
            host: pick.host,
            index: made.index,
            key: made.key,
            chain_id: chain_id(made.key, made.index),
            created_us: made.created_us,
            times: TimeForm::Go,
        };
        let id = event_id(&made.instance_uuid, made.key, made.created_us);
        let time = format_micros(made.created_us - made.clock_offset_us);
        let mut out = format!(
            "{{\"id\":\"{id}\",\"source\":\"{}\",\"specversion\":\"1.0\",\"type\":\"{}\",\"subject\":\"{}\",\"time\":\"{time}\",\"data\":",
            made.url, template.kind, template.subject
        )
        .into_bytes();
        template.quick.as_ref()?.write(&values, &mut out);
        out.extend_from_slice(b",\"datacontenttype\":\"application/json\"}");
        Some(out)
    }
}

/// Makes of a vCenter's events what a faultless router delivers: for tests and measurements of what receives them.
pub struct Examples {
    vcenter: VCenter,
    contents: Contents,
    instance_uuid: Uuid,
    clock_offset_us: i64,
}

impl Examples {
    /// # Errors
    /// The vCenter's mix names an unknown class.
    pub fn of(vcenter: &VCenter) -> Result<Examples, MixError> {
        let truth = vcenter.truth();
        let contents = Contents::new(Arc::new(Model::new(truth.model)?), Form::default());
        let Truth { instance_uuid, clock_offset_us, .. } = truth;
        Ok(Examples { vcenter: vcenter.clone(), contents, instance_uuid, clock_offset_us })
    }

    /// Event `index` as a structured CloudEvent; `None` if it does not exist, or is not from the model.
    pub fn event(&self, index: u64) -> Option<Vec<u8>> {
        let (key, created_us) = self.vcenter.created(index)?;
        if self.vcenter.special(index).is_some() {
            return None;
        }
        self.contents.example(&Made {
            index,
            key,
            created_us,
            special: None,
            clock_offset_us: self.clock_offset_us,
            instance_uuid: self.instance_uuid,
            url: self.vcenter.url(),
            received_us: created_us,
        })
    }
}

impl Template {
    fn new(form: Form, class: &str, event_type_id: Option<&str>, elements: &str) -> Template {
        let node = parse(elements).unwrap_or_default();
        let want = match form.payload {
            Payload::Pascal | Payload::Xml => pascal(class, &node),
            Payload::ViJson => vijson_of(class, elements),
        };
        let kind = match class {
            "EventEx" => "com.vmware.event.router/eventex",
            "ExtendedEvent" => "com.vmware.event.router/extendedevent",
            _ => "com.vmware.event.router/event",
        };
        let type_id = event_type_id.map(str::to_owned);
        let type_id = type_id.or_else(|| {
            let named = matches!(class, "EventEx" | "ExtendedEvent");
            named.then(|| node.text_of("eventTypeId").unwrap_or_default().to_owned())
        });
        let subject = type_id.unwrap_or_else(|| class.to_owned());
        let quick = (form.payload == Payload::Pascal).then(|| Quick::of(&want));
        Template { class: class.to_owned(), kind, subject, want, quick }
    }
}

fn parse(elements: &str) -> Option<Node> {
    const NAMESPACES: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"";
    xml::parse(format!("<r {NAMESPACES}>{elements}</r>").as_bytes()).ok()
}

fn vijson_of(class: &str, elements: &str) -> Want {
    let text = format!("{{\"x\":0{}", crate::vcenter::vijson::event_fields(class, elements));
    let sent: Value = serde_json::from_str(&text).unwrap_or_default();
    let Want::Object(mut fields) = vijson(&sent) else { return Want::Null };
    fields.retain(|(name, _)| name != "x");
    for (name, want) in [
        ("_typeName", Want::Text(class.to_owned())),
        ("key", Want::Key),
        ("chainId", Want::ChainId),
        ("createdTime", Want::CreatedTime),
    ] {
        fields.push((name.to_owned(), want));
    }
    Want::Object(fields)
}

/// An attribute's text, if the event has it; a difference where it is no text.
type AttributeText<'v> = Result<Option<Cow<'v, str>>, Difference>;

/// One event with what it is compared with.
struct Checked<'a> {
    contents: &'a Contents,
    made: &'a Made,
    template: &'a Template,
    values: &'a Values,
}

impl Checked<'_> {
    fn id(&self) -> Uuid {
        event_id(&self.made.instance_uuid, self.made.key, self.made.created_us)
    }

    /// Whether the bytes are those of the documented form.
    fn quickly(&self, delivery: Delivery<'_>, entry: Option<Entry<'_>>) -> bool {
        let (Delivery::Structured(bytes), Some(quick), None) = (delivery, &self.template.quick, entry) else {
            return false;
        };
        let mut id = [0; 36];
        let id: &str = self.id().hyphenated().encode_lower(&mut id);
        let head = [
            "{\"id\":\"",
            id,
            "\",\"source\":\"",
            &self.made.url,
            "\",\"specversion\":\"1.0\",\"type\":\"",
            self.template.kind,
            "\",\"subject\":\"",
            &self.template.subject,
            "\",\"time\":\"",
        ];
        let after = head.iter().try_fold(bytes, |rest, part| rest.strip_prefix(part.as_bytes()));
        let is_same = || {
            let rest = after?;
            let (time, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
            self.is_time(std::str::from_utf8(time).ok()?).then_some(())?;
            let rest = quick.strip(rest.strip_prefix(b"\",\"data\":")?, self.values)?;
            rest.strip_prefix(b",\"datacontenttype\":\"application/json\"}")
        };
        is_same().is_some()
    }

    fn slowly(&self, delivery: Delivery<'_>, entry: Option<Entry<'_>>) -> Option<Difference> {
        match delivery {
            Delivery::Parsed(event) => self.structured(event, entry),
            Delivery::Structured(bytes) => {
                let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next();
                match first {
                    Some(Ok(event)) => self.structured(&event, entry),
                    _ => differs("", "a JSON object", &String::from_utf8_lossy(bytes)),
                }
            }
            Delivery::Binary { headers, data } => self.binary(headers, data),
        }
    }

    fn structured(&self, event: &Value, entry: Option<Entry<'_>>) -> Option<Difference> {
        let Value::Object(fields) = event else { return differs("", "a JSON object", &event.to_string()) };
        let text = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text.as_str()))),
            Some(other) => Err(Difference {
                path: name.to_owned(),
                expected: "a text".to_owned(),
                found: other.to_string(),
            }),
            None => Ok(None),
        };
        let names = fields.keys().map(String::as_str).filter(|name| *name != "data");
        if let Some(wrong) = self.attributes(&text, names) {
            return Some(wrong);
        }
        if let Some(wrong) = entry.and_then(|entry| self.entry(entry, fields.get("time"))) {
            return Some(wrong);
        }
        match fields.get("data") {
            None => differs("data", "the event", "no such field"),
            Some(data) => self.data(data),
        }
    }

    fn data(&self, data: &Value) -> Option<Difference> {
        match (self.contents.form.payload, data) {
            (Payload::Xml, Value::String(element)) => self.xml(element),
            (Payload::Xml, other) => differs("data", "XML in a text", &other.to_string()),
            _ => difference(&self.template.want, data, "data", self.values),
        }
    }

    fn xml(&self, element: &str) -> Option<Difference> {
        let Ok(mut found) = xml::parse(element.as_bytes()) else {
            return differs("data", "an XML element", element);
        };
        let class = &self.template.class;
        let Values { key, chain_id, .. } = *self.values;
        // With as many digits as the vCenter wrote: either text is the event's.
        let texts = self.values.created_texts();
        let written = found.text_of("createdTime").filter(|text| {
            parse_micros(text).is_some()
                && texts.iter().any(|known| parse_micros(known) == parse_micros(text))
        });
        let created = written.unwrap_or(&texts[0]).to_owned();
        let body = match &self.made.special {
            Some(special) => &special.elements,
            None => &self.contents.model.templates()[self.contents.model.pick(self.made.index).template].body,
        };
        let elements = format!(
            "<key>{key}</key><chainId>{chain_id}</chainId><createdTime>{created}</createdTime>{}",
            self.values.fill(body)
        );
        let Some(mut want) = parse(&elements) else {
            return differs("data", "no delivery: the event is malformed", element);
        };
        want.xsi_type = Some(class.clone());
        (want.text, found.text) = (String::new(), String::new());
        xml_difference(&want, &found, "data")
    }

    fn binary(&self, headers: &HeaderMap, data: &[u8]) -> Option<Difference> {
        let decoded = |name: &str| match name {
            "datacontenttype" => headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_vec()),
            name => headers.get(format!("ce-{name}")).map(|value| percent_decoded(value.as_bytes())),
        };
        let text = |name: &str| {
            Ok(decoded(name).map(|bytes| Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())))
        };
        let names = headers.keys().filter_map(|name| name.as_str().strip_prefix("ce-"));
        if let Some(wrong) = self.attributes(&text, names) {
            return Some(wrong);
        }
        if self.contents.form.payload == Payload::Xml {
            return self.xml(&String::from_utf8_lossy(data));
        }
        match serde_json::from_slice(data) {
            Ok(data) => self.data(&data),
            Err(_) => differs("data", "JSON", &String::from_utf8_lossy(data)),
        }
    }

    /// The context attributes, all but `data`.
    fn attributes<'n, 'v>(
        &self,
        text: &dyn Fn(&str) -> AttributeText<'v>,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<Difference> {
        const KNOWN: [&str; 7] =
            ["id", "source", "specversion", "type", "subject", "time", "datacontenttype"];
        for name in KNOWN {
            let found = match text(name) {
                Ok(Some(found)) => found,
                Ok(None) => return differs(name, "an attribute", "no such attribute"),
                Err(wrong) => return Some(wrong),
            };
            let content_type = if self.contents.form.payload == Payload::Xml {
                "application/xml"
            } else {
                "application/json"
            };
            let (same, expected) = match name {
                "id" => (found == self.id().to_string(), self.id().to_string()),
                "source" => (is_source(&found, &self.made.url), self.made.url.clone()),
                "specversion" => (found == "1.0", "1.0".to_owned()),
                "type" => (found == self.template.kind, self.template.kind.to_owned()),
                "subject" => (found == self.template.subject, self.template.subject.clone()),
                "time" => (self.is_time(&found), self.time_in_words()),
                _ => (found == content_type, content_type.to_owned()),
            };
            if !same {
                return differs(name, &expected, &found);
            }
        }
        let more = names.find(|name| !KNOWN.contains(name));
        more.filter(|_| !self.contents.form.extensions)
            .and_then(|name| differs(name, "no such attribute", text(name).ok()??.as_ref()))
    }

    fn entry(&self, entry: Entry<'_>, time: Option<&Value>) -> Option<Difference> {
        if !is_source(entry.source, &self.made.url) {
            return differs("Source", &self.made.url, entry.source);
        }
        if entry.detail_type != self.template.subject {
            return differs("DetailType", &self.template.subject, entry.detail_type);
        }
        let time = time.and_then(Value::as_str).unwrap_or_default();
        let apart_us = entry.time_us.zip(parse_micros(time)).map(|(entry, time)| (entry - time).abs());
        // AWS keeps whole seconds.
        if apart_us.is_none_or(|apart| apart >= 1_000_000) {
            return differs("Time", time, &entry.time_us.map_or("no time".to_owned(), format_micros));
        }
        None
    }

    fn is_time(&self, text: &str) -> bool {
        let made = self.made;
        let Some(time_us) = parse_micros(text).filter(|_| text.contains('T') && text.ends_with('Z')) else {
            return false;
        };
        match self.contents.form.time {
            EventTime::Created => {
                self.values.created_texts().iter().any(|created| parse_micros(created) == Some(time_us))
            }
            EventTime::Router => {
                let created_us = made.created_us - made.clock_offset_us;
                time_us >= created_us - CLOCK_SLACK_US && time_us <= made.received_us + CLOCK_SLACK_US
            }
        }
    }

    fn time_in_words(&self) -> String {
        let made = self.made;
        match self.contents.form.time {
            EventTime::Created => format_micros(made.created_us),
            EventTime::Router => format!(
                "from {} to {}",
                format_micros(made.created_us - made.clock_offset_us),
                format_micros(made.received_us)
            ),
        }
    }
}

/// A router may reach its vCenter by another host name; all else of the URL is the same.
fn is_source(found: &str, url: &str) -> bool {
    let parts = |url: &str| -> Option<(String, String, String)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let port = authority.rsplit_once(':').map(|(_, port)| port.to_owned())?;
        Some((scheme.to_owned(), port, path.to_owned()))
    };
    found == url || parts(found).is_some_and(|found| Some(found) == parts(url))
}

fn differs(path: &str, expected: &str, found: &str) -> Option<Difference> {
    Some(Difference { path: path.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

fn shown(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A header's value as the attribute that it stands for (CloudEvents HTTP binding, 3.1.3.2).
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    out
}
