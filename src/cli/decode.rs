//! `event-router decode`: reads recorded pages from standard input, and prints one JSON line per
//! event, as the router would decode it.
//!
//! Memory is bounded however long a page is. A page longer than [`DECODE_CHUNK_BYTES`] is decoded
//! in chunks of whole events:
//!
//! ```text
//! page      <Envelope><Body><Response>  <returnval>…</returnval>…  <returnval>…  </Response>…
//!           └───────── head ─────────┘  └─────── chunk ────────┘  └── next …
//! decoded   head + chunk + matching end tags
//! ```
//!
//! If a chunk cannot be decoded, the rest of the input is read and decoded as a whole: an apparent
//! `</returnval>` may be text in a CDATA section. So chunks never give another result than the
//! whole.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use memchr::memmem;
use uuid::Uuid;

use crate::clock::now_us;
use crate::cloudevents::{Envelope, EnvelopeOptions, class_of};
use crate::event::{Batch, SourceInfo};
use crate::limits::DECODE_CHUNK_BYTES;
use crate::pipeline::enrich::Enrich;
use vsphere::decode::repair::repair;
use vsphere::decode::{self, Spelling};
use vsphere::{DecodeError, Decoded, EventRecord, Wire};

/// Decode recorded pages of a vCenter (answers to ReadNextEvents) into one JSON line per event.
///
/// Reads complete SOAP envelopes from standard input, one after the other, as in a recording or a
/// packet capture.
#[derive(Args, Clone, Debug, Default)]
pub struct DecodeArgs {
    /// Format of the lines
    #[arg(long, value_enum, default_value_t)]
    pub format: DecodeFormat,
    /// The `source` of CloudEvents: the SDK URL of the vCenter that sent the page
    #[arg(long, value_name = "URL", default_value = "https://vcenter.invalid/sdk")]
    pub source: String,
    /// The instance UUID of that vCenter; the ids of CloudEvents depend on it
    #[arg(long, value_name = "UUID", default_value_t)]
    pub instance_uuid: Uuid,
}

/// The format of an event's line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DecodeFormat {
    /// {"type","category","subject","data"}: class, kind, subject, and the event as functions get
    /// it
    #[default]
    Data,
    /// Like `data`, with the event in vSphere's own JSON
    Vijson,
    /// The CloudEvent that the router would deliver, in structured mode
    Cloudevents,
}

/// Reads pages from `input` until its end, and writes their events to `output`.
///
/// # Errors
/// A page cannot be decoded; the error has its byte offset in the input, and earlier events are
/// written. Or the input cannot be read, or the output not written.
pub fn run(args: &DecodeArgs, input: impl Read, output: impl Write) -> Result<()> {
    let mut pages = Pages { input, bytes: Vec::new(), shift: 0, ended: false };
    let mut lines = Lines::new(args, output)?;
    let mut decoded = Decoded::default();
    pages.fill(DECODE_CHUNK_BYTES)?;
    loop {
        pages.page(&mut decoded, &mut lines)?;
        if lines.closed || pages.is_done()? {
            return Ok(());
        }
    }
}

/// The part of the input that was read and not yet decoded.
struct Pages<R> {
    input: R,
    /// While a page is decoded in chunks, its head stays at the front.
    bytes: Vec<u8>,
    /// Offset of `bytes` in the input.
    shift: usize,
    ended: bool,
}

impl<R: Read> Pages<R> {
    /// Reads until there are `len` bytes, or the input ends.
    fn fill(&mut self, len: usize) -> Result<()> {
        while !self.ended && self.bytes.len() < len {
            let more = (len - self.bytes.len()) as u64;
            let read = (&mut self.input).take(more).read_to_end(&mut self.bytes);
            self.ended = read.context("cannot read the pages from standard input")? == 0;
        }
        Ok(())
    }

    /// Skips white space. Returns true if nothing else is left.
    fn is_done(&mut self) -> Result<bool> {
        loop {
            let space = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.drop_first(space);
            if !self.bytes.is_empty() || self.ended {
                break;
            }
            self.fill(1)?;
        }
        self.fill(DECODE_CHUNK_BYTES)?;
        Ok(self.bytes.is_empty())
    }

    fn drop_first(&mut self, len: usize) {
        self.bytes.drain(..len);
        self.shift += len;
    }

    /// Decodes one page: a short one as a whole, a long one in chunks.
    fn page(&mut self, decoded: &mut Decoded, lines: &mut Lines<impl Write>) -> Result<()> {
        let head = memmem::find(&self.bytes, EVENT).unwrap_or_default();
        let mut wanted = DECODE_CHUNK_BYTES;
        // Bytes of the input between the head and the current chunk: earlier chunks.
        let mut gone = 0;
        // Decode chunks while the end of the page is not in sight.
        while let Some(tail) = end_tags(&self.bytes[..head])
            && !self.ended
            && memmem::find(&self.bytes[head..], tail.last()).is_none()
        {
            let Some(last) = memmem::rfind(&self.bytes[head..], EVENT_END) else {
                wanted += DECODE_CHUNK_BYTES;
                self.fill(wanted)?;
                continue;
            };
            // Decode the head, the chunk and the end tags as if they were a page.
            let cut = head + last + EVENT_END.len();
            let rest = self.bytes.split_off(cut);
            self.bytes.extend_from_slice(&tail.0);
            let result = decode::decode_as(&self.bytes, lines.spelling, decoded);
            let is_chunk = result.is_ok_and(|end| end == self.bytes.len());
            self.bytes.truncate(cut);
            if !is_chunk {
                // Not the end of an event, or the page ended before it. Decode it as a whole.
                self.bytes.extend_from_slice(&rest);
                break;
            }
            // Write its events, and continue behind it.
            lines.write(decoded)?;
            self.bytes.truncate(head);
            gone += cut - head;
            self.bytes.extend_from_slice(&rest);
            if lines.closed {
                return Ok(());
            }
            wanted = DECODE_CHUNK_BYTES;
            self.fill(wanted)?;
        }
        // Decode the rest as a whole.
        let mut result = decode::decode_as(&self.bytes, lines.spelling, decoded);
        if result.is_err() && !self.ended {
            // The page may continue in the input.
            self.fill(usize::MAX)?;
            result = decode::decode_as(&self.bytes, lines.spelling, decoded);
        }
        if result.is_err()
            && let Some(repaired) = repair(Wire::Soap, &self.bytes, |_| ())
        {
            self.bytes = repaired.bytes;
            result = decode::decode_as(&self.bytes, lines.spelling, decoded);
        }
        let end = result.map_err(|error| {
            let behind = if error.offset >= head { gone } else { 0 };
            DecodeError { offset: self.shift + behind + error.offset, ..error }
        })?;
        lines.write(decoded)?;
        self.shift += gone;
        self.drop_first(end);
        Ok(())
    }
}

const EVENT: &[u8] = b"<returnval";
const EVENT_END: &[u8] = b"</returnval>";

/// End tags for the elements that are open at the end of a page's head, innermost first.
struct EndTags(Vec<u8>);

impl EndTags {
    /// The end tag of the root.
    fn last(&self) -> &[u8] {
        &self.0[memmem::rfind(&self.0, b"</").unwrap_or_default()..]
    }
}

/// The end tags that close `head`. `None` if `head` is not a simple sequence of tags of one
/// document; the page must then be decoded as a whole.
fn end_tags(head: &[u8]) -> Option<EndTags> {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut rest = head;
    while let Some(start) = memchr::memchr(b'<', rest) {
        let end = start + memchr::memchr(b'>', &rest[start..])?;
        let tag = &rest[start + 1..end];
        match tag.first()? {
            b'?' => {}
            b'!' => return None,
            b'/' => {
                open.pop()?;
                if open.is_empty() {
                    return None;
                }
            }
            _ if tag.ends_with(b"/") => {}
            _ => open.push(tag.split(u8::is_ascii_whitespace).next()?),
        }
        rest = &rest[end + 1..];
    }
    let tags: Vec<u8> = open.iter().rev().flat_map(|name| [b"</", *name, b">"].concat()).collect();
    (!open.is_empty()).then_some(EndTags(tags))
}

/// Writes events as lines.
struct Lines<W> {
    output: W,
    buffer: Vec<u8>,
    spelling: Spelling,
    /// Only for the format `cloudevents`.
    envelope: Option<(Envelope, Arc<SourceInfo>)>,
    /// True once the reader is gone, such as `head`.
    closed: bool,
}

impl<W: Write> Lines<W> {
    fn new(args: &DecodeArgs, output: W) -> Result<Self> {
        let source = SourceInfo {
            index: 0,
            name: "decode".into(),
            url: args.source.clone(),
            instance_uuid: args.instance_uuid,
            api_version: String::new(),
        };
        let envelope = match args.format {
            DecodeFormat::Data | DecodeFormat::Vijson => None,
            DecodeFormat::Cloudevents => Some((Envelope::new(EnvelopeOptions::default())?, Arc::new(source))),
        };
        let spelling = if args.format == DecodeFormat::Vijson { Spelling::ViJson } else { Spelling::Pascal };
        Ok(Lines { output, buffer: Vec::new(), spelling, envelope, closed: false })
    }

    fn write(&mut self, decoded: &mut Decoded) -> Result<()> {
        self.buffer.clear();
        match &self.envelope {
            None => decoded.records.iter().for_each(|record| line(decoded, record, &mut self.buffer)),
            Some((envelope, source)) => cloud_events(envelope, source, decoded, &mut self.buffer),
        }
        match self.output.write_all(&self.buffer).and_then(|()| self.output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            written => written.context("cannot write the events to standard output")?,
        }
        Ok(())
    }
}

/// Appends one line, in the format of the decoder's golden files.
fn line(decoded: &Decoded, record: &EventRecord, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":");
    decode::json_string(out, decoded.bytes(record.class));
    out.extend_from_slice(b",\"category\":\"");
    out.extend_from_slice(class_of(record.category).as_bytes());
    out.extend_from_slice(b"\",\"subject\":");
    decode::json_string(out, decoded.bytes(record.subject));
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(decoded.bytes(record.data));
    out.extend_from_slice(b"}\n");
}

/// Appends one line per event: its CloudEvent in structured mode.
fn cloud_events(envelope: &Envelope, source: &Arc<SourceInfo>, decoded: &mut Decoded, out: &mut Vec<u8>) {
    let events = std::mem::take(decoded);
    let mut batch = Batch { produced_us: now_us(), ..Batch::decoded(Arc::clone(source), 0, events) };
    Enrich.step(&mut batch);
    let rendering = envelope.open(&batch);
    for i in 0..batch.records.len() {
        rendering.structured(i, out);
        out.push(b'\n');
    }
    decoded.arena = batch.arena;
}
