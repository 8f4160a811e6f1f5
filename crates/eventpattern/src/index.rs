//! Alternatives by the exact values that they ask for in `data`.

use rustc_hash::FxHashMap;

use crate::number::Number;
use crate::operator::{AnyOf, Test, Value};
use crate::paths::PathId;
use crate::set::AlternativeId;

/// Of one path: which alternatives a value may satisfy.
#[derive(Debug, Default)]
pub(super) struct ValueIndex {
    texts: FxHashMap<Box<str>, Vec<AlternativeId>>,
    /// Integers that binary64 holds exactly: no other number equals them.
    integers: FxHashMap<i64, Vec<AlternativeId>>,
}

impl ValueIndex {
    /// The path of `data` whose values find the alternative: its first with nothing but exact strings and integers.
    pub fn key(data: &[(PathId, AnyOf)]) -> Option<(PathId, &[Test])> {
        let indexed = |test: &Test| match test {
            Test::Text(_) => true,
            Test::Number(number) => matches!(number, Number::Int(_)) && number.is_exact_as_float(),
            _ => false,
        };
        data.iter().find(|(_, tests)| tests.iter().all(indexed)).map(|(path, tests)| (*path, &**tests))
    }

    /// Enters an alternative under each of `tests`, which are those of its [`key`](Self::key).
    pub fn insert(&mut self, tests: &[Test], id: AlternativeId) {
        for test in tests {
            let same = match test {
                Test::Text(text) => self.texts.entry(text.clone()).or_default(),
                Test::Number(Number::Int(int)) => self.integers.entry(*int).or_default(),
                _ => continue,
            };
            if same.last() != Some(&id) {
                same.push(id);
            }
        }
    }

    /// The alternatives that ask for `value`.
    pub fn find(&self, value: Value<'_>) -> &[AlternativeId] {
        let found = match value {
            Value::Text(text) => self.texts.get(text),
            Value::Number(Number::Int(int)) => self.integers.get(&int),
            Value::Number(Number::Float(_)) | Value::Literal(_) => None,
        };
        found.map_or(&[], Vec::as_slice)
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.integers.is_empty()
    }
}
