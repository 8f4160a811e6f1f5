//! The evaluator, which decides whether an alternative holds for an event. An index only proposes
//! alternatives to it.

use crate::condition::{Condition, Conditions, Value};
use crate::flatten::{Element, Fields};
use crate::index::DataIndex;
use crate::paths::PathId;
use crate::set::{Alternative, AlternativeId, PatternSet};
use crate::{Event, PatternId, limits};

/// An event while it is matched. Its `data` is read at most once.
pub struct CurrentEvent<'e, 'a> {
    event: &'e Event<'a>,
    state: DataState,
    /// `data`, once it is read.
    text: &'a str,
    /// True if a constraint counted as met because it could not be decided.
    undecided: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataState {
    Unread,
    Read,
    Unreadable,
}

impl<'e, 'a> CurrentEvent<'e, 'a> {
    pub fn new(event: &'e Event<'a>) -> Self {
        CurrentEvent { event, state: DataState::Unread, text: "", undecided: false }
    }

    /// Returns true unless `data` was found to be malformed.
    pub fn is_readable(&self) -> bool {
        self.state != DataState::Unreadable
    }

    /// Returns true if a pattern counted as matching because it could not be decided.
    pub fn undecided(&self) -> bool {
        self.undecided
    }
}

/// Buffers for the evaluation of one event, reused for the next.
#[derive(Debug, Default)]
pub struct Evaluator {
    fields: Fields,
    found: Vec<AlternativeId>,
    lower_case: Vec<u8>,
    trail: Vec<Element>,
}

impl Evaluator {
    /// Adds to `matched` the patterns of the alternatives in `index` that hold.
    pub fn evaluate(
        &mut self,
        set: &PatternSet,
        index: &DataIndex,
        event: &mut CurrentEvent<'_, '_>,
        matched: &mut Vec<PatternId>,
    ) {
        if index.all().is_empty() {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        // The candidates: proposed by the index, or all of them if `data` is unreadable.
        if !index.needs_fields() {
            found.extend_from_slice(index.unindexed());
        } else if self.read(event, set) {
            index.find(event.text, &self.fields, &mut self.lower_case, &mut found);
            found.extend_from_slice(index.unindexed());
        } else {
            found.extend_from_slice(index.all());
        }
        // Evaluate them, cheapest constraints first.
        for &id in &found {
            let alternative = set.alternative(id);
            if alternative.class_holds(event.event)
                && alternative.event_holds(event.event)
                && self.data_holds(alternative, event, set)
            {
                matched.push(alternative.pattern);
            }
        }
        self.found = found;
    }

    /// The values of the event that was evaluated last, on `path`.
    pub fn values<'f>(
        &'f self,
        event: &CurrentEvent<'_, 'f>,
        path: PathId,
    ) -> impl ExactSizeIterator<Item = Value<'f>> {
        let data = event.text;
        self.fields.on(path).iter().map(move |&field| self.fields.value(data, field))
    }

    /// Reads the event's `data`, once. Returns false if it is unreadable.
    pub fn read(&mut self, event: &mut CurrentEvent<'_, '_>, set: &PatternSet) -> bool {
        if event.state == DataState::Unread {
            event.state = DataState::Unreadable;
            if let Ok(text) = std::str::from_utf8(event.event.data)
                && self.fields.read(text, &set.paths).is_ok()
            {
                (event.text, event.state) = (text, DataState::Read);
            }
        }
        event.state == DataState::Read
    }

    /// Returns true if the data constraints of `alternative` hold or cannot be decided.
    pub fn data_holds(
        &mut self,
        alternative: &Alternative,
        event: &mut CurrentEvent<'_, '_>,
        set: &PatternSet,
    ) -> bool {
        if alternative.data.is_empty() {
            return true;
        }
        if !self.read(event, set) {
            event.undecided = true;
            return true;
        }
        let data = event.text;
        // With one path, or without fields inside array elements, constraints do not affect each
        // other.
        if alternative.data.len() == 1 || !self.fields.nested() {
            return alternative
                .data
                .iter()
                .all(|(path, conditions)| any_field_meets(&self.fields, data, *path, conditions));
        }
        // A constraint that no field meets rules out all combinations of fields.
        let possible = |(path, conditions): &(PathId, Conditions)| {
            accepts_missing(conditions) || any_field_meets(&self.fields, data, *path, conditions)
        };
        if !alternative.data.iter().all(possible) {
            return false;
        }
        self.trail.clear();
        let mut steps = limits::ARRAY_STEPS_MAX;
        let holds = assign(&self.fields, data, &alternative.data, &mut self.trail, &mut steps);
        event.undecided |= steps == 0;
        holds
    }
}

fn accepts_missing(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| matches!(condition, Condition::Missing))
}

fn any_field_meets(fields: &Fields, data: &str, path: PathId, conditions: &[Condition]) -> bool {
    let on_path = fields.on(path);
    if on_path.is_empty() {
        return accepts_missing(conditions);
    }
    on_path
        .iter()
        .any(|&field| conditions.iter().any(|condition| condition.is_met_by(fields.value(data, field))))
}

/// Tries to assign to each constraint a field that meets it, such that fields in the same array lie
/// in the same element of it. `trail` has the elements of the fields assigned so far.
///
/// Returns true, undecided, when `steps` reaches 0.
fn assign(
    fields: &Fields,
    data: &str,
    constraints: &[(PathId, Conditions)],
    trail: &mut Vec<Element>,
    steps: &mut usize,
) -> bool {
    let Some(((path, conditions), rest)) = constraints.split_first() else { return true };
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
        if !conditions.iter().any(|condition| condition.is_met_by(fields.value(data, field))) {
            continue;
        }
        let length = trail.len();
        trail.extend_from_slice(fields.trail(field));
        if assign(fields, data, rest, trail, steps) {
            return true;
        }
        trail.truncate(length);
    }
    absent && accepts_missing(conditions) && assign(fields, data, rest, trail, steps)
}

/// Returns true unless the trails name different elements of one array.
fn consistent(trail: &[Element], other: &[Element]) -> bool {
    other
        .iter()
        .all(|element| trail.iter().all(|known| known.array != element.array || known.index == element.index))
}
