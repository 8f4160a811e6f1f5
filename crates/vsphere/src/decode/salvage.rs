//! Facts about events that cannot be decoded. A page with a broken event is split into its events,
//! which are decoded one by one. The broken one becomes a dead letter with its time and key.
//!
//! The page may be arbitrary bytes, so these functions search for tags instead of parsing them.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::{Quota, array, document, vijson};
use crate::api::{EventPosition, parse_us};
use crate::{DecodeError, Decoded, Wire};

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
pub fn position(wire: Wire, body: &[u8]) -> Option<EventPosition> {
    let number = match wire {
        Wire::Soap => after(body, b"<key>")?,
        Wire::ViJson => value(body, b"\"key\"")?,
    };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    let key = std::str::from_utf8(&number[..digits]).ok()?.parse().ok()?;
    Some(EventPosition { key, created_us: created_us(wire, body)? })
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

/// An event that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its bytes in the page.
    pub range: Range<usize>,
    /// The offset is one of the page.
    pub error: DecodeError,
}

/// Decodes the events of a page one by one, and returns those that cannot be decoded. `out` is
/// cleared first.
///
/// Each event has a share of the page's quota in proportion to its bytes. The part of the page
/// before the events is read once, so this takes time and memory in proportion to the page.
pub fn decode(wire: Wire, page: &[u8], quota: &mut Quota<'_>, out: &mut Decoded) -> Vec<Broken> {
    out.clear();
    let mut broken = match wire {
        Wire::Soap => document::decode_pieces(page, quota, out),
        Wire::ViJson => vijson::decode_items(page, quota, out),
    };
    broken.retain(|broken| !broken.range.is_empty());
    broken
}

/// Decodes one event with its share of the quota. One that cannot be decoded leaves `out` as it is
/// and is added to `broken`.
pub(super) fn decode_one(
    range: Range<usize>,
    page: usize,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
    broken: &mut Vec<Broken>,
    decode: impl FnOnce(&mut Quota<'_>, &mut Decoded) -> Result<(), DecodeError>,
) {
    let before = (out.arena.len(), out.records.len(), out.unknown_classes, out.misfits);
    let result = quota.share(range.len(), page, |quota| decode(quota, out));
    if let Err(error) = result {
        out.arena.truncate(before.0);
        out.records.truncate(before.1);
        (out.unknown_classes, out.misfits) = (before.2, before.3);
        if broken.len() == broken.capacity() {
            // No larger than a record, of which there is one less.
            quota.hold_records(out.records.capacity() + 2 * broken.len().max(8));
        }
        broken.push(Broken { range, error });
    }
}

/// The ranges of the events in a page, found without decoding it.
pub fn events(wire: Wire, body: &[u8]) -> Vec<Range<usize>> {
    match wire {
        Wire::Soap => pieces(body).map_or_else(Vec::new, |pieces| pieces.events),
        Wire::ViJson => {
            let mut events = Vec::new();
            array::items(body, |item| events.push(item));
            events
        }
    }
}

/// A page in SOAP, split without decoding it.
pub(super) struct Pieces {
    /// The end of the opening tag of the response.
    pub head: usize,
    pub events: Vec<Range<usize>>,
}

/// Splits a page in SOAP into events. `None` if it has none.
pub(super) fn pieces(body: &[u8]) -> Option<Pieces> {
    let head = first_event(body)?;
    let mut ends: Vec<usize> =
        closing_tags(body, EVENT_END).map(|tag| tag.end).filter(|end| *end > head).collect();
    let last = ends.last().copied()?;
    let tail = closing_tags(&body[last..], b"Response>").last().map_or(last, |tag| last + tag.start);
    // Anything left behind the last closing tag is an event whose own end is broken.
    if !body[last..tail].trim_ascii().is_empty() {
        ends.push(tail);
    }
    let starts = std::iter::once(head).chain(ends.iter().copied());
    let trimmed = |(start, end): (usize, &usize)| {
        let event = body[start..*end].trim_ascii_start();
        let start = end - event.len();
        start..start + event.trim_ascii_end().len()
    };
    Some(Pieces { head, events: starts.zip(&ends).map(trimmed).collect() })
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
            let found: Vec<&str> =
                events(wire(text), text.as_bytes()).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("<r><returnval/></r>", &[]);
        check(
            "<?xml?><r xmlns:v='returnval'>\n<v:returnval x='1'><k>1</v:returnval> <v:returnval>2</v:returnval></v:aResponse></r>",
            &["<v:returnval x='1'><k>1</v:returnval>", "<v:returnval>2</v:returnval>"],
        );
        // The end of the last event is broken, or the beginning of the first.
        let broken =
            "<s:aResponse a='1'>\n<returnval>1</returnval> <returnval>2</returnvl> </s:aResponse></b>";
        check(broken, &["<returnval>1</returnval>", "<returnval>2</returnvl>"]);
        let broken = broken.replace("</returnvl>", "</returnval>").replace("<returnval>1", "<returnvl>1");
        check(&broken, &["<returnvl>1</returnval>", "<returnval>2</returnval>"]);
        check("<bResponse/></returnval><aResponse></x>", &["</returnval>"]);
        check("<xResponse></xResponse><returnval>1</returnval>2", &["</xResponse><returnval>1</returnval>"]);
        check("</returnval></returnval><aResponse", &[]);
        check(r#"[{"key":1,"x":[1,2]}, {"key":2}]"#, &[r#"{"key":1,"x":[1,2]}"#, r#"{"key":2}"#]);
    }

    /// Keys of the events that are decoded, and the texts of those that cannot be.
    fn salvaged(text: &str) -> (Vec<i32>, Vec<String>) {
        let mut out = Decoded::default();
        let mut quota = Quota::of(text.len());
        let broken = decode(wire(text), text.as_bytes(), &mut quota, &mut out);
        let raw = |range: Range<usize>| text[range].to_owned();
        for record in &out.records {
            let raw = raw(record.raw.range());
            assert!(raw.starts_with(['<', '{']) && raw.ends_with(['>', '}']), "{raw}");
        }
        let keys = out.records.iter().filter_map(|record| record.key).collect();
        (keys, broken.into_iter().map(|broken| raw(broken.range)).collect())
    }

    #[test]
    fn the_good_events_of_a_broken_page_are_decoded_and_the_others_named() {
        let event = |key: &str| format!("<v:returnval p:type='VmPoweredOnEvent'>{key}</v:returnval>");
        let page = |events: &[String]| {
            format!(
                "<?xml version='1.0'?><e:Envelope xmlns:e='e' xmlns:p='http://www.w3.org/2001/XMLSchema-instance'><e:Body><v:ReadNextEventsResponse xmlns:v='urn:vim25'>{}</v:ReadNextEventsResponse></e:Body></e:Envelope>",
                events.concat()
            )
        };
        let check = |events: &[String], keys: &[i32], broken: &[String]| {
            assert_eq!(salvaged(&page(events)), (keys.to_vec(), broken.to_vec()), "{events:?}");
        };
        let good = |key: i32| event(&format!("<key>{key}</key>"));
        let bad = event("<key>5</kez>");
        check(&[good(1), good(2)], &[1, 2], &[]);
        check(&[bad.clone(), good(2), bad.clone(), good(4), bad.clone()], &[2, 4], &vec![bad.clone(); 3]);
        // An event without its end takes the next one with it, as it did before it was split.
        let endless = "<v:returnval><key>3</key>".to_string();
        check(&[good(1), endless.clone(), good(4), good(5)], &[1, 5], &[format!("{endless}{}", good(4))]);
        check(&[good(1), "<!-- c --><v:other><v:x/></v:other>".into(), good(2)], &[1, 2], &[]);
        check(
            &[good(1), "</v:ReadNextEventsResponse>".into(), good(2)],
            &[1],
            &[format!("</v:ReadNextEventsResponse>{}", good(2))],
        );
        // A page without a readable beginning.
        let headless = page(&[good(1), good(2)]).replace("<e:Body>", "<e:Body");
        assert_eq!(salvaged(&headless), (vec![], vec![headless.clone()]));
        let good = |key: i32| format!(r#"{{"_typeName":"VmEvent","key":{key}}}"#);
        let check = |page: String, keys: &[i32], broken: &[&str]| {
            let broken: Vec<String> = broken.iter().map(|text| text.to_string()).collect();
            assert_eq!(salvaged(&page), (keys.to_vec(), broken), "{page}");
        };
        check(format!("[{},{{\"key\":}},{}, 7]", good(1), good(2)), &[1, 2], &["{\"key\":}", "7"]);
        check(format!("[{},{{\"key\":", good(1)), &[1], &["{\"key\":"]);
        check(format!("[{}] [", good(1)), &[1], &["["]);
        check("[]".into(), &[], &[]);
    }

    #[test]
    fn an_event_that_takes_more_than_its_share_leaves_the_others_theirs() {
        // An element of 83 bytes becomes 3 KiB.
        let element = "<deviceChange><device xsi:type='VirtualMachineConfigSpec'/></deviceChange>";
        let event = |elements: usize| {
            let list = element.repeat(elements);
            format!("<returnval xsi:type='VmReconfiguredEvent'><configSpec>{list}</configSpec></returnval>")
        };
        let large = event(10_000);
        let good = "<returnval xsi:type='VmPoweredOnEvent'><key>3</key></returnval>".repeat(200);
        let page = format!("<ReadNextEventsResponse>{large}{good}</ReadNextEventsResponse>");
        assert!(crate::decode::decode(page.as_bytes(), &mut Decoded::default()).is_err());
        let (keys, broken) = salvaged(&page);
        assert!(broken == [large], "{} events are broken", broken.len());
        assert_eq!(keys.len(), 200);
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
    fn the_position_of_a_broken_event_is_found_if_readable() {
        let check = |text: &str, expected: Option<i32>| {
            let found = position(wire(text), text.as_bytes());
            assert_eq!(found, expected.map(|key| EventPosition { key, created_us: 1_000_000 }), "{text}");
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
