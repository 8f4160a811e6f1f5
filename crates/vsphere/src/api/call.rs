//! Outgoing calls: one method of one managed object with its arguments, as a tree.
//!
//! `envelope` writes the tree as SOAP, `json` writes it as VI/JSON. The builders of the two
//! argument objects with many members, EventFilterSpec and PropertyFilterSpec, are here as well.
//!
//! INVARIANT: members are in the schema's order. SOAP servers reject any other order.

use super::model::{EventFilterSpec, MoRef, Recursion};
use super::time::format_us;
use super::version::Version;

/// A call, ready to be written.
pub struct Call {
    pub method: &'static str,
    pub this: MoRef,
    pub arguments: Members,
}

/// A value with the details that either encoding needs. XML has no types, but a list repeats its
/// element. JSON has types and states the class of every object.
pub enum Argument {
    Text(String),
    Number(u32),
    Flag(bool),
    Reference(MoRef),
    /// A data object of the given class.
    Object(&'static str, Members),
    List(Vec<Argument>),
}

/// Named values, in the schema's order.
#[derive(Default)]
pub struct Members(pub Vec<(&'static str, Argument)>);

impl Call {
    pub fn new(method: &'static str, this: &MoRef) -> Call {
        Call { method, this: this.clone(), arguments: Members::default() }
    }

    pub fn with(mut self, name: &'static str, value: Argument) -> Call {
        self.arguments.push(name, value);
        self
    }

    pub fn text(self, name: &'static str, value: &str) -> Call {
        self.with(name, Argument::Text(value.to_string()))
    }

    pub fn number(self, name: &'static str, value: u32) -> Call {
        self.with(name, Argument::Number(value))
    }
}

impl Members {
    fn push(&mut self, name: &'static str, value: Argument) {
        self.0.push((name, value));
    }
}

/// An EventFilterSpec. Members that `version` does not know are left out.
pub fn event_filter(spec: &EventFilterSpec, root: &MoRef, version: &Version) -> Argument {
    let mut filter = Members::default();
    let (entity, recursion) = match &spec.entity {
        Some((entity, recursion)) => (entity, *recursion),
        None => (root, Recursion::All),
    };
    let by_entity = vec![
        ("entity", Argument::Reference(entity.clone())),
        ("recursion", Argument::Text(recursion.as_str().to_string())),
    ];
    filter.push("entity", Argument::Object("EventFilterSpecByEntity", Members(by_entity)));
    if spec.begin_us.is_some() || spec.end_us.is_some() {
        let times = [("beginTime", spec.begin_us), ("endTime", spec.end_us)];
        let by_time =
            times.into_iter().filter_map(|(name, us)| Some((name, Argument::Text(format_us(us?))))).collect();
        filter.push("time", Argument::Object("EventFilterSpecByTime", Members(by_time)));
    }
    if !spec.users.is_empty() {
        let by_user = vec![("systemUser", Argument::Flag(false)), ("userList", texts(&spec.users))];
        filter.push("userName", Argument::Object("EventFilterSpecByUsername", Members(by_user)));
    }
    filter.push("disableFullMessage", Argument::Flag(false));
    if !spec.event_types.is_empty() {
        filter.push("eventTypeId", texts(&spec.event_types));
    }
    if let Some(count) = spec.max_count.filter(|_| version.has_max_count()) {
        filter.push("maxCount", Argument::Number(count));
    }
    if spec.delayed_init && version.has_delayed_init() {
        filter.push("delayedInit", Argument::Flag(true));
    }
    Argument::Object("EventFilterSpec", filter)
}

/// A PropertyFilterSpec for properties of one object.
pub fn property_filter(object: &MoRef, paths: &[&str]) -> Argument {
    let properties = vec![
        ("type", Argument::Text(object.kind.clone())),
        ("all", Argument::Flag(false)),
        ("pathSet", texts(paths)),
    ];
    let objects = vec![("obj", Argument::Reference(object.clone())), ("skip", Argument::Flag(false))];
    let one = |class, members| Argument::List(vec![Argument::Object(class, Members(members))]);
    let spec = vec![("propSet", one("PropertySpec", properties)), ("objectSet", one("ObjectSpec", objects))];
    Argument::Object("PropertyFilterSpec", Members(spec))
}

fn texts(values: &[impl AsRef<str>]) -> Argument {
    Argument::List(values.iter().map(|value| Argument::Text(value.as_ref().to_string())).collect())
}
