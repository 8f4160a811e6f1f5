//! Errors in a pattern. Each names its place, so the author can find and correct it.

use crate::{PatternId, limits};

/// One error at one place of one pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct PatternError {
    /// The pattern that contains the error. The message leaves it out, because the caller has a
    /// better name for the pattern than a number.
    pub pattern: PatternId,
    /// The place in the pattern, as a JSON path: `$.data.Vm.Name[0]`.
    pub path: String,
    pub kind: ErrorKind,
}

/// The reason why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    #[error("a pattern must be a JSON object, found {found}")]
    NotAnObject { found: &'static str },
    #[error("an empty object is not allowed; name a field, or omit the pattern to match every event")]
    EmptyObject,
    #[error("an empty array is not allowed; list the values to match")]
    EmptyArray,
    #[error("expected an array of values or an object, found {found}; put a single value in an array")]
    NotAList { found: &'static str },
    #[error("expected a string, a number, true, false, null or an operator object, found {found}")]
    NotAValue { found: &'static str },
    #[error("unknown operator `{name}`{}; allowed: {allowed}", did_you_mean(.nearest))]
    UnknownOperator { name: String, nearest: Option<&'static str>, allowed: &'static str },
    #[error(
        "an operator object must have exactly one key, found {found}; give each operator an object of its own"
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
    #[error("`{operator}` has two `*` in a row at byte {offset}")]
    AdjacentWildcards { operator: &'static str, offset: usize },
    #[error("`wildcard` has a backslash at byte {offset} that escapes neither `*` nor a backslash")]
    WildcardEscape { offset: usize },
    #[error("`$or` needs an array of two or more objects, found {found}")]
    OrNeedsObjects { found: String },
    #[error("`{name}` is the name of an operator and cannot be a field inside `$or`")]
    ReservedInOr { name: String },
    #[error("`{path}` is constrained twice; put all its values in one array")]
    ConstrainedTwice { path: String },
    #[error("`$or` expands to more than {} combinations; split the pattern", limits::ALTERNATIVES_MAX)]
    TooManyAlternatives,
    #[error("nested deeper than {} levels", limits::PATTERN_DEPTH_MAX)]
    TooDeep,
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
