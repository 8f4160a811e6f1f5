//! Explains why a pattern does not match an event: for each alternative the first member that the
//! event does not meet, and the values found there.
//!
//! ```text
//! {"subject": ["A"], "$or": [{"data": {"x": [1]}}, {"data": {"y": [2]}}]}
//!
//! alternatives   subject, $or[0].data.x      refused by  $.$or[0].data.x
//!                subject, $or[1].data.y      refused by  $.$or[1].data.y
//! ```
//!
//! It evaluates one pattern for one event, for a person who reads the result. It uses the
//! constraints of the matcher, without classes and indexes.
//!
//! INVARIANT: an explanation and [`Matcher`](crate::Matcher) agree about every event.

use std::fmt;

use serde_json::Value as Json;

use crate::compile::{self, Constraint};
use crate::condition::{Value, are_met_by};
use crate::error::PatternError;
use crate::evaluate::{CurrentEvent, Evaluator};
use crate::number::Number;
use crate::set::{PatternSet, Place, place};
use crate::{Event, Root, limits};

/// The result of [`explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    Matches,
    /// The pattern counts as matching because it could not be decided: `data` is malformed, or its
    /// nested arrays need too many steps.
    Undecided,
    /// The pattern does not match. Each alternative of the pattern (each combination of its `$or`
    /// branches) has a reason; reasons that several of them share appear once.
    Refused(Vec<Mismatch>),
}

/// The part of a pattern that an event does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// No value of the event meets the conditions at this place.
    Member {
        /// The place in the pattern, as a JSON path: `$.data.Vm.Name`.
        place: String,
        /// The conditions, as JSON.
        allowed: String,
        /// The first values of the event there, as JSON; empty if it has none.
        found: Vec<String>,
        /// Number of values of the event there.
        count: usize,
    },
    /// The members at these places are met only by different elements of an array.
    Elements { places: Vec<String> },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Member { place, allowed, found, count } => {
                write!(f, "`{place}` allows {allowed}; ")?;
                match found.len() {
                    0 => f.write_str("the event has no value there"),
                    named if named < *count => {
                        write!(f, "the event has {} and {} more", found.join(", "), count - named)
                    }
                    _ => write!(f, "the event has {}", found.join(", ")),
                }
            }
            Mismatch::Elements { places } => {
                write!(f, "no single element of an array meets all of `{}`", places.join("`, `"))
            }
        }
    }
}

/// Explains whether `pattern` matches `event`, and which of its members refuse it.
///
/// # Errors
/// Returns every error in the pattern.
pub fn explain(root: Root, pattern: &Json, event: &Event<'_>) -> Result<Explanation, Vec<PatternError>> {
    let conjunctions = compile::compile(0, pattern)?;
    let set = PatternSet::compile(root, &[(0, pattern.clone())])?;
    let mut evaluator = Evaluator::default();
    let mut current = CurrentEvent::new(event);
    let mut reasons = Vec::new();
    // The set has one alternative for each conjunction, in the same order.
    for (conjunction, alternative) in conjunctions.iter().zip(&set.alternatives) {
        if alternative.class_holds(event)
            && alternative.event_holds(event)
            && evaluator.data_holds(alternative, &mut current, &set)
        {
            let undecided = current.undecided();
            return Ok(if undecided { Explanation::Undecided } else { Explanation::Matches });
        }
        // Constraints on `data` are read only after those on attributes hold.
        evaluator.read(&mut current, &set);
        let refusing = Refusing { root, set: &set, event, current: &current, evaluator: &evaluator };
        let reason = refusing.reason(&conjunction.constraints);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Ok(Explanation::Refused(reasons))
}

/// Finds the member that refuses an event.
struct Refusing<'r, 'e, 'a> {
    root: Root,
    set: &'r PatternSet,
    event: &'e Event<'a>,
    current: &'r CurrentEvent<'e, 'a>,
    evaluator: &'r Evaluator,
}

impl Refusing<'_, '_, '_> {
    /// The first of these constraints that does not hold.
    fn reason(&self, constraints: &[Constraint<'_>]) -> Mismatch {
        for constraint in constraints {
            let conditions = &constraint.conditions;
            match place(self.root, &constraint.names) {
                Place::Unknown => {}
                Place::Class(attribute) if attribute.meets(conditions, self.event) => {}
                Place::Class(attribute) => {
                    return mismatch(constraint, attribute.value(self.event).into_iter());
                }
                Place::Event(attribute) if attribute.meets(conditions, self.event) => {}
                Place::Event(attribute) => {
                    return mismatch(constraint, attribute.value(self.event).into_iter());
                }
                Place::Data(_) if !self.current.is_readable() => {}
                Place::Data(names) => {
                    let Some(path) = self.set.paths.get(names) else { continue };
                    let values = || self.evaluator.values(self.current, path);
                    let holds = match values().len() {
                        0 => are_met_by(conditions, None),
                        _ => values().any(|value| are_met_by(conditions, Some(value))),
                    };
                    if !holds {
                        return mismatch(constraint, values());
                    }
                }
            }
        }
        let in_data = |one: &&Constraint<'_>| matches!(place(self.root, &one.names), Place::Data(_));
        let places = constraints.iter().filter(in_data).map(|one| one.place.to_string());
        Mismatch::Elements { places: places.collect() }
    }
}

fn mismatch<'v>(constraint: &Constraint<'_>, values: impl ExactSizeIterator<Item = Value<'v>>) -> Mismatch {
    let count = values.len();
    Mismatch::Member {
        place: constraint.place.to_string(),
        allowed: Json::from(constraint.values).to_string(),
        found: values.take(limits::FOUND_VALUES_MAX).map(as_json).collect(),
        count,
    }
}

fn as_json(value: Value<'_>) -> String {
    match value {
        Value::Text(text) => Json::from(text).to_string(),
        Value::Number(Number::Int(number)) => number.to_string(),
        Value::Number(Number::Float(number)) => number.to_string(),
        Value::Literal(literal) => literal.as_str().into(),
    }
}
