//! The headers of an answer that begin a session, and the secrets in them.

use std::borrow::Cow;

use hyper::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use percent_encoding::percent_decode_str;
use vsphere::Wire;
use vsphere::api::json::SESSION_HEADER;

use crate::limits::COOKIE_SECRET_BYTES_MIN;

/// The header that identifies a new session, if this answer begins one.
pub(super) fn new_session(wire: Wire, headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    let (name, mut value) = match wire {
        Wire::Soap => (COOKIE, HeaderValue::from_str(session_cookie(headers)?).ok()?),
        Wire::ViJson => (HeaderName::from_static(SESSION_HEADER), headers.get(SESSION_HEADER)?.clone()),
    };
    value.set_sensitive(true);
    Some((name, value))
}

/// The id in a session's header: `vmware_soap_session="ID"`, or the id alone.
pub(super) fn session_id(header: &HeaderValue) -> &str {
    let value = header.to_str().unwrap_or_default();
    value.strip_prefix(SESSION_COOKIE).unwrap_or(value).trim_matches('"')
}

/// A value without percent escapes: a server may repeat it so.
pub(super) fn decoded(value: &str) -> Cow<'_, str> {
    percent_decode_str(value).decode_utf8_lossy()
}

/// The values of all cookies that an answer sets and that are long enough for a secret, as they are
/// and without percent escapes.
pub(super) fn cookie_values(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let pairs = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let values =
        pairs.filter_map(|value| Some(value.split(';').next()?.split_once('=')?.1.trim().trim_matches('"')));
    let values = values.filter(|value| value.len() >= COOKIE_SECRET_BYTES_MIN);
    values.flat_map(|value| [Cow::Borrowed(value), decoded(value)]).collect()
}

/// The beginning of vCenter's session cookie.
const SESSION_COOKIE: &str = "vmware_soap_session=";

/// `NAME=VALUE` of vCenter's session cookie, without its attributes.
fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim())
        .find(|pair| pair.starts_with(SESSION_COOKIE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cookie_is_a_secret_in_both_of_its_forms() {
        let mut headers = HeaderMap::new();
        for cookie in [
            "a=1; Path=/",
            "vmware_soap_session=\"52ab%2Bcd\"; Secure",
            "vmware_soap_session=52ab-second",
            "lb=wrong",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        let mut values = cookie_values(&headers);
        values.dedup();
        assert_eq!(values, ["52ab%2Bcd", "52ab+cd", "52ab-second"]);
    }

    #[test]
    fn only_the_session_cookie_is_kept_and_without_attributes() {
        let check = |cookies: &[&'static str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
            }
            assert_eq!(session_cookie(&headers), expected);
        };
        check(&[], None);
        check(
            &["lb=1; Path=/", "vmware_soap_session=\"52ab\"; Path=/; HttpOnly"],
            Some("vmware_soap_session=\"52ab\""),
        );
        check(&["vmware_soap_session=x"], Some("vmware_soap_session=x"));
        check(&["other=vmware_soap_session=x"], None);
    }
}
