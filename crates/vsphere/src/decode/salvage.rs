//! Facts about events that cannot be decoded. A page with a broken event is split into pages of one
//! event each, and the broken one becomes a dead letter with its time and key.
//!
//! The page may be arbitrary bytes, so these functions search for tags instead of parsing them.

use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::array;
use crate::Wire;
use crate::api::{EventMark, parse_us};

/// The end of the closing tag of an event in SOAP.
const EVENT_END: &[u8] = b"returnval>";

/// The createdTime of the first event in a page, in microseconds since 1970 UTC, if it is readable.
pub fn created_us(wire: Wire, body: &[u8]) -> Option<i64> {
    let (text, end) = match wire {
        Wire::Soap => (after(body, b"<createdTime>")?, b'<'),
        Wire::ViJson => (value(body, b"\"createdTime\"")?.strip_prefix(b"\"")?, b'"'),
    };
    let text = text.split(|byte| *byte == end).next()?;
    parse_us(std::str::from_utf8(text).ok()?)
}

/// The key and createdTime of the first event in an answer, if they are readable.
pub fn mark(wire: Wire, body: &[u8]) -> Option<EventMark> {
    let number = match wire {
        Wire::Soap => after(body, b"<key>")?,
        Wire::ViJson => value(body, b"\"key\"")?,
    };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    let key = std::str::from_utf8(&number[..digits]).ok()?.parse().ok()?;
    Some(EventMark { key, created_us: created_us(wire, body)? })
}

fn after<'a>(body: &'a [u8], tag: &[u8]) -> Option<&'a [u8]> {
    Some(&body[memmem::find(body, tag)? + tag.len()..])
}

/// The bytes behind a JSON member's name and colon.
fn value<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Some(after(body, name)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// Counts the events in a page without decoding it.
pub fn count_events(wire: Wire, body: &[u8]) -> usize {
    match wire {
        Wire::Soap => closing_tags(body, EVENT_END).count(),
        Wire::ViJson => {
            let mut events = 0;
            array::items(body, |_| events += 1);
            events
        }
    }
}

/// Splits a page that cannot be decoded into pages of one event each.
pub fn singles(wire: Wire, body: &Bytes) -> Vec<Bytes> {
    match wire {
        Wire::Soap => {
            let Some(head) = first_event(body) else { return Vec::new() };
            let mut ends: Vec<usize> =
                closing_tags(body, EVENT_END).map(|tag| tag.end).filter(|end| *end > head).collect();
            let Some(last) = ends.last().copied() else { return Vec::new() };
            let tail = closing_tags(&body[last..], b"Response>").last().map_or(last, |tag| last + tag.start);
            // Anything left behind the last closing tag is an event whose own end is broken.
            if !body[last..tail].trim_ascii().is_empty() {
                ends.push(tail);
            }
            let starts = std::iter::once(head).chain(ends.iter().copied());
            let events = starts.zip(&ends).map(|(start, end)| body[start..*end].trim_ascii());
            events.map(|event| [&body[..head], event, &body[tail..]].concat().into()).collect()
        }
        Wire::ViJson => {
            let mut singles = Vec::new();
            array::items(body, |item| singles.push([b"[", &body[item], b"]"].concat().into()));
            singles
        }
    }
}

/// The offset of the first event. It is behind the opening tag of the response; without one it is
/// that of the first `returnval` tag. Any prefix is accepted.
fn first_event(body: &[u8]) -> Option<usize> {
    let opening = |name: &'static [u8]| {
        let mut tags = memmem::find_iter(body, name).map(|at| at - prefix(&body[..at]));
        tags.find(|start| body[..*start].ends_with(b"<"))
    };
    match opening(b"Response") {
        Some(start) => memchr(b'>', &body[start..]).map(|end| start + end + 1),
        None => opening(b"returnval").map(|start| start - 1),
    }
}

/// The ranges of all closing tags whose name ends in `name`, with any prefix. `name` ends in `>`.
fn closing_tags<'a>(body: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Range<usize>> {
    memmem::find_iter(body, name).filter_map(move |at| {
        let before = &body[..at - prefix(&body[..at])];
        before.ends_with(b"</").then(|| before.len() - 2..at + name.len())
    })
}

/// The number of bytes before the end of `before` that belong to a name, with its prefix and colon.
fn prefix(before: &[u8]) -> usize {
    before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b':').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Wire {
        if text.starts_with('[') { Wire::ViJson } else { Wire::Soap }
    }

    #[test]
    fn events_are_counted_without_decoding() {
        let check =
            |text: &str, count: usize| assert_eq!(count_events(wire(text), text.as_bytes()), count, "{text}");
        check("", 0);
        check("<r><returnval/></r>", 0);
        check("<r><returnval></returnval><returnval x='1'>returnval&gt;</returnval></r>", 2);
        check("<r><v:returnval></v:returnval></r>", 1);
        check("[]", 0);
        check(r#"[{"key":1,"x":[1,2]},{"key":2}]"#, 2);
    }

    #[test]
    fn events_are_split_without_decoding() {
        let check = |text: &str, expected: &[&str]| {
            let found = singles(wire(text), &Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("<r><returnval/></r>", &[]);
        check(
            "<?xml?><r xmlns:v='returnval'>\n<v:returnval x='1'><k>1</v:returnval> <v:returnval>2</v:returnval></v:aResponse></r>",
            &[
                "<?xml?><r xmlns:v='returnval'>\n<v:returnval x='1'><k>1</v:returnval></v:aResponse></r>",
                "<?xml?><r xmlns:v='returnval'>\n<v:returnval>2</v:returnval></v:aResponse></r>",
            ],
        );
        // The end of the last event is broken, or the beginning of the first.
        let broken =
            "<s:aResponse a='1'>\n<returnval>1</returnval> <returnval>2</returnvl> </s:aResponse></b>";
        let single = |event: &str| format!("<s:aResponse a='1'>{event}</s:aResponse></b>");
        check(broken, &[&single("<returnval>1</returnval>"), &single("<returnval>2</returnvl>")]);
        let broken = broken.replace("</returnvl>", "</returnval>").replace("<returnval>1", "<returnvl>1");
        check(&broken, &[&single("<returnvl>1</returnval>"), &single("<returnval>2</returnval>")]);
        let odd = "<bResponse/></returnval><aResponse></x>";
        check(odd, &[odd]);
        check(
            "<xResponse></xResponse><returnval>1</returnval>2",
            &["<xResponse></xResponse><returnval>1</returnval>2"],
        );
        check("</returnval></returnval><aResponse", &[]);
        check(r#"[{"key":1,"x":[1,2]}, {"key":2}]"#, &[r#"[{"key":1,"x":[1,2]}]"#, r#"[{"key":2}]"#]);
    }

    #[test]
    fn the_time_of_a_broken_event_is_found_if_readable() {
        let check =
            |text: &str, us: Option<i64>| assert_eq!(created_us(wire(text), text.as_bytes()), us, "{text}");
        check("<returnval><key>1</kez><createdTime>1970-01-01T00:00:01Z</createdTime>", Some(1_000_000));
        check("<createdTime>soon</createdTime>", None);
        check("<key>1</key>", None);
        check(r#"[{"key":1,"createdTime" : "1970-01-01T00:00:01Z","vm":{"#, Some(1_000_000));
        check(r#"[{"createdTime":5}]"#, None);
        check("[{}]", None);
    }

    #[test]
    fn the_mark_of_a_broken_event_is_found_if_readable() {
        let check = |text: &str, expected: Option<i32>| {
            let found = mark(wire(text), text.as_bytes());
            assert_eq!(found, expected.map(|key| EventMark { key, created_us: 1_000_000 }), "{text}");
        };
        let created = "<createdTime>1970-01-01T00:00:01Z</createdTime>";
        check(&format!("<val><key>-7</key><chainId>8</chainId>{created}<vm><name>x</vm>"), Some(-7));
        check(&format!("<val><key>x</key>{created}"), None);
        check(&format!("<val>{created}"), None);
        check("<val><key>7</key>", None);
        check(r#"[{"key" : 9,"createdTime":"1970-01-01T00:00:01Z","vm":{"#, Some(9));
        check(r#"[{"key":"9","createdTime":"1970-01-01T00:00:01Z""#, None);
    }
}
