//! `Retry-After` (RFC 9110 §10.2.3): seconds or a date.

use std::time::{Duration, SystemTime};

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::limits::RETRY_AFTER_MAX;

/// The pause that the target asked for, at most [`RETRY_AFTER_MAX`]; `None` if the header is
/// missing or cannot be read.
///
/// A date is compared with the answer's own `Date`, so that a wrong clock at the target does no
/// harm. Without one, it is compared with `now`.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit into a u64 exceeds the cap.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Some(until.duration_since(date.unwrap_or(now)).unwrap_or_default().min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let check = |value: &str, date: Option<&str>, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_str(date).unwrap());
            }
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value} at {date:?}");
        };
        check("0", None, Some(0));
        check(" 7 ", None, Some(7));
        check("86400", None, Some(RETRY_AFTER_MAX.as_secs()));
        check("99999999999999999999999", None, Some(RETRY_AFTER_MAX.as_secs()));
        check("Sun, 06 Nov 1994 08:49:47 GMT", None, Some(10));
        check("Sunday, 06-Nov-94 08:49:47 GMT", None, Some(10));
        check("Sun Nov  6 08:49:47 1994", None, Some(10));
        check("Sun, 06 Nov 1994 08:00:00 GMT", None, Some(0));
        check("Sat, 06 Nov 2094 08:49:37 GMT", None, Some(RETRY_AFTER_MAX.as_secs()));
        check("Sat, 01 Jan 2000 00:00:05 GMT", Some("Sat, 01 Jan 2000 00:00:00 GMT"), Some(5));
        check("-3", None, None);
        check("1.5", None, None);
        check("soon", None, None);
        check("", None, None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
