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
//! INVARIANT: the templates of a request take a bounded number of instructions together, and each
//! writes a bounded text. The same body always gives the same ids.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use minijinja::{Captured, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use sha2::{Digest, Sha256};

use super::event::InvalidEvent;
use super::json::compact;
use super::settings::Mapping;
use super::values;
use crate::config::format::TextFormat;
use crate::event::{Attributes, Batch, PushedEvent};
use crate::limits::{
    REASON_BYTES_MAX, WEBHOOK_ATTRIBUTE_BYTES_MAX, WEBHOOK_MAPPING_FUEL, WEBHOOK_TEMPLATE_FUEL,
    webhook_mapped_bytes_max,
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
    environment.set_fuel(Some(WEBHOOK_TEMPLATE_FUEL));
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
    has_split: bool,
    has_data: bool,
    /// The source of events whose mapping has none.
    source: String,
    has_headers: bool,
}

/// The attributes that templates give.
const ATTRIBUTES: [&str; 5] = ["type", "source", "id", "subject", "time"];

/// The variable with the result of an expression. No expression of a configuration can name it.
const RESULT: &str = "result";

impl Mapper {
    /// Compiles a checked mapping. `source` is the CloudEvents source of events without one.
    pub fn new(mapping: &Mapping, source: &str) -> Result<Self, String> {
        let Mapping { split, kind, source: own, id, subject, time, data } = mapping.clone();
        let (has_split, has_data) = (split.is_some(), data.is_some());
        let templates = ATTRIBUTES.into_iter().zip([Some(kind), own, Some(id), subject, time]);
        // An expression does not tell the fuel that it took, but a template does.
        let expression = |text: String| format!("{{% set {RESULT} = ({text}) %}}");
        let expressions = [("split", split.map(expression)), ("data", data.map(expression))];
        let mut environment = environment();
        let mut used = HashSet::new();
        for (name, template) in templates.chain(expressions) {
            let Some(template) = template else { continue };
            environment
                .add_template_owned(name, template)
                .map_err(|error| format!("`mapping.{name}`: {}", in_words(&error)))?;
            let template = environment.get_template(name).map_err(|error| in_words(&error))?;
            used.extend(template.undeclared_variables(false));
        }
        let has_headers = used.contains("headers");
        Ok(Mapper { environment, has_split, has_data, source: source.to_owned(), has_headers })
    }

    /// Appends the events in `body` to `batch`, at most `events_max`. `charge`: as in
    /// [`values::parse`].
    pub fn map(
        &self,
        body: &[u8],
        headers: &HeaderMap,
        events_max: usize,
        charge: &mut dyn FnMut(usize) -> bool,
        batch: &mut Batch,
    ) -> Result<(), InvalidEvent> {
        let parsed = values::parse(body, charge)?;
        let headers = if self.has_headers { shown_headers(headers) } else { Value::UNDEFINED };
        let hash = hex(&Sha256::digest(body));
        // Within the memory that the request is charged with.
        let arena_max = batch.arena.len() + webhook_mapped_bytes_max(body.len());
        let mut request = MappedRequest { mapper: self, arena_max, fuel: WEBHOOK_MAPPING_FUEL };
        if !self.has_split {
            let context = context! { body => parsed, item => Value::UNDEFINED, headers, hash };
            return request.append(&context, Some(body), batch);
        }
        let context = context! { body => parsed.clone(), headers => headers.clone(), hash => hash.clone() };
        let items = request.evaluate("split", &context)?;
        let items = items.try_iter().map_err(|_| InvalidEvent::new("`mapping.split` gives no list"))?;
        for (place, item) in items.enumerate() {
            if place == events_max {
                return Err(InvalidEvent::TooMany { events_max });
            }
            let hash = format!("{hash}-{place}");
            let context = context! { body => parsed.clone(), item, headers => headers.clone(), hash };
            request.append(&context, None, batch)?;
        }
        Ok(())
    }
}

/// The mapping of one request, with the bounds of all its events together.
struct MappedRequest<'m> {
    mapper: &'m Mapper,
    /// The most bytes that the arena may have with the events.
    arena_max: usize,
    /// The instructions that its templates may still take.
    fuel: u64,
}

impl MappedRequest<'_> {
    /// Appends one event. `body` is its data if the mapping has none.
    fn append(
        &mut self,
        context: &Value,
        body: Option<&[u8]>,
        batch: &mut Batch,
    ) -> Result<(), InvalidEvent> {
        let [kind, source, id, subject, time] = ATTRIBUTES.map(|name| self.render(name, context));
        let (kind, source, id, subject) = (kind?, source?, id?, subject?);
        let source = if source.is_empty() { &self.mapper.source } else { &source };
        for (name, value) in [("type", &kind), ("id", &id)] {
            if value.is_empty() {
                return Err(InvalidEvent::new(format!("`mapping.{name}` gives an empty text")));
            }
        }
        // A wrong time must not lose the event.
        let time = time.unwrap_or_default();
        let time = if time.parse::<jiff::Timestamp>().is_ok() { &*time } else { "" };
        // The time is in the arena twice.
        let attributes = kind.len() + source.len() + id.len() + subject.len() + 2 * time.len();
        let room = self.arena_max.saturating_sub(batch.arena.len() + attributes + EVENT_BYTES);
        let data = match body {
            _ if self.mapper.has_data => {
                let value = self.evaluate("data", context)?;
                self.json("data", value, room)?
            }
            Some(body) => compact(body).into_owned(),
            None => self.json("split", context.get_attr("item").unwrap_or_default(), room)?,
        };
        if data.len() > room {
            return Err(InvalidEvent::TooLarge { bytes_max: self.arena_max });
        }
        let attributes = Attributes { id: &id, source, kind: &kind, time, ..Attributes::EMPTY };
        batch.push(&PushedEvent { attributes, extensions: &[], subject: &subject, data: &data });
        Ok(())
    }

    /// Renders the template of an attribute; empty without one. The text is one line.
    fn render(&mut self, name: &str, context: &Value) -> Result<String, InvalidEvent> {
        let mut text = BoundedBytes { bytes: Vec::new(), max: WEBHOOK_ATTRIBUTE_BYTES_MAX };
        if self.run(name, context, &mut text)?.is_none() {
            return Ok(String::new());
        }
        let text = String::from_utf8_lossy(&text.bytes);
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(InvalidEvent::new(format!("`mapping.{name}` gives a text with control characters")));
        }
        Ok(text.to_owned())
    }

    /// Evaluates an expression.
    fn evaluate(&mut self, name: &str, context: &Value) -> Result<Value, InvalidEvent> {
        let captured = self.run(name, context, io::sink())?;
        Ok(captured.and_then(|captured| captured.state().lookup(RESULT)).unwrap_or_default())
    }

    /// Runs a template, and takes its fuel from that of the request; `None` if the mapping has no
    /// such template.
    fn run(
        &mut self,
        name: &str,
        context: &Value,
        out: impl io::Write,
    ) -> Result<Option<Captured<'_>>, InvalidEvent> {
        let Ok(template) = self.mapper.environment.get_template(name) else { return Ok(None) };
        let captured = template.render_captured_to(context.clone(), out);
        let captured = captured.map_err(|error| failed(name, &in_words(&error)))?;
        let (taken, _) = captured.state().fuel_levels().unwrap_or_default();
        self.fuel = self
            .fuel
            .checked_sub(taken)
            .ok_or_else(|| failed(name, "the templates of the request take too many instructions"))?;
        Ok(Some(captured))
    }

    /// A value as JSON of at most `room` bytes.
    fn json(&self, name: &str, value: Value, room: usize) -> Result<Vec<u8>, InvalidEvent> {
        let mut json = BoundedBytes { bytes: Vec::new(), max: room };
        match serde_json::to_writer(&mut json, &value) {
            Ok(()) => Ok(json.bytes),
            Err(error) if error.is_io() => Err(InvalidEvent::TooLarge { bytes_max: self.arena_max }),
            Err(error) => Err(InvalidEvent::new(format!("`mapping.{name}` gives no JSON: {error}"))),
        }
    }
}

/// Bytes of an event in the arena beside its texts and its data: names, lengths and the version.
const EVENT_BYTES: usize = 64;

fn failed(name: &str, reason: &str) -> InvalidEvent {
    InvalidEvent::new(format!("`mapping.{name}`: {}", outside::text(reason, REASON_BYTES_MAX)))
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

/// At most `max` bytes.
struct BoundedBytes {
    bytes: Vec<u8>,
    max: usize,
}

impl io::Write for BoundedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::Error::other(format!("gives more than {} bytes", self.max)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
