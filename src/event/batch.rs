//! One decoded page of events: an arena of rendered bytes, and records that point into it.
//!
//! ```text
//! arena    {"Key":1059,"CreatedTime":"2026-…","Vm":{…},…}VmPoweredOnEventVirtualMachine:vm-65…
//!          └───────────── data ─────────────────────────┘└── class ─────┘└── entity ────────┘
//!                                  └ created_text ┘
//! records  Record { key: 1059, data: Span(0, 812), class: Span(812, 828), … }   one an event
//! ```
//!
//! A batch is built once and never changed after the stages have filled in its records.
//! Destinations share it; its memory is released when the last of them has settled its events.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;
use uuid::Uuid;

use vsphere::{Category, Decoded, EventRecord, Span};

use super::{Attributes, Identity};
use crate::memory::Permit;

/// The facts of one event that the stages need. Its text lies in the batch's arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `Event.key` (xsd:int, which wraps to negative); `None` if it was absent or not a number.
    pub key: Option<i32>,
    /// `Event.chainId`; 0 if absent.
    pub chain_id: i32,
    /// `Event.createdTime` by vCenter's clock, microseconds since 1970 UTC; `None` if it was absent
    /// or not a time.
    pub created_us: Option<i64>,
    pub category: Category,
    /// The class name, `VmPoweredOnEvent`.
    pub class: Span,
    /// The class name, or `eventTypeId` for EventEx and ExtendedEvent. Unescaped text.
    pub subject: Span,
    /// The managed object that the event is about, such as `VirtualMachine:vm-65`. Unescaped text;
    /// empty if the event names none.
    pub entity: Span,
    /// `Event.userName`. Unescaped text; empty if absent.
    pub user: Span,
    /// `Event.createdTime` as rendered into `data`: RFC 3339 with vCenter's offset, without quotes;
    /// empty if absent.
    pub created_text: Span,
    /// The event as JSON: an object in the payload encoding that the batch was decoded for.
    pub data: Span,
    /// The `<returnval>` element, or the item of the JSON array, in the *page* (not in the arena).
    pub raw: Span,
    /// The identity within the source; set by `enrich`.
    pub identity: Identity,
    /// The CloudEvents id; set by `enrich`. An event with attributes of its own has a UUID here
    /// that follows from its CloudEvents source and id. Logs and keys of the store use it.
    pub id: Uuid,
    /// The attributes that the event arrived with, see [`Attributes`]; empty for a vCenter event.
    pub attributes: Span,
    /// The lane in ordering scope `entity`, see [`lane_of`]; set by `enrich`.
    pub lane: u64,
    /// The read sequence number within the source; set by `order` when the event is read first.
    pub seq: u64,
}

impl Record {
    /// All spans into the arena. Code that moves a record to another arena shifts these.
    pub fn spans_mut(&mut self) -> [&mut Span; 7] {
        [
            &mut self.class,
            &mut self.subject,
            &mut self.entity,
            &mut self.user,
            &mut self.created_text,
            &mut self.attributes,
            &mut self.data,
        ]
    }

    /// All spans into the arena, by value.
    pub fn spans(&self) -> [Span; 7] {
        let mut copy = *self;
        copy.spans_mut().map(|span| *span)
    }

    /// The event's place on the axis along which its source's position moves, in microseconds. For
    /// a vCenter event this is createdTime, for an event of a push source its place in the inbox.
    pub fn position_us(&self) -> Option<i64> {
        if self.attributes.is_empty() { self.created_us } else { self.identity.minute_us() }
    }
}

/// The lane of an event in ordering scope `entity`: a hash of the entity, or of the user if the
/// event names no entity. The first byte distinguishes an entity from a user of the same name.
pub fn lane_of(entity: &[u8], user: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    if entity.is_empty() {
        hasher.write_u8(1);
        hasher.write(user);
    } else {
        hasher.write_u8(0);
        hasher.write(entity);
    }
    hasher.finish()
}

impl From<&EventRecord> for Record {
    /// The decoder's facts; `identity`, `id`, `lane` and `seq` are not yet set.
    fn from(event: &EventRecord) -> Self {
        Record {
            key: event.key,
            chain_id: event.chain_id,
            created_us: event.created_us,
            category: event.category,
            class: event.class,
            subject: event.subject,
            entity: event.entity,
            user: event.user,
            created_text: event.created_text,
            data: event.data,
            raw: event.raw,
            ..Record::default()
        }
    }
}

/// The facts that all events of one source share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// The source's index in the configuration; stable while the process runs.
    pub index: usize,
    /// The configured name.
    pub name: String,
    /// The CloudEvents `source`: the SDK URL.
    pub url: String,
    /// `AboutInfo.instanceUuid`, the namespace of the event ids.
    pub instance_uuid: Uuid,
    /// `AboutInfo.apiVersion`.
    pub api_version: String,
}

/// One page of events on its way from a source to the destinations.
#[derive(Debug)]
pub struct Batch {
    pub source: Arc<SourceInfo>,
    /// The page's number within its source, counted from 0 for each run of the process.
    pub page: u64,
    /// Time at which the router read the page, microseconds since 1970 UTC by the router's clock.
    /// It is the CloudEvents `time` unless configured otherwise.
    pub produced_us: i64,
    pub arena: Vec<u8>,
    pub records: Vec<Record>,
    /// The page as vCenter sent it, XML or VI/JSON. Empty unless a destination has `payload: xml`
    /// or `payload: vijson`.
    pub raw_page: bytes::Bytes,
    /// The batch's share of the global byte budget, given back when the batch is dropped.
    pub permit: Permit,
    /// Set if another destination could not deliver these events, and a dead-letter processor gets
    /// them instead.
    pub failed: Option<Arc<Failed>>,
}

/// The failure of events at another destination, as the attributes that Knative adds for
/// dead-letter sinks (Knative Eventing, "Handling Delivery Failure").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failed {
    /// `knativeerrordest`: the destination that failed, as a URL if it has one.
    pub dest: String,
    /// `knativeerrorcode`: the HTTP status of the last attempt, or 500 without one, as in Knative.
    pub code: u16,
    /// `knativeerrordata`: the target's answer in base64, cut to 1,024 characters; empty without
    /// one.
    pub data: String,
}

impl Batch {
    /// A batch without a share of the budget, without its raw page, and without a failure.
    pub fn new(source: Arc<SourceInfo>, page: u64, arena: Vec<u8>, records: Vec<Record>) -> Self {
        Batch {
            source,
            page,
            produced_us: 0,
            arena,
            records,
            raw_page: bytes::Bytes::new(),
            permit: Permit::default(),
            failed: None,
        }
    }

    /// A batch of the events of a decoded page.
    pub fn decoded(source: Arc<SourceInfo>, page: u64, decoded: Decoded) -> Self {
        let records = decoded.records.iter().map(Record::from).collect();
        Batch::new(source, page, decoded.arena, records)
    }

    /// The attributes that the event arrived with; `None` for a vCenter event.
    pub fn attributes(&self, record: &Record) -> Option<Attributes<'_>> {
        if record.attributes.is_empty() { None } else { Attributes::read(self.bytes(record.attributes)) }
    }

    /// The bytes of `span`.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.range()]
    }

    /// The text of `span`. The decoder writes valid UTF-8 only; bytes that are not give an empty
    /// text.
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// Bytes of memory that this batch takes, behind an `Arc`. The fixed part is more than half of
    /// a batch of one small event.
    pub fn size(&self) -> usize {
        let fixed = size_of::<Batch>() + 2 * size_of::<usize>();
        fixed + self.arena.capacity() + self.records.capacity() * size_of::<Record>() + self.raw_page.len()
    }
}
