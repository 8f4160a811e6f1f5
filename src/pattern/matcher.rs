//! Matching: one event after another, with what is remembered of their classes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::flatten::{Element, Fields, PathId};
use super::operator::{AnyOf, Test, Value};
use super::set::{Alternative, AlternativeId, Decision, PatternSet};
use super::{Facts, PatternId, limits};

/// Matches events against a set, on one thread.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<PatternSet>,
    /// What is known of classes, by the hash of their text. Two classes of one hash take turns.
    classes: FxHashMap<u64, Class>,
    class_bytes: usize,
    data: Data,
    undecided: u64,
}

/// The text that makes a class: what `Attribute` reads of the facts.
type ClassText<T> = [T; 6];

#[derive(Debug)]
struct Class {
    text: ClassText<Box<str>>,
    decision: Decision,
}

/// The `data` of the event at hand, read at most once; buffers kept from event to event.
#[derive(Debug, Default)]
pub(super) struct Data {
    fields: Fields,
    state: State,
    /// Alternatives found by text or by a shard.
    found: Vec<AlternativeId>,
    encoded: Vec<u8>,
    trail: Vec<Element>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unread,
    Read,
    Unreadable,
}

impl Matcher {
    pub(super) fn new(set: Arc<PatternSet>) -> Self {
        Matcher { set, classes: FxHashMap::default(), class_bytes: 0, data: Data::default(), undecided: 0 }
    }

    /// The patterns that match the event, ascending, each once; `out` is emptied first.
    pub fn matches(&mut self, facts: &Facts<'_>, out: &mut Vec<PatternId>) {
        out.clear();
        if self.set.is_empty() {
            return;
        }
        let text = class_text(facts);
        let key = hash(&text);
        let known = self
            .classes
            .get(&key)
            .is_some_and(|class| class.text.iter().zip(text).all(|(known, text)| **known == *text));
        if !known {
            self.learn(key, text, facts);
        }
        let Some(Class { decision, .. }) = self.classes.get(&key) else { return };
        out.extend_from_slice(&decision.decided);
        let decided = out.len();
        self.data.state = State::Unread;
        for &id in decision.tried.iter().chain(&self.set.everywhere) {
            let alternative = &self.set.alternatives[id as usize];
            if alternative.event_holds(facts) && self.data.holds(alternative, facts, &self.set) {
                out.push(alternative.pattern);
            }
        }
        if decision.by_text || !decision.shards.is_empty() {
            self.data.find(decision, facts, &self.set, out);
        }
        if out.len() > decided {
            out.sort_unstable();
            out.dedup();
        }
        self.undecided += u64::from(self.data.state == State::Unreadable);
    }

    /// Events whose `data` a pattern asked for and that could not be read: all patterns that asked counted as matching.
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// How many classes are remembered.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    fn learn(&mut self, key: u64, text: ClassText<&str>, facts: &Facts<'_>) {
        if self.classes.len() >= limits::CLASSES_MAX || self.class_bytes >= limits::CLASS_BYTES_MAX {
            self.classes.clear();
            self.class_bytes = 0;
        }
        let decision = self.set.decide(facts);
        self.class_bytes +=
            decision.size() + size_of::<Class>() + text.iter().map(|text| text.len()).sum::<usize>();
        self.classes.insert(key, Class { text: text.map(Box::from), decision });
    }
}

fn class_text<'a>(facts: &Facts<'a>) -> ClassText<&'a str> {
    [facts.subject, facts.kind, facts.source, facts.datacontenttype, facts.account, facts.region]
}

fn hash(text: &ClassText<&str>) -> u64 {
    let mut hasher = FxHasher::default();
    // What tells classes apart in practice; the rest is compared.
    text[0].hash(&mut hasher);
    text[1].hash(&mut hasher);
    text[2].hash(&mut hasher);
    hasher.finish()
}

impl Data {
    /// Reads the event's `data` unless that was done.
    fn read(&mut self, facts: &Facts<'_>, set: &PatternSet) -> bool {
        if self.state == State::Unread {
            let read = text(facts).is_some_and(|data| self.fields.read(data, &set.paths).is_ok());
            self.state = if read { State::Read } else { State::Unreadable };
        }
        self.state == State::Read
    }

    /// Whether the data constraints of `alternative` hold, or cannot be decided.
    pub(super) fn holds(&mut self, alternative: &Alternative, facts: &Facts<'_>, set: &PatternSet) -> bool {
        if alternative.data.is_empty() {
            return true;
        }
        if !self.read(facts, set) {
            return true;
        }
        let data = text(facts).unwrap_or_default();
        // With at most one path, or no field inside an array's elements, each constraint stands alone.
        if alternative.data.len() == 1 || !self.fields.nested() {
            return alternative.data.iter().all(|(path, tests)| any_field(&self.fields, data, *path, tests));
        }
        self.trail.clear();
        let mut steps = limits::ARRAY_STEPS_MAX;
        bind(&self.fields, data, &alternative.data, &mut self.trail, &mut steps)
    }

    /// Finds alternatives by the text of fields and by shards, and adds the patterns of those that hold.
    fn find(&mut self, decision: &Decision, facts: &Facts<'_>, set: &PatternSet, out: &mut Vec<PatternId>) {
        self.found.clear();
        if !self.read(facts, set) {
            // Whatever would have been found by `data` is open.
            self.found.extend(0..set.alternatives.len() as AlternativeId);
        } else {
            let data = text(facts).unwrap_or_default();
            if decision.by_text {
                for &path in self.fields.touched() {
                    let by_text = &set.by_text[path as usize];
                    if by_text.is_empty() {
                        continue;
                    }
                    for &field in self.fields.on(path) {
                        if let Value::Text(text) = self.fields.value(data, field) {
                            self.found.extend(by_text.get(text).into_iter().flatten());
                        }
                    }
                }
            }
            for &shard in &decision.shards {
                let shard = &set.shards[shard as usize];
                if !shard.matches(data, &self.fields, &mut self.encoded, &mut self.found) {
                    self.found.extend_from_slice(shard.alternatives());
                }
            }
        }
        let found = std::mem::take(&mut self.found);
        for &id in &found {
            let alternative = &set.alternatives[id as usize];
            if alternative.class_holds(facts)
                && alternative.event_holds(facts)
                && self.holds(alternative, facts, set)
            {
                out.push(alternative.pattern);
            }
        }
        self.found = found;
    }
}

fn text<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    std::str::from_utf8(facts.data).ok()
}

fn is_missing(test: &Test) -> bool {
    matches!(test, Test::Missing)
}

fn any_field(fields: &Fields, data: &str, path: PathId, tests: &[Test]) -> bool {
    let on_path = fields.on(path);
    if on_path.is_empty() {
        return tests.iter().any(is_missing);
    }
    on_path.iter().any(|&field| tests.iter().any(|test| test.passes(fields.value(data, field))))
}

/// Whether fields can be found for all of `constraints` that lie in the same elements of the arrays that they share. `trail` is what the fields
/// chosen so far lie in. Out of `steps` it says yes: undecided.
fn bind(
    fields: &Fields,
    data: &str,
    constraints: &[(PathId, AnyOf)],
    trail: &mut Vec<Element>,
    steps: &mut usize,
) -> bool {
    let Some(((path, tests), rest)) = constraints.split_first() else { return true };
    let mut absent = true;
    for &field in fields.on(*path) {
        if *steps == 0 {
            return true;
        }
        *steps -= 1;
        if !consistent(trail, fields.trail(field)) {
            continue;
        }
        absent = false;
        if !tests.iter().any(|test| test.passes(fields.value(data, field))) {
            continue;
        }
        let length = trail.len();
        trail.extend_from_slice(fields.trail(field));
        if bind(fields, data, rest, trail, steps) {
            return true;
        }
        trail.truncate(length);
    }
    absent && tests.iter().any(is_missing) && bind(fields, data, rest, trail, steps)
}

/// Whether no array is in both trails with different elements.
fn consistent(trail: &[Element], other: &[Element]) -> bool {
    other
        .iter()
        .all(|element| trail.iter().all(|known| known.array != element.array || known.index == element.index))
}
