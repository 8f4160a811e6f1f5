//! An index that finds the alternatives that an event's data may satisfy, without trying all of
//! them.
//!
//! An alternative holds only if *every* constraint is met, so any one of them suffices to find it.
//! [`DataIndex`] picks the most selective constraint that requires a value and files the
//! alternative under that constraint's path, once for each condition:
//!
//! ```text
//! condition                               filed under         found by
//!   text, equals-ignore-case              text, lower case    hash
//!   integer                               integer             hash
//!   prefix, suffix, affix of a wildcard   affix, lower case   hash, for each length of affix
//!   numeric, other numbers                range               scan of ranges up to the value
//!   anything-but of texts and integers    excluded values     all except those filed there
//!   others that need a value              the path alone      any value
//! ```
//!
//! The automata of the crate quamina did this before. They cost twice the instructions for 1,000
//! prefixes, ten times the memory and compile time, and also found false candidates.
//!
//! INVARIANT: the index never misses an alternative that holds. It may find others, so the caller
//! evaluates every candidate.

use rustc_hash::FxHashMap;

use crate::condition::{Condition, Value};
use crate::flatten::Fields;
use crate::number::Number;
use crate::paths::PathId;
use crate::set::{Alternative, AlternativeId};

/// Index of some alternatives of a set by their data constraints.
#[derive(Debug, Default)]
pub struct DataIndex {
    all: Vec<AlternativeId>,
    /// Alternatives that no value finds: each of their data constraints accepts a missing value.
    unindexed: Vec<AlternativeId>,
    paths: FxHashMap<PathId, PathIndex>,
}

impl DataIndex {
    pub fn new(all: Vec<AlternativeId>, alternatives: &[Alternative]) -> Self {
        let mut index = DataIndex { all, ..DataIndex::default() };
        for &id in &index.all {
            let data = &alternatives[id as usize].data;
            let ranked = data
                .iter()
                .filter_map(|(path, conditions)| Some((selectivity(conditions)?, *path, conditions)));
            match ranked.min_by_key(|(selectivity, ..)| *selectivity) {
                Some((_, path, conditions)) => index.paths.entry(path).or_default().insert(conditions, id),
                None => index.unindexed.push(id),
            }
        }
        for path in index.paths.values_mut() {
            path.ranges.sort_by(|a, b| a.low.total_cmp(&b.low));
        }
        index
    }

    /// All alternatives in the index.
    pub fn all(&self) -> &[AlternativeId] {
        &self.all
    }

    /// The alternatives that `find` cannot find and that must be evaluated for every event.
    pub fn unindexed(&self) -> &[AlternativeId] {
        &self.unindexed
    }

    /// Returns true if `find` can find anything.
    pub fn needs_fields(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Adds to `found` every indexed alternative whose data constraints hold, and perhaps others.
    /// An alternative may appear several times. `scratch` is a buffer.
    pub fn find(&self, data: &str, fields: &Fields, scratch: &mut Vec<u8>, found: &mut Vec<AlternativeId>) {
        for &path in fields.present() {
            let Some(index) = self.paths.get(&path) else { continue };
            found.extend_from_slice(&index.present);
            for &field in fields.on(path) {
                index.find(fields.value(data, field), scratch, found);
                // A path may have many fields that each find the same alternatives.
                if found.len() > self.all.len() {
                    found.clear();
                    return found.extend_from_slice(&self.all);
                }
            }
        }
    }

    /// Bytes in memory, roughly.
    pub fn size(&self) -> usize {
        let ids = self.all.len() + self.unindexed.len();
        ids * size_of::<AlternativeId>() + self.paths.values().map(PathIndex::size).sum::<usize>()
    }
}

/// The alternatives filed under one path.
#[derive(Debug, Default)]
struct PathIndex {
    texts: ByText,
    prefixes: Affixes,
    suffixes: Affixes,
    integers: ByInteger,
    /// Sorted by lower limit.
    ranges: Vec<Range>,
    /// Alternatives that accept all values but some.
    accepting: Vec<AlternativeId>,
    /// The values that some of `accepting` exclude. The exact text, because a wrong entry here
    /// would miss an alternative.
    excluded_texts: ByText,
    excluded_integers: ByInteger,
    /// Alternatives found by any value.
    present: Vec<AlternativeId>,
}

type ByText = FxHashMap<Box<[u8]>, Vec<AlternativeId>>;
type ByInteger = FxHashMap<i64, Vec<AlternativeId>>;

#[derive(Debug)]
struct Range {
    low: f64,
    high: f64,
    id: AlternativeId,
}

/// Alternatives by prefix or suffix.
#[derive(Debug, Default)]
struct Affixes {
    by_text: ByText,
    /// The lengths of all affixes, each once.
    lengths: Vec<usize>,
}

impl Affixes {
    fn insert(&mut self, affix: &str, id: AlternativeId) {
        if !self.lengths.contains(&affix.len()) {
            self.lengths.push(affix.len());
        }
        file(&mut self.by_text, lower_case(affix), id);
    }

    /// Looks up one affix of each length; `affix` cuts it from the value.
    fn find<'v>(&self, affix: impl Fn(usize) -> Option<&'v [u8]>, found: &mut Vec<AlternativeId>) {
        for &length in &self.lengths {
            if let Some(ids) = affix(length).and_then(|affix| self.by_text.get(affix)) {
                found.extend_from_slice(ids);
            }
        }
    }
}

/// The way to file a condition, from the most to the least selective one.
#[derive(Clone, Copy, Debug)]
enum Key<'c> {
    Text(&'c str),
    Integer(i64),
    Prefix(&'c str),
    Suffix(&'c str),
    Range(f64, f64),
    Excluded(&'c [Condition]),
    Present,
}

impl<'c> Key<'c> {
    /// `None` if a missing value meets the condition.
    fn of(condition: &'c Condition) -> Option<Self> {
        let (prefix, suffix) = match condition {
            Condition::Missing => return None,
            Condition::Text(text) => return Some(Key::Text(text)),
            Condition::Number(number) => return Some(Key::of_number(*number)),
            Condition::Range { low, high } => {
                let low = low.map_or(f64::NEG_INFINITY, |limit| limit.number.to_float());
                let high = high.map_or(f64::INFINITY, |limit| limit.number.to_float());
                return Some(Key::Range(low, high));
            }
            Condition::NoneOf(excluded) if excluded.iter().all(is_excludable) => {
                return Some(Key::Excluded(excluded));
            }
            Condition::EqualsFolded(text) => return Some(text.as_ascii().map_or(Key::Present, Key::Text)),
            Condition::Prefix(prefix) => (&**prefix, ""),
            Condition::PrefixFolded(prefix) => (prefix.as_ascii().unwrap_or_default(), ""),
            Condition::Suffix(suffix) => ("", &**suffix),
            Condition::SuffixFolded(suffix) => ("", suffix.as_ascii().unwrap_or_default()),
            Condition::Glob(glob) => glob.affixes(),
            Condition::Address(_)
            | Condition::Literal(_)
            | Condition::Cidr(_)
            | Condition::NoneOf(_)
            | Condition::Present => ("", ""),
        };
        Some(match (prefix, suffix) {
            ("", "") => Key::Present,
            ("", suffix) => Key::Suffix(suffix),
            (prefix, _) => Key::Prefix(prefix),
        })
    }

    fn of_number(number: Number) -> Self {
        match indexable_integer(number) {
            Some(integer) => Key::Integer(integer),
            None => Key::Range(number.to_float(), number.to_float()),
        }
    }

    fn selectivity(self) -> u8 {
        match self {
            Key::Text(_) | Key::Integer(_) => 0,
            Key::Prefix(_) | Key::Suffix(_) => 1,
            Key::Range(..) => 2,
            Key::Excluded(_) => 3,
            Key::Present => 4,
        }
    }
}

/// The selectivity of the least selective of `conditions`; less is better. `None` if a missing
/// value meets one of them.
fn selectivity(conditions: &[Condition]) -> Option<u8> {
    conditions.iter().try_fold(0, |worst, condition| Some(Key::of(condition)?.selectivity().max(worst)))
}

/// The value of a number that no other number equals. Beyond 2^53 an integer equals several, as
/// binary64.
fn indexable_integer(number: Number) -> Option<i64> {
    match number {
        Number::Int(integer) if number.is_exact_as_float() => Some(integer),
        _ => None,
    }
}

fn is_excludable(condition: &Condition) -> bool {
    match condition {
        Condition::Text(_) => true,
        Condition::Number(number) => indexable_integer(*number).is_some(),
        _ => false,
    }
}

fn lower_case(text: &str) -> Box<[u8]> {
    text.to_ascii_lowercase().into_bytes().into()
}

/// Files `id` under `key`, once. Ids arrive in ascending order.
fn file<K: std::hash::Hash + Eq>(map: &mut FxHashMap<K, Vec<AlternativeId>>, key: K, id: AlternativeId) {
    push(map.entry(key).or_default(), id);
}

fn push(ids: &mut Vec<AlternativeId>, id: AlternativeId) {
    if ids.last() != Some(&id) {
        ids.push(id);
    }
}

impl PathIndex {
    fn insert(&mut self, conditions: &[Condition], id: AlternativeId) {
        for key in conditions.iter().filter_map(Key::of) {
            match key {
                Key::Text(text) => file(&mut self.texts, lower_case(text), id),
                Key::Integer(integer) => file(&mut self.integers, integer, id),
                Key::Prefix(prefix) => self.prefixes.insert(prefix, id),
                Key::Suffix(suffix) => self.suffixes.insert(suffix, id),
                Key::Range(low, high) => self.ranges.push(Range { low, high, id }),
                Key::Excluded(excluded) => self.insert_excluded(excluded, id),
                Key::Present => push(&mut self.present, id),
            }
        }
    }

    fn insert_excluded(&mut self, excluded: &[Condition], id: AlternativeId) {
        self.accepting.push(id);
        for condition in excluded {
            match condition {
                Condition::Text(text) => file(&mut self.excluded_texts, text.as_bytes().into(), id),
                Condition::Number(Number::Int(integer)) => file(&mut self.excluded_integers, *integer, id),
                _ => {}
            }
        }
    }

    fn find(&self, value: Value<'_>, scratch: &mut Vec<u8>, found: &mut Vec<AlternativeId>) {
        let mut excluded = None;
        match value {
            Value::Text(text) => {
                self.find_text(text, scratch, found);
                excluded = self.excluded_texts.get(text.as_bytes());
            }
            Value::Number(number) => {
                let float = number.to_float();
                let from_below = self.ranges.iter().take_while(|range| range.low <= float);
                found.extend(from_below.filter(|range| float <= range.high).map(|range| range.id));
                if let Number::Int(integer) = number {
                    found.extend_from_slice(self.integers.get(&integer).map_or(&[], Vec::as_slice));
                    excluded = self.excluded_integers.get(&integer);
                }
            }
            Value::Literal(_) => {}
        }
        extend_without(found, &self.accepting, excluded.map_or(&[], Vec::as_slice));
    }

    fn find_text(&self, text: &str, scratch: &mut Vec<u8>, found: &mut Vec<AlternativeId>) {
        if self.texts.is_empty() && self.prefixes.lengths.is_empty() && self.suffixes.lengths.is_empty() {
            return;
        }
        scratch.clear();
        scratch.extend_from_slice(text.as_bytes());
        scratch.make_ascii_lowercase();
        if let Some(ids) = self.texts.get(&scratch[..]) {
            found.extend_from_slice(ids);
        }
        self.prefixes.find(|length| scratch.get(..length), found);
        self.suffixes.find(|length| scratch.len().checked_sub(length).map(|start| &scratch[start..]), found);
    }

    /// Bytes in memory, roughly.
    fn size(&self) -> usize {
        let texts = [&self.texts, &self.prefixes.by_text, &self.suffixes.by_text, &self.excluded_texts];
        let integers = [&self.integers, &self.excluded_integers];
        let ids = self.accepting.len() + self.present.len();
        size_of::<Self>()
            + texts.into_iter().map(map_size).sum::<usize>()
            + integers.into_iter().map(map_size).sum::<usize>()
            + self.ranges.len() * size_of::<Range>()
            + ids * size_of::<AlternativeId>()
    }
}

/// Most entries have one id, for which a vector allocates four, and a short text.
fn map_size<K>(map: &FxHashMap<K, Vec<AlternativeId>>) -> usize {
    map.capacity() * (size_of::<K>() + size_of::<Vec<AlternativeId>>() + 4 * size_of::<AlternativeId>() + 16)
}

/// Appends `all` without `excluded`. Both ascend, and `excluded` is part of `all`. An alternative
/// with two `anything-but` in one array is in `all` twice; an exclusion removes only one of them.
fn extend_without(found: &mut Vec<AlternativeId>, all: &[AlternativeId], excluded: &[AlternativeId]) {
    if excluded.len() == all.len() {
        return;
    }
    let mut excluded = excluded.iter().peekable();
    found.extend(all.iter().filter(|id| excluded.next_if_eq(id).is_none()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{PatternSet, Root};

    /// The alternatives found in `data` by the index of `conditions`, each a pattern on the field
    /// `a`.
    fn find(conditions: &[serde_json::Value], data: &str) -> Vec<AlternativeId> {
        let patterns: Vec<_> =
            (0..).zip(conditions.iter().map(|condition| json!({"a": condition}))).collect();
        let set = Arc::new(PatternSet::compile(Root::Data, &patterns).unwrap());
        let (mut fields, mut found) = (Fields::default(), Vec::new());
        fields.read(data, &set.paths).unwrap();
        set.index.find(data, &fields, &mut Vec::new(), &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn finds_few_alternatives_for_each_condition() {
        let conditions = [
            json!(["x"]),
            json!([{"equals-ignore-case": "X"}]),
            json!([5]),
            json!([0.5]),
            json!([{"prefix": "ab"}]),
            json!([{"suffix": "yz"}]),
            json!([{"wildcard": "ab*yz"}]),
            json!([{"wildcard": "*yz"}]),
            json!([{"numeric": [">", 100]}]),
            json!([{"anything-but": ["x", 5]}]),
            json!([{"anything-but": ["x"]}, {"anything-but": ["y"]}]),
            json!([{"exists": false}]),
            json!(["Ab"]),
        ];
        let check = |value: &str, expected: &[AlternativeId]| {
            assert_eq!(find(&conditions, &format!("{{\"a\":{value}}}")), expected, "{value}");
        };
        check(r#""x""#, &[0, 1, 10]);
        check(r#""Ab and yz""#, &[4, 5, 6, 7, 9, 10]);
        check("5", &[2, 10]);
        check("0.5", &[3, 9, 10]);
        check("101", &[8, 9, 10]);
        check("null", &[9, 10]);
        check(r#""Ab""#, &[4, 6, 9, 10, 12]);
    }

    #[test]
    fn alternatives_of_absent_paths_are_not_found() {
        assert!(find(&[json!(["x"]), json!([{"exists": true}])], r#"{"b":"x"}"#).is_empty());
    }

    #[test]
    fn candidates_of_many_fields_are_bounded() {
        let patterns: Vec<_> = (0..100).map(|id| (id, json!({"a": [{"prefix": "x"}]}))).collect();
        let set = Arc::new(PatternSet::compile(Root::Data, &patterns).unwrap());
        let data = json!({"a": vec!["xy"; 10_000]}).to_string();
        let (mut fields, mut found) = (Fields::default(), Vec::new());
        fields.read(&data, &set.paths).unwrap();
        set.index.find(&data, &fields, &mut Vec::new(), &mut found);
        assert_eq!(found.len(), 100);
        assert!(found.capacity() < 1_000, "{}", found.capacity());
    }
}
