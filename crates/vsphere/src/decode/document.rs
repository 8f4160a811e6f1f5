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

/// Decodes one event without a page around it.
pub(super) fn decode_event(element: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<(), DecodeError> {
    out.clear();
    let mut markup = Markup::new(super::validated(element)?);
    let Token::Start(start) = markup.next()? else {
        return Err(DecodeError { offset: 0, reason: "not an XML element".into() });
    };
    let event = markup.read(start)?;
    reference::event(&event, Span::EMPTY, spelling, out);
    Ok(())
}

/// Decodes the first XML document of `page` and returns the offset of its end. With `learned`,
/// events go to the fast decoder first.
pub(super) fn decode(
    page: &[u8],
    learned: Option<&mut Learned>,
    spelling: Spelling,
    out: &mut Decoded,
) -> Result<usize, DecodeError> {
    out.clear();
    read(page, learned, spelling, out).inspect_err(|_| out.clear())
}

fn read(
    page: &[u8],
    mut learned: Option<&mut Learned>,
    spelling: Spelling,
    out: &mut Decoded,
) -> Result<usize, DecodeError> {
    let text = super::validated(page)?;
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
            let end = fast::events(page, markup.position(), markup.prefixes(), learned, out);
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
                    let element = markup.read(element)?;
                    reference::event(&element, Span::new(start, markup.position()), spelling, out);
                }
                (Level::Outside, "Envelope") if depth == 1 => level = Level::Envelope,
                (Level::Envelope, "Body") if depth == 2 => level = Level::Body,
                (Level::Body, "Fault") if depth == 3 => answered = true,
                (Level::Outside, name) if depth == 1 && name.ends_with("Response") => {
                    (answered, level) = (true, Level::Response(depth));
                }
                (Level::Body, name) if depth == 3 && name.ends_with("Response") => {
                    (answered, level) = (true, Level::Response(depth));
                }
                _ => {}
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
