//! What can be told of events that cannot be decoded.

use memchr::memmem;

use crate::vim::soap::parse_us;

/// The createdTime of the first event in a page that cannot be decoded, microseconds since 1970 UTC, if that much can be read.
pub fn created_us(body: &[u8]) -> Option<i64> {
    let start = memmem::find(body, b"<createdTime>")? + b"<createdTime>".len();
    let text = body[start..].split(|byte| *byte == b'<').next()?;
    parse_us(std::str::from_utf8(text).ok()?)
}

/// The events in a page, without decoding it: its closing `returnval` tags, whatever their prefix.
pub fn count_events(body: &[u8]) -> usize {
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

    #[test]
    fn events_are_counted_without_decoding() {
        let check = |xml: &str, count: usize| assert_eq!(count_events(xml.as_bytes()), count, "{xml}");
        check("", 0);
        check("<r><returnval/></r>", 0);
        check("<r><returnval></returnval><returnval x='1'>returnval&gt;</returnval></r>", 2);
        check("<r><v:returnval></v:returnval></r>", 1);
    }

    #[test]
    fn the_time_of_a_broken_event_is_found_where_it_can_be() {
        let check = |xml: &str, us: Option<i64>| assert_eq!(created_us(xml.as_bytes()), us, "{xml}");
        check("<returnval><key>1</kez><createdTime>1970-01-01T00:00:01Z</createdTime>", Some(1_000_000));
        check("<createdTime>soon</createdTime>", None);
        check("<key>1</key>", None);
    }
}
