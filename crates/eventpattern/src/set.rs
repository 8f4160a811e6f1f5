//! The compiled form of a set of patterns, and the part of it that the class of an event decides.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use crate::compile::{self, Conjunction, Constraint};
use crate::condition::{Condition, Conditions, Literal, Value, are_met_by};
use crate::error::PatternError;
use crate::index::DataIndex;
use crate::number::Number;
use crate::paths::{PathId, Paths};
use crate::{Event, ExtensionValue, Matcher, PatternId, Root};

/// Index of an alternative in its set.
pub type AlternativeId = u32;

/// An attribute that has few values among many events. These attributes make a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassAttribute {
    Source,
    Type,
    Subject,
    DataContentType,
    SpecVersion,
    Account,
    Region,
    /// The `version` of an AWS event.
    AwsVersion,
    /// A path that no event has.
    Absent,
}

impl ClassAttribute {
    pub fn meets(self, conditions: &[Condition], event: &Event<'_>) -> bool {
        match self {
            // An unknown account or region meets every condition.
            ClassAttribute::Account if event.account.is_empty() => true,
            ClassAttribute::Region if event.region.is_empty() => true,
            known => are_met_by(conditions, known.value(event)),
        }
    }

    pub fn value<'a>(self, event: &Event<'a>) -> Option<Value<'a>> {
        let text = match self {
            ClassAttribute::Source => event.source,
            ClassAttribute::Type => event.event_type,
            ClassAttribute::Subject => event.subject,
            ClassAttribute::DataContentType => event.datacontenttype,
            ClassAttribute::SpecVersion => "1.0",
            ClassAttribute::AwsVersion => "0",
            ClassAttribute::Account => event.account,
            ClassAttribute::Region => event.region,
            ClassAttribute::Absent => "",
        };
        (!text.is_empty()).then_some(Value::Text(text))
    }
}

/// An attribute outside `data` that differs from event to event.
#[derive(Clone, Debug)]
pub enum EventAttribute {
    Id,
    Time,
    Extension(Box<str>),
}

impl EventAttribute {
    pub fn meets(&self, conditions: &[Condition], event: &Event<'_>) -> bool {
        are_met_by(conditions, self.value(event))
    }

    pub fn value<'a>(&self, event: &Event<'a>) -> Option<Value<'a>> {
        let value = match self {
            EventAttribute::Id => Value::Text(event.id),
            EventAttribute::Time => Value::Text(event.time),
            EventAttribute::Extension(name) => {
                match event.extensions.iter().find(|(extension, _)| *extension == &**name) {
                    None => Value::Text(""),
                    Some((_, ExtensionValue::Text(text))) => Value::Text(text),
                    Some((_, ExtensionValue::Integer(number))) => Value::Number(Number::Int(*number)),
                    Some((_, ExtensionValue::Boolean(true))) => Value::Literal(Literal::True),
                    Some((_, ExtensionValue::Boolean(false))) => Value::Literal(Literal::False),
                }
            }
        };
        (!matches!(value, Value::Text(""))).then_some(value)
    }
}

/// One combination of a pattern's `$or` branches: constraints that must all hold.
#[derive(Debug)]
pub struct Alternative {
    pub pattern: PatternId,
    class: Vec<(ClassAttribute, Conditions)>,
    event: Vec<(EventAttribute, Conditions)>,
    /// Sorted by the names of the paths: Event Ruler assigns array elements in that order.
    pub data: Vec<(PathId, Conditions)>,
}

impl Alternative {
    fn new(pattern: PatternId, root: Root, mut conjunction: Conjunction<'_>, paths: &mut Paths) -> Self {
        conjunction.constraints.sort_by(|a, b| a.names.cmp(&b.names));
        let mut alternative = Alternative { pattern, class: Vec::new(), event: Vec::new(), data: Vec::new() };
        for Constraint { names, conditions, .. } in conjunction.constraints {
            match place(root, &names) {
                Place::Class(attribute) => alternative.class.push((attribute, conditions)),
                Place::Event(attribute) => alternative.event.push((attribute, conditions)),
                Place::Data(names) => alternative.data.push((paths.intern(names), conditions)),
                Place::Unknown => {}
            }
        }
        alternative
    }

    pub fn class_holds(&self, event: &Event<'_>) -> bool {
        self.class.iter().all(|(attribute, conditions)| attribute.meets(conditions, event))
    }

    pub fn event_holds(&self, event: &Event<'_>) -> bool {
        self.event.iter().all(|(attribute, conditions)| attribute.meets(conditions, event))
    }

    /// Returns true if the class of an event decides this alternative.
    fn is_class_only(&self) -> bool {
        self.event.is_empty() && self.data.is_empty()
    }

    /// The only subjects it can match, if it lists exact subjects.
    fn subjects(&self) -> Option<impl Iterator<Item = &str>> {
        let (_, conditions) = self.class.iter().find(|(attribute, conditions)| {
            *attribute == ClassAttribute::Subject && conditions.iter().all(|one| one.as_text().is_some())
        })?;
        Some(conditions.iter().filter_map(Condition::as_text))
    }
}

/// The part of an event to which the path of a constraint leads.
pub enum Place<'a> {
    Class(ClassAttribute),
    Event(EventAttribute),
    /// Names within `data`.
    Data(&'a [String]),
    /// An attribute that only AWS knows; the constraint counts as met.
    Unknown,
}

pub fn place(root: Root, names: &[String]) -> Place<'_> {
    let Some((first, rest)) = names.split_first() else { return Place::Class(ClassAttribute::Absent) };
    match root {
        Root::Data => Place::Data(names),
        Root::AwsEvent => match (first.as_str(), rest.is_empty()) {
            ("detail", false) => place(Root::CloudEvent, rest),
            ("id" | "time" | "ingestion-time" | "replay-name", _) => Place::Unknown,
            ("source", true) => Place::Class(ClassAttribute::Source),
            ("detail-type", true) => Place::Class(ClassAttribute::Subject),
            ("account", true) => Place::Class(ClassAttribute::Account),
            ("region", true) => Place::Class(ClassAttribute::Region),
            ("version", true) => Place::Class(ClassAttribute::AwsVersion),
            // This includes `resources`, which has no counterpart in a CloudEvent.
            _ => Place::Class(ClassAttribute::Absent),
        },
        Root::CloudEvent => match (first.as_str(), rest.is_empty()) {
            ("data", _) => Place::Data(rest),
            (_, false) => Place::Class(ClassAttribute::Absent),
            ("source", _) => Place::Class(ClassAttribute::Source),
            ("type", _) => Place::Class(ClassAttribute::Type),
            ("subject", _) => Place::Class(ClassAttribute::Subject),
            ("datacontenttype", _) => Place::Class(ClassAttribute::DataContentType),
            ("specversion", _) => Place::Class(ClassAttribute::SpecVersion),
            ("id", _) => Place::Event(EventAttribute::Id),
            ("time", _) => Place::Event(EventAttribute::Time),
            (extension, _) => Place::Event(EventAttribute::Extension(extension.into())),
        },
    }
}

/// The parts of an [`Event`] that a set uses. The other parts may stay empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub id: bool,
    pub time: bool,
    pub extensions: bool,
    pub data: bool,
}

/// A set of compiled patterns. Threads share one set; each matches with its own [`Matcher`].
#[derive(Debug)]
pub struct PatternSet {
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) paths: Paths,
    /// Patterns that match every event, ascending.
    always: Vec<PatternId>,
    /// Alternatives with exact subjects, by each of them.
    by_subject: FxHashMap<Box<str>, Vec<AlternativeId>>,
    /// Alternatives with class constraints but without exact subjects.
    by_class: Vec<AlternativeId>,
    /// Alternatives without exact subjects that need more than the class of an event.
    pub(crate) index: DataIndex,
    /// True if `index` has alternatives without class constraints.
    indexed_for_all: bool,
    needs: Needs,
}

impl PatternSet {
    /// Compiles `patterns`, or returns every error in them.
    pub fn compile(root: Root, patterns: &[(PatternId, Json)]) -> Result<Self, Vec<PatternError>> {
        let (set, errors) = Self::compile_lenient(root, patterns);
        if errors.is_empty() { Ok(set) } else { Err(errors) }
    }

    /// Compiles `patterns`; one with an error matches every event. For patterns that another system
    /// has accepted and will evaluate again.
    pub fn compile_lenient(root: Root, patterns: &[(PatternId, Json)]) -> (Self, Vec<PatternError>) {
        let mut errors = Vec::new();
        let mut paths = Paths::default();
        let mut alternatives = Vec::new();
        for (id, pattern) in patterns {
            let compiled = compile::compile(*id, pattern).unwrap_or_else(|mut found| {
                errors.append(&mut found);
                vec![Conjunction::default()]
            });
            alternatives.extend(compiled.into_iter().map(|one| Alternative::new(*id, root, one, &mut paths)));
        }
        (Self::new(alternatives, paths), errors)
    }

    fn new(alternatives: Vec<Alternative>, paths: Paths) -> Self {
        let mut set = PatternSet {
            alternatives,
            paths,
            always: Vec::new(),
            by_subject: FxHashMap::default(),
            by_class: Vec::new(),
            index: DataIndex::default(),
            indexed_for_all: false,
            needs: Needs::default(),
        };
        let mut indexed = Vec::new();
        // An alternative with exact subjects is found by each of them, any other by `by_class` or
        // `index`.
        for (id, alternative) in (0..).zip(&set.alternatives) {
            set.needs.add(alternative);
            if let Some(subjects) = alternative.subjects() {
                for subject in subjects {
                    let same = set.by_subject.entry(subject.into()).or_default();
                    if same.last() != Some(&id) {
                        same.push(id);
                    }
                }
                continue;
            }
            match (alternative.class.is_empty(), alternative.is_class_only()) {
                (true, true) => set.always.push(alternative.pattern),
                (true, false) => set.indexed_for_all = true,
                (false, _) => set.by_class.push(id),
            }
            if !alternative.is_class_only() {
                indexed.push(id);
            }
        }
        set.always.sort_unstable();
        set.always.dedup();
        set.index = DataIndex::new(indexed, &set.alternatives);
        set
    }

    /// A matcher for one thread.
    pub fn matcher(self: &Arc<Self>) -> Matcher {
        Matcher::new(Arc::clone(self))
    }

    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Returns true if the set has no patterns.
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// Evaluates the class constraints for the class of `event`.
    pub(crate) fn decide(&self, event: &Event<'_>) -> Decision {
        let mut matched = self.always.clone();
        let mut undecided = Vec::new();
        let mut use_shared_index = self.indexed_for_all;
        // The alternatives with this subject, and those that any subject may satisfy.
        let with_subject = self.by_subject.get(event.subject).map_or(&[][..], Vec::as_slice);
        for (&id, has_subject) in
            with_subject.iter().map(|id| (id, true)).chain(self.by_class.iter().map(|id| (id, false)))
        {
            let alternative = self.alternative(id);
            if !alternative.class_holds(event) {
                continue;
            }
            match (alternative.is_class_only(), has_subject) {
                (true, _) => matched.push(alternative.pattern),
                (false, true) => undecided.push(id),
                (false, false) => use_shared_index = true,
            }
        }
        matched.sort_unstable();
        matched.dedup();
        // A pattern that matches the whole class needs no second alternative.
        undecided.retain(|&id| matched.binary_search(&self.alternative(id).pattern).is_err());
        Decision { matched, index: DataIndex::new(undecided, &self.alternatives), use_shared_index }
    }

    pub(crate) fn alternative(&self, id: AlternativeId) -> &Alternative {
        &self.alternatives[id as usize]
    }
}

impl Needs {
    fn add(&mut self, alternative: &Alternative) {
        self.data |= !alternative.data.is_empty();
        for (attribute, _) in &alternative.event {
            match attribute {
                EventAttribute::Id => self.id = true,
                EventAttribute::Time => self.time = true,
                EventAttribute::Extension(_) => self.extensions = true,
            }
        }
    }
}

/// Facts that hold for all events of a class.
#[derive(Debug)]
pub struct Decision {
    /// Patterns that match every event of the class, ascending.
    pub matched: Vec<PatternId>,
    /// Alternatives with the class's subject and otherwise undecided.
    pub index: DataIndex,
    /// True if alternatives of the set's own index may match.
    pub use_shared_index: bool,
}

impl Decision {
    /// Bytes in memory, roughly.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.matched.capacity() * size_of::<PatternId>() + self.index.size()
    }
}
