//! What can be told of events that cannot be decoded.

use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::array;
use crate::Wire;
use crate::api::{EventMark, parse_us};

/// The end of the closing tag of an event in SOAP.
const EVENT_END: &[u8] = b"returnval>";

/// The createdTime of the first event in a page that cannot be decoded, microseconds since 1970 UTC, if that much can be read.
pub fn created_us(wire: Wire, body: &[u8]) -> Option<i64> {
    let (text, end) = match wire {
        Wire::Soap => (after(body, b"<createdTime>")?, b'<'),
        Wire::ViJson => (value(body, b"\"createdTime\"")?.strip_prefix(b"\"")?, b'"'),
    };
    let text = text.split(|byte| *byte == end).next()?;
    parse_us(std::str::from_utf8(text).ok()?)
}

/// Key and createdTime of an event that cannot be decoded, the first in an answer, if that much can be read.
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

/// What follows a JSON member's name and colon.
fn value<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Some(after(body, name)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// The events in a page, without decoding it.
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

/// The events of a page that cannot be decoded, each as a page of its own, as far as they can be told apart.
pub fn singles(wire: Wire, body: &Bytes) -> Vec<Bytes> {
    match wire {
        Wire::Soap => {
            let Some(head) = first_event(body) else { return Vec::new() };
            let mut ends: Vec<usize> =
                closing_tags(body, EVENT_END).map(|tag| tag.end).filter(|end| *end > head).collect();
            let Some(last) = ends.last().copied() else { return Vec::new() };
            let tail = closing_tags(&body[last..], b"Response>").last().map_or(last, |tag| last + tag.start);
            // What is left behind the last of them is one whose end is broken.
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

/// Where the first event begins: behind the opening tag of the response, or else with the first `returnval` tag, whatever its prefix.
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

/// Where the closing tags are whose name ends in `name`, which ends in `>`; whatever their prefix.
fn closing_tags<'a>(body: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Range<usize>> {
    memmem::find_iter(body, name).filter_map(move |at| {
        let before = &body[..at - prefix(&body[..at])];
        before.ends_with(b"</").then(|| before.len() - 2..at + name.len())
    })
}

/// Bytes of a name that end here, its namespace prefix and colon included.
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
    fn events_are_told_apart_without_decoding() {
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
        // The end of the last one is broken, or the beginning of the first.
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
    fn the_time_of_a_broken_event_is_found_where_it_can_be() {
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
    fn the_mark_of_a_broken_event_is_found_where_it_can_be() {
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
