//! Compares one delivery with one event: first the attributes, then the data in the configured
//! form.
//!
//! ```text
//!                            same bytes
//! is_documented_form() ─────────────────────► no difference
//!     │ anything else
//!     ▼
//! first_difference() ──► attributes() ──► entry() ──► data() or xml() ──► difference or none
//! ```

use std::borrow::Cow;

use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use uuid::Uuid;

use super::expected::{Difference, Values, difference, xml_difference};
use super::json_template::JsonTemplate;
use super::{Contents, Delivery, EntryFields, EventTime, MadeEvent, Payload, TemplateContent};
use crate::truth::event_id;
use crate::vcenter::clock::{format_micros, parse_micros};
use crate::vcenter::xml;

/// The largest accepted distance between the times of vCenter, router and target, in microseconds.
/// They read one clock at different moments.
const CLOCK_SLACK_US: i64 = 1_000_000;

/// An attribute's text if the event has it, or a difference if it is no text.
type AttributeText<'v> = Result<Option<Cow<'v, str>>, Difference>;

/// One event and the expectations that a delivery of it is compared with.
pub(super) struct EventCheck<'a> {
    pub contents: &'a Contents,
    pub made: &'a MadeEvent,
    pub template: &'a TemplateContent,
    pub values: &'a Values,
}

impl EventCheck<'_> {
    fn id(&self) -> Uuid {
        event_id(&self.made.instance_uuid, self.made.key, self.made.created_us)
    }

    /// True if the bytes are exactly those of the documented form. False says nothing:
    /// `first_difference` decides.
    pub fn is_documented_form(&self, delivery: Delivery<'_>, entry: Option<EntryFields<'_>>) -> bool {
        match (delivery, &self.template.json, entry) {
            (Delivery::Structured(bytes), Some(json), None) => self.strip_event(bytes, json).is_some(),
            _ => false,
        }
    }

    /// The bytes after this event in the documented form; `None` if `bytes` does not begin with it.
    fn strip_event<'b>(&self, bytes: &'b [u8], json: &JsonTemplate) -> Option<&'b [u8]> {
        let mut id = [0; 36];
        let id: &str = self.id().hyphenated().encode_lower(&mut id);
        // The attributes before `time` are the same bytes for every correct delivery of this event.
        let attributes = [
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
        let rest = attributes.iter().try_fold(bytes, |rest, part| rest.strip_prefix(part.as_bytes()))?;
        // The time may be any within its bounds; the data and the end are again fixed bytes.
        let (time, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
        self.is_time(std::str::from_utf8(time).ok()?).then_some(())?;
        let rest = json.strip(rest.strip_prefix(b"\",\"data\":")?, self.values)?;
        rest.strip_prefix(b",\"datacontenttype\":\"application/json\"}")
    }

    /// The first difference, found by parsing the delivery.
    pub fn first_difference(
        &self,
        delivery: Delivery<'_>,
        entry: Option<EntryFields<'_>>,
    ) -> Option<Difference> {
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

    fn structured(&self, event: &Value, entry: Option<EntryFields<'_>>) -> Option<Difference> {
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

    /// Compares the element with the one that the vCenter sent, whatever its outermost name.
    fn xml(&self, element: &str) -> Option<Difference> {
        let Ok(mut found) = xml::parse(element.as_bytes()) else {
            return differs("data", "an XML element", element);
        };
        let class = &self.template.class;
        let Values { key, chain_id, .. } = *self.values;
        // The time counts with as many digits as the vCenter wrote: either text is the event's.
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
        let Ok(mut want) = xml::parse_fragment(&elements) else {
            return differs("data", "no delivery: the event is malformed", element);
        };
        // The outermost element has no text of its own; white space between its children is no
        // difference.
        want.xsi_type = Some(class.clone());
        (want.text, found.text) = (String::new(), String::new());
        xml_difference(&want, &found, "data")
    }

    /// Compares an event in binary mode: attributes in `ce-` headers, data in the body.
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

    /// Compares the context attributes, that is all fields but `data`.
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
        // An attribute that nobody asked for is a fault, unless extensions are configured.
        let more = names.find(|name| !KNOWN.contains(name));
        more.filter(|_| !self.contents.form.extensions)
            .and_then(|name| differs(name, "no such attribute", text(name).ok()??.as_ref()))
    }

    /// Compares the entry of PutEvents around an event with the event.
    fn entry(&self, entry: EntryFields<'_>, time: Option<&Value>) -> Option<Difference> {
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

    /// True if `text` is an instant in UTC that the form allows for this event.
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

/// True if both URLs name the same vCenter. A router may reach it by another host name; the rest of
/// the URL must be the same.
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

/// Decodes a header's value into the attribute that it stands for (CloudEvents HTTP binding,
/// 3.1.3.2).
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
