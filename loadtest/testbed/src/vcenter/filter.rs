//! `EventFilterSpec`: the conditions that select the events of a collector or a query.
//!
//! ```text
//! EventFilterSpec ──► parse (checks) ──► Conditions ──► compile against the templates ──► Filter
//!                                                                                    │
//!                        history ──► bounds (time, chain) ──► passes(index)? ◄───────┘
//! ```
//!
//! All conditions must hold; an unset one accepts every event. A field that is not part of the type
//! is refused, as is a value that the type does not allow. Nothing that a client sends is silently
//! ignored.

use std::ops::Range;

use super::clock::parse_micros;
use super::history::{History, Special};
use super::inventory::Object;
use super::model::{Model, chain_id};
use super::property::ObjectReference;
use super::protocol::Fault;
use super::template::Template;
use super::xml::Node;
use crate::limits::PAGE_EVENTS_MAX;

const FIELDS: [&str; 13] = [
    "entity",
    "time",
    "userName",
    "eventChainId",
    "alarm",
    "scheduledTask",
    "disableFullMessage",
    "category",
    "type",
    "tag",
    "eventTypeId",
    "maxCount",
    "delayedInit",
];
const ENTITY_FIELDS: [&str; 2] = ["entity", "recursion"];
const TIME_FIELDS: [&str; 2] = ["beginTime", "endTime"];
const USER_FIELDS: [&str; 2] = ["systemUser", "userList"];
const CATEGORIES: [&str; 4] = ["info", "warning", "error", "user"];
/// Reference of the alarm that events name.
const ALARM: (&str, &str) = ("Alarm", "alarm-6");
/// Reference of the scheduled task that events name.
const SCHEDULED_TASK: (&str, &str) = ("ScheduledTask", "schedule-12");

/// A filter, compiled against the templates: a page of an unfiltered collector must cost nothing
/// per event.
#[derive(Clone)]
pub(crate) struct Filter {
    begin_us: Option<i64>,
    end_us: Option<i64>,
    pub max_count: Option<usize>,
    /// `disableFullMessage`. VMware documents an unset one as true. Real servers send the message
    /// all the same, and govc, which leaves it unset, prints it.
    pub brief: bool,
    chain: Option<i32>,
    /// The only virtual machine or host that events may be about.
    only: Option<Object>,
    conditions: Conditions,
    /// True if there is no condition besides the bounds.
    unconditional: bool,
    /// For each template, true if the conditions accept its events; `None` if they accept all.
    templates: Option<Vec<bool>>,
    /// The filter as it came, for the property `filter`.
    spec: Node,
}

/// Conditions on fields that all events of a template share.
#[derive(Clone, Default)]
struct Conditions {
    entity: Option<(Object, Recursion)>,
    type_ids: Vec<String>,
    classes: Vec<String>,
    categories: Vec<String>,
    users: Option<Users>,
    /// The class of the events that belong to the alarm or scheduled task.
    caused_by: Vec<&'static str>,
    /// Only events with a tag; no event has one.
    tagged: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Recursion {
    Itself,
    Children,
    All,
}

#[derive(Clone)]
struct Users {
    system: bool,
    names: Vec<String>,
}

impl Users {
    /// Returns true if the events of a user pass. Events of the system have no user. Without a list
    /// of names, `systemUser` chooses between the events of the system and those of all users.
    fn pass(&self, user: &str) -> bool {
        match (user.is_empty(), self.names.is_empty()) {
            (true, _) => self.system,
            (false, true) => !self.system,
            (false, false) => self.names.iter().any(|name| name == user),
        }
    }
}

/// The fields of an event that the conditions test.
struct EventFields<'a> {
    class: &'a str,
    event_type_id: Option<&'a str>,
    template: Option<&'a Template>,
    category: &'a str,
    user: &'a str,
    entities: &'a [Object],
}

impl EventFields<'_> {
    fn is_a(&self, class: &str) -> bool {
        class == "Event" || class == self.class || self.template.is_some_and(|template| template.is_a(class))
    }
}

impl Conditions {
    /// True if every event passes.
    fn are_trivial(&self) -> bool {
        let everywhere = |(entity, recursion)| entity == Object::Root && recursion != Recursion::Children;
        self.type_ids.is_empty()
            && self.classes.is_empty()
            && self.categories.is_empty()
            && self.users.is_none()
            && self.caused_by.is_empty()
            && !self.tagged
            && self.entity.is_none_or(everywhere)
    }

    fn pass(&self, facts: &EventFields<'_>) -> bool {
        // An event with a type id is selected by the id alone, not by its class.
        let by_id = |id: &String| match facts.event_type_id {
            Some(event_type_id) => id == event_type_id,
            None => facts.is_a(id),
        };
        (self.type_ids.is_empty() || self.type_ids.iter().any(by_id))
            && (self.classes.is_empty() || self.classes.iter().any(|class| facts.is_a(class)))
            && (self.categories.is_empty() || self.categories.iter().any(|name| name == facts.category))
            && self.users.as_ref().is_none_or(|users| users.pass(facts.user))
            && self.caused_by.iter().all(|class| facts.is_a(class))
            && !self.tagged
            && self.entity.is_none_or(|(entity, recursion)| concerns(facts.entities, entity, recursion))
    }
}

/// True if an event that names these entities is about `entity`, or about one below it.
fn concerns(named: &[Object], entity: Object, recursion: Recursion) -> bool {
    let below = || named.iter().any(|object| object.is_below(entity));
    match recursion {
        // The root folder also has the events that name no entity.
        Recursion::Itself | Recursion::All if entity == Object::Root => true,
        // A folder stands for its contents.
        _ if entity.is_folder() => below(),
        Recursion::Itself => named.contains(&entity) && !below(),
        Recursion::Children => below(),
        Recursion::All => named.contains(&entity) || below(),
    }
}

impl Filter {
    /// Reads a filter from a call's arguments.
    ///
    /// # Errors
    /// There is no filter, a field or value does not exist, or an entity is not in the
    /// inventory.
    pub fn parse(spec: Option<&Node>, model: &Model) -> Result<Filter, Fault> {
        let spec = spec.ok_or_else(|| Fault::invalid_argument("filter"))?;
        // Unknown fields are refused before any value is read.
        check_fields(Some(spec), "EventFilterSpec", &FIELDS)?;
        check_fields(spec.child("entity"), "EventFilterSpecByEntity", &ENTITY_FIELDS)?;
        check_fields(spec.child("time"), "EventFilterSpecByTime", &TIME_FIELDS)?;
        check_fields(spec.child("userName"), "EventFilterSpecByUsername", &USER_FIELDS)?;
        let texts = |name: &'static str| -> Vec<String> {
            spec.all(name).map(|child| child.text.trim().to_owned()).collect()
        };
        let conditions = Conditions {
            entity: spec.child("entity").map(|entity| parse_entity(entity, model)).transpose()?,
            type_ids: texts("eventTypeId"),
            classes: texts("type"),
            categories: texts("category"),
            users: spec.child("userName").map(parse_users),
            caused_by: [
                caused_by(spec, "alarm", ALARM, "AlarmEvent")?,
                caused_by(spec, "scheduledTask", SCHEDULED_TASK, "ScheduledTaskEvent")?,
            ]
            .into_iter()
            .flatten()
            .collect(),
            // An empty tag selects events without tags.
            tagged: spec.child("tag").is_some() && !texts("tag").iter().any(String::is_empty),
        };
        // Values and combinations that the API does not allow.
        if !conditions.type_ids.is_empty() && !conditions.classes.is_empty() {
            return Err(Fault::invalid_argument("filter.eventTypeId"));
        }
        if conditions.categories.iter().any(|name| !CATEGORIES.contains(&name.as_str())) {
            return Err(Fault::invalid_argument("filter.category"));
        }
        let max_count = number(spec, "maxCount")?;
        if max_count.is_some_and(|count| !(1..=PAGE_EVENTS_MAX as i32).contains(&count)) {
            return Err(Fault::invalid_argument("filter.maxCount"));
        }
        let time = spec.child("time");
        let mut filter = Filter {
            begin_us: time.map_or(Ok(None), |time| micros(time, "beginTime"))?,
            end_us: time.map_or(Ok(None), |time| micros(time, "endTime"))?,
            max_count: max_count.map(|count| count as usize),
            brief: spec.is_true("disableFullMessage"),
            // In VMware's own clients 0 means an unset number.
            chain: number(spec, "eventChainId")?.filter(|chain| *chain != 0),
            only: None,
            unconditional: false,
            conditions,
            templates: None,
            spec: spec.clone(),
        };
        filter.compile(model);
        Ok(filter)
    }

    /// Tests every template once with an example event, so that `passes` is a table look-up.
    fn compile(&mut self, model: &Model) {
        // The entity of the filter takes part in the example; other numbers are compared per event.
        let mut example = (Object::Vm(0), Object::Host(0));
        match self.conditions.entity {
            Some((vm @ Object::Vm(_), _)) => (self.only, example.0) = (Some(vm), vm),
            Some((host @ Object::Host(_), _)) => (self.only, example.1) = (Some(host), host),
            _ => {}
        }
        let passes = model.templates().iter().map(|template| {
            let arguments = [
                ("{dc}", Object::Datacenter),
                ("{cluster}", Object::Cluster),
                ("{host}", example.1),
                ("{vm}", example.0),
                ("{ds}", Object::Datastore),
            ];
            let entities: Vec<Object> =
                arguments.iter().filter(|(name, _)| template.has(name)).map(|(_, object)| *object).collect();
            self.conditions.pass(&EventFields {
                class: &template.class,
                event_type_id: template.event_type_id.as_deref(),
                template: Some(template),
                category: template.category(),
                user: template.user(),
                entities: &entities,
            })
        });
        let passes: Vec<bool> = passes.collect();
        self.templates = passes.contains(&false).then_some(passes);
        self.unconditional = self.chain.is_none() && self.conditions.are_trivial();
    }

    /// The part of the history that events may come from, as far as time and chain limit it.
    pub fn bounds(&self, history: &History, produced: u64) -> Range<u64> {
        let begin = self.begin_us.map_or(0, |begin| history.first_at_or_after(begin, produced));
        let end =
            self.end_us.map_or(produced, |end| history.first_at_or_after(end.saturating_add(1), produced));
        match self.chain {
            None => begin..end,
            Some(chain) => {
                let chain = history.range_of_chain(chain, produced);
                begin.max(chain.start)..end.min(chain.end)
            }
        }
    }

    /// True if only the bounds matter.
    pub fn passes_all(&self) -> bool {
        self.unconditional
    }

    pub fn passes(&self, model: &Model, history: &History, index: u64) -> bool {
        // An event that is not from the model is tested with its own fields.
        if let Some(special) = history.special(index) {
            return self.chain.is_none_or(|chain| chain == history.key(index))
                && self.conditions.pass(&special_facts(special, model));
        }
        let pick = model.pick(index);
        self.templates.as_ref().is_none_or(|templates| templates[pick.template])
            && match self.only {
                Some(Object::Vm(vm)) => pick.vm == vm,
                Some(Object::Host(host)) => pick.host == host,
                _ => true,
            }
            && self.chain.is_none_or(|chain| chain == chain_id(history.key(index), index))
    }

    /// Writes the property `filter` of a collector.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.spec.write_inner(out);
    }
}

fn special_facts<'a>(special: &'a Special, model: &'a Model) -> EventFields<'a> {
    EventFields {
        class: &special.class,
        event_type_id: special.event_type_id.as_deref(),
        template: model.templates().iter().find(|template| template.class == special.class),
        category: special.category,
        user: &special.user,
        entities: &special.entities,
    }
}

fn check_fields(node: Option<&Node>, kind: &str, fields: &[&str]) -> Result<(), Fault> {
    let unknown =
        node.and_then(|node| node.children.iter().find(|child| !fields.contains(&child.name.as_str())));
    unknown.map_or(Ok(()), |unknown| Err(Fault::unexpected_element(&unknown.name, kind)))
}

fn micros(time: &Node, name: &str) -> Result<Option<i64>, Fault> {
    let Some(text) = time.text_of(name) else { return Ok(None) };
    parse_micros(text).map(Some).ok_or_else(|| Fault::invalid_argument(&format!("filter.time.{name}")))
}

fn number(spec: &Node, name: &str) -> Result<Option<i32>, Fault> {
    let Some(text) = spec.text_of(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| Fault::invalid_argument(&format!("filter.{name}")))
}

fn parse_users(users: &Node) -> Users {
    Users {
        system: users.is_true("systemUser"),
        names: users.all("userList").map(|name| name.text.clone()).collect(),
    }
}

fn parse_entity(by_entity: &Node, model: &Model) -> Result<(Object, Recursion), Fault> {
    let recursion = match by_entity.text_of("recursion").unwrap_or_default().trim() {
        "self" => Recursion::Itself,
        "children" => Recursion::Children,
        "all" => Recursion::All,
        _ => return Err(Fault::invalid_argument("filter.entity.recursion")),
    };
    let target = by_entity.child("entity").map(ObjectReference::of);
    let target = target.ok_or_else(|| Fault::invalid_argument("filter.entity.entity"))?;
    Ok((target.resolve(model)?, recursion))
}

/// The class of the events that this alarm or scheduled task causes.
fn caused_by(
    spec: &Node,
    name: &str,
    (kind, id): (&str, &str),
    class: &'static str,
) -> Result<Option<&'static str>, Fault> {
    match spec.child(name).map(ObjectReference::of) {
        None => Ok(None),
        Some(target) if target.kind == kind && target.id == id => Ok(Some(class)),
        Some(target) => Err(Fault::not_found(&target.kind, &target.id)),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
