//! Plain values of the fast decoder: text, numbers, booleans and times.
//!
//! A value is copied from the page if JSON can have it unchanged, and is [`Odd`] if it needs more
//! than escapes.

use super::bytes::Fragment;
use super::{Decoder, Odd};
use crate::decode::markup::resolve_reference;
use crate::decode::{json, time};
use crate::schema::Kind;

impl Decoder<'_, '_, '_> {
    #[inline(always)]
    pub(super) fn scalar(&mut self, kind: Kind, from: usize) -> Result<usize, Odd> {
        match kind {
            Kind::Boolean => self.boolean(from),
            Kind::Float | Kind::Double => self.real(kind, from),
            _ => self.integer(kind, from).map(|(_, end)| end),
        }
    }

    #[inline(always)]
    fn boolean(&mut self, from: usize) -> Result<usize, Odd> {
        let rest = self.page.get(from..).ok_or(Odd)?;
        let (fragment, len): (Fragment, usize) = match rest {
            [b'f', b'a', b'l', b's', b'e', b'<', ..] => (self.fixed.r#false, 5),
            [b't', b'r', b'u', b'e', b'<', ..] => (self.fixed.r#true, 4),
            [b'0', b'<', ..] => (self.fixed.r#false, 1),
            [b'1', b'<', ..] => (self.fixed.r#true, 1),
            _ => return Err(Odd),
        };
        self.out.put(fragment);
        Ok(from + len)
    }

    /// Copies an integer that JSON can have unchanged: no sign but `-`, no leading zeros, in the
    /// range of its kind.
    #[inline(always)]
    pub(super) fn integer(&mut self, kind: Kind, from: usize) -> Result<(i64, usize), Odd> {
        let (min, max) = match kind {
            Kind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Long => (i64::MIN, i64::MAX),
            Kind::Short => (i64::from(i16::MIN), i64::from(i16::MAX)),
            _ => (i64::from(i8::MIN), i64::from(i8::MAX)),
        };
        let negative = self.page.get(from) == Some(&b'-');
        let first = from + usize::from(negative);
        let mut value = 0;
        let mut end = first;
        while let Some(digit) =
            self.page.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
        {
            // Any 18 digits fit an i64. The reference decoder handles longer numbers.
            if end - first == 18 {
                return Err(Odd);
            }
            value = value * 10 + i64::from(digit);
            end += 1;
        }
        let leading_zero = self.page.get(first) == Some(&b'0') && (end - first > 1 || negative);
        let value = if negative { -value } else { value };
        if end == first || leading_zero || value < min || value > max {
            return Err(Odd);
        }
        self.out.copy(self.page, from, end);
        Ok((value, end))
    }

    fn real(&mut self, kind: Kind, from: usize) -> Result<usize, Odd> {
        let end = self.markup_from(from)?;
        let text = std::str::from_utf8(&self.page[from..end]).map_err(|_| Odd)?;
        match kind {
            Kind::Float => json::float(
                &mut self.out,
                text.parse().ok().filter(|value: &f32| value.is_finite()).ok_or(Odd)?,
            ),
            _ => json::double(
                &mut self.out,
                text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Odd)?,
            ),
        }
        Ok(end)
    }

    /// Writes a time without its quotes. Returns microseconds since 1970 UTC.
    #[inline(always)]
    pub(super) fn time(&mut self, from: usize) -> Result<(i64, usize), Odd> {
        let (time, len) = time::parse_prefix(self.page.get(from..).ok_or(Odd)?).ok_or(Odd)?;
        let end = from + len;
        self.out.copy(self.page, from, from + time.kept);
        match time.utc {
            true => self.out.push(b'Z'),
            false => self.out.copy(self.page, end - 6, end),
        }
        Ok((time.micros, end))
    }

    /// Returns the offset of the next `<`, which must be near.
    #[inline(always)]
    fn markup_from(&self, from: usize) -> Result<usize, Odd> {
        let rest = &self.page[from..];
        let near = &rest[..rest.len().min(64)];
        near.iter().position(|byte| *byte == b'<').map(|len| from + len).ok_or(Odd)
    }

    /// Copies text up to the next `<` and escapes it on the way.
    #[inline(always)]
    pub(super) fn text(&mut self, from: usize) -> Result<usize, Odd> {
        let at = self.out.text(self.page, from);
        if self.page.get(at) == Some(&b'<') { Ok(at) } else { self.escapes(at) }
    }

    /// Copies the rest of a text; `at` is the offset of its first special byte.
    #[inline(never)]
    fn escapes(&mut self, mut at: usize) -> Result<usize, Odd> {
        loop {
            // One byte may become six.
            if self.out.is_over() {
                return Err(Odd);
            }
            let rest = self.page.get(at..).ok_or(Odd)?;
            match rest {
                [b'<', ..] => return Ok(at),
                // U+2028 and U+2029, which end a line in JavaScript.
                [0xE2, 0x80, 0xA8 | 0xA9, ..] => {
                    self.escaped = true;
                    self.out.put_bytes(if rest[2] == 0xA8 { b"\\u2028" } else { b"\\u2029" });
                    at += 3;
                }
                // U+FFFE and U+FFFF are not characters in XML.
                [0xEF, 0xBF, 0xBE | 0xBF, ..] => return Err(Odd),
                // Any other character with the same lead byte.
                [0xE2 | 0xEF, _, _, ..] => {
                    self.out.copy(self.page, at, at + 3);
                    at += 3;
                }
                [b'&', ..] => at = self.entity(at)?,
                // `]]>` ends a CDATA section and is an error outside of one.
                [b'>', ..] if self.page[..at].ends_with(b"]]") => return Err(Odd),
                [b'"' | b'\\' | b'\n' | b'\t' | b'>', ..] => {
                    self.escaped = true;
                    let escape: &[u8] = match rest[0] {
                        b'"' => b"\\\"",
                        b'\\' => b"\\\\",
                        b'\n' => b"\\n",
                        b'\t' => b"\\t",
                        _ => b"\\u003e",
                    };
                    self.out.put_bytes(escape);
                    at += 1;
                }
                // A control character, or the end of the page.
                _ => return Err(Odd),
            }
            at = self.out.text(self.page, at);
        }
    }

    /// Decodes a character reference such as `&amp;`.
    fn entity(&mut self, at: usize) -> Result<usize, Odd> {
        (self.escaped, self.referred) = (true, true);
        let near = &self.page[at + 1..self.page.len().min(at + 12)];
        let len = near.iter().position(|byte| *byte == b';').ok_or(Odd)?;
        let escape: &[u8] = match &near[..len] {
            b"lt" => b"\\u003c",
            b"gt" => b"\\u003e",
            b"amp" => b"\\u0026",
            b"quot" => b"\\\"",
            b"apos" => b"'",
            name => {
                let name = std::str::from_utf8(name).map_err(|_| Odd)?;
                let character = resolve_reference(name).ok_or(Odd)?;
                json::escaped(&mut self.out, character.encode_utf8(&mut [0; 4]));
                return Ok(at + len + 2);
            }
        };
        self.out.put_bytes(escape);
        Ok(at + len + 2)
    }
}
