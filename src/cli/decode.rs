//! `event-router decode`: pages from standard input, one JSON line an event to standard output. What the router would make of a recorded page.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::vim::{DecodeError, Decoded, decode};

/// Decode pages that a vCenter answered: one JSON line an event.
#[derive(Args, Clone, Debug, Default)]
pub struct DecodeArgs {
    /// What to print for each event.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What is printed for each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// {"type","category","subject","data"}: class, kind, subject and the event as functions read it.
    #[default]
    Data,
}

/// Reads pages from `input` until its end, one after the other, and writes their events to `output`.
///
/// # Errors
/// The first page that is not readable, with the byte offset in the input; what came before it is written. Nothing to read or to write to.
pub fn run(_args: &DecodeArgs, mut input: impl Read, mut output: impl Write) -> Result<()> {
    let mut pages = Vec::new();
    input.read_to_end(&mut pages).context("cannot read the pages from standard input")?;
    let (mut decoded, mut lines, mut at) = (Decoded::default(), Vec::new(), 0);
    loop {
        let end = decode::decode_first(&pages[at..], &mut decoded)
            .map_err(|error| DecodeError { offset: at + error.offset, ..error })?;
        lines.clear();
        for record in &decoded.records {
            line(&decoded, record, &mut lines);
        }
        match output.write_all(&lines).and_then(|()| output.flush()) {
            // Whoever reads has seen enough (`| head`).
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write the events to standard output")?,
        }
        at += end;
        at += pages[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if at == pages.len() {
            return Ok(());
        }
    }
}

/// Appends one line: what the golden files of the decoder hold.
fn line(decoded: &Decoded, record: &crate::event::Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":");
    decode::json_string(out, decoded.bytes(record.class));
    out.extend_from_slice(b",\"category\":\"");
    out.extend_from_slice(record.category.as_str().as_bytes());
    out.extend_from_slice(b"\",\"subject\":");
    decode::json_string(out, decoded.bytes(record.subject));
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(decoded.bytes(record.data));
    out.extend_from_slice(b"}\n");
}
