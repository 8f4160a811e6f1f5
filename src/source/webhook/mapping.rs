//! Maps JSON of any form to CloudEvents, by templates and expressions of minijinja.
//!
//! ```text
//! body ─► split ─► item, item, …       without `split`, the body itself
//!                    └─► type, source, id, subject, time   templates
//!                    └─► data                              an expression, or the JSON as it came
//! ```
//!
//! A member that does not exist is undefined and renders as nothing. `type`, `source` and `id` must
//! not be empty, so a request of another form is refused.
//!
//! INVARIANT: a template takes a bounded number of instructions and writes a bounded text. The same
//! body always gives the same ids.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use sha2::{Digest, Sha256};

use super::event::InvalidEvent;
use super::json::compact;
use super::settings::Mapping;
use super::values;
use crate::config::format::TextFormat;
use crate::event::{Attributes, Batch, PushedEvent};
use crate::limits::{
    REASON_BYTES_MAX, WEBHOOK_ATTRIBUTE_BYTES_MAX, WEBHOOK_MAPPED_BYTES_MIN, WEBHOOK_MAPPED_GROWTH,
    WEBHOOK_MAPPING_FUEL,
};
use crate::outside;

/// The variables that templates and expressions see.
const VARIABLES: [&str; 4] = ["body", "item", "headers", "hash"];

/// A template of a configuration.
pub(super) static TEMPLATE: TextFormat = TextFormat {
    allowed: "a template such as `com.example.{{ body.type }}`",
    check: |text| {
        let environment = environment();
        let template = environment.template_from_named_str("", text).map_err(|error| in_words(&error))?;
        unknown_variables(&environment, &template.undeclared_variables(false))?;
        unknown_names(template.render(context! {}).err()).map(|()| text.into())
    },
    any_scalar: true,
};

/// An expression of a configuration.
pub(super) static EXPRESSION: TextFormat = TextFormat {
    allowed: "an expression such as `body.event_data`",
    check: |text| {
        let environment = environment();
        let expression = environment.compile_expression(text).map_err(|error| in_words(&error))?;
        unknown_variables(&environment, &expression.undeclared_variables(false))?;
        unknown_names(expression.eval(context! {}).err()).map(|()| text.into())
    },
    any_scalar: false,
};

fn unknown_variables(environment: &Environment<'_>, used: &HashSet<String>) -> Result<(), String> {
    let is_known =
        |name: &str| VARIABLES.contains(&name) || environment.globals().any(|(function, _)| function == name);
    match used.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(format!("has an unknown variable `{name}` (allowed: `body`, `item`, `headers`, `hash`)"))
        }
    }
}

/// Checks the error of a rendering without a body: filters, tests and functions that do not exist
/// are found only when they are called.
fn unknown_names(error: Option<Error>) -> Result<(), String> {
    match error {
        Some(error)
            if matches!(
                error.kind(),
                ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
            ) =>
        {
            Err(in_words(&error))
        }
        _ => Ok(()),
    }
}

/// An error of minijinja without the place in a file, which is the setting.
fn in_words(error: &Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", error.kind())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(WEBHOOK_MAPPING_FUEL));
    environment.add_filter("rfc3339", rfc3339);
    environment
}

/// Makes an RFC 3339 time from seconds or milliseconds since 1970, or from such a time.
fn rfc3339(value: Value) -> Result<String, Error> {
    /// Larger numbers are milliseconds: as seconds they lie after the year 5000.
    const SECONDS_MAX: f64 = 1e11;
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    let text = value.to_string();
    let time = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => {
            let seconds = if seconds > SECONDS_MAX { seconds / 1e3 } else { seconds };
            jiff::Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
        }
        _ => text.parse().ok(),
    };
    time.map(|time| time.to_string()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, "`rfc3339` needs seconds since 1970, or a time in RFC 3339")
    })
}

/// A compiled mapping.
#[derive(Debug)]
pub(super) struct Mapper {
    environment: Environment<'static>,
    split: Option<String>,
    data: Option<String>,
    /// The source of events whose mapping has none.
    source: String,
    has_headers: bool,
}

/// The attributes that templates give.
const ATTRIBUTES: [&str; 5] = ["type", "source", "id", "subject", "time"];

impl Mapper {
    /// Compiles a checked mapping. `source` is the CloudEvents source of events without one.
    pub fn new(mapping: &Mapping, source: &str) -> Result<Self, String> {
        let Mapping { split, kind, source: own, id, subject, time, data } = mapping.clone();
        let mut environment = environment();
        let templates = [Some(kind), own, Some(id), subject, time];
        let mut used = HashSet::new();
        for (name, template) in ATTRIBUTES.into_iter().zip(templates) {
            let Some(template) = template else { continue };
            environment
                .add_template_owned(name, template)
                .map_err(|error| format!("`mapping.{name}`: {}", in_words(&error)))?;
            let template = environment.get_template(name).map_err(|error| in_words(&error))?;
            used.extend(template.undeclared_variables(false));
        }
        for (name, expression) in [("split", &split), ("data", &data)] {
            let Some(expression) = expression else { continue };
            let expression = environment
                .compile_expression_owned(expression.clone())
                .map_err(|error| format!("`mapping.{name}`: {}", in_words(&error)))?;
            used.extend(expression.undeclared_variables(false));
        }
        let has_headers = used.contains("headers");
        Ok(Mapper { environment, split, data, source: source.to_owned(), has_headers })
    }

    /// Appends the events in `body` to `batch`, at most `events_max`.
    pub fn map(
        &self,
        body: &[u8],
        headers: &HeaderMap,
        events_max: usize,
        batch: &mut Batch,
    ) -> Result<(), InvalidEvent> {
        // Within the memory that the request is charged with.
        let arena_max = batch.arena.len()
            + body.len().saturating_mul(WEBHOOK_MAPPED_GROWTH).max(WEBHOOK_MAPPED_BYTES_MIN);
        let parsed = values::parse(body).map_err(|error| InvalidEvent::json("the body", &error))?;
        let headers = if self.has_headers { shown_headers(headers) } else { Value::UNDEFINED };
        let hash = hex(&Sha256::digest(body));
        let Some(split) = &self.split else {
            let context = context! { body => parsed, item => Value::UNDEFINED, headers, hash };
            return self.one(&context, Some(body), arena_max, batch);
        };
        let context = context! { body => parsed.clone(), headers => headers.clone(), hash => hash.clone() };
        let items = self.evaluate("split", split, &context)?;
        let items = items.try_iter().map_err(|_| InvalidEvent::new("`mapping.split` gives no list"))?;
        for (place, item) in items.enumerate() {
            if place == events_max {
                return Err(InvalidEvent::TooMany { events_max });
            }
            let hash = format!("{hash}-{place}");
            let context = context! { body => parsed.clone(), item, headers => headers.clone(), hash };
            self.one(&context, None, arena_max, batch)?;
        }
        Ok(())
    }

    /// Appends one event. `body` is its data if the mapping has none.
    /// `arena_max`: the most bytes that the events of the request may take together.
    fn one(
        &self,
        context: &Value,
        body: Option<&[u8]>,
        arena_max: usize,
        batch: &mut Batch,
    ) -> Result<(), InvalidEvent> {
        let [kind, source, id, subject, time] = ATTRIBUTES.map(|name| self.render(name, context));
        let (kind, source, id, subject) = (kind?, source?, id?, subject?);
        let source = if source.is_empty() { &self.source } else { &source };
        for (name, value) in [("type", &kind), ("id", &id)] {
            if value.is_empty() {
                return Err(InvalidEvent::new(format!("`mapping.{name}` gives an empty text")));
            }
        }
        let data = match (&self.data, body) {
            (Some(data), _) => self.json("data", self.evaluate("data", data, context)?)?,
            (None, Some(body)) => compact(body).into_owned(),
            (None, None) => self.json("split", context.get_attr("item").unwrap_or_default())?,
        };
        if batch.arena.len() + data.len() > arena_max {
            return Err(InvalidEvent::TooLarge { bytes_max: arena_max });
        }
        // A wrong time must not lose the event.
        let time = time.unwrap_or_default();
        let time = if time.parse::<jiff::Timestamp>().is_ok() { &*time } else { "" };
        let attributes = Attributes { id: &id, source, kind: &kind, time, ..Attributes::EMPTY };
        batch.push(&PushedEvent { attributes, extensions: &[], subject: &subject, data: &data });
        Ok(())
    }

    /// Renders the template of an attribute; empty without one. The text is one line.
    fn render(&self, name: &str, context: &Value) -> Result<String, InvalidEvent> {
        let Ok(template) = self.environment.get_template(name) else { return Ok(String::new()) };
        let mut text = BoundedBytes(Vec::new());
        template.render_captured_to(context.clone(), &mut text).map_err(|error| self.failed(name, &error))?;
        let text = String::from_utf8_lossy(&text.0);
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(InvalidEvent::new(format!("`mapping.{name}` gives a text with control characters")));
        }
        Ok(text.to_owned())
    }

    fn evaluate(&self, name: &str, expression: &str, context: &Value) -> Result<Value, InvalidEvent> {
        let expression = self.environment.compile_expression_owned(expression.to_owned());
        expression
            .and_then(|expression| expression.eval(context.clone()))
            .map_err(|error| self.failed(name, &error))
    }

    fn json(&self, name: &str, value: Value) -> Result<Vec<u8>, InvalidEvent> {
        serde_json::to_vec(&value)
            .map_err(|error| InvalidEvent::new(format!("`mapping.{name}` gives no JSON: {error}")))
    }

    fn failed(&self, name: &str, error: &Error) -> InvalidEvent {
        InvalidEvent::new(format!("`mapping.{name}`: {}", outside::text(&in_words(error), REASON_BYTES_MAX)))
    }
}

/// The headers as templates see them, without credentials.
fn shown_headers(headers: &HeaderMap) -> Value {
    let hidden = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    let shown = headers.iter().filter(|(name, _)| !hidden.contains(name));
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let shown: BTreeMap<String, Value> =
        shown.map(|(name, value)| (name.as_str().to_owned(), text(value).into())).collect();
    Value::from(shown)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Text of at most [`WEBHOOK_ATTRIBUTE_BYTES_MAX`] bytes.
struct BoundedBytes(Vec<u8>);

impl io::Write for BoundedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > WEBHOOK_ATTRIBUTE_BYTES_MAX {
            let message = format!("gives more than {WEBHOOK_ATTRIBUTE_BYTES_MAX} bytes");
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
