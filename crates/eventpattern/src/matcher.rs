//! Matching: one event after another, with what is remembered of their classes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::flatten::{Element, Fields};
use crate::operator::{AnyOf, Test};
use crate::paths::PathId;
use crate::set::{Alternative, AlternativeId, Decision, PatternSet};
use crate::{Facts, PatternId, limits};

/// Matches events against a set, on one thread.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<PatternSet>,
    /// Where in `classes` a class is, by the hash of its text. Two classes of one hash take turns.
    by_hash: FxHashMap<u64, usize>,
    /// What is known of classes.
    classes: Vec<Class>,
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

/// The event at hand, with its `data` read at most once.
pub(super) struct Event<'f, 'a> {
    facts: &'f Facts<'a>,
    state: State,
    /// `data`, once it is read.
    text: &'a str,
    /// Whether a constraint was taken for met because it could not be decided.
    undecided: bool,
}

impl<'f, 'a> Event<'f, 'a> {
    pub fn new(facts: &'f Facts<'a>) -> Self {
        Event { facts, state: State::Unread, text: "", undecided: false }
    }
}

/// What `data` is read into; buffers kept from event to event.
#[derive(Debug, Default)]
pub(super) struct Data {
    fields: Fields,
    /// Alternatives found by a value or by a shard.
    found: Vec<AlternativeId>,
    encoded: Vec<u8>,
    trail: Vec<Element>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unread,
    Read,
    Unreadable,
}

impl Matcher {
    pub(super) fn new(set: Arc<PatternSet>) -> Self {
        Matcher {
            set,
            by_hash: FxHashMap::default(),
            classes: Vec::new(),
            class_bytes: 0,
            data: Data::default(),
            undecided: 0,
        }
    }

    /// The patterns that match the event, ascending, each once; `out` is emptied first.
    pub fn matches(&mut self, facts: &Facts<'_>, out: &mut Vec<PatternId>) {
        out.clear();
        if self.set.is_empty() {
            return;
        }
        let text = class_text(facts);
        let key = hash(&text);
        let known =
            self.by_hash.get(&key).copied().filter(|&index| is_class(&self.classes[index].text, &text));
        let index = known.unwrap_or_else(|| self.learn(key, text, facts));
        let decision = &self.classes[index].decision;
        out.extend_from_slice(&decision.decided);
        let decided = out.len();
        let mut event = Event::new(facts);
        for &id in decision.tried.iter().chain(&self.set.everywhere) {
            let alternative = &self.set.alternatives[id as usize];
            if alternative.event_holds(facts) && self.data.holds(alternative, &mut event, &self.set) {
                out.push(alternative.pattern);
            }
        }
        if decision.by_value || !decision.shards.is_empty() {
            self.data.find(decision, &mut event, &self.set, out);
        }
        if out.len() > decided {
            out.sort_unstable();
            out.dedup();
        }
        self.undecided += u64::from(event.undecided);
    }

    /// Events of which a pattern asked something that could not be decided, because `data` is not readable or its arrays are too tangled: such a
    /// pattern counted as matching.
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// How many classes are remembered.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Decides the class of `facts` and remembers it; its index.
    fn learn(&mut self, key: u64, text: ClassText<&str>, facts: &Facts<'_>) -> usize {
        if self.classes.len() >= limits::CLASSES_MAX || self.class_bytes >= limits::CLASS_BYTES_MAX {
            self.by_hash.clear();
            self.classes.clear();
            self.class_bytes = 0;
        }
        let decision = self.set.decide(facts);
        self.class_bytes +=
            decision.size() + size_of::<Class>() + text.iter().map(|text| text.len()).sum::<usize>();
        self.by_hash.insert(key, self.classes.len());
        self.classes.push(Class { text: text.map(Box::from), decision });
        self.classes.len() - 1
    }
}

fn is_class(known: &ClassText<Box<str>>, text: &ClassText<&str>) -> bool {
    known.iter().zip(text).all(|(known, text)| same(known.as_bytes(), text.as_bytes()))
}

/// Equality without `memcmp`: on six short texts an event the calls took more than half of the time to find a known class.
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let word = |chunk: &[u8; 8]| u64::from_ne_bytes(*chunk);
    a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
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
    fn read(&mut self, event: &mut Event<'_, '_>, set: &PatternSet) -> bool {
        if event.state == State::Unread {
            event.state = State::Unreadable;
            if let Ok(text) = std::str::from_utf8(event.facts.data)
                && self.fields.read(text, &set.paths).is_ok()
            {
                (event.text, event.state) = (text, State::Read);
            }
        }
        event.undecided |= event.state == State::Unreadable;
        event.state == State::Read
    }

    /// Whether the data constraints of `alternative` hold, or cannot be decided.
    pub(super) fn holds(
        &mut self,
        alternative: &Alternative,
        event: &mut Event<'_, '_>,
        set: &PatternSet,
    ) -> bool {
        if alternative.data.is_empty() || !self.read(event, set) {
            return true;
        }
        let data = event.text;
        // With one path, or no field inside an array's elements, each constraint stands alone.
        if alternative.data.len() == 1 || !self.fields.nested() {
            return alternative.data.iter().all(|(path, tests)| any_field(&self.fields, data, *path, tests));
        }
        // What no field satisfies, no combination of fields does.
        let possible = |(path, tests): &(PathId, AnyOf)| {
            tests.iter().any(is_missing) || any_field(&self.fields, data, *path, tests)
        };
        if !alternative.data.iter().all(possible) {
            return false;
        }
        self.trail.clear();
        let mut steps = limits::ARRAY_STEPS_MAX;
        let holds = bind(&self.fields, data, &alternative.data, &mut self.trail, &mut steps);
        event.undecided |= steps == 0;
        holds
    }

    /// Finds alternatives by the values of fields and by shards, and adds the patterns of those that hold.
    fn find(
        &mut self,
        decision: &Decision,
        event: &mut Event<'_, '_>,
        set: &PatternSet,
        out: &mut Vec<PatternId>,
    ) {
        self.found.clear();
        if !self.read(event, set) {
            // Whatever would have been found by `data` is open.
            self.found.extend(0..set.alternatives.len() as AlternativeId);
        } else {
            let data = event.text;
            if decision.by_value {
                for &path in self.fields.touched() {
                    let by_value = &set.by_value[path as usize];
                    if by_value.is_empty() {
                        continue;
                    }
                    for &field in self.fields.on(path) {
                        self.found.extend_from_slice(by_value.find(self.fields.value(data, field)));
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
            if alternative.class_holds(event.facts)
                && alternative.event_holds(event.facts)
                && self.holds(alternative, event, set)
            {
                out.push(alternative.pattern);
            }
        }
        self.found = found;
    }
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
