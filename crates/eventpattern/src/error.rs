//! What can be wrong with a pattern, said so that the reader can mend it.

use crate::{PatternId, limits};

/// One fault of one pattern, at one place in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct PatternError {
    /// The pattern it is in. Not part of the message: the caller knows the pattern by a better name.
    pub pattern: PatternId,
    /// Where in the pattern, as a JSON path: `$.data.Vm.Name[0]`.
    pub path: String,
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a pattern must be a JSON object, found {found}")]
    NotAnObject { found: &'static str },
    #[error("empty objects are not allowed; name a field, or leave the pattern out to match every event")]
    EmptyObject,
    #[error("empty arrays are not allowed; list the values that may match")]
    EmptyArray,
    #[error("expected an array of values or an object, found {found}; write `[…]` around a value")]
    NotAList { found: &'static str },
    #[error(
        "a value to match must be a string, a number, true, false, null or an operator object, found {found}"
    )]
    NotAValue { found: &'static str },
    #[error("unknown operator `{name}`{}; allowed: {allowed}", .nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownOperator { name: String, nearest: Option<&'static str>, allowed: &'static str },
    #[error(
        "an operator object must have exactly one key, found {found}; list several operators as several elements of the array"
    )]
    NotOneOperator { found: usize },
    #[error("`{operator}` needs {needs}, found {found}")]
    WrongOperand { operator: &'static str, needs: &'static str, found: &'static str },
    #[error("`{operator}` must not be empty")]
    EmptyOperand { operator: &'static str },
    #[error("`numeric` {reason}")]
    Numeric { reason: &'static str },
    #[error("`{text}` is not a CIDR block: {reason}")]
    Cidr { text: String, reason: &'static str },
    #[error("`{operator}` must not have two `*` in a row, at byte {offset}")]
    AdjacentWildcards { operator: &'static str, offset: usize },
    #[error("`wildcard` allows a backslash only before `*` or another backslash, at byte {offset}")]
    WildcardEscape { offset: usize },
    #[error("`$or` needs an array of two or more objects, found {found}")]
    OrNeedsObjects { found: String },
    #[error("`{name}` is an operator's name and cannot be a field inside `$or`")]
    ReservedInOr { name: String },
    #[error("`{path}` is constrained twice; put all its values in one array")]
    ConstrainedTwice { path: String },
    #[error("`$or` makes more than {} combinations; write several patterns", limits::ALTERNATIVES_MAX)]
    TooManyAlternatives,
    #[error("nested deeper than {} levels", limits::PATTERN_DEPTH_MAX)]
    TooDeep,
}
