//! CloudEvents 1.0 over HTTP: structured, batched and binary requests become pushed events.
//!
//! ```text
//! application/cloudevents+json          one event, a JSON object
//! application/cloudevents-batch+json    many events, a JSON array
//! ce-… headers                          one event, the body is its data
//! ```
//!
//! The data of an event is never parsed into a tree. `cloudevents-sdk` does that: numbers beyond 64
//! bits lose digits, members change their order, and small members take many times their size in
//! memory. So the attributes are read here, and tests hold the results equal to the SDK's.
//!
//! INVARIANT: an event leaves the router with the attributes and the JSON value that it came with.

use std::borrow::Cow;
use std::fmt::{self, Display};

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use percent_encoding::percent_decode;
use serde::de::{self, Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{RawMembers, compact};
use crate::event::{Attributes, Batch, Extension, ExtensionKind, PushedEvent};
use crate::limits::{REASON_BYTES_MAX, WEBHOOK_ATTRIBUTE_BYTES_MAX, WEBHOOK_EXTENSIONS_MAX};
use crate::outside;

/// The reason why a request has no valid events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    #[error("{0}")]
    Wrong(String),
    #[error("the request has more than {events_max} events; send them in several requests")]
    TooMany { events_max: usize },
    #[error(
        "the events of the request take more than {bytes_max} bytes; send fewer in a request, or let the mapping copy less of the body into each"
    )]
    TooLarge { bytes_max: usize },
    #[error("the JSON of the request takes more memory than all events may; send fewer events in a request")]
    TooComplex,
}

impl InvalidEvent {
    pub fn new(reason: impl Display) -> Self {
        InvalidEvent::Wrong(outside::display(reason, REASON_BYTES_MAX))
    }

    pub fn json(what: &str, error: &serde_json::Error) -> Self {
        InvalidEvent::new(format_args!("{what} is not valid JSON: {error}"))
    }

    /// The reason for the event at `place` of a batch.
    fn at(self, place: usize) -> Self {
        match self {
            InvalidEvent::Wrong(reason) => InvalidEvent::new(format_args!("event {place}: {reason}")),
            other => other,
        }
    }
}

/// Appends the event in a structured request.
pub fn structured(body: &[u8], batch: &mut Batch) -> Result<(), InvalidEvent> {
    let members = serde_json::from_slice(body).map_err(|error| InvalidEvent::json("the body", &error))?;
    one(&members, batch)
}

/// Appends the events in a batched request, at most `events_max`.
pub fn batched(body: &[u8], events_max: usize, batch: &mut Batch) -> Result<(), InvalidEvent> {
    let mut invalid = None;
    let list = EventList { events_max, batch, invalid: &mut invalid };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = deserializer.deserialize_seq(list).and_then(|()| deserializer.end());
    match invalid {
        Some(invalid) => Err(invalid),
        None => parsed.map_err(|error| InvalidEvent::json("the body", &error)),
    }
}

/// Appends the events of a JSON array one by one. It stops at the first invalid event, and after
/// `events_max`, so that the members of one event are in memory at a time.
struct EventList<'b> {
    events_max: usize,
    batch: &'b mut Batch,
    /// The reason why it stopped.
    invalid: &'b mut Option<InvalidEvent>,
}

impl<'de> Visitor<'de> for EventList<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(members) = list.next_element::<RawMembers<'de>>()? {
            let appended = match place < self.events_max {
                true => one(&members, self.batch).map_err(|error| error.at(place)),
                false => Err(InvalidEvent::TooMany { events_max: self.events_max }),
            };
            if let Err(invalid) = appended {
                *self.invalid = Some(invalid);
                return Err(de::Error::custom("an event is invalid"));
            }
            place += 1;
        }
        Ok(())
    }
}

/// The attributes of an event as they are found.
#[derive(Default)]
struct FoundAttributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    datacontenttype: Option<Cow<'a, str>>,
    extensions: Vec<(Cow<'a, str>, ExtensionKind, Cow<'a, str>)>,
}

impl<'a> FoundAttributes<'a> {
    /// Takes an attribute in its string form.
    fn put(
        &mut self,
        name: Cow<'a, str>,
        kind: ExtensionKind,
        value: Cow<'a, str>,
    ) -> Result<(), InvalidEvent> {
        if value.len() > WEBHOOK_ATTRIBUTE_BYTES_MAX {
            let most = WEBHOOK_ATTRIBUTE_BYTES_MAX;
            return Err(InvalidEvent::new(format_args!("`{name}` has more than {most} bytes")));
        }
        if value.chars().any(char::is_control) {
            return Err(InvalidEvent::new(format_args!("`{name}` has control characters")));
        }
        let slot = match &*name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.datacontenttype,
            _ => return self.put_extension(name, kind, value),
        };
        if kind != ExtensionKind::String {
            return Err(InvalidEvent::new(format_args!("`{name}` must be a text")));
        }
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(InvalidEvent::new(format_args!("`{name}` is given twice"))),
        }
    }

    fn put_extension(
        &mut self,
        name: Cow<'a, str>,
        kind: ExtensionKind,
        value: Cow<'a, str>,
    ) -> Result<(), InvalidEvent> {
        // The data has members of its own in JSON.
        let is_name = !name.is_empty()
            && name != "data"
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_name || name.len() > 64 {
            let rule = "names of attributes have 1 to 64 lower-case letters and digits";
            return Err(InvalidEvent::new(format_args!("`{name}` is no attribute; {rule}")));
        }
        if self.extensions.iter().any(|(earlier, ..)| *earlier == name) {
            return Err(InvalidEvent::new(format_args!("`{name}` is given twice")));
        }
        if self.extensions.len() == WEBHOOK_EXTENSIONS_MAX {
            let most = WEBHOOK_EXTENSIONS_MAX;
            return Err(InvalidEvent::new(format_args!("the event has more than {most} extensions")));
        }
        self.extensions.push((name, kind, value));
        Ok(())
    }

    /// Checks the attributes, and appends the event with the data that `data` makes for them.
    fn push<'d>(
        &self,
        batch: &mut Batch,
        data: impl FnOnce(&Attributes<'_>) -> Result<Cow<'d, [u8]>, InvalidEvent>,
    ) -> Result<(), InvalidEvent> {
        let required = |name: &str, value: &Option<Cow<'a, str>>| match value.as_deref() {
            Some("") => Err(InvalidEvent::new(format_args!("`{name}` is empty"))),
            Some(_) => Ok(()),
            None => Err(InvalidEvent::new(format_args!(
                "`{name}` is missing; a CloudEvent has `specversion`, `id`, `source` and `type`"
            ))),
        };
        required("specversion", &self.specversion)?;
        required("id", &self.id)?;
        required("source", &self.source)?;
        required("type", &self.kind)?;
        let version = self.specversion.as_deref().unwrap_or_default();
        if version != "1.0" {
            return Err(InvalidEvent::new(format_args!(
                "`specversion` is `{version}`; only `1.0` is supported"
            )));
        }
        let time = self.time.as_deref().unwrap_or_default();
        if !time.is_empty() && time.parse::<jiff::Timestamp>().is_err() {
            return Err(InvalidEvent::new(
                "`time` is not a time in RFC 3339, such as `2026-11-22T01:02:03Z`",
            ));
        }
        if self.source.as_deref().is_some_and(|source| source.contains(' ')) {
            return Err(InvalidEvent::new("`source` is not a URI reference"));
        }
        let attributes = Attributes {
            id: self.id.as_deref().unwrap_or_default(),
            source: self.source.as_deref().unwrap_or_default(),
            kind: self.kind.as_deref().unwrap_or_default(),
            time,
            datacontenttype: self.datacontenttype.as_deref().unwrap_or_default(),
            ..Attributes::EMPTY
        };
        let extensions: Vec<Extension<'_>> = self
            .extensions
            .iter()
            .map(|(name, kind, value)| Extension { name, kind: *kind, value })
            .collect();
        let data = data(&attributes)?;
        let subject = self.subject.as_deref().unwrap_or_default();
        batch.push(&PushedEvent { attributes, extensions: &extensions, subject, data: &data });
        Ok(())
    }
}

/// Appends an event of the JSON format.
fn one(RawMembers(members): &RawMembers<'_>, batch: &mut Batch) -> Result<(), InvalidEvent> {
    let mut found = FoundAttributes::default();
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in members {
        let slot = match &**name {
            "data" => &mut data,
            "data_base64" => &mut data_base64,
            _ => {
                if let Some((kind, value)) = attribute(name, value.get())? {
                    found.put(Cow::Borrowed(name), kind, value)?;
                }
                continue;
            }
        };
        if slot.replace(*value).is_some() {
            return Err(InvalidEvent::new(format_args!("`{name}` is given twice")));
        }
    }
    found.push(batch, |attributes| match (data, data_base64) {
        (Some(_), Some(_)) => Err(InvalidEvent::new("`data` and `data_base64` exclude each other")),
        (None, None) => Ok(Cow::Borrowed(&[][..])),
        (Some(data), None) => json_data(data, attributes),
        (None, Some(data)) => base64_data(data, attributes),
    })
}

/// The value of an attribute in the JSON format; `None` for `null`, which means that it is absent.
fn attribute<'a>(name: &str, json: &'a str) -> Result<Option<(ExtensionKind, Cow<'a, str>)>, InvalidEvent> {
    Ok(Some(match json.as_bytes() {
        b"null" => return Ok(None),
        b"true" | b"false" => (ExtensionKind::Boolean, Cow::Borrowed(json)),
        [b'"', ..] => (ExtensionKind::String, text(name, json)?),
        // An Integer of CloudEvents has 32 bits.
        _ if json.parse::<i32>().is_ok() => (ExtensionKind::Integer, Cow::Borrowed(json)),
        _ => {
            return Err(InvalidEvent::new(format_args!(
                "`{name}` must be a text, a boolean or a whole number of 32 bits"
            )));
        }
    }))
}

/// The text of a JSON string, borrowed unless it has escapes.
fn text<'a>(name: &str, json: &'a str) -> Result<Cow<'a, str>, InvalidEvent> {
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    match inner.filter(|inner| !inner.contains('\\')) {
        Some(inner) => Ok(Cow::Borrowed(inner)),
        None => serde_json::from_str::<String>(json)
            .map(Cow::Owned)
            .map_err(|_| InvalidEvent::new(format_args!("`{name}` must be a text"))),
    }
}

fn json_data<'a>(data: &'a RawValue, attributes: &Attributes<'_>) -> Result<Cow<'a, [u8]>, InvalidEvent> {
    let json = data.get();
    if attributes.has_json() {
        return Ok(compact(json.as_bytes()));
    }
    if !json.starts_with('"') {
        let message = "`data` must be a text unless `datacontenttype` is JSON; use `data_base64` for bytes";
        return Err(InvalidEvent::new(message));
    }
    Ok(match text("data", json)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

fn base64_data<'a>(data: &RawValue, attributes: &Attributes<'_>) -> Result<Cow<'a, [u8]>, InvalidEvent> {
    let wrong = || InvalidEvent::new("`data_base64` is not base64");
    let text = text("data_base64", data.get())?;
    let bytes = BASE64_STANDARD.decode(&*text).map_err(|_| wrong())?;
    checked("data_base64", Cow::Owned(bytes), attributes)
}

/// Checks that data that should be JSON is one JSON value.
fn checked<'a>(
    what: &str,
    data: Cow<'a, [u8]>,
    attributes: &Attributes<'_>,
) -> Result<Cow<'a, [u8]>, InvalidEvent> {
    if !attributes.has_json() || data.is_empty() {
        return Ok(data);
    }
    serde_json::from_slice::<IgnoredAny>(&data).map_err(|error| InvalidEvent::json(what, &error))?;
    std::str::from_utf8(&data).map_err(|_| InvalidEvent::new(format_args!("{what} is not UTF-8")))?;
    Ok(match compact(&data) {
        Cow::Owned(compact) => Cow::Owned(compact),
        Cow::Borrowed(_) => data,
    })
}

/// Returns true for the headers of a binary request.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// The value of a header without the double quotes and the backslashes of a quoted string, which
/// some senders use instead of percent-encoding (HTTP binding, §3.1.3.2).
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut bytes = inner.iter();
    let mut out = Vec::with_capacity(inner.len());
    while let Some(byte) = bytes.next() {
        out.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    Cow::Owned(out)
}

/// Appends the event of a binary request.
pub fn binary(headers: &HeaderMap, body: &[u8], batch: &mut Batch) -> Result<(), InvalidEvent> {
    let mut found = FoundAttributes::default();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        if name == "datacontenttype" {
            return Err(InvalidEvent::new(
                "`ce-datacontenttype` is not allowed; `Content-Type` has its value",
            ));
        }
        // The HTTP binding percent-encodes what a header cannot hold (§3.1.3.2).
        let value = unquoted(value.as_bytes());
        let value = percent_decode(&value).decode_utf8();
        let value = value.map_err(|_| InvalidEvent::new(format_args!("`{header}` is not UTF-8")))?;
        found.put(Cow::Borrowed(name), ExtensionKind::String, Cow::Owned(value.into_owned()))?;
    }
    if let Some(media) = headers.get(CONTENT_TYPE) {
        let media = media.to_str().map_err(|_| InvalidEvent::new("`Content-Type` is not ASCII"))?;
        found.put(Cow::Borrowed("datacontenttype"), ExtensionKind::String, Cow::Borrowed(media))?;
    } else if !body.is_empty() && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        found.datacontenttype = Some(Cow::Borrowed("application/octet-stream"));
    }
    found.push(batch, |attributes| checked("the body", Cow::Borrowed(body), attributes))
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
