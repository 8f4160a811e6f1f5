//! CloudEvents 1.0 around the events of a batch, in the three content modes of the HTTP binding.
//!
//! ```text
//! structured  {"id":"…","source":"…","specversion":"1.0","type":"…","subject":"…","time":"…",
//!              "data":…,"datacontenttype":"…",extensions}
//! batched     [structured,structured,…]
//! binary      headers ce-id, ce-source, …, content-type; the body is the data alone
//! ```
//!
//! The order of the structured members is the one that the appliance documents. With `format:
//! veba-v0.8` the `type` differs from event to event: it follows the head instead of a subject.
//!
//! An [`Envelope`] belongs to one destination. It renders the constant parts of an event once for
//! each source and category, as [`Fragments`]. Rendering an event then appends bytes only:
//!
//! ```text
//! {"id":"ID","source":"https://vc","specversion":"1.0","type":"…","subject":…,"data":…,"site":"b"}
//!          └─────────────────────── head ───────────────────────┘                     └─ tail ──┘
//! ```
//!
//! In structured mode the data is copied once, into the body that is sent. In binary mode the body
//! shares the memory of the batch.
//!
//! Specifications: CloudEvents 1.0.2, its JSON event format (§3.1: data that is not JSON is a JSON
//! string), and its HTTP binding (§3.1.3.2: percent-encoding).

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::text::{header_value, push_escaped, push_member};
use crate::cloudevents::settings::{EnvelopeOptions, EventFormat, EventTime, Payload};
use crate::event::{Batch, Category, Record, SourceInfo, TypeSeverities, class_of, severity, type_of};
use crate::limits::ENVELOPE_SOURCES_MAX;

/// The reason why a configured extension cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("extension name `{0}` is not allowed: use lower-case letters a-z and digits only")]
    Name(String),
    #[error("extension name `{0}` is an attribute that the router sets itself; choose another name")]
    Reserved(String),
    #[error("extension `{0}` is given twice; keep one")]
    Twice(String),
}

/// Renders the events of one destination.
#[derive(Debug)]
pub struct Envelope {
    options: EnvelopeOptions,
    /// A short list. Every request reads it; it is replaced when a source appears or its facts
    /// change.
    sources: ArcSwap<Vec<Arc<Fragments>>>,
}

/// The constant parts of all events of one source, one for each category.
#[derive(Debug)]
struct Fragments {
    source: Arc<SourceInfo>,
    /// The members from the closing quote of the id up to the type.
    heads: [Vec<u8>; 3],
    /// The constant extensions.
    tails: [Vec<u8>; 3],
    headers: [HeaderMap; 3],
}

/// Renders the events of one batch.
#[derive(Debug)]
pub struct Rendering<'a> {
    pub(super) options: &'a EnvelopeOptions,
    fragments: Arc<Fragments>,
    pub(super) batch: &'a Batch,
    /// The time at which the router read the page, RFC 3339.
    time: String,
    /// Set if an attribute follows from the severity.
    pub(super) severities: Option<Arc<TypeSeverities>>,
}

/// The data of one event.
enum EventData<'a> {
    /// The JSON that the decoder rendered.
    Decoded(&'a [u8]),
    /// VI/JSON: as vCenter sent it, or rendered from XML.
    ViJson(Cow<'a, [u8]>),
    /// The XML element that vCenter sent, as a document of its own.
    Xml(Cow<'a, [u8]>),
}

const JSON: &str = "application/json";
const XML: &str = "application/xml";
const RESERVED: [&str; 13] = [
    "id",
    "source",
    "specversion",
    "type",
    "subject",
    "time",
    "data",
    "data_base64",
    "datacontenttype",
    "dataschema",
    "knativeerrordest",
    "knativeerrorcode",
    "knativeerrordata",
];

/// Size of the attributes of a typical event, with names and quotes: 36 bytes of id, about 100 of
/// source and type, about 200 of the others. The documentation of `batch.bytes` states this number.
const ATTRIBUTES_BYTES: usize = 340;

/// Estimates the size of event `i` of `batch` as a structured CloudEvent. The options of the
/// destination are not included: long fixed extensions and other payloads come on top.
///
/// Destinations cut their requests by this estimate, before rendering.
pub fn size_estimate(batch: &Batch, i: usize) -> usize {
    let record = &batch.records[i];
    (record.data.len + record.attributes.len) as usize + ATTRIBUTES_BYTES
}

impl Envelope {
    /// Checks the fixed extensions, and switches off generated ones that they replace. Applies the
    /// attributes that come with the format.
    pub fn new(mut options: EnvelopeOptions) -> Result<Self, EnvelopeError> {
        let extensions = &mut options.extensions;
        for (at, (name, _)) in extensions.fixed.iter().enumerate() {
            if RESERVED.contains(&name.as_str()) {
                return Err(EnvelopeError::Reserved(name.clone()));
            }
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
                return Err(EnvelopeError::Name(name.clone()));
            }
            if extensions.fixed[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(EnvelopeError::Twice(name.clone()));
            }
        }
        if options.format == EventFormat::VebaV08 {
            options.time = EventTime::Created;
            extensions.vsphereapiversion = true;
            extensions.eventclass = true;
        }
        let is_fixed = |name| extensions.fixed.iter().any(|(fixed, _)| fixed == name);
        let [sequence, partitionkey, vsphereapiversion, eventclass] =
            ["sequence", "partitionkey", "vsphereapiversion", "eventclass"].map(is_fixed);
        let [text, number, category] = ["severitytext", "severitynumber", "category"].map(is_fixed);
        extensions.severity &= !text && !number;
        extensions.category &= !category;
        extensions.sequence &= !sequence;
        extensions.partitionkey &= !partitionkey;
        extensions.vsphereapiversion &= !vsphereapiversion;
        extensions.eventclass &= !eventclass;
        Ok(Envelope { options, sources: ArcSwap::default() })
    }

    pub fn options(&self) -> &EnvelopeOptions {
        &self.options
    }

    /// Prepares to render events of `batch`. The cost is paid once a batch.
    pub fn open<'a>(&'a self, batch: &'a Batch) -> Rendering<'a> {
        Rendering {
            options: &self.options,
            fragments: self.fragments(&batch.source),
            batch,
            time: rfc3339(batch.produced_us),
            severities: self.severities(batch),
        }
    }

    /// The severities of the vCenter's event types, if an attribute follows from them.
    fn severities(&self, batch: &Batch) -> Option<Arc<TypeSeverities>> {
        let needed = self.options.extensions.needs_severity();
        needed.then(|| severity::known(batch.source.instance_uuid))
    }

    /// The fragments of a source, rendered now if they are not known yet.
    fn fragments(&self, source: &Arc<SourceInfo>) -> Arc<Fragments> {
        let known = self.sources.load();
        let same = known.iter().find(|known| Arc::ptr_eq(&known.source, source));
        // Batches that come back from a spool have an equal source in another allocation.
        if let Some(found) = same.or_else(|| known.iter().find(|known| known.source == *source)) {
            return Arc::clone(found);
        }
        let made = Arc::new(Fragments::new(source, &self.options));
        self.sources.rcu(|known| {
            let mut next: Vec<_> = known.iter().filter(|known| known.source != *source).cloned().collect();
            if next.len() == ENVELOPE_SOURCES_MAX {
                next.remove(0);
            }
            next.push(Arc::clone(&made));
            next
        });
        made
    }
}

impl Fragments {
    fn new(source: &Arc<SourceInfo>, options: &EnvelopeOptions) -> Self {
        let categories = [Category::Event, Category::EventEx, Category::ExtendedEvent];
        Fragments {
            source: Arc::clone(source),
            heads: categories.map(|category| head(source, options, category)),
            tails: categories.map(|category| tail(source, options, category)),
            headers: categories.map(|category| constant_headers(source, options, category)),
        }
    }
}

/// The extensions with the same value for all events of one source and category.
fn constant_extensions<'a>(
    source: &'a SourceInfo,
    options: &'a EnvelopeOptions,
    category: Category,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let extensions = &options.extensions;
    let version = extensions.vsphereapiversion.then_some(("vsphereapiversion", source.api_version.as_str()));
    let class = extensions.eventclass.then_some(("eventclass", class_of(category)));
    let fixed = extensions.fixed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    version.into_iter().chain(class).chain(fixed)
}

fn head(source: &SourceInfo, options: &EnvelopeOptions, category: Category) -> Vec<u8> {
    let mut head = b"\",\"source\":\"".to_vec();
    push_escaped(&mut head, source.url.as_bytes());
    head.extend_from_slice(b"\",\"specversion\":\"1.0\"");
    if options.format == EventFormat::Router {
        push_member(&mut head, "type", type_of(category).as_bytes());
    }
    head
}

fn tail(source: &SourceInfo, options: &EnvelopeOptions, category: Category) -> Vec<u8> {
    let mut tail = Vec::new();
    for (name, value) in constant_extensions(source, options, category) {
        push_member(&mut tail, name, value.as_bytes());
    }
    tail
}

/// The headers of binary mode that are the same for all events of one source and category.
fn constant_headers(source: &SourceInfo, options: &EnvelopeOptions, category: Category) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
    headers.insert("ce-source", header_value(source.url.as_bytes()));
    if options.format == EventFormat::Router {
        headers.insert("ce-type", HeaderValue::from_static(type_of(category)));
    }
    for (name, value) in constant_extensions(source, options, category) {
        let name = HeaderName::from_bytes(format!("ce-{name}").as_bytes());
        headers.insert(
            name.expect("names of letters and digits are header names"),
            header_value(value.as_bytes()),
        );
    }
    headers
}

impl<'a> Rendering<'a> {
    /// Number of bytes to reserve before [`Rendering::structured`] appends event `i`. It is rarely
    /// too small, so the buffer rarely grows and copies. More precise than [`size_estimate`], since
    /// it includes the texts of this event and the options of the destination.
    pub fn size_hint(&self, i: usize) -> usize {
        let record = &self.batch.records[i];
        let at = record.category as usize;
        let payload = match self.options.payload {
            Payload::Pascal => 0,
            Payload::ViJson | Payload::Xml => {
                (record.raw.len + record.raw.len / 8).saturating_sub(record.data.len)
            }
        };
        let texts = record.subject.len + record.entity.len + record.created_text.len;
        let failed =
            self.batch.failed.as_ref().map_or(0, |failed| failed.dest.len() + failed.data.len() + 80);
        let constant = self.fragments.heads[at].len() + self.fragments.tails[at].len();
        size_estimate(self.batch, i) + constant + (texts + payload) as usize + failed
    }

    /// Appends event `i` as a structured CloudEvent.
    pub fn structured(&self, i: usize, out: &mut Vec<u8>) {
        let record = &self.batch.records[i];
        if let Some(own) = self.batch.attributes(record) {
            return self.structured_own(record, &own, out);
        }
        let at = record.category as usize;
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(self.id(record, &mut [0; 36]).as_bytes());
        out.extend_from_slice(&self.fragments.heads[at]);
        if self.options.format == EventFormat::VebaV08 {
            self.push_type_v08(i, out);
        } else if !record.subject.is_empty() {
            push_member(out, "subject", self.batch.bytes(record.subject));
        }
        push_member(out, "time", self.time(record));
        out.extend_from_slice(b",\"data\":");
        match self.payload(record) {
            EventData::Xml(element) => {
                out.push(b'"');
                push_escaped(out, String::from_utf8_lossy(&element).as_bytes());
                out.extend_from_slice(b"\",\"datacontenttype\":\"application/xml\"");
            }
            EventData::Decoded(json) | EventData::ViJson(Cow::Borrowed(json)) => push_json(out, json),
            EventData::ViJson(Cow::Owned(json)) => push_json(out, &json),
        }
        if let Some(digits) = self.sequence(record) {
            push_member(out, "sequence", &digits);
        }
        if let Some(entity) = self.partition_key(record) {
            push_member(out, "partitionkey", entity);
        }
        self.push_severity(record, out);
        self.push_failed(out);
        out.extend_from_slice(&self.fragments.tails[at]);
        out.push(b'}');
    }

    /// Appends the failure at another destination, if there was one.
    pub(super) fn push_failed(&self, out: &mut Vec<u8>) {
        let Some(failed) = &self.batch.failed else { return };
        push_member(out, "knativeerrordest", failed.dest.as_bytes());
        // CloudEvents writes an Integer as a JSON number.
        out.extend_from_slice(format!(",\"knativeerrorcode\":{}", failed.code).as_bytes());
        if !failed.data.is_empty() {
            push_member(out, "knativeerrordata", failed.data.as_bytes());
        }
    }

    /// Inserts the failure at another destination as headers, if there was one.
    pub(super) fn insert_failed(&self, headers: &mut HeaderMap) {
        let Some(failed) = &self.batch.failed else { return };
        headers.insert("ce-knativeerrordest", header_value(failed.dest.as_bytes()));
        headers.insert("ce-knativeerrorcode", HeaderValue::from(failed.code));
        if !failed.data.is_empty() {
            headers.insert("ce-knativeerrordata", header_value(failed.data.as_bytes()));
        }
    }

    /// The headers of event `i` in binary mode, including `content-type`.
    pub fn headers(&self, i: usize) -> HeaderMap {
        let record = &self.batch.records[i];
        if let Some(own) = self.batch.attributes(record) {
            return self.headers_own(record, &own);
        }
        let mut headers = self.fragments.headers[record.category as usize].clone();
        headers.insert("ce-id", header_value(self.id(record, &mut [0; 36]).as_bytes()));
        if self.options.format == EventFormat::VebaV08 {
            headers.insert("ce-type", self.type_header_v08(i));
        } else if !record.subject.is_empty() {
            headers.insert("ce-subject", header_value(self.batch.bytes(record.subject)));
        }
        headers.insert("ce-time", header_value(self.time(record)));
        if let Some(digits) = self.sequence(record) {
            headers.insert("ce-sequence", header_value(&digits));
        }
        if let Some(entity) = self.partition_key(record) {
            headers.insert("ce-partitionkey", header_value(entity));
        }
        self.insert_severity(record, &mut headers);
        self.insert_failed(&mut headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type(i)));
        headers
    }

    /// The `datacontenttype` of event `i`, if it has no attributes of its own.
    fn content_type(&self, i: usize) -> &'static str {
        if self.options.payload == Payload::Xml && self.batch.was_sent_as_xml(&self.batch.records[i]) {
            XML
        } else {
            JSON
        }
    }

    /// The data of event `i`: the body in binary mode.
    pub fn data(&self, i: usize) -> Cow<'a, [u8]> {
        match self.payload(&self.batch.records[i]) {
            EventData::Xml(element) => element,
            EventData::Decoded(json) => Cow::Borrowed(json),
            EventData::ViJson(json) => json,
        }
    }

    /// The CloudEvents `source` of event `i`.
    pub fn source(&self, i: usize) -> &'a str {
        self.batch.attributes(&self.batch.records[i]).map_or(&self.batch.source.url, |own| own.source)
    }

    /// The CloudEvents `time` of event `i`, microseconds since 1970 UTC.
    pub fn time_us(&self, i: usize) -> i64 {
        let record = &self.batch.records[i];
        let brings_time = self.options.time == EventTime::Created || !record.attributes.is_empty();
        record.created_us.filter(|_| brings_time).unwrap_or(self.batch.produced_us)
    }

    /// A name of event `i` that is never empty: its subject, else its class or its own CloudEvents
    /// type, else `Event`.
    pub fn detail_type(&self, i: usize) -> &'a str {
        let record = &self.batch.records[i];
        let own = self.batch.attributes(record).map_or("", |own| own.kind);
        [record.subject, record.class]
            .into_iter()
            .map(|name| self.batch.text(name))
            .chain([own])
            .find(|name| !name.is_empty())
            .unwrap_or("Event")
    }

    fn json(&self, record: &Record) -> &'a [u8] {
        match self.batch.bytes(record.data) {
            [] if record.attributes.is_empty() => b"null",
            data => data,
        }
    }

    /// The data in the payload of this destination, or the decoded JSON as a fallback.
    fn payload(&self, record: &Record) -> EventData<'a> {
        let wanted = match self.options.payload {
            Payload::Pascal => None,
            Payload::ViJson => self.batch.sent_as_vijson(record).map(EventData::ViJson),
            Payload::Xml => self.batch.sent_as_xml(record).map(EventData::Xml),
        };
        wanted.unwrap_or_else(|| EventData::Decoded(self.json(record)))
    }

    pub(super) fn time(&self, record: &Record) -> &[u8] {
        let brings_time = self.options.time == EventTime::Created || !record.attributes.is_empty();
        let created = brings_time && record.created_us.is_some();
        match self.batch.bytes(record.created_text) {
            text @ [_, ..] if created => text,
            _ => self.time.as_bytes(),
        }
    }

    fn sequence(&self, record: &Record) -> Option<[u8; 10]> {
        let mut rest = record.key.filter(|_| self.options.extensions.sequence)? as u32;
        let mut digits = [b'0'; 10];
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        Some(digits)
    }

    pub(super) fn partition_key(&self, record: &Record) -> Option<&'a [u8]> {
        (self.options.extensions.partitionkey && !record.entity.is_empty())
            .then(|| self.batch.bytes(record.entity))
    }
}

/// The data of event `i` of `batch` as a body. It shares the memory of the batch, except for data
/// that has to be rendered again: XML with its prefixes declared, and VI/JSON made from XML.
pub fn shared_data(rendering: &Rendering<'_>, batch: &Arc<Batch>, i: usize) -> Bytes {
    struct DataInBatch(Arc<Batch>, usize);
    impl AsRef<[u8]> for DataInBatch {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes(self.0.records[self.1].data)
        }
    }
    match rendering.payload(&batch.records[i]) {
        EventData::Decoded(b"null") => Bytes::from_static(b"null"),
        EventData::Decoded(_) => Bytes::from_owner(DataInBatch(Arc::clone(batch), i)),
        EventData::ViJson(Cow::Borrowed(_)) => batch.raw_page.slice(batch.records[i].raw.range()),
        EventData::ViJson(Cow::Owned(json)) => Bytes::from(json),
        EventData::Xml(element) => Bytes::from(element.into_owned()),
    }
}

/// Formats microseconds since 1970 as RFC 3339 in UTC, without trailing zeros of the fraction.
fn rfc3339(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Appends JSON data and its `datacontenttype`.
fn push_json(out: &mut Vec<u8>, json: &[u8]) {
    out.extend_from_slice(json);
    out.extend_from_slice(b",\"datacontenttype\":\"application/json\"");
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
