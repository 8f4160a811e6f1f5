//! JSON as Go's `encoding/json` writes it, with the same escapes and floats.

/// A place for JSON: the arena, or a plain vector.
pub(super) trait Sink {
    fn push(&mut self, byte: u8);
    fn put_bytes(&mut self, bytes: &[u8]);
    /// True if nothing more is wanted: what was written will be thrown away.
    fn is_over(&self) -> bool {
        false
    }
}

impl Sink for Vec<u8> {
    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends `text` as a JSON string. `<`, `>`, `&`, U+2028 and U+2029 are escaped, which makes the
/// JSON safe in HTML and JavaScript.
pub(super) fn string(out: &mut impl Sink, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends `text` escaped, without quotes.
pub(super) fn escaped(out: &mut impl Sink, text: &str) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if !may_escape(byte) {
            continue;
        }
        let (escape, width): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0xE2 if bytes[i..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xE2 if bytes[i..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            0xE2 => continue,
            _ => (&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]], 1),
        };
        if out.is_over() {
            return;
        }
        out.put_bytes(&bytes[plain..i]);
        out.put_bytes(escape);
        plain = i + width;
    }
    out.put_bytes(&bytes[plain..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Returns true if Go escapes the character that begins with `byte`. 0xE2 begins U+2028 and U+2029,
/// but also many characters that need no escape.
pub(super) fn may_escape(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xE2)
}

/// Appends an integer.
pub(super) fn integer(out: &mut impl Sink, value: i128) {
    // i128 holds both xsd:long and xsd:unsignedLong. This is not the fast path.
    out.put_bytes(value.to_string().as_bytes());
}

/// Appends a double, which must be finite.
pub(super) fn double(out: &mut impl Sink, value: f64) {
    let size = value.abs();
    match size != 0.0 && !(1e-6..1e21).contains(&size) {
        true => exponent(out, &format!("{value:e}")),
        false => out.put_bytes(value.to_string().as_bytes()),
    }
}

/// Appends a float with the digits that a float needs. It must be finite.
pub(super) fn float(out: &mut impl Sink, value: f32) {
    let size = value.abs();
    match size != 0.0 && !(1e-6..1e21).contains(&size) {
        true => exponent(out, &format!("{value:e}")),
        false => out.put_bytes(value.to_string().as_bytes()),
    }
}

/// Appends a number in exponent notation. Go writes `1e+21` where Rust writes `1e21`.
fn exponent(out: &mut impl Sink, text: &str) {
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => {
            out.put_bytes(digits.as_bytes());
            out.put_bytes(b"e+");
            out.put_bytes(power.as_bytes());
        }
        _ => out.put_bytes(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let check = |text: &str, expected: &str| assert_eq!(rendered(|out| string(out, text)), expected);
        check("", r#""""#);
        check("plain ünïcödé 😀", r#""plain ünïcödé 😀""#);
        check("<a href=\"x\">&</a>", r#""\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e""#);
        check("C:\\a\tb\r\n", r#""C:\\a\tb\r\n""#);
        check("\u{1}\u{1f}\u{7f}", "\"\\u0001\\u001f\u{7f}\"");
        check("\u{2028}x\u{2029}\u{2027}\u{202a}", "\"\\u2028x\\u2029\u{2027}\u{202a}\"");
    }

    #[test]
    fn floats_are_written_as_go_does() {
        let check = |value: f64, expected: &str| assert_eq!(rendered(|out| double(out, value)), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(0.1, "0.1");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(-1.5e300, "-1.5e+300");
        check(1e-6, "0.000001");
        check(9.5e-7, "9.5e-7");
        check(5e-324, "5e-324");
        check(9007199254740993.0, "9007199254740992");
        let check = |value: f32, expected: &str| assert_eq!(rendered(|out| float(out, value)), expected);
        check(0.1, "0.1");
        check(16777216.0, "16777216");
        check(1e21, "1e+21");
        check(1e-7, "1e-7");
        check(f32::MAX, "3.4028235e+38");
    }
}
