//! Parses a pattern into alternatives: one conjunction of constraints for each combination of its
//! `$or` branches.
//!
//! Grammar and errors follow Event Ruler, the engine of EventBridge, with two extensions:
//! `anything-but` may mix strings and numbers, and `shellstyle` (an operator of quamina) is
//! accepted. There is one restriction: an alternative may constrain a path only once. In Event
//! Ruler the later constraint silently replaces the earlier one, so the result depends on the order
//! of keys.

mod operator;

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::condition::Conditions;
use crate::error::{ErrorKind, PatternError};
use crate::{PatternId, limits};

/// Constraints that must all hold.
#[derive(Clone, Debug, Default)]
pub struct Conjunction<'p> {
    pub constraints: Vec<Constraint<'p>>,
}

/// The conditions on the values at one path of an event.
#[derive(Clone, Debug)]
pub struct Constraint<'p> {
    /// The names from the root of the event.
    pub names: Vec<String>,
    pub conditions: Conditions,
    /// The place in the pattern, as a JSON path.
    pub place: Arc<str>,
    /// The conditions as the pattern has them.
    pub values: &'p [Json],
}

/// Names that Event Ruler reserves inside `$or` for present and future operators.
const RESERVED_IN_OR: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// Compiles `pattern` to its alternatives, one of which must hold, or to all errors in it.
pub fn compile(id: PatternId, pattern: &Json) -> Result<Vec<Conjunction<'_>>, Vec<PatternError>> {
    let mut compiler =
        Compiler { id, place: "$".into(), names: Vec::new(), in_or: false, errors: Vec::new() };
    let mut alternatives = vec![Conjunction::default()];
    match pattern {
        Json::Object(object) => compiler.object(object, &mut alternatives),
        other => compiler.report(ErrorKind::NotAnObject { found: type_name(other) }),
    }
    if compiler.errors.is_empty() { Ok(alternatives) } else { Err(compiler.errors) }
}

struct Compiler {
    id: PatternId,
    /// JSON path of the current place in the pattern.
    place: String,
    /// Path of the current place in the event: the names so far, without `$or` and array indices,
    /// split at dots.
    names: Vec<String>,
    in_or: bool,
    errors: Vec<PatternError>,
}

impl Compiler {
    fn report(&mut self, kind: ErrorKind) {
        self.errors.push(PatternError { pattern: self.id, path: self.place.clone(), kind });
    }

    /// Runs `body` with `step` appended to the place.
    fn at<T>(&mut self, step: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.place.len();
        self.place.push_str(step);
        let result = body(self);
        self.place.truncate(length);
        result
    }

    fn object<'p>(&mut self, object: &'p Map<String, Json>, alternatives: &mut Vec<Conjunction<'p>>) {
        if object.is_empty() {
            return self.report(ErrorKind::EmptyObject);
        }
        for (name, value) in object {
            self.at(&path_step(name), |compiler| compiler.member(name, value, alternatives));
        }
    }

    fn member<'p>(&mut self, name: &str, value: &'p Json, alternatives: &mut Vec<Conjunction<'p>>) {
        if name == "$or" {
            return self.or(value, alternatives);
        }
        if self.in_or && RESERVED_IN_OR.contains(&name) {
            return self.report(ErrorKind::ReservedInOr { name: name.into() });
        }
        let length = self.names.len();
        self.names.extend(name.split('.').map(String::from));
        match value {
            _ if self.names.len() > limits::PATTERN_DEPTH_MAX => self.report(ErrorKind::TooDeep),
            Json::Object(object) => self.object(object, alternatives),
            Json::Array(values) => self.constrain(values, alternatives),
            other => self.report(ErrorKind::NotAList { found: type_name(other) }),
        }
        self.names.truncate(length);
    }

    /// Replaces each alternative with one copy for each branch of the `$or`.
    fn or<'p>(&mut self, value: &'p Json, alternatives: &mut Vec<Conjunction<'p>>) {
        let Some(branches) = value.as_array() else {
            return self.report(ErrorKind::OrNeedsObjects { found: type_name(value).into() });
        };
        if branches.len() < 2 {
            let found = format!("an array of {}", branches.len());
            return self.report(ErrorKind::OrNeedsObjects { found });
        }
        if alternatives.len() * branches.len() > limits::ALTERNATIVES_MAX {
            return self.report(ErrorKind::TooManyAlternatives);
        }
        // `$or` adds no name, so the bound on names alone would not bound its nesting.
        if self.place.matches(".$or").count() > limits::PATTERN_DEPTH_MAX {
            return self.report(ErrorKind::TooDeep);
        }
        let outer = std::mem::replace(&mut self.in_or, true);
        let base = std::mem::take(alternatives);
        for (index, branch) in branches.iter().enumerate() {
            self.at(&format!("[{index}]"), |compiler| match branch {
                Json::Object(object) => {
                    let mut extended = base.clone();
                    compiler.object(object, &mut extended);
                    alternatives.append(&mut extended);
                }
                other => {
                    let found = format!("an array with {}", type_name(other));
                    compiler.report(ErrorKind::OrNeedsObjects { found });
                }
            });
        }
        self.in_or = outer;
        if alternatives.len() > limits::ALTERNATIVES_MAX {
            self.report(ErrorKind::TooManyAlternatives);
            alternatives.truncate(1);
        }
    }

    /// Adds the conditions in `values` for the current path to every alternative.
    fn constrain<'p>(&mut self, values: &'p [Json], alternatives: &mut [Conjunction<'p>]) {
        if values.is_empty() {
            return self.report(ErrorKind::EmptyArray);
        }
        let conditions: Conditions = values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| self.at(&format!("[{index}]"), |compiler| compiler.condition(value)))
            .collect();
        let place: Arc<str> = self.place.as_str().into();
        for alternative in alternatives {
            if alternative.constraints.iter().any(|earlier| earlier.names == self.names) {
                return self.report(ErrorKind::ConstrainedTwice { path: self.names.join(".") });
            }
            alternative.constraints.push(Constraint {
                names: self.names.clone(),
                conditions: conditions.clone(),
                place: Arc::clone(&place),
                values,
            });
        }
    }
}

fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// One step of a JSON path: `.name`, or `["odd name"]`.
fn path_step(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    if plain { format!(".{name}") } else { format!("[{name:?}]") }
}
