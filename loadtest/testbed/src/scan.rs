//! Finds the events in a delivered body without parsing it: id, source, key and createdTime by
//! their names.
//!
//! ```text
//! [{"id":"UUID","source":"URL", … "data":{"Key":17, … "CreatedTime":"TIME", … }},{"id":" …
//!         ^id            ^source                ^key                 ^created      ^next event
//! ```
//!
//! The fast way relies on three properties of a body:
//!
//! - the order of the envelope's fields (`id`, `source`, …, `data`);
//! - the key as the first and createdTime as the third field of an event;
//! - JSON without white space.
//!
//! The strict way parses JSON and relies on none of them. The fast way hands a body over to the
//! strict one if it does not find all fields, so that no body is dropped. It cannot see an envelope
//! without an id, or with an id written in another way, among others. Such an envelope passes for a
//! part of the one before, and its event counts as missing.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;

use crate::vcenter::clock::parse_micros;

/// An event as it was delivered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DeliveredEvent<'a> {
    pub id: &'a [u8],
    pub source: &'a [u8],
    pub key: i32,
    pub created_us: i64,
    /// JSON that begins with the event, if its start is known.
    pub event: Option<&'a [u8]>,
}

/// The start of an envelope whose first field is `id`, as it is documented. It is several times
/// faster to find than `"id":"`: the search looks for the rarest byte, and JSON is full of quotes
/// and colons.
const FIRST_ID: &str = "{\"id\":\"";
static FIRST_ID_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FIRST_ID));
/// The start of an id in the bodies of producers with another order of fields.
const ANY_ID: &str = "\"id\":\"";
static ANY_ID_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ANY_ID));
static SOURCE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"source\":\""));

/// The names of key and createdTime in each payload: Go-style JSON, VI/JSON, XML (alone, or quoted
/// in JSON).
const PAYLOADS: [(&str, &str); 3] =
    [("\"Key\":", "\"CreatedTime\":\""), ("\"key\":", "\"createdTime\":\""), ("<key>", "<createdTime>")];
static FINDERS: LazyLock<[(Finder<'static>, Finder<'static>); 3]> =
    LazyLock::new(|| PAYLOADS.map(|(key, created)| (Finder::new(key), Finder::new(created))));

/// Parses times quickly if many are of the same minute.
#[derive(Default)]
pub(crate) struct TimeParser {
    minute: [u8; 17],
    minute_us: i64,
}

impl TimeParser {
    /// Parses an RFC 3339 time in UTC at the start of `text`. Bytes after its `Z` do not matter.
    fn parse(&mut self, text: &[u8]) -> Option<i64> {
        let minute: &[u8; 17] = text.first_chunk()?;
        if *minute != self.minute {
            let mut whole = minute.to_vec();
            whole.extend_from_slice(b"00Z");
            self.minute_us = parse_micros(std::str::from_utf8(&whole).ok()?)?;
            self.minute = *minute;
        }
        let digit =
            |at: usize| text.get(at).map(|byte| i64::from(byte.wrapping_sub(b'0'))).filter(|d| *d < 10);
        let mut micros = (digit(17)? * 10 + digit(18)?) * 1_000_000;
        // The fraction may have any number of digits.
        if text.get(19) == Some(&b'.') {
            let mut worth = 100_000;
            let mut at = 20;
            while let Some(value) = digit(at) {
                micros += value * worth;
                worth /= 10;
                at += 1;
            }
            return (text.get(at) == Some(&b'Z')).then_some(self.minute_us + micros);
        }
        (text.get(19) == Some(&b'Z')).then_some(self.minute_us + micros)
    }
}

/// Calls `found` for each event of a structured or batched body, in order. The argument is `None`
/// for an event without the expected fields, and for a body that is not whole.
pub(crate) fn scan<'a>(
    body: &'a [u8],
    times: &mut TimeParser,
    mut found: impl FnMut(Option<DeliveredEvent<'_>>),
) {
    let mut count = 0;
    let is_read = scan_fast(body, times, |delivered: DeliveredEvent<'a>| {
        count += 1;
        found(Some(delivered));
    });
    if is_read && is_closed(body) {
        return;
    }
    // The strict way reads the whole body again, so it skips the events that are already reported.
    let mut known = count;
    let is_json = parse(body, |delivered| match known {
        0 => found(delivered),
        _ => known -= 1,
    });
    if !is_json {
        found(None);
    }
}

/// True if a body ends as it begins, with a matching bracket. A body that was cut does not.
fn is_closed(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    matches!((body.first(), body.last()), (Some(b'['), Some(b']')) | (Some(b'{'), Some(b'}')))
}

/// The fast way. Returns true if there is at least one event and all events have their fields;
/// stops at the first that has not.
fn scan_fast<'a>(body: &'a [u8], times: &mut TimeParser, mut found: impl FnMut(DeliveredEvent<'a>)) -> bool {
    let mut payload = 0;
    let first = IdFinder { finder: &FIRST_ID_FINDER, length: FIRST_ID.len() };
    let any = IdFinder { finder: &ANY_ID_FINDER, length: ANY_ID.len() };
    // Envelopes that begin with their id are the documented form; any other order is searched more
    // slowly.
    let found_first = first.next(body, 0).map(|at| (first, at));
    let Some((ids, mut at)) = found_first.or_else(|| any.next(body, 0).map(|at| (any, at))) else {
        return false;
    };
    loop {
        let next = ids.next(body, at);
        // An event reaches from its id to the next envelope's id.
        let event = &body[at..next.unwrap_or(body.len())];
        let Some(mut delivered) = read_event(event, times, &mut payload) else { return false };
        if ids.length == FIRST_ID.len() {
            delivered.event = Some(&body[at - FIRST_ID.len()..]);
        }
        found(delivered);
        match next {
            Some(next) => at = next,
            None => return true,
        }
    }
}

#[derive(Clone, Copy)]
struct IdFinder {
    finder: &'static Finder<'static>,
    length: usize,
}

impl IdFinder {
    /// The offset of the next envelope's id: a UUID in quotes, not part of a payload's field.
    fn next(self, body: &[u8], mut from: usize) -> Option<usize> {
        loop {
            let at = from + self.finder.find(body.get(from..)?)? + self.length;
            let id = &body[at..];
            if id.len() > 36 && id[36] == b'"' && [8, 13, 18, 23].iter().all(|dash| id[*dash] == b'-') {
                return Some(at);
            }
            from = at;
        }
    }
}

/// Reads the fields of one event, which begins with its id.
fn read_event<'a>(
    event: &'a [u8],
    times: &mut TimeParser,
    payload: &mut usize,
) -> Option<DeliveredEvent<'a>> {
    let (id, rest) = event.split_at_checked(36)?;
    let source = &rest[SOURCE.find(rest)? + 10..];
    let source = &source[..memchr::memchr(b'"', source)?];
    let (key, created_us) = key_and_time(rest, times, payload)?;
    Some(DeliveredEvent { id, source, key, created_us, event: None })
}

/// Key and createdTime of a payload in any of the three forms. The form that fitted last is tried
/// first.
pub(crate) fn key_and_time(payload: &[u8], times: &mut TimeParser, form: &mut usize) -> Option<(i32, i64)> {
    for attempt in 0..PAYLOADS.len() {
        let number = (*form + attempt) % PAYLOADS.len();
        let (key_finder, created_finder) = &FINDERS[number];
        let Some(at) = key_finder.find(payload) else { continue };
        let rest = &payload[at + PAYLOADS[number].0.len()..];
        let Some(at) = created_finder.find(rest) else { continue };
        *form = number;
        return Some((integer(rest)?, times.parse(&rest[at + PAYLOADS[number].1.len()..])?));
    }
    None
}

/// The number at the start of a text.
fn integer(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    let mut value = 0i64;
    let mut length = 0;
    for byte in digits.iter().take(11).take_while(|byte| byte.is_ascii_digit()) {
        value = value * 10 + i64::from(byte - b'0');
        length += 1;
    }
    if length == 0 {
        return None;
    }
    i32::try_from(if negative { -value } else { value }).ok()
}

/// An envelope with the fields that are checked; all others are parsed and dropped.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    data: Value,
}

/// The common case of [`Envelope`]: a JSON payload, of which two fields are kept.
#[derive(Deserialize)]
struct JsonEnvelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: KeyAndTime<'a>,
}

#[derive(Deserialize)]
struct KeyAndTime<'a> {
    #[serde(rename = "Key", alias = "key")]
    key: i32,
    #[serde(borrow, rename = "CreatedTime", alias = "createdTime")]
    created: Cow<'a, str>,
}

impl KeyAndTime<'_> {
    fn read(&self) -> Option<(i32, i64)> {
        Some((self.key, parse_micros(&self.created)?))
    }
}

/// The strict twin of [`scan`]. An envelope that is not a valid CloudEvent, or whose data has no
/// key or time, gives `None`.
pub(crate) fn scan_strict(body: &[u8], mut found: impl FnMut(Option<DeliveredEvent<'_>>)) {
    if !parse(body, &mut found) {
        found(None);
    }
}

/// Returns true if the body is JSON of one event or of a list of events.
fn parse(body: &[u8], mut found: impl FnMut(Option<DeliveredEvent<'_>>)) -> bool {
    if let Ok(events) = serde_json::from_slice::<Vec<JsonEnvelope<'_>>>(body) {
        for event in &events {
            let checked = check_envelope(&event.specversion, &event.kind);
            let read = checked.and_then(|()| event.data.read());
            found(strict_event(&event.id, &event.source, read));
        }
        return true;
    }
    // A single event, a payload of another form, or a fault in one of many: parsed slowly, one by
    // one.
    let events = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(events)) => events,
        Ok(event @ Value::Object(_)) => vec![event],
        _ => return false,
    };
    for event in &events {
        match Envelope::deserialize(event) {
            Ok(event) => {
                let checked = check_envelope(&event.specversion, &event.kind);
                found(strict_event(
                    &event.id,
                    &event.source,
                    checked.and_then(|()| strict_payload(&event.data)),
                ));
            }
            Err(_) => found(None),
        }
    }
    true
}

fn check_envelope(specversion: &str, kind: &str) -> Option<()> {
    (specversion == "1.0" && !kind.is_empty()).then_some(())
}

fn strict_event<'a>(id: &'a str, source: &'a str, read: Option<(i32, i64)>) -> Option<DeliveredEvent<'a>> {
    let (key, created_us) = read?;
    Some(DeliveredEvent { id: id.as_bytes(), source: source.as_bytes(), key, created_us, event: None })
}

fn strict_payload(data: &Value) -> Option<(i32, i64)> {
    match data {
        Value::String(xml) => key_and_time(xml.as_bytes(), &mut TimeParser::default(), &mut 2),
        data => KeyAndTime::deserialize(data).ok()?.read(),
    }
}

/// The strict reading of a binary event's body.
pub(crate) fn strict_data(data: &[u8]) -> Option<(i32, i64)> {
    if data.first() == Some(&b'<') {
        return key_and_time(data, &mut TimeParser::default(), &mut 2);
    }
    serde_json::from_slice::<KeyAndTime<'_>>(data).ok()?.read()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5a1c9a4e-29c1-5b8b-9a43-1a8f5b9d5c11";

    fn event(data: &str) -> String {
        format!(
            "{{\"id\":\"{ID}\",\"source\":\"http://a/sdk\",\"specversion\":\"1.0\",\"type\":\"t\",\"subject\":\"s\",\"time\":\"x\",\"data\":{data},\"datacontenttype\":\"application/json\"}}"
        )
    }

    fn both(body: &str) -> Vec<Option<(i32, i64)>> {
        let mut fast = Vec::new();
        let mut strict = Vec::new();
        let short = |delivered: Option<DeliveredEvent<'_>>| {
            delivered.map(|delivered| {
                assert_eq!((delivered.id, delivered.source), (ID.as_bytes(), b"http://a/sdk".as_slice()));
                (delivered.key, delivered.created_us)
            })
        };
        scan(body.as_bytes(), &mut TimeParser::default(), |delivered| fast.push(short(delivered)));
        scan_strict(body.as_bytes(), |delivered| strict.push(short(delivered)));
        assert_eq!(fast, strict, "{body}");
        fast
    }

    #[test]
    fn fast_and_strict_agree() {
        let pascal =
            event(r#"{"Key":7,"ChainId":9,"CreatedTime":"1970-01-01T00:01:01.5Z","Vm":{"id":"x","key":1}}"#);
        let vijson = event(
            r#"{"_typeName":"E","key":-8,"chainId":9,"createdTime":"1970-01-01T00:00:00Z","host":{"id":"h"}}"#,
        );
        let xml = event(r#""<x><key>9</key><createdTime>1970-01-01T00:00:00.000001Z</createdTime></x>""#);
        for (body, expected) in [
            (pascal.clone(), vec![Some((7, 61_500_000))]),
            (
                format!("[{pascal},{vijson},\n{xml}]"),
                vec![Some((7, 61_500_000)), Some((-8, 0)), Some((9, 1))],
            ),
            (format!("[{}]", pascal.replacen("{\"id\"", "{\"x\":1,\"id\"", 1)), vec![Some((7, 61_500_000))]),
            ("[]".to_owned(), vec![]),
            (event("{\"Key\":7}"), vec![None]),
            (event("{\"Key\":\"7\",\"CreatedTime\":\"1970-01-01T00:00:00Z\"}"), vec![None]),
        ] {
            assert_eq!(both(&body), expected, "{body}");
        }
    }

    #[test]
    fn white_space_loses_no_event() {
        let compact = event(r#"{"Key":7,"ChainId":9,"CreatedTime":"1970-01-01T00:01:01.5Z"}"#);
        let spaced = compact.replace("\":", "\": ").replace(",\"", ", \"");
        let pretty = compact.replace('{', "{\n  ").replace(",\"", ",\n  \"").replace("\":", "\" : ");
        // Only the payload has white space, as if it came from elsewhere.
        let within = compact.replace("\"Key\":", "\"Key\": ");
        for (body, other) in [(&spaced, &spaced), (&pretty, &pretty), (&within, &compact)] {
            assert_eq!(both(body), [Some((7, 61_500_000))], "{body}");
            assert_eq!(both(&format!(" [{other}, {body},{other} ]\n")), [Some((7, 61_500_000)); 3], "{body}");
        }
    }

    #[test]
    fn bodies_that_are_cut_or_hold_no_events_are_counted() {
        let whole = event(r#"{"Key":7,"CreatedTime":"1970-01-01T00:00:00Z"}"#);
        let count = |body: &str| {
            let (mut read, mut unreadable) = (0, 0);
            scan(body.as_bytes(), &mut TimeParser::default(), |delivered| match delivered {
                Some(_) => read += 1,
                None => unreadable += 1,
            });
            (read, unreadable)
        };
        for (body, expected) in [
            ("", (0, 1)),
            ("no JSON", (0, 1)),
            ("{}", (0, 1)),
            ("[{},{}]", (0, 2)),
            ("[]", (0, 0)),
            (&format!("[{whole},{whole},{{\"id\":\"5a1c"), (2, 1)),
            (&format!("[{whole},{whole}"), (2, 1)),
            (&format!("[{whole},{}]", whole.replace("Key", "Kee")), (1, 1)),
            (&format!("[{},{whole}]", whole.replace("Key", "Kee")), (1, 1)),
        ] {
            assert_eq!(count(body), expected, "{body}");
        }
    }
}
