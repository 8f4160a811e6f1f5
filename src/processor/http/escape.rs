//! Escaping: values of an event become part of a rendered text without changing its structure.
//!
//! In JSON the form of a value depends on its place, which only the finished text shows:
//!
//! ```text
//! template   {"text": "VM {{ data.Vm.Name }} failed", "vm": {{ data.Vm.Name }}}
//! marked     {"text": "VM ⟦"a\"b"⟧ failed", "vm": ⟦"a\"b"⟧}       ⟦ ⟧ are two noncharacters
//! rendered   {"text": "VM a\"b failed", "vm": "a\"b"}
//! ```
//!
//! [`write_value`] marks each value, and [`resolve_json`] gives it the form of its place.
//!
//! INVARIANT: no value ends a string, adds a member, a path segment, a query parameter or a header.
//! A template can only break this on purpose, by the filter `safe` or by taking captured text
//! apart.

use std::borrow::Cow;

use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Output, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The rules by which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// As part of a JSON text.
    Json,
    /// As a value of `application/x-www-form-urlencoded`.
    Form,
    /// As text of XML or HTML.
    Markup,
    /// Without escaping.
    Plain,
    /// As a segment of a path, or as a value of a query.
    Path,
    /// As part of a header's value.
    Header,
}

/// Unicode noncharacters, which no text should contain. They mark the values in a JSON text.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// The unreserved characters of RFC 3986 stay as they are.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Escaping {
    /// The rules for a body of this content type.
    pub fn of_content_type(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*media {
            "application/x-www-form-urlencoded" => Escaping::Form,
            "text/html" | "text/xml" | "application/xml" => Escaping::Markup,
            "application/json" | "text/json" => Escaping::Json,
            other if other.ends_with("+json") => Escaping::Json,
            other if other.ends_with("+xml") => Escaping::Markup,
            _ => Escaping::Plain,
        }
    }
}

/// Writes a value of a template.
pub fn write_value(out: &mut Output<'_>, escaping: Escaping, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str().filter(|_| value.is_safe()) {
        return out.write_str(text).map_err(Error::from);
    }
    if escaping == Escaping::Json {
        let json = json(value)?;
        if json.contains([OPEN, CLOSE]) {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "text that `set`, `macro`, `call` or `filter` captured can only be written as it is; apply operators and filters to the values in it",
            ));
        }
        return write!(out, "{OPEN}{json}{CLOSE}").map_err(Error::from);
    }
    let text = plain(value)?;
    let written = match escaping {
        // The mark shows a segment that is empty for this event, see `unmarked_path`.
        Escaping::Path if text.is_empty() => write!(out, "{OPEN}"),
        Escaping::Form | Escaping::Path => write!(out, "{}", utf8_percent_encode(&text, NOT_UNRESERVED)),
        Escaping::Markup => text.chars().try_for_each(|char| match char {
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '&' => out.write_str("&amp;"),
            '"' => out.write_str("&quot;"),
            '\'' => out.write_str("&#39;"),
            char => write!(out, "{char}"),
        }),
        Escaping::Header => out.write_str(&text.replace(char::is_control, " ")),
        Escaping::Plain | Escaping::Json => out.write_str(&text),
    };
    written.map_err(Error::from)
}

/// Removes the marks of empty values from a rendered path.
///
/// # Errors
/// A segment of the path consists of empty values: it would address the object above.
pub fn unmarked_path(marked: &str) -> Result<String, String> {
    let path = marked.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| !segment.is_empty() && segment.chars().all(|char| char == OPEN)) {
        return Err("a segment of the path is empty, because the event has no text for it".into());
    }
    Ok(marked.replace(OPEN, ""))
}

/// Checks the literal text of a template on its result for an event without any member.
///
/// # Errors
/// No path or header can contain it, whatever the event has.
pub fn check_literal(escaping: Escaping, rendered: &str) -> Result<(), String> {
    let text = rendered.trim().replace(OPEN, "x");
    let is_right = match escaping {
        Escaping::Path => text.is_empty() || format!("/{text}").parse::<PathAndQuery>().is_ok(),
        Escaping::Header => {
            HeaderValue::from_str(&text).is_ok() || HeaderValue::from_bytes(text.as_bytes()).is_ok()
        }
        _ => true,
    };
    let what = match escaping {
        Escaping::Path => {
            "a path cannot contain this text; write a space as `%20`, other characters in the same way"
        }
        _ => "a header cannot contain this text, such as a line break within it",
    };
    if is_right { Ok(()) } else { Err(what.into()) }
}

fn json(value: &Value) -> Result<String, Error> {
    let text = if value.is_undefined() { Ok("null".into()) } else { serde_json::to_string(value) };
    text.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// A value as text: strings without quotes, nothing for `none`, and other values as JSON.
fn plain(value: &Value) -> Result<Cow<'_, str>, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok("".into()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().into()),
        _ => Ok(json(value)?.into()),
    }
}

/// Gives the marked values of a JSON text the form of their places, and checks the result.
///
/// # Errors
/// The text is not JSON; the message says why.
pub fn resolve_json(marked: &str) -> Result<String, String> {
    let mut out = String::with_capacity(marked.len());
    let mut place = JsonPlace::default();
    let mut rest = marked;
    while let Some((literal, from)) = rest.split_once(OPEN) {
        place.pass(literal);
        out.push_str(literal);
        let (json, after) = from.split_once(CLOSE).ok_or("a marked value has no end")?;
        match place {
            JsonPlace { is_escaped: true, .. } => return Err("a backslash stands before a value".into()),
            JsonPlace { in_string: false, .. } => out.push_str(json),
            JsonPlace { in_string: true, .. } => push_inside_string(&mut out, json),
        }
        rest = after;
    }
    out.push_str(rest);
    match serde_json::from_str::<serde::de::IgnoredAny>(&out) {
        Ok(_) => Ok(out),
        Err(error) => Err(format!("the result is not JSON: {error}")),
    }
}

/// Appends a value to an open string: a string without its quotes, other values as their JSON text.
fn push_inside_string(out: &mut String, json: &str) {
    match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
        Some(inside) => out.push_str(inside),
        None => out.push_str(&json.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// A place in a JSON text.
#[derive(Clone, Copy, Debug, Default)]
struct JsonPlace {
    in_string: bool,
    /// The last character is a backslash that escapes the next one.
    is_escaped: bool,
}

impl JsonPlace {
    /// Moves behind `text`.
    fn pass(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
    }
}
