//! xsd:dateTime (RFC 3339) to and from microseconds since 1970 UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;

/// Parses an xsd:dateTime as microseconds since 1970 UTC.
///
/// A time without an offset is UTC, as in vSphere. Digits below a microsecond are dropped.
pub fn parse_us(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let local: DateTime = text.parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

/// Formats an xsd:dateTime in UTC. Times outside of the years -9999 to 9999 are clamped.
pub fn format_us(us: i64) -> String {
    let time =
        Timestamp::from_microsecond(us).unwrap_or(if us < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{time}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_instant() {
        let check = |text: &str, us: Option<i64>| assert_eq!(parse_us(text), us, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01T01:00:00.000001+01:00", Some(1));
        check("2026-11-22T00:06:48.459499461Z", Some(1_795_306_008_459_499));
        check("2026-11-21T19:06:48.459499-05:00", Some(1_795_306_008_459_499));
        check("2026-11-22T00:06:48.459499", Some(1_795_306_008_459_499));
        check("1969-12-31T23:59:59Z", Some(-1_000_000));
        check("", None);
        check("yesterday", None);
    }

    #[test]
    fn formatted_times_parse_back() {
        for us in [0, 1, -1, 1_795_306_008_459_499, 253_402_207_199_999_999] {
            assert_eq!(parse_us(&format_us(us)), Some(us), "{}", format_us(us));
        }
        assert!(format_us(i64::MAX).starts_with("9999-"));
    }
}
