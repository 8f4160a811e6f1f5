//! Escaping of text: within JSON strings, and within HTTP headers.

use hyper::header::HeaderValue;

/// Appends `,"name":"value"`.
pub(super) fn push_member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    push_escaped(out, value);
    out.push(b'"');
}

/// The bytes that must be escaped within a JSON string (RFC 8259 §7).
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Appends UTF-8 `text` as the inside of a JSON string.
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(other >> 4), hex(other & 15)]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Returns true if a context attribute differs from its header value.
pub fn is_encoded_in_headers(text: &[u8]) -> bool {
    !text.iter().all(|byte| is_plain(*byte))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'%')
}

/// A context attribute as a header value. Space, `"`, `%` and everything outside U+0021 to U+007E
/// is percent-encoded (CloudEvents HTTP binding, §3.1.3.2).
pub(super) fn header_value(text: &[u8]) -> HeaderValue {
    if !is_encoded_in_headers(text) {
        return HeaderValue::from_bytes(text).expect("printable ASCII is a header value");
    }
    let mut encoded = Vec::with_capacity(text.len() * 3);
    for byte in text {
        if is_plain(*byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    HeaderValue::from_bytes(&encoded).expect("printable ASCII is a header value")
}

fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble)]
}
