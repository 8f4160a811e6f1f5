//! Patterns, compiled together: what each alternative asks, and how alternatives are found.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use crate::compile::{self, Conjunction};
use crate::error::PatternError;
use crate::index::ValueIndex;
use crate::operator::{AnyOf, Test, Value, satisfies};
use crate::paths::{PathId, Paths};
use crate::shard::Shard;
use crate::{Facts, Matcher, PatternId, Root, limits};

/// Index of an alternative in its set.
pub(super) type AlternativeId = u32;

/// What has few values among many events; together they make a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Source,
    Kind,
    Subject,
    DataContentType,
    SpecVersion,
    Account,
    Region,
    /// The AWS event's `version`.
    AwsVersion,
    /// A path that no event has.
    Nowhere,
}

impl Attribute {
    /// Whether the event's attribute satisfies `tests`.
    pub fn satisfies(self, tests: &[Test], facts: &Facts<'_>) -> bool {
        let text = match self {
            Attribute::Source => facts.source,
            Attribute::Kind => facts.kind,
            Attribute::Subject => facts.subject,
            Attribute::DataContentType => facts.datacontenttype,
            Attribute::SpecVersion => "1.0",
            Attribute::AwsVersion => "0",
            Attribute::Account | Attribute::Region => {
                let text = if self == Attribute::Account { facts.account } else { facts.region };
                return text.is_empty() || satisfies(tests, Some(Value::Text(text)));
            }
            Attribute::Nowhere => "",
        };
        satisfies(tests, (!text.is_empty()).then_some(Value::Text(text)))
    }
}

/// What differs from event to event outside `data`.
#[derive(Clone, Debug)]
pub(super) enum PerEvent {
    Id,
    Time,
    Extension(Box<str>),
}

impl PerEvent {
    fn satisfies(&self, tests: &[Test], facts: &Facts<'_>) -> bool {
        let text = match self {
            PerEvent::Id => facts.id,
            PerEvent::Time => facts.time,
            PerEvent::Extension(name) => facts
                .extensions
                .iter()
                .find(|(extension, _)| *extension == &**name)
                .map_or("", |(_, text)| text),
        };
        satisfies(tests, (!text.is_empty()).then_some(Value::Text(text)))
    }
}

/// One combination of a pattern's `$or`s: everything in it must hold.
#[derive(Debug)]
pub(super) struct Alternative {
    pub pattern: PatternId,
    class: Vec<(Attribute, AnyOf)>,
    event: Vec<(PerEvent, AnyOf)>,
    /// In the order of their paths' names, which is the order in which Event Ruler binds them to elements of arrays.
    pub data: Vec<(PathId, AnyOf)>,
}

impl Alternative {
    fn new(pattern: PatternId, root: Root, mut conjunction: Conjunction, paths: &mut Paths) -> Self {
        conjunction.constraints.sort_by(|a, b| a.0.cmp(&b.0));
        let mut alternative = Alternative { pattern, class: Vec::new(), event: Vec::new(), data: Vec::new() };
        for (names, tests) in conjunction.constraints {
            match place(root, &names) {
                Place::Class(attribute) => alternative.class.push((attribute, tests)),
                Place::Event(attribute) => alternative.event.push((attribute, tests)),
                Place::Data(names) => alternative.data.push((paths.intern(names), tests)),
                Place::Unknown => {}
            }
        }
        alternative
    }

    pub fn class_holds(&self, facts: &Facts<'_>) -> bool {
        self.class.iter().all(|(attribute, tests)| attribute.satisfies(tests, facts))
    }

    pub fn event_holds(&self, facts: &Facts<'_>) -> bool {
        self.event.iter().all(|(attribute, tests)| attribute.satisfies(tests, facts))
    }

    /// Whether its class decides it.
    fn is_class_only(&self) -> bool {
        self.event.is_empty() && self.data.is_empty()
    }

    /// The subjects outside which it cannot match, where it names them exactly.
    fn subjects(&self) -> Option<impl Iterator<Item = &str>> {
        let (_, tests) = self
            .class
            .iter()
            .find(|(attribute, tests)| *attribute == Attribute::Subject && texts(tests).is_some())?;
        texts(tests)
    }
}

/// The strings of `tests`, where they are exact strings and nothing else.
fn texts(tests: &[Test]) -> Option<impl Iterator<Item = &str>> {
    tests.iter().all(|test| text(test).is_some()).then(|| tests.iter().filter_map(text))
}

fn text(test: &Test) -> Option<&str> {
    match test {
        Test::Text(text) => Some(text),
        _ => None,
    }
}

/// Where a path of a pattern leads.
enum Place<'a> {
    Class(Attribute),
    Event(PerEvent),
    /// Names within `data`.
    Data(&'a [String]),
    /// Only AWS knows: counts as met.
    Unknown,
}

fn place(root: Root, names: &[String]) -> Place<'_> {
    let Some((first, rest)) = names.split_first() else { return Place::Class(Attribute::Nowhere) };
    if root == Root::AwsEvent {
        return match (first.as_str(), rest.is_empty()) {
            ("detail", false) => place(Root::CloudEvent, rest),
            ("id" | "time" | "ingestion-time" | "replay-name", _) => Place::Unknown,
            ("source", true) => Place::Class(Attribute::Source),
            ("detail-type", true) => Place::Class(Attribute::Subject),
            ("account", true) => Place::Class(Attribute::Account),
            ("region", true) => Place::Class(Attribute::Region),
            ("version", true) => Place::Class(Attribute::AwsVersion),
            // `resources` among them: the router puts none.
            _ => Place::Class(Attribute::Nowhere),
        };
    }
    match (first.as_str(), rest.is_empty()) {
        ("data", _) => Place::Data(rest),
        (_, false) => Place::Class(Attribute::Nowhere),
        ("source", _) => Place::Class(Attribute::Source),
        ("type", _) => Place::Class(Attribute::Kind),
        ("subject", _) => Place::Class(Attribute::Subject),
        ("datacontenttype", _) => Place::Class(Attribute::DataContentType),
        ("specversion", _) => Place::Class(Attribute::SpecVersion),
        ("id", _) => Place::Event(PerEvent::Id),
        ("time", _) => Place::Event(PerEvent::Time),
        (extension, _) => Place::Event(PerEvent::Extension(extension.into())),
    }
}

/// Which facts the patterns of a set look at; the others may stay empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub id: bool,
    pub time: bool,
    pub extensions: bool,
    pub data: bool,
}

/// Patterns, compiled. Cheap to share; each thread matches with a [`Matcher`] of its own.
#[derive(Debug)]
pub struct PatternSet {
    pub(super) alternatives: Vec<Alternative>,
    pub(super) paths: Paths,
    /// Alternatives with exact subjects, by each of them.
    by_subject: FxHashMap<Box<str>, Vec<AlternativeId>>,
    /// Alternatives with class constraints, but no exact subjects.
    by_class: Vec<AlternativeId>,
    /// Patterns that match every event.
    pub(super) always: Vec<PatternId>,
    /// Alternatives without class constraints that nothing below finds: tried for every event.
    pub(super) everywhere: Vec<AlternativeId>,
    /// Alternatives with an exact value in `data`, by path.
    pub(super) by_value: Vec<ValueIndex>,
    /// Whether some alternative that is found by a value has no class constraints.
    value_everywhere: bool,
    pub(super) shards: Vec<Shard>,
    /// For each alternative, how it is found where its class does not decide it.
    found_by: Vec<FoundBy>,
    needs: Needs,
}

/// How an alternative that needs more than its class is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundBy {
    Trying,
    Value,
    Shard(u32),
}

impl PatternSet {
    /// Compiles `patterns`, or says all that is wrong with any of them.
    pub fn compile(root: Root, patterns: &[(PatternId, Json)]) -> Result<Self, Vec<PatternError>> {
        let (set, errors) = Self::compile_what_can_be(root, patterns);
        if errors.is_empty() { Ok(set) } else { Err(errors) }
    }

    /// Compiles `patterns` that others have validated: one that this router cannot read matches every event, so that it decides who can.
    pub fn compile_what_can_be(root: Root, patterns: &[(PatternId, Json)]) -> (Self, Vec<PatternError>) {
        let mut errors = Vec::new();
        let mut paths = Paths::default();
        let mut alternatives = Vec::new();
        for (id, pattern) in patterns {
            let compiled = compile::compile(*id, pattern).unwrap_or_else(|mut faults| {
                errors.append(&mut faults);
                vec![Conjunction::default()]
            });
            alternatives.extend(compiled.into_iter().map(|one| Alternative::new(*id, root, one, &mut paths)));
        }
        (Self::index(alternatives, paths), errors)
    }

    fn index(alternatives: Vec<Alternative>, paths: Paths) -> Self {
        let mut set = PatternSet {
            by_value: std::iter::repeat_with(ValueIndex::default).take(paths.count()).collect(),
            found_by: vec![FoundBy::Trying; alternatives.len()],
            alternatives,
            paths,
            by_subject: FxHashMap::default(),
            by_class: Vec::new(),
            always: Vec::new(),
            everywhere: Vec::new(),
            value_everywhere: false,
            shards: Vec::new(),
            needs: Needs::default(),
        };
        set.index_data();
        for (index, alternative) in set.alternatives.iter().enumerate() {
            let id = index as AlternativeId;
            set.needs.data |= !alternative.data.is_empty();
            for (attribute, _) in &alternative.event {
                match attribute {
                    PerEvent::Id => set.needs.id = true,
                    PerEvent::Time => set.needs.time = true,
                    PerEvent::Extension(_) => set.needs.extensions = true,
                }
            }
            if let Some(subjects) = alternative.subjects() {
                for subject in subjects {
                    let same = set.by_subject.entry(subject.into()).or_default();
                    if same.last() != Some(&id) {
                        same.push(id);
                    }
                }
            } else if !alternative.class.is_empty() {
                set.by_class.push(id);
            } else if alternative.is_class_only() {
                set.always.push(alternative.pattern);
            } else if set.found_by[index] == FoundBy::Trying {
                set.everywhere.push(id);
            } else {
                set.value_everywhere |= set.found_by[index] == FoundBy::Value;
            }
        }
        set.always.sort_unstable();
        set.always.dedup();
        set
    }

    /// Decides how each alternative with data constraints is found.
    fn index_data(&mut self) {
        let mut for_quamina = [Vec::new(), Vec::new()];
        for (index, alternative) in self.alternatives.iter().enumerate() {
            let id = index as AlternativeId;
            if let Some((path, tests)) = ValueIndex::key(&alternative.data) {
                self.found_by[index] = FoundBy::Value;
                self.by_value[path as usize].insert(tests, id);
            } else if Shard::takes(&alternative.data) {
                // Those that every class asks for apart from those of some classes, so that a class that needs none of the latter skips them.
                for_quamina[usize::from(alternative.class.is_empty())].push(id);
            }
        }
        for ids in for_quamina {
            let mut rest = &ids[..];
            while rest.len() >= limits::SHARD_ALTERNATIVES_MIN {
                let (shard, taken) = Shard::build(rest, &self.alternatives);
                for &id in shard.alternatives() {
                    self.found_by[id as usize] = FoundBy::Shard(self.shards.len() as u32);
                }
                self.shards.push(shard);
                rest = &rest[taken..];
            }
        }
    }

    /// A matcher for one thread.
    pub fn matcher(self: &Arc<Self>) -> Matcher {
        Matcher::new(Arc::clone(self))
    }

    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Whether it has no patterns.
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// Decides the alternatives with class constraints for the class of `facts`: patterns that match all its events, and how to find the rest.
    pub(super) fn decide(&self, facts: &Facts<'_>) -> Decision {
        let mut decision =
            Decision { decided: self.always.clone(), by_value: self.value_everywhere, ..Decision::default() };
        let by_subject = self.by_subject.get(facts.subject).map_or(&[][..], Vec::as_slice);
        let mut in_shard = vec![Vec::new(); self.shards.len()];
        for &id in by_subject.iter().chain(&self.by_class) {
            let alternative = &self.alternatives[id as usize];
            if !alternative.class_holds(facts) {
                continue;
            }
            match self.found_by[id as usize] {
                _ if alternative.is_class_only() => decision.decided.push(alternative.pattern),
                FoundBy::Trying => decision.tried.push(id),
                FoundBy::Value => decision.by_value = true,
                FoundBy::Shard(shard) => in_shard[shard as usize].push(id),
            }
        }
        for (index, (shard, mut ids)) in self.shards.iter().zip(in_shard).enumerate() {
            // A shard of every class is asked whole; the others only where enough of it is wanted.
            let everywhere = shard
                .alternatives()
                .first()
                .is_some_and(|&id| self.alternatives[id as usize].class.is_empty());
            if everywhere || ids.len() >= limits::SHARD_ALTERNATIVES_MIN {
                decision.shards.push(index as u32);
            } else {
                decision.tried.append(&mut ids);
            }
        }
        decision.decided.sort_unstable();
        decision.decided.dedup();
        // A pattern that is decided needs no second alternative.
        let decided = &decision.decided;
        decision.tried.retain(|&id| decided.binary_search(&self.alternatives[id as usize].pattern).is_err());
        decision
    }
}

/// What a class settles.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Patterns that match every event of the class, ascending.
    pub decided: Vec<PatternId>,
    /// Alternatives of the class to try for each event.
    pub tried: Vec<AlternativeId>,
    /// Shards to ask for each event.
    pub shards: Vec<u32>,
    /// Whether alternatives may be found by a value in `data`.
    pub by_value: bool,
}

impl Decision {
    /// Bytes that it keeps in memory.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + (self.decided.capacity() + self.tried.capacity() + self.shards.capacity()) * size_of::<u32>()
    }
}
