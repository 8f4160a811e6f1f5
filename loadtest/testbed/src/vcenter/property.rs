//! Properties of all objects, one at a time, and the XML of their values.
//!
//! ```text
//! (object, path) ─► read ┬► fixed objects: ServiceInstance, SessionManager, EventManager
//!                        ├► objects of the session: collectors, views
//!                        └► entities of the inventory (references, entity)
//!                              │
//!                              ▼
//!                           Value ─► write: <val xsi:type="…">…</val>
//! ```

use super::clock::format_micros;
use super::data::Data;
use super::description::{about, categories, event_description, event_info, service_content, user_session};
use super::entity;
use super::inventory::Object;
use super::model::Model;
use super::protocol::Fault;
use super::world::{Page, Shared, World};
use super::xml::{Node, escape, escaped};
use crate::limits::COLLECTORS_PER_SESSION_MAX;

/// A reference to a managed object: its type and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectReference {
    pub kind: String,
    pub id: String,
}

impl ObjectReference {
    pub fn of(node: &Node) -> ObjectReference {
        ObjectReference {
            kind: node.reference_type.clone().unwrap_or_default(),
            id: node.text.trim().to_owned(),
        }
    }

    pub fn object(object: Object) -> ObjectReference {
        ObjectReference { kind: object.kind().into(), id: object.id() }
    }

    /// The entity of the inventory with this reference.
    pub fn find(&self, model: &Model) -> Option<Object> {
        Object::find(model, &self.kind, &self.id)
    }

    /// As [`ObjectReference::find`], but an unknown entity is a fault.
    pub fn resolve(&self, model: &Model) -> Result<Object, Fault> {
        self.find(model).ok_or_else(|| Fault::not_found(&self.kind, &self.id))
    }
}

/// The value of a property, without the element's name.
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Time(i64),
    Reference(ObjectReference),
    References(Vec<ObjectReference>),
    /// `xsi:type` and inner XML.
    Data(&'static str, Vec<u8>),
    Tree(Data),
    Event(Page),
    Events(Page),
}

impl Value {
    pub fn write(&self, shared: &Shared, out: &mut Vec<u8>, element: &str) {
        let mut open = |kind: &str| {
            out.extend_from_slice(format!("<{element} xsi:type=\"{kind}\">").as_bytes());
        };
        match self {
            Value::Text(text) => {
                open("xsd:string");
                escape(out, text);
            }
            Value::Int(value) => {
                open("xsd:int");
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Value::Time(micros) => {
                open("xsd:dateTime");
                out.extend_from_slice(format_micros(*micros).as_bytes());
            }
            Value::Reference(target) => return write_reference_of(out, element, target),
            Value::Tree(data) => return data.write(out, element),
            Value::References(targets) => {
                open("ArrayOfManagedObjectReference");
                for target in targets {
                    write_reference(out, "ManagedObjectReference", target);
                }
            }
            Value::Data(kind, inner) => {
                open(kind);
                out.extend_from_slice(inner);
            }
            // The event's own element carries its type.
            Value::Event(page) => return shared.render(out, element, page),
            Value::Events(page) => {
                open("ArrayOfEvent");
                shared.render(out, "Event", page);
            }
        }
        out.extend_from_slice(format!("</{element}>").as_bytes());
    }
}

pub(crate) fn write_reference(out: &mut Vec<u8>, element: &str, target: &ObjectReference) {
    out.extend_from_slice(format!("<{element} type=\"{}\">", escaped(&target.kind)).as_bytes());
    escape(out, &target.id);
    out.extend_from_slice(format!("</{element}>").as_bytes());
}

/// Writes a reference whose element declares its type, for a field of any type.
pub(crate) fn write_reference_of(out: &mut Vec<u8>, element: &str, target: &ObjectReference) {
    let kind = escaped(&target.kind);
    out.extend_from_slice(
        format!("<{element} type=\"{kind}\" xsi:type=\"ManagedObjectReference\">").as_bytes(),
    );
    escape(out, &target.id);
    out.extend_from_slice(format!("</{element}>").as_bytes());
}

/// One property; `Ok(None)` if it exists and is not set.
///
/// # Errors
/// The object or property is unknown, or a session is needed and there is none.
pub(crate) fn read(
    shared: &Shared,
    world: &mut World,
    session: Option<&str>,
    target: &ObjectReference,
    path: &str,
    now_us: i64,
) -> Result<Option<Value>, Fault> {
    let unknown = || Err(Fault::invalid_property(path));
    // Some properties need no session: clients read them before login.
    match (target.id.as_str(), path) {
        ("ServiceInstance", "content") => {
            return Ok(Some(Value::Data("ServiceContent", service_content(shared))));
        }
        ("ServiceInstance", "serverClock") => return Ok(Some(Value::Time(now_us))),
        ("ServiceInstance", _) => {
            let Some(field) = path.strip_prefix("content.about.") else { return unknown() };
            let about = about(shared);
            return match about.iter().find(|(name, _)| *name == field) {
                Some((_, value)) => Ok(Some(Value::Text(value.clone()))),
                None => unknown(),
            };
        }
        ("SessionManager", "currentSession") => {
            let current = session.and_then(|key| Some((key, world.sessions.get(key)?)));
            return Ok(
                current.map(|(key, session)| Value::Data("UserSession", user_session(key, session, now_us)))
            );
        }
        ("SessionManager", "sessionList") => {
            let mut out = Vec::new();
            for (key, session) in &world.sessions {
                out.extend_from_slice(b"<UserSession>");
                out.extend_from_slice(&user_session(key, session, now_us));
                out.extend_from_slice(b"</UserSession>");
            }
            return Ok(Some(Value::Data("ArrayOfUserSession", out)));
        }
        ("SessionManager", "defaultLocale") => return Ok(Some(Value::Text("en".into()))),
        _ => {}
    }
    let Some(session) = session else {
        return Err(Fault::new("NotAuthenticated", "The session is not authenticated."));
    };
    // All others belong to a session.
    match (target.id.as_str(), path) {
        ("EventManager", "maxCollector") => Ok(Some(Value::Int(COLLECTORS_PER_SESSION_MAX as i64))),
        ("EventManager", "latestEvent") => {
            let produced = world.history.produced(now_us);
            let (found, _) = world.history.read_backward(produced, 0, 1, now_us, |_| true);
            Ok(found.first().map(|index| Value::Event(world.page_of(&[*index], false))))
        }
        ("EventManager", "description") => {
            Ok(Some(Value::Data("EventDescription", event_description(shared))))
        }
        ("EventManager", "description.eventInfo") => {
            let info = event_info(shared, "EventDescriptionEventDetail");
            Ok(Some(Value::Data("ArrayOfEventDescriptionEventDetail", info)))
        }
        ("EventManager", "description.category") => {
            let category = categories("ElementDescription");
            Ok(Some(Value::Data("ArrayOfElementDescription", category)))
        }
        ("propertyCollector", "filter") => Ok(Some(Value::References(Vec::new()))),
        ("EventManager" | "SessionManager" | "propertyCollector", _) => unknown(),
        (id, "latestPage") if target.kind == "EventHistoryCollector" => {
            let latest = world.latest_page(shared, session, id, now_us)?;
            let brief = super::collector::collector(&mut world.sessions, session, id)?.filter.brief;
            Ok(Some(Value::Events(world.page_of(&latest, brief))))
        }
        (id, _) if target.kind == "EventHistoryCollector" => {
            let collector = super::collector::collector(&mut world.sessions, session, id)?;
            if path != "filter" {
                return unknown();
            }
            let mut out = Vec::new();
            collector.filter.write(&mut out);
            Ok(Some(Value::Data("EventFilterSpec", out)))
        }
        (id, _) => {
            if let Some(view) = world.sessions.get(session).and_then(|session| session.views.get(id)) {
                return view
                    .property(&shared.model, path)
                    .map(Some)
                    .ok_or_else(|| Fault::invalid_property(path));
            }
            read_entity(shared, target.resolve(&shared.model)?, path)
        }
    }
}

/// A property of a managed entity.
fn read_entity(shared: &Shared, object: Object, path: &str) -> Result<Option<Value>, Fault> {
    // References come from the inventory; every other value from a tree that `rest` leads into.
    if let Some(references) = object.references(&shared.model, path) {
        let mut targets = references.into_iter().map(ObjectReference::object);
        return if object.is_single(path) {
            Ok(targets.next().map(Value::Reference))
        } else {
            Ok(Some(Value::References(targets.collect())))
        };
    }
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    match entity::property(&shared.model, object, name).and_then(|data| data.at(rest)) {
        None => Err(Fault::invalid_property(path)),
        Some(Data::Unset) => Ok(None),
        Some(Data::Reference(object)) => Ok(Some(Value::Reference(ObjectReference::object(object)))),
        Some(data) => Ok(Some(Value::Tree(data))),
    }
}

/// The names of the properties that `all` stands for.
pub(crate) fn all_paths(target: &ObjectReference) -> Vec<&'static str> {
    match target.kind.as_str() {
        "EventHistoryCollector" => vec!["filter", "latestPage"],
        "EventManager" => vec!["description", "latestEvent", "maxCollector"],
        "SessionManager" => vec!["currentSession", "defaultLocale", "sessionList"],
        "ServiceInstance" => vec!["content", "serverClock"],
        "ContainerView" => vec!["container", "recursive", "type", "view"],
        "ListView" => vec!["view"],
        entity => entity::all_of(entity),
    }
}
