//! The blob format: events of one batch, as a row of the spool or a dead letter keeps them.
//!
//! ```text
//!  0       2         3       4             8              12             16
//! ┌───────┬─────────┬───────┬─────────────┬──────────────┬──────────────┬───────────┐
//! │ "EB"  │ version │ flags │ CRC-32 of   │ number of    │ body length, │ body,     │
//! │       │ 1 or 2  │ 0     │ bytes 8..   │ events, u32  │ plain, u32   │ LZ4 block │
//! └───────┴─────────┴───────┴─────────────┴──────────────┴──────────────┴───────────┘
//!
//! all integers little-endian
//! v = unsigned LEB128, z = zigzag LEB128, text = v length, then the bytes
//!
//! body    = text source name, text source url, 16 bytes instanceUuid, text apiVersion
//!           v page, z produced_us
//!           v 0; or, for events that failed elsewhere: v 1, text dest, v code, text data
//!           the records, one an event
//!           v length of the arena, the arena
//!           the events as vCenter sent them (XML or JSON), if the batch kept its page: to the end
//! record  = 1 byte of flags: bits 0-1 category, bit 2 has key, bit 3 has time,
//!                   bit 4 identity and id follow from key and time, bit 5 has raw bytes,
//!                   bit 6 has attributes of its own (since version 2)
//!           [z key] z chainId [z created_us]
//!           [4 bytes minute, 4 bytes key, 16 bytes id]   unless bit 4
//!           8 bytes lane, z seq minus the seq before
//!           5 spans: class, subject, entity, user, created_text
//!                   span = z start minus start of data, v length
//!           [span of the attributes]                     if bit 6
//!           v start of data minus end of the data before, v length of data
//!           [v length of the raw bytes]                  if bit 5; they lie in record order
//! ```
//!
//! Only the picked events are stored, with the arena bytes that they point at. A decoded event
//! renders to the same bytes as before. Ids are 16 bytes that do not compress. Nearly all of them
//! follow from key and time, and those are computed again instead of stored.
//!
//! INVARIANT: [`decode`] turns any bytes into a batch whose spans lie within its arena, or into an
//! error. It allocates at most 255 times the size of the blob, which is the highest ratio of LZ4.

use std::sync::Arc;

use uuid::Uuid;

use crate::event::{Batch, Category, Failed, Identity, Record, Selection, SourceInfo, Span, event_id};
use crate::limits::{BATCH_EVENTS_MAX, BLOB_BYTES_MAX};
use crate::memory::Permit;

const MAGIC: &[u8; 2] = b"EB";
/// The version that is written. Version 1 had only events of vCenters.
const VERSION: u8 = 2;
/// The oldest version that is read.
const VERSION_MIN: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Highest compression ratio of LZ4: one byte of a match length stands for 255 bytes.
const RATIO_MAX: usize = 255;

/// The `SourceInfo::index` of a decoded batch whose source is no longer configured.
pub const UNKNOWN_SOURCE: usize = usize::MAX;

/// The reason why bytes cannot be decoded, or events not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("not a stored batch: the first two bytes are not `EB`")]
    Foreign,
    #[error("a stored batch of version {0}, this release knows {VERSION}; run the release that wrote it")]
    Newer(u8),
    #[error("a stored batch is damaged: checksum {found:08x} instead of {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("a stored batch is damaged: {0}")]
    Malformed(&'static str),
    #[error(
        "a batch of {bytes} bytes is too large to store, at most {BLOB_BYTES_MAX}; store its events in parts"
    )]
    TooLarge { bytes: usize },
}

/// Encoded events: the blob, and the identities of the events in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    blob: Vec<u8>,
    identities: Vec<Identity>,
}

impl Encoded {
    /// The bytes that [`decode`] takes.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    pub fn into_blob(self) -> Vec<u8> {
        self.blob
    }

    /// The identity of each event, in order.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The earliest event by minute, then key; `None` without events.
    pub fn oldest(&self) -> Option<Identity> {
        self.identities.iter().min().copied()
    }
}

/// Encodes the `picks` of `batch`.
pub fn encode(batch: &Batch, picks: &Selection) -> Result<Encoded, CodecError> {
    let picked = || picks.iter().filter_map(|i| batch.records.get(i));
    let mut body = Vec::new();
    // The source and the page.
    put_text(&mut body, batch.source.name.as_bytes());
    put_text(&mut body, batch.source.url.as_bytes());
    body.extend_from_slice(batch.source.instance_uuid.as_bytes());
    put_text(&mut body, batch.source.api_version.as_bytes());
    put_unsigned(&mut body, batch.page);
    put_signed(&mut body, batch.produced_us);
    put_unsigned(&mut body, batch.failed.is_some().into());
    if let Some(failed) = &batch.failed {
        put_text(&mut body, failed.dest.as_bytes());
        put_unsigned(&mut body, failed.code.into());
        put_text(&mut body, failed.data.as_bytes());
    }

    // The records, and an arena with the bytes that they point at.
    let mut arena = Vec::new();
    let mut identities = Vec::new();
    let (mut seq, mut data_end) = (0, 0);
    for record in picked() {
        put_record(&mut body, batch, record, &mut arena, &mut seq, &mut data_end);
        identities.push(record.identity);
    }
    put_text(&mut body, &arena);
    // The raw bytes of the events.
    if !batch.raw_page.is_empty() {
        picked().for_each(|record| body.extend_from_slice(&batch.raw_page[record.raw.range()]));
    }
    if body.len() > BLOB_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: body.len() });
    }
    Ok(Encoded { blob: seal(&body, identities.len() as u32), identities })
}

fn put_record(
    body: &mut Vec<u8>,
    batch: &Batch,
    record: &Record,
    arena: &mut Vec<u8>,
    seq: &mut u64,
    data_end: &mut usize,
) {
    let derived = derive(&batch.source.instance_uuid, record.key, record.created_us);
    let derived = derived == Some((record.identity, record.id));
    let has_raw = !batch.raw_page.is_empty() && !record.raw.is_empty();
    body.push(
        match record.category {
            Category::Event => 0,
            Category::EventEx => 1,
            Category::ExtendedEvent => 2,
        } | u8::from(record.key.is_some()) << 2
            | u8::from(record.created_us.is_some()) << 3
            | u8::from(derived) << 4
            | u8::from(has_raw) << 5
            | u8::from(!record.attributes.is_empty()) << 6,
    );
    if let Some(key) = record.key {
        put_signed(body, key.into());
    }
    put_signed(body, record.chain_id.into());
    if let Some(created_us) = record.created_us {
        put_signed(body, created_us);
    }
    if !derived {
        body.extend_from_slice(&record.identity.minute.to_le_bytes());
        body.extend_from_slice(&record.identity.key.to_le_bytes());
        body.extend_from_slice(record.id.as_bytes());
    }
    body.extend_from_slice(&record.lane.to_le_bytes());
    put_signed(body, record.seq.wrapping_sub(*seq) as i64);
    *seq = record.seq;

    let data = Span::new(arena.len(), arena.len() + record.data.len as usize);
    arena.extend_from_slice(batch.bytes(record.data));
    let names = [record.class, record.subject, record.entity, record.user, record.created_text];
    let attributes = Some(record.attributes).filter(|span| !span.is_empty());
    for span in names.into_iter().chain(attributes) {
        // Most names lie within the event's own JSON. Those bytes are stored once.
        let within =
            record.data.range().start <= span.range().start && span.range().end <= record.data.range().end;
        let start = if span.is_empty() {
            data.start as usize
        } else if within {
            (data.start + (span.start - record.data.start)) as usize
        } else {
            arena.extend_from_slice(batch.bytes(span));
            arena.len() - span.len as usize
        };
        put_signed(body, start as i64 - i64::from(data.start));
        put_unsigned(body, span.len.into());
    }
    put_unsigned(body, (data.start as usize - *data_end) as u64);
    put_unsigned(body, data.len.into());
    *data_end = data.range().end;
    if has_raw {
        put_unsigned(body, record.raw.len.into());
    }
}

/// The identity and the id of an event that has a key: both follow from key and time.
fn derive(instance: &Uuid, key: Option<i32>, created_us: Option<i64>) -> Option<(Identity, Uuid)> {
    key.map(|key| event_id(instance, Some(key), created_us, || unreachable!("asked for only without a key")))
}

/// Compresses and checksums `body`. Public for the fuzz target, whose bytes would never pass the
/// checksum.
pub fn seal(body: &[u8], events: u32) -> Vec<u8> {
    let mut blob = Vec::with_capacity(HEADER_BYTES + lz4_flex::block::get_maximum_output_size(body.len()));
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
    blob.extend_from_slice(&events.to_le_bytes());
    blob.extend_from_slice(&(body.len() as u32).to_le_bytes());
    blob.resize(blob.capacity(), 0);
    let compressed = lz4_flex::block::compress_into(body, &mut blob[HEADER_BYTES..])
        .expect("the buffer has LZ4's largest size");
    blob.truncate(HEADER_BYTES + compressed);
    let crc = crc32fast::hash(&blob[8..]);
    blob[4..8].copy_from_slice(&crc.to_le_bytes());
    blob.shrink_to_fit();
    blob
}

/// Estimate of the memory that the decoded batch takes, from the header alone. 0 if `blob` is too
/// short for a header.
pub fn memory_bytes(blob: &[u8]) -> u64 {
    let word = |at: usize| {
        blob.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    // A damaged header may have any numbers.
    let (events, bytes) = (word(8).min(BATCH_EVENTS_MAX as u32), word(12).min(BLOB_BYTES_MAX as u32));
    u64::from(events) * size_of::<Record>() as u64 + u64::from(bytes)
}

/// Decodes a blob. `source.index` of the batch is [`UNKNOWN_SOURCE`]. The events have the indices
/// 0, 1, 2, … in the order in which they were encoded.
pub fn decode_blob(blob: &[u8]) -> Result<Batch, CodecError> {
    decode(blob, |_| None)
}

/// Decodes a blob. `index_of` maps the name of a source to its index in the configuration.
pub fn decode(blob: &[u8], index_of: impl FnOnce(&str) -> Option<usize>) -> Result<Batch, CodecError> {
    let Some((header, compressed)) = blob.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::Foreign);
    };
    if &header[..2] != MAGIC {
        return Err(CodecError::Foreign);
    }
    if !(VERSION_MIN..=VERSION).contains(&header[2]) {
        return Err(CodecError::Newer(header[2]));
    }
    if header[3] != 0 {
        return Err(CodecError::Malformed("flags that no release has set"));
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (expected, found) = (word(4), crc32fast::hash(&blob[8..]));
    if expected != found {
        return Err(CodecError::Checksum { expected, found });
    }
    let (events, bytes) = (word(8) as usize, word(12) as usize);
    if events > BATCH_EVENTS_MAX {
        return Err(CodecError::Malformed("more events than a batch has"));
    }
    if bytes > BLOB_BYTES_MAX || bytes > compressed.len().saturating_mul(RATIO_MAX) {
        return Err(CodecError::Malformed("its length is impossible"));
    }
    let mut body = vec![0; bytes];
    match lz4_flex::block::decompress_into(compressed, &mut body) {
        Ok(written) if written == bytes => {}
        _ => return Err(CodecError::Malformed("it does not decompress")),
    }
    read_body(Bytes { rest: &body }, events, index_of)
}

fn read_body(
    mut body: Bytes,
    events: usize,
    index_of: impl FnOnce(&str) -> Option<usize>,
) -> Result<Batch, CodecError> {
    let name = body.string()?;
    let source = SourceInfo {
        index: index_of(&name).unwrap_or(UNKNOWN_SOURCE),
        name,
        url: body.string()?,
        instance_uuid: Uuid::from_bytes(*body.chunk()?),
        api_version: body.string()?,
    };
    let (page, produced_us) = (body.unsigned()?, body.signed()?);
    let failed = match body.unsigned()? {
        0 => None,
        1 => {
            let (dest, code, data) = (body.string()?, body.unsigned()?, body.string()?);
            let code = u16::try_from(code).map_err(|_| CodecError::Malformed("a number out of range"))?;
            Some(Arc::new(Failed { dest, code, data }))
        }
        _ => return Err(CodecError::Malformed("what became of its events is unknown")),
    };
    let mut records = Vec::with_capacity(events);
    let (mut seq, mut data_end, mut raw_end) = (0, 0, 0);
    for _ in 0..events {
        records.push(read_record(&mut body, &source.instance_uuid, &mut seq, &mut data_end, &mut raw_end)?);
    }
    let arena = body.text()?.to_vec();
    let raw_page = bytes::Bytes::copy_from_slice(body.rest);
    for record in &records {
        if record.spans().iter().any(|span| span.range().end > arena.len())
            || record.raw.range().end > raw_page.len()
        {
            return Err(CodecError::Malformed("an event points past its bytes"));
        }
    }
    let permit = Permit::default();
    Ok(Batch { source: Arc::new(source), page, produced_us, arena, records, raw_page, permit, failed })
}

fn read_record(
    body: &mut Bytes,
    instance: &Uuid,
    seq: &mut u64,
    data_end: &mut u64,
    raw_end: &mut u64,
) -> Result<Record, CodecError> {
    let [flags] = *body.chunk()?;
    let has = |bit: u8| flags >> bit & 1 == 1;
    let category = match flags & 3 {
        0 => Category::Event,
        1 => Category::EventEx,
        2 => Category::ExtendedEvent,
        _ => return Err(CodecError::Malformed("an event of no known category")),
    };
    let number =
        |value: i64| i32::try_from(value).map_err(|_| CodecError::Malformed("a number out of range"));
    let key = if has(2) { Some(number(body.signed()?)?) } else { None };
    let chain_id = number(body.signed()?)?;
    let created_us = if has(3) { Some(body.signed()?) } else { None };
    let (identity, id) = if has(4) {
        derive(instance, key, created_us).ok_or(CodecError::Malformed("an id that follows from no key"))?
    } else {
        let (minute, key) = (u32::from_le_bytes(*body.chunk()?), u32::from_le_bytes(*body.chunk()?));
        (Identity { minute, key }, Uuid::from_bytes(*body.chunk()?))
    };
    let lane = u64::from_le_bytes(*body.chunk()?);
    *seq = seq.wrapping_add(body.signed()? as u64);
    let mut relative = [(0, 0); 6];
    let names = if has(6) { 6 } else { 5 };
    for span in &mut relative[..names] {
        *span = (body.signed()?, body.unsigned()?);
    }
    let data_start = data_end.saturating_add(body.unsigned()?);
    let data = span(data_start as i64, body.unsigned()?)?;
    *data_end = data.range().end as u64;
    let mut spans = [Span::EMPTY; 6];
    for (name, (start, len)) in spans.iter_mut().zip(&relative[..names]) {
        *name = span(start.saturating_add(i64::from(data.start)), *len)?;
    }
    let mut raw = Span::EMPTY;
    if has(5) {
        raw = span(*raw_end as i64, body.unsigned()?)?;
        *raw_end = raw.range().end as u64;
    }
    let [class, subject, entity, user, created_text, attributes] = spans;
    Ok(Record {
        key,
        chain_id,
        created_us,
        category,
        class,
        subject,
        entity,
        user,
        created_text,
        data,
        raw,
        identity,
        id,
        attributes,
        lane,
        seq: *seq,
    })
}

/// A span whose start and end fit 32 bits. Its end is checked against the arena later.
fn span(start: i64, len: u64) -> Result<Span, CodecError> {
    let beyond = || CodecError::Malformed("an event points past its bytes");
    let (start, len) =
        (u32::try_from(start).map_err(|_| beyond())?, u32::try_from(len).map_err(|_| beyond())?);
    start.checked_add(len).ok_or_else(beyond)?;
    Ok(Span { start, len })
}

fn put_unsigned(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn put_signed(to: &mut Vec<u8>, value: i64) {
    put_unsigned(to, (value << 1 ^ value >> 63) as u64);
}

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    put_unsigned(to, text.len() as u64);
    to.extend_from_slice(text);
}

/// A cursor over the bytes of a body.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    const SHORT: CodecError = CodecError::Malformed("it ends too early");

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], CodecError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Self::SHORT)?;
        self.rest = rest;
        Ok(chunk)
    }

    fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.chunk()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Malformed("a number of more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, CodecError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn text(&mut self) -> Result<&'a [u8], CodecError> {
        let len = usize::try_from(self.unsigned()?).map_err(|_| Self::SHORT)?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Self::SHORT)?;
        self.rest = rest;
        Ok(text)
    }

    fn string(&mut self) -> Result<String, CodecError> {
        let text = self.text()?.to_vec();
        String::from_utf8(text).map_err(|_| CodecError::Malformed("a name that is not UTF-8"))
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
