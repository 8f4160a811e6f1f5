//! Matches events one after another, and remembers the classes of earlier events.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::evaluate::{CurrentEvent, Evaluator};
use crate::set::{Decision, PatternSet};
use crate::{Event, PatternId, limits};

/// Finds the patterns of a set that match an event. One matcher serves one thread.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<PatternSet>,
    /// Index in `classes`, by hash of the class's text. Classes with equal hashes replace each
    /// other.
    by_hash: FxHashMap<u64, usize>,
    classes: Vec<Class>,
    class_bytes: usize,
    evaluator: Evaluator,
    undecided: u64,
}

/// The texts of the attributes that make a class.
type ClassText<T> = [T; 6];

#[derive(Debug)]
struct Class {
    text: ClassText<Box<str>>,
    decision: Decision,
}

impl Matcher {
    pub(crate) fn new(set: Arc<PatternSet>) -> Self {
        Matcher {
            set,
            by_hash: FxHashMap::default(),
            classes: Vec::new(),
            class_bytes: 0,
            evaluator: Evaluator::default(),
            undecided: 0,
        }
    }

    /// Replaces the content of `matched` by the patterns that match the event, ascending, each
    /// once.
    pub fn matches(&mut self, event: &Event<'_>, matched: &mut Vec<PatternId>) {
        matched.clear();
        if self.set.is_empty() {
            return;
        }
        // The class decides most patterns.
        let text = class_text(event);
        let key = hash(&text);
        let known =
            self.by_hash.get(&key).copied().filter(|&index| is_class(&self.classes[index].text, &text));
        let index = known.unwrap_or_else(|| self.learn(key, text, event));
        let decision = &self.classes[index].decision;
        matched.extend_from_slice(&decision.matched);
        // The others are evaluated for this event.
        let decided = matched.len();
        let mut current = CurrentEvent::new(event);
        self.evaluator.evaluate(&self.set, &decision.index, &mut current, matched);
        if decision.use_shared_index {
            self.evaluator.evaluate(&self.set, &self.set.index, &mut current, matched);
        }
        if matched.len() > decided {
            matched.sort_unstable();
            matched.dedup();
        }
        self.undecided += u64::from(current.undecided());
    }

    /// The number of events for which a pattern could not be decided and therefore counted as
    /// matching: `data` was malformed, or matching its nested arrays exceeded
    /// [`ARRAY_STEPS_MAX`](limits::ARRAY_STEPS_MAX).
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// The number of remembered classes.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Decides and remembers the class of `event`. Returns its index.
    fn learn(&mut self, key: u64, text: ClassText<&str>, event: &Event<'_>) -> usize {
        if self.classes.len() >= limits::CLASSES_MAX || self.class_bytes >= limits::CLASS_BYTES_MAX {
            self.by_hash.clear();
            self.classes.clear();
            self.class_bytes = 0;
        }
        let decision = self.set.decide(event);
        self.class_bytes +=
            decision.size() + size_of::<Class>() + text.iter().map(|text| text.len()).sum::<usize>();
        self.by_hash.insert(key, self.classes.len());
        self.classes.push(Class { text: text.map(Box::from), decision });
        self.classes.len() - 1
    }
}

fn class_text<'a>(event: &Event<'a>) -> ClassText<&'a str> {
    [event.subject, event.event_type, event.source, event.datacontenttype, event.account, event.region]
}

fn hash(text: &ClassText<&str>) -> u64 {
    let mut hasher = FxHasher::default();
    // The first three distinguish classes in practice. The comparison that follows covers the rest.
    text[0].hash(&mut hasher);
    text[1].hash(&mut hasher);
    text[2].hash(&mut hasher);
    hasher.finish()
}

fn is_class(known: &ClassText<Box<str>>, text: &ClassText<&str>) -> bool {
    known.iter().zip(text).all(|(known, text)| equal(known.as_bytes(), text.as_bytes()))
}

/// Equality without `memcmp`. Six calls for short texts took more than half of the time needed to
/// find a known class.
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let word = |chunk: &[u8; 8]| u64::from_ne_bytes(*chunk);
    a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}
