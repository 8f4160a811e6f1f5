//! A page from its first byte to its last: the SOAP envelope, the answer in its body, and the
//! events in the answer.
//!
//! ```text
//! level  Outside   Envelope  Body  Response
//!        <Envelope>  <Body>  <ReadNextEventsResponse>  <returnval>…</returnval> …
//!                                                      └ fast, or else reference
//! ```
//!
//! Elements are recognized by local name and depth. Servers that answer without an envelope are
//! accepted as well.

use super::fast::{self, Learned};
use super::markup::{Markup, Token};
use super::quota::Quota;
use super::salvage::{self, Broken};
use super::{Decoded, Spelling, reference};
use crate::DecodeError;
use crate::Span;

/// The innermost element of the SOAP envelope that is open.
#[derive(Clone, Copy)]
enum Level {
    Outside,
    Envelope,
    Body,
    /// The answer to the call. The value is its depth.
    Response(usize),
}

impl Level {
    /// The level inside of an element that begins at this level. `depth` counts that element.
    fn within(self, name: &str, depth: usize) -> Level {
        match self {
            Level::Outside if depth == 1 && name == "Envelope" => Level::Envelope,
            Level::Envelope if depth == 2 && name == "Body" => Level::Body,
            Level::Outside if depth == 1 && name.ends_with("Response") => Level::Response(depth),
            Level::Body if depth == 3 && name.ends_with("Response") => Level::Response(depth),
            level => level,
        }
    }
}

/// Decodes one event without a page around it.
pub(super) fn decode_event(element: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<(), DecodeError> {
    out.clear();
    let mut markup = Markup::new(super::validated(element)?);
    let Token::Start(start) = markup.next()? else {
        return Err(DecodeError { offset: 0, reason: "not an XML element".into() });
    };
    let mut quota = Quota::of(element.len());
    let event = markup.read(start, &mut quota)?;
    reference::event(&event, Span::EMPTY, spelling, &mut quota, out)
}

/// Decodes the first XML document of `page` and returns the offset of its end. With `learned`,
/// events go to the fast decoder first.
pub(super) fn decode(
    page: &[u8],
    learned: Option<&mut Learned>,
    spelling: Spelling,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<usize, DecodeError> {
    out.clear();
    read(page, learned, spelling, quota, out).inspect_err(|_| out.clear())
}

fn read(
    page: &[u8],
    mut learned: Option<&mut Learned>,
    spelling: Spelling,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<usize, DecodeError> {
    let text = super::validated(page)?;
    super::reserve(page.len(), quota, out);
    let mut markup = Markup::new(text);
    let mut level = Level::Outside;
    let mut answered = false;
    loop {
        // Between two events: let the fast decoder read as many as it can.
        if let Some(learned) = &mut learned
            && let Level::Response(at) = level
            && markup.depth() == at
            && !markup.is_empty_tag()
        {
            let end = fast::events(page, markup.position(), markup.prefixes(), learned, quota, out);
            if end != markup.position() {
                markup.seek(end);
            }
        }
        let token = markup.next()?;
        let depth = markup.depth();
        match token {
            Token::Start(element) => match (level, element.name) {
                (Level::Response(at), "returnval") if depth == at + 1 => {
                    let start = markup.start();
                    let element = markup.read(element, quota)?;
                    let raw = Span::new(start, markup.position());
                    reference::event(&element, raw, spelling, quota, out)?;
                }
                (Level::Body, "Fault") if depth == 3 => answered = true,
                (_, name) => {
                    level = level.within(name, depth);
                    answered |= matches!(level, Level::Response(_));
                }
            },
            Token::End if depth == 0 => break,
            Token::End => match level {
                Level::Response(at) if depth < at => {
                    level = Level::Body;
                    // A prefix may have another meaning in the next response.
                    if let Some(learned) = &mut learned {
                        **learned = Learned::default();
                    }
                }
                Level::Body if depth < 2 => level = Level::Envelope,
                _ => {}
            },
            Token::Text(_) => {}
        }
    }
    if !answered {
        return Err(DecodeError {
            offset: markup.position(),
            reason: "not a vCenter answer: no SOAP body with a response or a fault".into(),
        });
    }
    Ok(markup.position())
}

/// Decodes the events of a page one by one, and returns those that cannot be decoded. A page
/// without a readable beginning is a single one of them.
pub(super) fn decode_pieces(page: &[u8], quota: &mut Quota<'_>, out: &mut Decoded) -> Vec<Broken> {
    let whole = |error| vec![Broken { range: 0..page.len(), error }];
    let Some(salvage::Pieces { head, events }) = salvage::pieces(page) else {
        return whole(DecodeError { offset: 0, reason: "a page without the end of an event".into() });
    };
    let opened = super::validated(&page[..head]).and_then(|head| {
        let mut markup = Markup::new(head);
        let depth = open_response(&mut markup)?;
        Ok((markup, depth))
    });
    let (mut markup, depth) = match opened {
        Ok(opened) => opened,
        Err(error) => return whole(error),
    };
    super::reserve(page.len(), quota, out);
    let mut broken = Vec::new();
    for range in events {
        let start = range.start;
        salvage::decode_one(range.clone(), page.len(), quota, out, &mut broken, |quota, out| {
            decode_piece(&page[range], start, &mut markup, depth, quota, out)
        });
    }
    broken
}

/// Reads up to the start tag of the response, and returns its depth.
fn open_response(markup: &mut Markup<'_>) -> Result<usize, DecodeError> {
    let mut level = Level::Outside;
    loop {
        if let Token::Start(element) = markup.next()? {
            level = level.within(element.name, markup.depth());
        }
        if let Level::Response(depth) = level
            && !markup.is_empty_tag()
        {
            return Ok(depth);
        }
    }
}

/// Decodes a piece of a page, which begins at `start`, inside the response at `depth`.
fn decode_piece<'a>(
    piece: &'a [u8],
    start: usize,
    markup: &mut Markup<'a>,
    depth: usize,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    let in_page = |error: DecodeError| DecodeError { offset: start + error.offset, ..error };
    markup.restart(super::validated(piece).map_err(in_page)?, depth);
    while markup.position() < piece.len() {
        match markup.next().map_err(in_page)? {
            Token::Start(element) => {
                let is_event = element.name == "returnval";
                let at = markup.start();
                let element = markup.read(element, quota).map_err(in_page)?;
                if is_event {
                    let raw = Span::new(start + at, start + markup.position());
                    reference::event(&element, raw, Spelling::Pascal, quota, out)?;
                }
            }
            Token::Text(_) => {}
            Token::End => {
                let reason = "the end of the response among its events".into();
                return Err(in_page(DecodeError { offset: markup.start(), reason }));
            }
        }
    }
    Ok(())
}
