//! One page of events, decoded: an arena of rendered bytes and records that point into it.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;
use uuid::Uuid;

use vsphere::{Category, Decoded, EventRecord, Span};

use super::{Attributes, Identity};
use crate::memory::Permit;

/// What the stages need to know of one event; its text lies in the batch's arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `Event.key` (xsd:int; wraps to negative); `None` where vCenter sent none or not a number.
    pub key: Option<i32>,
    /// `Event.chainId`; 0 where absent.
    pub chain_id: i32,
    /// `Event.createdTime` in microseconds since 1970 UTC, vCenter's clock; `None` where absent or not a time.
    pub created_us: Option<i64>,
    pub category: Category,
    /// The class name, `VmPoweredOnEvent`.
    pub class: Span,
    /// The class name, or `eventTypeId` for EventEx and ExtendedEvent. Unescaped text.
    pub subject: Span,
    /// The managed object the event is about, `VirtualMachine:vm-65`; empty where it names none. Unescaped text.
    pub entity: Span,
    /// `Event.userName`, unescaped text; empty where absent.
    pub user: Span,
    /// `Event.createdTime` as rendered into `data` (RFC 3339, vCenter's offset kept), without quotes; empty where absent.
    pub created_text: Span,
    /// The event as JSON: an object in the payload encoding that the batch was decoded for.
    pub data: Span,
    /// The `<returnval>` element, or the item of the JSON array, in the *page* (not in the arena).
    pub raw: Span,
    /// What the event is told apart by; set by `enrich`.
    pub identity: Identity,
    /// The CloudEvents id, set by `enrich`. Of an event that brings its own id: a UUID that follows
    /// from its source and id, for logs and for the keys of the store.
    pub id: Uuid,
    /// The attributes that the event brings itself, see [`Attributes`]; empty of a vCenter event.
    pub attributes: Span,
    /// Hash of the entity, or of the user where the event names no entity: the lane of ordering scope `entity`. Set by `enrich`.
    pub lane: u64,
    /// The read sequence of the source, given at first sight by `order`.
    pub seq: u64,
}

impl Record {
    /// Every span into the arena: whoever moves a record to another arena moves these.
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

    /// The same to look at.
    pub fn spans(&self) -> [Span; 7] {
        let mut copy = *self;
        copy.spans_mut().map(|span| *span)
    }

    /// Where the event lies on the axis that its source's position moves along, microseconds:
    /// createdTime of a vCenter event, the place of its row of one that came through the inbox.
    pub fn position_us(&self) -> Option<i64> {
        if self.attributes.is_empty() { self.created_us } else { self.identity.minute_us() }
    }
}

/// The lane of ordering scope `entity`: a hash of the entity, or of the user where the event names
/// no entity. The first byte keeps an entity and a user of the same name apart.
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

/// What is the same for every event of one source.
#[derive(Debug, PartialEq, Eq)]
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
    /// When the router read the page, microseconds since 1970 UTC by the router's clock: the CloudEvents `time`.
    pub produced_us: i64,
    pub arena: Vec<u8>,
    pub records: Vec<Record>,
    /// The page as vCenter sent it, XML or VI/JSON, where a destination wants `payload: xml` or `payload: vijson`; else empty.
    pub raw_page: bytes::Bytes,
    /// This batch's share of the global byte budget; given back when the last holder drops the batch.
    pub permit: Permit,
    /// Set on the events that another destination could not deliver and a dead-letter processor gets instead.
    pub failed: Option<Arc<Failed>>,
}

/// What became of events elsewhere: the attributes that Knative gives to what its dead-letter sinks get (Knative Eventing, "Handling Delivery Failure").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failed {
    /// `knativeerrordest`: where they were to go, a URL if it has one.
    pub dest: String,
    /// `knativeerrorcode`: the HTTP status of the last try; 500 where there was none, as Knative has it.
    pub code: u16,
    /// `knativeerrordata`: what the target said, in base64 and cut to 1,024 characters; empty where it said nothing.
    pub data: String,
}

impl Batch {
    /// Events without a share of the budget, without the page that they came in, and that failed nowhere.
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

    /// The events of a decoded page, with their records made in one pass.
    pub fn decoded(source: Arc<SourceInfo>, page: u64, decoded: Decoded) -> Self {
        let records = decoded.records.iter().map(Record::from).collect();
        Batch::new(source, page, decoded.arena, records)
    }

    /// The attributes that the event brings itself; `None` of a vCenter event.
    pub fn attributes(&self, record: &Record) -> Option<Attributes<'_>> {
        if record.attributes.is_empty() { None } else { Attributes::read(self.bytes(record.attributes)) }
    }

    /// The bytes of `span`.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.range()]
    }

    /// The text of `span`; the decoder writes valid UTF-8 only, so this never replaces anything in practice.
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// Bytes that this batch keeps in memory.
    pub fn size(&self) -> usize {
        self.arena.capacity() + self.records.capacity() * size_of::<Record>() + self.raw_page.len()
    }
}
