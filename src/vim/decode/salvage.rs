//! What can be told of events that cannot be decoded.

use memchr::memmem;

use super::array;
use crate::vim::Wire;
use crate::vim::soap::parse_us;

/// The createdTime of the first event in a page that cannot be decoded, microseconds since 1970 UTC, if that much can be read.
pub fn created_us(wire: Wire, body: &[u8]) -> Option<i64> {
    let (tag, end): (&[u8], u8) = match wire {
        Wire::Soap => (b"<createdTime>", b'<'),
        Wire::ViJson => (b"\"createdTime\"", b'"'),
    };
    let mut text = &body[memmem::find(body, tag)? + tag.len()..];
    if wire == Wire::ViJson {
        text = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    }
    let text = text.split(|byte| *byte == end).next()?;
    parse_us(std::str::from_utf8(text).ok()?)
}

/// The events in a page, without decoding it.
pub fn count_events(wire: Wire, body: &[u8]) -> usize {
    match wire {
        Wire::Soap => closing_tags(body),
        Wire::ViJson => {
            let mut events = 0;
            array::items(body, |_| events += 1);
            events
        }
    }
}

/// The closing `returnval` tags, whatever their prefix.
fn closing_tags(body: &[u8]) -> usize {
    memmem::find_iter(body, b"returnval>")
        .filter(|at| {
            let before = &body[..*at];
            let prefix =
                before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b':').count();
            before[..before.len() - prefix].ends_with(b"</")
        })
        .count()
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
}
