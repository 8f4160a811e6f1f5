//! Many alternatives at once, by quamina's automata.
//!
//! Quamina gets the fields that [`flatten`](crate::flatten) found, not the JSON: one reading serves both evaluators, and quamina's own flattener
//! (0.7) takes an object in an array on a leaf's path for the array's parent, which loses fields.
//!
//! What it finds is a guess that misses nothing: an exact value that is added after an `anything-but` or a `prefix` on the same path changes states that those
//! share among many bytes, and is then found in values that it does not equal (0.7). The direct evaluator tries whatever was found.
//!
//! What quamina 0.7 cannot say as Event Ruler does is not given to it: `$or`, `anything-but` of operators or of mixed lists, `prefix` and `suffix`
//! in any case, `exists`, addresses, and integers that binary64 cannot hold. Wildcards it has, but 1,000 of them cost 235 µs an event, more than
//! trying them in turn. It checks arrays only between neighbouring fields, so alternatives have at most two paths. Its numeric ranges compare
//! bytes, and `false` lies below `0`, so ranges get a path of their own on which only numbers are.

use std::fmt;
use std::io::Write;

use quamina::{ArrayPos, Flattener, OwnedField, Quamina, QuaminaBuilder, QuaminaError, SegmentsTreeTracker};
use serde_json::{Value as Json, json};

use crate::flatten::Fields;
use crate::limits;
use crate::number::Number;
use crate::operator::{AnyOf, Limit, Test, Value};
use crate::paths::PathId;
use crate::set::{Alternative, AlternativeId};

/// Alternatives that one quamina holds.
pub(super) struct Shard {
    quamina: Quamina<AlternativeId>,
    alternatives: Vec<AlternativeId>,
    /// What they look at, ascending.
    columns: Vec<Column>,
}

/// What quamina knows as a path: all values on a path, or only the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    path: PathId,
    numbers_only: bool,
}

impl Column {
    fn of(path: PathId, tests: &[Test]) -> Self {
        Column { path, numbers_only: tests.iter().any(|test| matches!(test, Test::Range { .. })) }
    }

    /// Whether quamina can say `tests` of it.
    fn takes(self, tests: &[Test]) -> bool {
        let numeric = |test: &Test| matches!(test, Test::Range { .. } | Test::Number(_));
        tests.iter().all(|test| element(test).is_some() && (!self.numbers_only || numeric(test)))
    }

    /// The name by which quamina knows it.
    fn name(self) -> String {
        format!("{}{:x}", if self.numbers_only { 'n' } else { 'v' }, self.path)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shard")
            .field("alternatives", &self.alternatives)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// Whether quamina can say what `data` says.
    pub fn takes(data: &[(PathId, AnyOf)]) -> bool {
        let tests: usize = data.iter().map(|(_, tests)| tests.len()).sum();
        (1..=2).contains(&data.len())
            && tests <= limits::SHARD_TESTS_MAX
            && data.iter().all(|(path, tests)| Column::of(*path, tests).takes(tests))
    }

    /// A shard of the first of `ids`, as many as fit; how many of `ids` that settles. What quamina refuses is left out of the shard.
    pub fn build(ids: &[AlternativeId], alternatives: &[Alternative]) -> (Self, usize) {
        let mut shard = Shard { quamina: empty(), alternatives: Vec::new(), columns: Vec::new() };
        let mut tests = 0;
        let mut taken = 0;
        for &id in ids {
            let data = &alternatives[id as usize].data;
            tests += data.iter().map(|(_, tests)| tests.len()).sum::<usize>();
            if tests > limits::SHARD_TESTS_MAX {
                break;
            }
            taken += 1;
            let pattern: serde_json::Map<String, Json> = data
                .iter()
                .map(|(path, tests)| {
                    (Column::of(*path, tests).name(), tests.iter().filter_map(element).collect())
                })
                .collect();
            if shard.quamina.add_pattern(id, &Json::Object(pattern).to_string()).is_ok() {
                shard.alternatives.push(id);
                shard.columns.extend(data.iter().map(|(path, tests)| Column::of(*path, tests)));
            }
        }
        shard.columns.sort_unstable();
        shard.columns.dedup();
        (shard, taken)
    }

    pub fn alternatives(&self) -> &[AlternativeId] {
        &self.alternatives
    }

    /// Adds to `out` the alternatives whose data constraints hold, and perhaps others; false where quamina is not asked because the event has too many fields.
    pub fn matches(
        &self,
        data: &str,
        fields: &Fields,
        buffer: &mut Vec<u8>,
        out: &mut Vec<AlternativeId>,
    ) -> bool {
        if self.columns.iter().map(|column| fields.on(column.path).len()).sum::<usize>()
            > limits::SHARD_FIELDS_MAX
        {
            return false;
        }
        buffer.clear();
        for column in &self.columns {
            for &field in fields.on(column.path) {
                let value = fields.value(data, field);
                if !column.numbers_only || matches!(value, Value::Number(_)) {
                    encode(*column, value, fields.trail(field), buffer);
                }
            }
        }
        if buffer.is_empty() {
            return true;
        }
        match self.quamina.matches_for_event(buffer) {
            Ok(found) => {
                out.extend(found);
                true
            }
            Err(_) => false,
        }
    }
}

fn empty() -> Quamina<AlternativeId> {
    // A flattener may be set once and no media type was set, so there is nothing to refuse; a plain quamina would find nothing, and is never used.
    let builder = QuaminaBuilder::new().with_flattener(Box::new(Decoder)).and_then(QuaminaBuilder::build);
    builder.expect("a fresh builder accepts one flattener")
}

/// `test` as quamina writes it; `None` where it cannot.
fn element(test: &Test) -> Option<Json> {
    let number = |number: Number| number.is_exact_as_float().then(|| json_number(number)).flatten();
    match test {
        Test::Text(text) => Some(json!(text)),
        Test::Number(value) => number(*value),
        Test::Literal(literal) => serde_json::from_str(literal.as_str()).ok(),
        Test::Prefix(prefix) if affix(prefix) => Some(json!({ "prefix": prefix })),
        Test::Suffix(suffix) if affix(suffix) => Some(json!({ "suffix": suffix })),
        Test::EqualsFolded(folded) => folded.as_ascii().map(|text| json!({ "equals-ignore-case": text })),
        Test::Range { low, high } => {
            let mut terms = Vec::with_capacity(4);
            let mut term = |limit: &Option<Limit>, open: &str, closed: &str| {
                let Some(limit) = limit else { return Some(()) };
                terms.push(json!(if limit.inclusive { closed } else { open }));
                terms.push(number(limit.number)?);
                Some(())
            };
            term(low, ">", ">=")?;
            term(high, "<", "<=")?;
            Some(json!({ "numeric": terms }))
        }
        Test::NoneOf(tests) => {
            let texts = tests.iter().all(|test| matches!(test, Test::Text(_)));
            let numbers = tests.iter().all(|test| matches!(test, Test::Number(_)));
            let elements: Option<Vec<Json>> = tests.iter().map(element).collect();
            (texts || numbers)
                .then_some(elements)
                .flatten()
                .map(|elements| json!({ "anything-but": elements }))
        }
        _ => None,
    }
}

/// Quamina compares strings with their quotes: a quote at the end of a prefix would be found in the one that closes the value.
fn affix(text: &str) -> bool {
    !text.is_empty() && !text.contains('"')
}

fn json_number(number: Number) -> Option<Json> {
    match number {
        Number::Int(int) => Some(json!(int)),
        Number::Float(float) => serde_json::Number::from_f64(float).map(Json::Number),
    }
}

// A field as bytes, all integers little-endian:
//
//   path u32 │ column u8 (1: numbers only) │ kind u8 (1: a number) │ steps u32 │ steps × (array u32, index u32) │ length u32 │ value
//
// Quamina takes an event as bytes and asks its flattener for the fields; these are the bytes.
fn encode(column: Column, value: Value<'_>, trail: &[crate::flatten::Element], to: &mut Vec<u8>) {
    let word = |to: &mut Vec<u8>, word: u32| to.extend_from_slice(&word.to_le_bytes());
    word(to, column.path);
    to.push(u8::from(column.numbers_only));
    to.push(u8::from(matches!(value, Value::Number(_))));
    word(to, trail.len() as u32);
    for element in trail {
        word(to, element.array);
        word(to, element.index);
    }
    let length_at = to.len();
    word(to, 0);
    match value {
        Value::Text(text) => {
            to.push(b'"');
            to.extend_from_slice(text.as_bytes());
            to.push(b'"');
        }
        Value::Number(Number::Int(int)) => write!(to, "{int}").expect("a vector takes what is written"),
        Value::Number(Number::Float(float)) => write!(to, "{float}").expect("a vector takes what is written"),
        Value::Literal(literal) => to.extend_from_slice(literal.as_str().as_bytes()),
    }
    let length = (to.len() - length_at - 4) as u32;
    to[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Quamina's view of [`encode`]'s bytes.
struct Decoder;

impl Flattener for Decoder {
    fn flatten(
        &mut self,
        event: &[u8],
        _: &dyn SegmentsTreeTracker,
    ) -> Result<Vec<OwnedField>, QuaminaError> {
        let mut rest = event;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            fields.push(
                decode(&mut rest).ok_or_else(|| QuaminaError::InvalidJson("fields are cut short".into()))?,
            );
        }
        Ok(fields)
    }

    fn copy(&self) -> Box<dyn Flattener> {
        Box::new(Decoder)
    }
}

fn decode(rest: &mut &[u8]) -> Option<OwnedField> {
    let path = word(rest)?;
    let ([numbers_only, kind], tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    let column = Column { path, numbers_only: *numbers_only == 1 };
    let steps = word(rest)?;
    let array_trail = (0..steps)
        .map(|_| Some(ArrayPos { array: word(rest)? as i32, pos: word(rest)? as i32 }))
        .collect::<Option<Vec<_>>>()?;
    let length = word(rest)? as usize;
    let (value, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(OwnedField {
        path: column.name().into_bytes(),
        val: value.to_vec(),
        array_trail,
        is_number: *kind == 1,
    })
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*bytes))
}
