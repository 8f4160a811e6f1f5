//! Undoes the encodings in which a server may repeat a secret, and keeps track of the place that
//! each decoded byte had in the original text.
//!
//! ```text
//! original   p % 3 4 w      bytes   p 4 w
//!            0 1 2 3 4      places  0..1 1..4 4..5
//! ```
//!
//! A server may escape any character of a secret, or none, and in several notations. Decoding the
//! text finds all of them, which a list of encoded secrets cannot do. Text that is no escape stays
//! as it is. An escape that is cut off at the end of the text is dropped, so that the beginning of
//! a secret before it is still found.

use std::hash::{Hash, Hasher};
use std::ops::Range;

/// A text from which some encodings were removed. Two that differ in their places are different:
/// one of them may belong to a longer escape.
#[derive(Clone)]
pub struct Decoding {
    pub bytes: Vec<u8>,
    /// The place in the original text that each byte came from.
    places: Vec<(u32, u32)>,
    /// Number of encodings that were removed.
    pub depth: usize,
}

/// An encoding to undo.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// Backslash escapes of JSON and of most programming languages.
    Backslash,
    /// References of XML and HTML: `&lt;`, `&#60;`, `&#x3C;`.
    Markup,
    /// Percent escapes; with `plus_is_space`, those of a form.
    Percent { plus_is_space: bool },
    /// Base64 of either alphabet. The groups of four begin at this offset in each run.
    Base64 { offset: usize },
    /// Pairs of hex digits. The pairs begin at this offset in each run.
    Hex { offset: usize },
}

impl Encoding {
    pub const ALL: [Encoding; 10] = [
        Encoding::Backslash,
        Encoding::Markup,
        Encoding::Percent { plus_is_space: false },
        Encoding::Percent { plus_is_space: true },
        Encoding::Base64 { offset: 0 },
        Encoding::Base64 { offset: 1 },
        Encoding::Base64 { offset: 2 },
        Encoding::Base64 { offset: 3 },
        Encoding::Hex { offset: 0 },
        Encoding::Hex { offset: 1 },
    ];
}

/// Shortest run that is decoded: the base64 of four bytes has six characters.
const BASE64_RUN_MIN: usize = 6;
/// The hex digits of four bytes.
const HEX_RUN_MIN: usize = 8;
/// Digits of the longest numeric reference, with leading zeros.
const REFERENCE_DIGITS_MAX: usize = 12;
/// Letters of the longest name of a reference in [`NAMES`].
const NAME_MAX: usize = 8;

/// The names that HTML has for ASCII punctuation and for letters of Western European languages.
const NAMES: &[(&str, char)] = &[
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("nbsp", '\u{a0}'),
    ("excl", '!'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("amp", '&'),
    ("AMP", '&'),
    ("apos", '\''),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("hyphen", '-'),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("lt", '<'),
    ("LT", '<'),
    ("equals", '='),
    ("gt", '>'),
    ("GT", '>'),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("sect", '§'),
    ("pound", '£'),
    ("yen", '¥'),
    ("euro", '€'),
    ("deg", '°'),
    ("micro", 'µ'),
    ("auml", 'ä'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("Auml", 'Ä'),
    ("Ouml", 'Ö'),
    ("Uuml", 'Ü'),
    ("szlig", 'ß'),
    ("eacute", 'é'),
    ("egrave", 'è'),
    ("ecirc", 'ê'),
    ("agrave", 'à'),
    ("aacute", 'á'),
    ("acirc", 'â'),
    ("aring", 'å'),
    ("aelig", 'æ'),
    ("oslash", 'ø'),
    ("ccedil", 'ç'),
    ("ntilde", 'ñ'),
    ("iacute", 'í'),
    ("oacute", 'ó'),
    ("uacute", 'ú'),
];

/// The meaning of the text at the start of a slice.
enum Escape {
    /// It is no escape.
    No,
    /// So many bytes stand for a character.
    Char(usize, char),
    /// So many bytes stand for a byte.
    Byte(usize, u8),
    /// It is cut off at the end of the text.
    Cut,
}

impl PartialEq for Decoding {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.places == other.places
    }
}

impl Eq for Decoding {}

impl Hash for Decoding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl Decoding {
    /// The text itself.
    pub fn of(text: &str) -> Self {
        let places = (0..u32::try_from(text.len()).unwrap_or(u32::MAX)).map(|at| (at, at + 1));
        Decoding { bytes: text.as_bytes().to_vec(), places: places.collect(), depth: 0 }
    }

    /// The part of the original text that `range` came from.
    pub fn place(&self, range: Range<usize>) -> Range<usize> {
        let first = self.places.get(range.start).map_or(0, |place| place.0 as usize);
        let last = range.end.checked_sub(1).and_then(|end| self.places.get(end));
        first..last.map_or(first, |place| place.1 as usize)
    }

    /// Undoes `encoding`; `None` if there is nothing to undo.
    pub fn undo(&self, encoding: Encoding) -> Option<Decoding> {
        let mut next = Decoding {
            bytes: Vec::with_capacity(self.bytes.len()),
            places: Vec::new(),
            depth: self.depth + 1,
        };
        let found = match encoding {
            Encoding::Backslash => self.escapes(&mut next, b"\\", backslash),
            Encoding::Markup => self.escapes(&mut next, b"&", reference),
            Encoding::Percent { plus_is_space: false } => self.escapes(&mut next, b"%", percent),
            // Without a plus it is the same as above.
            Encoding::Percent { plus_is_space: true } if !self.bytes.contains(&b'+') => false,
            Encoding::Percent { plus_is_space: true } => self.escapes(&mut next, b"%+", percent),
            Encoding::Base64 { offset } => self.base64(&mut next, offset),
            Encoding::Hex { offset } => self.hex(&mut next, offset),
        };
        found.then_some(next)
    }

    /// Replaces escapes that begin with one of `marks`.
    fn escapes(&self, next: &mut Decoding, marks: &[u8], read: fn(&[u8]) -> Escape) -> bool {
        let (mut at, mut found) = (0, false);
        while at < self.bytes.len() {
            let byte = self.bytes[at];
            let escape = if marks.contains(&byte) { read(&self.bytes[at..]) } else { Escape::No };
            let taken = match escape {
                Escape::No => {
                    self.copy(next, at, 1, &[byte]);
                    1
                }
                Escape::Char(taken, char) => {
                    self.copy(next, at, taken, char.encode_utf8(&mut [0; 4]).as_bytes());
                    taken
                }
                Escape::Byte(taken, byte) => {
                    self.copy(next, at, taken, &[byte]);
                    taken
                }
                Escape::Cut => return true,
            };
            found |= !matches!(escape, Escape::No);
            at += taken;
        }
        found
    }

    /// Appends bytes that stand for `taken` bytes from `at`.
    fn copy(&self, next: &mut Decoding, at: usize, taken: usize, bytes: &[u8]) {
        let place = self.place(at..at + taken);
        next.bytes.extend_from_slice(bytes);
        next.places.resize(next.bytes.len(), (place.start as u32, place.end as u32));
    }

    /// Decodes the runs of base64. A zero byte separates them, which no secret contains.
    fn base64(&self, next: &mut Decoding, offset: usize) -> bool {
        self.runs(next, BASE64_RUN_MIN, sextet, |run, next| {
            // Every byte has the place of the whole run, so that the user name beside a password
            // goes with it, as does a rest that would tell some of its bits.
            let (Some((start, _)), Some((last, _))) = (run.first(), run.last()) else { return };
            let padding = self.bytes[last + 1..].iter().take_while(|byte| **byte == b'=').count();
            let taken = last + 1 + padding - start;
            for group in run.get(offset..).unwrap_or_default().chunks(4) {
                let mut bits = 0;
                for (_, digit) in group {
                    bits = bits << 6 | u32::from(*digit);
                }
                bits <<= 6 * (4 - group.len());
                for byte in 0..group.len().saturating_sub(1) {
                    self.copy(next, *start, taken, &[(bits >> (16 - 8 * byte)) as u8]);
                }
            }
        })
    }

    fn hex(&self, next: &mut Decoding, offset: usize) -> bool {
        self.runs(next, HEX_RUN_MIN, nibble, |run, next| {
            for pair in run.get(offset..).unwrap_or_default().chunks_exact(2) {
                self.copy(next, pair[0].0, pair[1].0 - pair[0].0 + 1, &[pair[0].1 << 4 | pair[1].1]);
            }
        })
    }

    /// Passes each run of at least `min` digits to `decode`, with their places. Line breaks do not
    /// end a run: encoders wrap long lines.
    fn runs(
        &self,
        next: &mut Decoding,
        min: usize,
        digit: fn(u8) -> Option<u8>,
        decode: impl Fn(&[(usize, u8)], &mut Decoding),
    ) -> bool {
        let (mut run, mut found) = (Vec::new(), false);
        for (at, byte) in self.bytes.iter().copied().map(Some).chain([None]).enumerate() {
            match byte.map(|byte| (byte, digit(byte))) {
                Some((_, Some(value))) => run.push((at, value)),
                Some((b'\r' | b'\n', None)) => {}
                _ => {
                    if run.len() >= min {
                        found = true;
                        decode(&run, next);
                        if at < self.bytes.len() {
                            self.copy(next, at, 1, &[0]);
                        }
                    }
                    run.clear();
                }
            }
        }
        found
    }
}

/// Reads a backslash escape.
fn backslash(text: &[u8]) -> Escape {
    let plain = match text.get(1) {
        None => return Escape::Cut,
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'0') => '\0',
        Some(byte @ (b'"' | b'\\' | b'/' | b'\'' | b'$' | b'`')) => char::from(*byte),
        Some(b'u') if text.get(2) == Some(&b'{') => return braced(text),
        Some(b'u') => return unicode(text),
        Some(b'x') => {
            return match hex_digits(&text[2..], 2) {
                Digits::Whole(value) => Escape::Byte(4, value as u8),
                Digits::Cut => Escape::Cut,
                Digits::No => Escape::No,
            };
        }
        Some(_) => return Escape::No,
    };
    Escape::Char(2, plain)
}

/// Reads `\uXXXX`, or two of them that are a surrogate pair.
fn unicode(text: &[u8]) -> Escape {
    let first = match hex_digits(&text[2..], 4) {
        Digits::Whole(value) => value,
        Digits::Cut => return Escape::Cut,
        Digits::No => return Escape::No,
    };
    if let Some(char) = char::from_u32(first) {
        return Escape::Char(6, char);
    }
    let after = &text[6..];
    let second = match after {
        [] | [b'\\'] => return Escape::Cut,
        [b'\\', b'u', digits @ ..] => hex_digits(digits, 4),
        _ => Digits::No,
    };
    match second {
        Digits::Cut => Escape::Cut,
        Digits::Whole(second @ 0xdc00..0xe000) if first < 0xdc00 => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(code).map_or(Escape::No, |char| Escape::Char(12, char))
        }
        Digits::Whole(_) | Digits::No => Escape::No,
    }
}

/// Reads `\u{X}`, as Rust and JavaScript write it.
fn braced(text: &[u8]) -> Escape {
    let digits = text[3..].iter().take(7).take_while(|byte| byte.is_ascii_hexdigit()).count();
    match text.get(3 + digits) {
        None => Escape::Cut,
        Some(b'}') => {
            number(&text[3..3 + digits], 16).map_or(Escape::No, |char| Escape::Char(digits + 4, char))
        }
        Some(_) => Escape::No,
    }
}

/// Reads a reference of XML or HTML. HTML accepts a number without its semicolon.
fn reference(text: &[u8]) -> Escape {
    let (start, radix) = match text {
        [_, b'#', b'x' | b'X', ..] => (3, 16),
        [_, b'#', ..] => (2, 10),
        _ => return named(text),
    };
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let digits = text[start..].iter().take(REFERENCE_DIGITS_MAX).take_while(is_digit).count();
    let end = start + digits;
    match (digits, text.get(end)) {
        (_, None) => Escape::Cut,
        (0, Some(_)) => Escape::No,
        (_, Some(after)) => {
            let taken = end + usize::from(*after == b';');
            number(&text[start..end], radix).map_or(Escape::No, |char| Escape::Char(taken, char))
        }
    }
}

fn named(text: &[u8]) -> Escape {
    let letters = text[1..].iter().take(NAME_MAX + 5).take_while(|byte| byte.is_ascii_alphabetic()).count();
    match text.get(letters + 1) {
        None => Escape::Cut,
        Some(b';') => {
            let name = &text[1..=letters];
            let known = NAMES.iter().find(|(known, _)| known.as_bytes() == name);
            known.map_or(Escape::No, |(_, char)| Escape::Char(letters + 2, *char))
        }
        Some(_) => Escape::No,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<char> {
    let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    char::from_u32(value)
}

/// Reads `%XX`, the older `%uXXXX`, or the `+` of a form.
fn percent(text: &[u8]) -> Escape {
    match text {
        [b'+', ..] => Escape::Byte(1, b' '),
        [_, b'u', digits @ ..] => match hex_digits(digits, 4) {
            Digits::Whole(value) => char::from_u32(value).map_or(Escape::No, |char| Escape::Char(6, char)),
            Digits::Cut => Escape::Cut,
            Digits::No => Escape::No,
        },
        _ => match hex_digits(&text[1..], 2) {
            Digits::Whole(value) => Escape::Byte(3, value as u8),
            Digits::Cut => Escape::Cut,
            Digits::No => Escape::No,
        },
    }
}

enum Digits {
    Whole(u32),
    /// The text ends within them.
    Cut,
    No,
}

fn hex_digits(text: &[u8], count: usize) -> Digits {
    let mut value = 0;
    for at in 0..count {
        match text.get(at).map(|byte| nibble(*byte)) {
            None => return Digits::Cut,
            Some(None) => return Digits::No,
            Some(Some(digit)) => value = value << 4 | u32::from(digit),
        }
    }
    Digits::Whole(value)
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// A digit of base64, in either alphabet.
fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_becomes_its_character_and_keeps_its_place() {
        let check = |encoding: Encoding, text: &str, expected: &str| {
            let undone = Decoding::of(text).undo(encoding);
            let undone = undone.map(|undone| String::from_utf8_lossy(&undone.bytes).into_owned());
            assert_eq!(undone.as_deref().unwrap_or(text), expected, "{text}");
        };
        check(Encoding::Backslash, r#"a\"\\\/\n\u00e4\ud83d\udd12\x41\u{42}z"#, "a\"\\/\nä🔒ABz");
        check(Encoding::Backslash, r"\q \u12 \ud83dx", r"\q \u12 \ud83dx");
        check(Encoding::Markup, "&lt;&#60;&#x3C;&#x3c;&#0060;&#60 &dollar;&commat;&apos;", "<<<<<< $@'");
        check(Encoding::Markup, "&nothing; &; & &#; &#xg", "&nothing; &; & &#; &#xg");
        check(Encoding::Percent { plus_is_space: false }, "%41%c3%A4+%zz%u0041", "Aä+%zzA");
        check(Encoding::Percent { plus_is_space: true }, "a+b%2B", "a b+");
        let undone = Decoding::of("p%34w").undo(Encoding::Percent { plus_is_space: false }).unwrap();
        assert_eq!((undone.place(0..3), undone.place(1..2), undone.place(2..3)), (0..5, 1..4, 4..5));
    }

    #[test]
    fn an_escape_that_is_cut_off_is_dropped() {
        let check = |encoding: Encoding, text: &str| {
            assert_eq!(Decoding::of(text).undo(encoding).unwrap().bytes, b"pass", "{text}");
        };
        for text in [r"pass\", r"pass\u", r"pass\u00", r"pass\ud83d\ud", r"pass\x4", r"pass\u{4"] {
            check(Encoding::Backslash, text);
        }
        for text in ["pass&", "pass&am", "pass&#", "pass&#x4", "pass&#12"] {
            check(Encoding::Markup, text);
        }
        for text in ["pass%", "pass%4", "pass%u00"] {
            check(Encoding::Percent { plus_is_space: false }, text);
        }
    }

    #[test]
    fn base64_and_hex_are_decoded_at_every_offset() {
        let holds = |text: &str, expected: &str| {
            let found = Encoding::ALL.iter().filter_map(|encoding| Decoding::of(text).undo(*encoding));
            let mut found = found.filter(|undone| String::from_utf8_lossy(&undone.bytes).contains(expected));
            assert!(found.next().is_some(), "{text}");
        };
        holds("Basic aHVudGVyMg==", "hunter2");
        holds("xaHVudGVyMg", "hunter2");
        holds("xxaHVudGVyMg", "hunter2");
        holds("xxxaHVu\r\ndGVyMg", "hunter2");
        holds("(68756e74657232)", "hunter2");
        holds("(a68756E74657232)", "hunter2");
        assert!(Decoding::of("short (ab)").undo(Encoding::Base64 { offset: 0 }).is_none());
    }
}
