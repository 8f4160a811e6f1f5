//! Views: lists of objects that a client makes to read their properties in one call.
//!
//! A container view lists the objects below an entity and is computed when it is read. A list view
//! holds the entities and collectors that its client put into it.

use std::collections::HashSet;

use super::data::{Data, boolean, string};
use super::inventory::Object;
use super::model::Model;
use super::property::{ObjectReference, Value};
use super::protocol::{Call, Fault};
use super::world::{Shared, new_id};
use super::xml::Node;
use crate::limits::VIEWS_PER_SESSION_MAX;

pub(crate) enum View {
    Container { container: Object, kinds: Vec<String>, recursive: bool },
    List(Vec<ObjectReference>),
}

impl View {
    pub fn property(&self, model: &Model, path: &str) -> Option<Value> {
        Some(match (self, path) {
            (View::Container { container, kinds, recursive }, "view") => {
                let objects = contents(model, *container, kinds, *recursive);
                Value::References(objects.into_iter().map(ObjectReference::object).collect())
            }
            (View::List(targets), "view") => Value::References(targets.clone()),
            (View::Container { container, .. }, "container") => {
                Value::Reference(ObjectReference::object(*container))
            }
            (View::Container { kinds, .. }, "type") => {
                Value::Tree(Data::List("string", kinds.iter().map(string).collect()))
            }
            (View::Container { recursive, .. }, "recursive") => Value::Tree(boolean(*recursive)),
            _ => return None,
        })
    }
}

/// `CreateContainerView`: returns the new view's id.
///
/// # Errors
/// There is no container, or the session has too many views.
pub(crate) fn create_container(shared: &Shared, session: &str, arguments: &Node) -> Result<String, Fault> {
    let container = arguments.child("container").map(ObjectReference::of);
    let container = container
        .as_ref()
        .and_then(|target| target.find(&shared.model))
        .ok_or_else(|| Fault::invalid_argument("container"))?;
    let kinds: Vec<String> = arguments.all("type").map(|kind| kind.text.trim().to_owned()).collect();
    let recursive = arguments.is_true("recursive");
    insert(shared, session, View::Container { container, kinds, recursive })
}

/// `CreateListView`: returns the new view's id.
///
/// # Errors
/// The session has too many views.
pub(crate) fn create_list(shared: &Shared, session: &str, arguments: &Node) -> Result<String, Fault> {
    insert(shared, session, View::List(arguments.all("obj").map(ObjectReference::of).collect()))
}

/// `ModifyListView` and `ResetListView`.
///
/// # Errors
/// There is no such list view.
pub(crate) fn change_list(shared: &Shared, session: &str, call: &Call) -> Result<(), Fault> {
    let targets = |name| call.arguments.all(name).map(ObjectReference::of).collect::<Vec<_>>();
    shared.with(|world, _| {
        let view = world.sessions.get_mut(session).and_then(|session| session.views.get_mut(&call.this));
        let Some(View::List(list)) = view else {
            return Err(Fault::not_found(&call.this_type, &call.this));
        };
        if call.method == "ResetListView" {
            *list = targets("obj");
            return Ok(());
        }
        let removed = targets("remove");
        list.retain(|target| !removed.contains(target));
        list.extend(targets("add"));
        Ok(())
    })
}

/// `DestroyView`.
///
/// # Errors
/// There is no such view.
pub(crate) fn destroy(shared: &Shared, session: &str, call: &Call) -> Result<(), Fault> {
    let removed = shared.with(|world, _| world.sessions.get_mut(session)?.views.remove(&call.this));
    removed.map(|_| ()).ok_or_else(|| Fault::not_found(&call.this_type, &call.this))
}

fn insert(shared: &Shared, session: &str, view: View) -> Result<String, Fault> {
    let id = new_id(session);
    shared.with(|world, _| {
        let Some(session) = world.sessions.get_mut(session) else { return Ok(()) };
        if session.views.len() >= VIEWS_PER_SESSION_MAX {
            return Err(Fault::new("OutOfBounds", "too many views"));
        }
        session.views.insert(id.clone(), view);
        Ok(())
    })?;
    Ok(id)
}

/// The objects below a container, each once, although a virtual machine is below its folder, its
/// host and its resource pool.
fn contents(model: &Model, container: Object, kinds: &[String], recursive: bool) -> Vec<Object> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![container];
    while let Some(object) = open.pop() {
        let children = object.children(model);
        for child in children.iter().copied().filter(|child| seen.insert(*child)) {
            if kinds.is_empty() || kinds.iter().any(|kind| child.is_a(kind)) {
                found.push(child);
            }
            if recursive {
                open.push(child);
            }
        }
    }
    found
}
