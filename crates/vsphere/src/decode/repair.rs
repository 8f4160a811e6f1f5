//! Repairs the characters of a page that cannot be decoded.
//!
//! vCenter copies texts from guests and from users into its events as they are, also those that
//! XML 1.0 or UTF-8 forbid: a control character in an annotation, a file name in Latin-1. One such
//! text makes the whole page undecodable. The repaired page has U+FFFD in place of each forbidden
//! character, and an `&` that begins no reference is escaped. Anything else that is broken, such as
//! a tag without an end, stays as it is.
//!
//! The decoder calls this only for a page that it has refused, so usual pages pay nothing.

use super::markup::{code_point, is_allowed, resolve_reference};
use crate::Wire;

/// The longest name of a reference that is looked for: `#x10FFFF` with some zeros in front.
const REFERENCE_CHARS_MAX: usize = 16;
const REPLACEMENT: &str = "\u{FFFD}";

/// A page with its characters repaired.
#[derive(Debug, PartialEq, Eq)]
pub struct Repaired {
    pub bytes: Vec<u8>,
    /// The number of places that were repaired.
    pub places: usize,
}

/// Repairs `page`; `None` if there is nothing to repair. `charge` is told the size of the repaired
/// page in bytes before it is allocated; that is at most five times the page.
pub fn repair(wire: Wire, page: &[u8], charge: impl FnOnce(usize)) -> Option<Repaired> {
    let (mut places, mut size) = (0, 0);
    let pieces = |piece: &mut dyn FnMut(Piece)| match wire {
        Wire::Soap => xml(page, piece),
        Wire::ViJson => json(page, piece),
    };
    pieces(&mut |piece| {
        size += piece.text().len();
        places += usize::from(matches!(piece, Piece::Repaired(_)));
    });
    if places == 0 {
        return None;
    }
    charge(size);
    let mut bytes = Vec::with_capacity(size);
    pieces(&mut |piece| bytes.extend_from_slice(piece.text().as_bytes()));
    Some(Repaired { bytes, places })
}

/// A piece of the repaired page.
enum Piece<'a> {
    Kept(&'a str),
    Repaired(&'static str),
}

impl<'a> Piece<'a> {
    fn text(&self) -> &'a str {
        match self {
            Piece::Kept(text) | Piece::Repaired(text) => text,
        }
    }
}

/// The part of an XML document that a character is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Text and tags, where references are resolved.
    Content,
    /// A CDATA section, a comment or a processing instruction, which ends with this.
    Verbatim(&'static str),
}

/// Splits `page` into pieces. `is_special` finds the characters at which `step` has to look: it
/// returns the length of the special piece at the start of a text, and its replacement.
fn scan(
    page: &[u8],
    is_special: fn(char) -> bool,
    mut step: impl FnMut(&str) -> (usize, Option<&'static str>),
    piece: &mut dyn FnMut(Piece),
) {
    for chunk in page.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            let plain = rest.find(is_special).unwrap_or(rest.len());
            let (taken, repaired) = if plain > 0 { (plain, None) } else { step(rest) };
            piece(repaired.map_or(Piece::Kept(&rest[..taken]), Piece::Repaired));
            rest = &rest[taken..];
        }
        if !chunk.invalid().is_empty() {
            piece(Piece::Repaired(REPLACEMENT));
        }
    }
}

fn xml(page: &[u8], piece: &mut dyn FnMut(Piece)) {
    let mut part = Part::Content;
    let is_special = |c: char| matches!(c, '<' | '&' | ']' | '-' | '?') || !is_allowed(c);
    let step = |rest: &str| match part {
        Part::Content => content(rest, &mut part),
        Part::Verbatim(end) => verbatim(rest, end, &mut part),
    };
    scan(page, is_special, step, piece);
}

/// The length of the first special piece of `rest`, and what stands in its place.
fn content(rest: &str, part: &mut Part) -> (usize, Option<&'static str>) {
    const VERBATIM: [(&str, &str); 3] = [("<![CDATA[", "]]>"), ("<!--", "-->"), ("<?", "?>")];
    if let Some((begin, end)) = VERBATIM.iter().find(|(begin, _)| rest.starts_with(begin)) {
        *part = Part::Verbatim(end);
        return (begin.len(), None);
    }
    if rest.starts_with("]]>") {
        return ("]]>".len(), Some("]]&gt;"));
    }
    match rest.strip_prefix('&') {
        Some(after) => reference(after),
        None => character(rest),
    }
}

/// As [`content`], for a reference. `after` begins behind the `&`.
fn reference(after: &str) -> (usize, Option<&'static str>) {
    let name =
        after.bytes().take(REFERENCE_CHARS_MAX + 1).position(|byte| byte == b';').map(|end| &after[..end]);
    let Some(name) = name else { return (1, Some("&amp;")) };
    let whole = name.len() + "&;".len();
    match (code_point(name), resolve_reference(name)) {
        // The decoder makes characters of surrogates.
        (Some(0xD800..=0xDFFF), _) | (_, Some(_)) => (whole, None),
        (Some(_), None) => (whole, Some(REPLACEMENT)),
        (None, None) => (1, Some("&amp;")),
    }
}

fn verbatim(rest: &str, end: &str, part: &mut Part) -> (usize, Option<&'static str>) {
    if rest.starts_with(end) {
        *part = Part::Content;
        return (end.len(), None);
    }
    character(rest)
}

/// The first character, replaced if XML does not allow it.
fn character(rest: &str) -> (usize, Option<&'static str>) {
    let Some(first) = rest.chars().next() else { return (0, None) };
    (first.len_utf8(), (!is_allowed(first)).then_some(REPLACEMENT))
}

/// Repairs JSON: bytes that are not UTF-8, control characters inside strings, and halves of
/// surrogate pairs.
fn json(page: &[u8], piece: &mut dyn FnMut(Piece)) {
    let mut is_string = false;
    let is_special = |c: char| matches!(c, '"' | '\\') || c.is_ascii_control();
    let step = |rest: &str| match rest.as_bytes() {
        [b'"', ..] => {
            is_string = !is_string;
            (1, None)
        }
        [b'\\', ..] if is_string => escape(rest),
        [byte, ..] => (1, (is_string && *byte < 0x20).then_some(REPLACEMENT)),
        [] => (0, None),
    };
    scan(page, is_special, step, piece);
}

/// As [`content`], for an escape sequence in JSON. `rest` begins with the backslash.
fn escape(rest: &str) -> (usize, Option<&'static str>) {
    const ESCAPE: usize = "\\u0000".len();
    let half = |at: usize| {
        let digits = rest.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    match half(0) {
        Some(first @ 0xD800..=0xDFFF) => {
            let pair = [Some(first), half(ESCAPE)];
            let is_pair = char::decode_utf16(pair.into_iter().flatten()).next().is_some_and(|c| c.is_ok());
            if is_pair { (2 * ESCAPE, None) } else { (ESCAPE, Some("\\ufffd")) }
        }
        Some(_) => (ESCAPE, None),
        // A backslash takes the next character with it, such as a quote.
        None => (1 + rest[1..].chars().next().map_or(0, char::len_utf8), None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xml_is_repaired_only_where_a_character_is_wrong() {
        let check = |page: &[u8], expected: Option<(&str, usize)>| {
            let repaired = repair(Wire::Soap, page, |_| ());
            let found = repaired.map(|it| (String::from_utf8(it.bytes).unwrap(), it.places));
            assert_eq!(found, expected.map(|(text, n)| (text.to_owned(), n)), "{}", page.escape_ascii());
        };
        check(b"<a b='c'>d &amp; &#10; &#x1F600; e-f?g]h</a>", None);
        check(b"<a>a&#x1B;[31m</a>", Some(("<a>a\u{FFFD}[31m</a>", 1)));
        check(b"<a>\x00\x0b</a>", Some(("<a>\u{FFFD}\u{FFFD}</a>", 2)));
        check("<a>\u{FFFE}&#xFFFE;&#0;</a>".as_bytes(), Some(("<a>\u{FFFD}\u{FFFD}\u{FFFD}</a>", 3)));
        check(b"<a>&#x110000;&#99999999999;</a>", Some(("<a>\u{FFFD}\u{FFFD}</a>", 2)));
        check(b"<a>R&D &nbsp; &#x; &</a>", Some(("<a>R&amp;D &amp;nbsp; &amp;#x; &amp;</a>", 4)));
        check(b"<a>M\xfcnchen</a>", Some(("<a>M\u{FFFD}nchen</a>", 1)));
        check(b"<a>x ]]> y</a>", Some(("<a>x ]]&gt; y</a>", 1)));
        check(b"<a>&#xD83D;&#xDE00;</a>", None);
        check(b"<a x='R&D'/>", Some(("<a x='R&amp;D'/>", 1)));
        // A CDATA section, a comment and a processing instruction know no references.
        check(b"<a><![CDATA[R&D \x1b]]>&\x1b</a>", Some(("<a><![CDATA[R&D \u{FFFD}]]>&amp;\u{FFFD}</a>", 3)));
        check(b"<a><!-- R&D --><?x R&D ?></a>", None);
        check(b"<a>a < b</a>", None);
    }

    #[test]
    fn json_is_repaired_only_inside_of_strings() {
        let check = |page: &[u8], expected: Option<(&str, usize)>| {
            let repaired = repair(Wire::ViJson, page, |_| ());
            let found = repaired.map(|it| (String::from_utf8(it.bytes).unwrap(), it.places));
            assert_eq!(found, expected.map(|(text, n)| (text.to_owned(), n)), "{}", page.escape_ascii());
        };
        check(b"[\n{\"a\": \"b\\\"c\\\\\"}\t]", None);
        check(b"[\"\x1b\\u001b\"]", Some(("[\"\u{FFFD}\\u001b\"]", 1)));
        check(b"[\"\\ud83d\\ude00\"]", None);
        check(b"[\"\\ud83d \\ude00\"]", Some(("[\"\\ufffd \\ufffd\"]", 2)));
        check(b"[\"\xff\"]", Some(("[\"\u{FFFD}\"]", 1)));
    }

    proptest! {
        #[test]
        fn a_repaired_page_needs_no_repair_and_costs_what_was_charged(
            page in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'&'), Just(b';'), Just(b'#'), Just(b'<'), Just(b'"'), Just(b'\\')], 0..80),
            is_json in any::<bool>(),
        ) {
            let wire = if is_json { Wire::ViJson } else { Wire::Soap };
            let mut charged = 0;
            if let Some(repaired) = repair(wire, &page, |bytes| charged = bytes) {
                prop_assert_eq!(repaired.bytes.len(), charged);
                prop_assert!(charged <= 5 * page.len());
                prop_assert_eq!(repair(wire, &repaired.bytes, |_| ()), None);
            }
        }
    }
}
