//! The values of an event that templates can use.
//!
//! They are read from the rendered CloudEvent, so that they are the ones that every other target
//! would receive, with the `payload`, `time` and `extensions` of the processor. Only the data of an
//! event whose templates use it is parsed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::Value;
use serde_json::value::RawValue;

/// The names that a template can use.
pub const NAMES: [&str; 10] = [
    "id",
    "source",
    "specversion",
    "type",
    "subject",
    "time",
    "data",
    "datacontenttype",
    "extensions",
    "secrets",
];

/// Reads the values of one event, a structured CloudEvent.
pub fn context(event: &[u8], uses_data: bool, secrets: &Value) -> Result<Value, serde_json::Error> {
    let event = without_marks(event);
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(&event)?;
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut extensions: BTreeMap<String, Value> = BTreeMap::new();
    for (name, raw) in members {
        if name == "data" && !uses_data {
            continue;
        }
        let value: Value = serde_json::from_str(raw.get())?;
        if NAMES.contains(&&*name) {
            values.insert(name.into_owned(), value);
        } else {
            extensions.insert(name.into_owned(), value);
        }
    }
    values.insert("extensions".to_owned(), Value::from(extensions));
    values.insert("secrets".to_owned(), secrets.clone());
    Ok(Value::from(values))
}

/// Replaces the two noncharacters that mark values in a rendered text, see [`super::escape`]. Text
/// from outside could contain them, as they are or as escapes such as `\ufdd0`.
fn without_marks(event: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Vec<u8> = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = memchr::memchr2(b'\\', 0xef, &event[at..]) {
        at += found;
        let length = match &event[at..] {
            [0xef, 0xb7, 0x90 | 0x91, ..] => 3,
            [b'\\', b'u', b'f' | b'F', b'd' | b'D', b'd' | b'D', b'0' | b'1', ..] => 6,
            // Another escape, whose second byte may be a backslash.
            [b'\\', _, ..] => {
                at += 2;
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&event[copied..at]);
        out.extend_from_slice("\u{fffd}".as_bytes());
        at += length;
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(event);
    }
    out.extend_from_slice(&event[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_an_event_marks_a_value() {
        let check = |event: &str, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&without_marks(event.as_bytes())), expected, "{event}");
        };
        check("a\u{fdd0}b\u{fdd1}", "a\u{fffd}b\u{fffd}");
        check(r#"{"a":"\ufdd0\uFDD1\"\n"}"#, "{\"a\":\"\u{fffd}\u{fffd}\\\"\\n\"}");
        for kept in [r"\\ufdd0", "ï·", "\u{fdd2}\u{fffd}", r"\ufdd2", "\\", "\\u", ""] {
            check(kept, kept);
            assert!(matches!(without_marks(kept.as_bytes()), Cow::Borrowed(_)));
        }
    }
}
