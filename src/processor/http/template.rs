//! Templates: a text with values of an event, in the language of Jinja (`minijinja`).
//!
//! INVARIANT: rendering ends. [`TEMPLATE_FUEL`] bounds its instructions and the bytes that it
//! creates, so an event of any content costs a bounded time and memory.
//!
//! INVARIANT: rendering the same event again gives the same text. There are no functions for time
//! or randomness, so a retry repeats the request.

use std::collections::BTreeSet;
use std::fmt;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::context::NAMES;
use super::escape::{Escaping, check_literal, resolve_json, write_value};
use crate::config::check::nearest;
use crate::limits::TEMPLATE_FUEL;

/// A template cannot be compiled or rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Line of the template, from 1; `None` if the error concerns the whole text.
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} of the template: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for TemplateError {}

/// A compiled template.
pub struct Template {
    environment: Environment<'static>,
    escaping: Escaping,
    uses_data: bool,
    /// The names of the secrets that it uses.
    secrets: BTreeSet<String>,
    /// The reason why an event without any member gives no JSON.
    doubt: Option<String>,
}

/// The name of the only template of an environment.
const NAME: &str = "template";

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// The text is no template, or has a name or filter that does not exist.
    pub fn new(text: &str, escaping: Escaping) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // They would escape a second time, by rules that need not fit.
        environment.remove_filter("escape");
        environment.remove_filter("e");
        // Its result would not be escaped. A value that is no text is written as JSON anyway.
        environment.add_filter("tojson", |value: Value| value);
        environment.remove_global("debug");
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Errors name the value that is undefined.
        environment.set_debug(true);
        environment.set_fuel(Some(TEMPLATE_FUEL));
        // Captured text counts as escaped only if some escaping is on.
        environment.set_auto_escape_callback(|_| AutoEscape::Custom("value".into()));
        environment.set_formatter(move |out, _, value| write_value(out, escaping, value));
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| described(&error, text))?;
        let mut template =
            Template { environment, escaping, uses_data: false, secrets: BTreeSet::new(), doubt: None };
        let names = template.names(text)?;
        template.uses_data = names.contains("data");
        template.secrets = template.nested("secrets", text)?;
        template.doubt = template.try_out(text)?;
        Ok(template)
    }

    /// The names that the template uses, all of which must exist.
    fn names(&self, text: &str) -> Result<BTreeSet<String>, TemplateError> {
        let template = self.environment.get_template(NAME).map_err(|error| described(&error, text))?;
        let globals: Vec<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let used: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        match used.iter().find(|name| !NAMES.contains(&&***name) && !globals.contains(&&***name)) {
            None => Ok(used),
            Some(name) => {
                let line = text.lines().position(|line| line.contains(&**name)).map(|at| at + 1);
                let near = nearest(name, NAMES).map(|near| format!("; did you mean `{near}`?"));
                let known = NAMES.map(|name| format!("`{name}`")).join(", ");
                let message = format!("there is no `{name}`{} (known: {known})", near.unwrap_or_default());
                Err(TemplateError { line, message })
            }
        }
    }

    /// The members of `name` that the template uses.
    fn nested(&self, name: &str, text: &str) -> Result<BTreeSet<String>, TemplateError> {
        let template = self.environment.get_template(NAME).map_err(|error| described(&error, text))?;
        let used = template.undeclared_variables(true);
        let members = used.iter().filter_map(|used| used.strip_prefix(name)?.strip_prefix('.'));
        Ok(members.map(|member| member.split('.').next().unwrap_or_default().to_owned()).collect())
    }

    /// Renders an event without any member, to find unknown filters, tests and functions. Other
    /// errors depend on the event. Returns the reason if the result is no JSON.
    fn try_out(&mut self, text: &str) -> Result<Option<String>, TemplateError> {
        self.environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        let rendered = self.marked(&Value::UNDEFINED);
        self.environment.set_undefined_behavior(UndefinedBehavior::Strict);
        match rendered {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnknownFilter
                        | ErrorKind::UnknownTest
                        | ErrorKind::UnknownFunction
                        | ErrorKind::UnknownMethod
                ) =>
            {
                Err(described(&error, text))
            }
            Ok(rendered) if matches!(self.escaping, Escaping::Path | Escaping::Header) => {
                check_literal(self.escaping, &rendered)
                    .map_err(|message| TemplateError { line: None, message })?;
                Ok(None)
            }
            Ok(marked) if self.escaping == Escaping::Json && !marked.trim().is_empty() => {
                Ok(resolve_json(&marked).err())
            }
            _ => Ok(None),
        }
    }

    /// The reason why this may not be a template of JSON: an event without any member gives none.
    /// That is a hint only, since no such event exists.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// The names of the secrets that the template uses.
    pub fn secrets(&self) -> &BTreeSet<String> {
        &self.secrets
    }

    /// Returns true if the template uses the data of the event.
    pub fn uses_data(&self) -> bool {
        self.uses_data
    }

    /// Renders an event.
    pub fn render(&self, context: &Value) -> Result<String, TemplateError> {
        let marked = self.marked(context).map_err(|error| {
            let template = self.environment.get_template(NAME);
            described(&error, template.as_ref().map_or("", |template| template.source()))
        })?;
        if self.escaping != Escaping::Json {
            return Ok(marked);
        }
        resolve_json(&marked).map_err(|message| TemplateError { line: None, message })
    }

    fn marked(&self, context: &Value) -> Result<String, Error> {
        self.environment.get_template(NAME)?.render(context.clone())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("escaping", &self.escaping).finish_non_exhaustive()
    }
}

/// Describes an error, with the expression at fault.
fn described(error: &Error, text: &str) -> TemplateError {
    let expression = error.range().and_then(|range| text.get(range)).filter(|text| !text.contains('\n'));
    let expression = expression.map(|text| format!(" at `{}`", text.trim())).unwrap_or_default();
    let message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too long, or its result is too large".to_owned(),
        (ErrorKind::UndefinedError, detail) => {
            let detail = detail.map_or(expression, |detail| format!(": {detail}"));
            format!("the event has no such value{detail}; allow for it with `| default('…')`")
        }
        (kind, None) => format!("{kind}{expression}"),
        (kind, Some(detail)) => format!("{kind}: {detail}{expression}"),
    };
    TemplateError { line: error.line(), message }
}
