//! Events from clients: `PostEvent` and `LogUserEvent` append an event that is not from the model.

use super::inventory::Object;
use super::model::Model;
use super::property::ObjectReference;
use super::protocol::Fault;
use super::special::Special;
use super::world::Shared;
use super::xml::{Node, escaped};

/// `PostEvent`: appends the client's event.
pub(crate) fn post_event(shared: &Shared, key: &str, arguments: &Node) -> Result<(), Fault> {
    let event = arguments.child("eventToPost").ok_or_else(|| Fault::invalid_argument("eventToPost"))?;
    let mut rest = event.clone();
    // The vCenter sets these fields itself.
    rest.children
        .retain(|child| !matches!(child.name.as_str(), "key" | "chainId" | "createdTime" | "userName"));
    let class = event.xsi_type.as_deref().unwrap_or("Event");
    if matches!(class, "EventEx" | "ExtendedEvent") && event.child("eventTypeId").is_none() {
        return Err(Fault::invalid_argument("eventToPost.eventTypeId"));
    }
    let mut tail = Vec::new();
    rest.write_inner(&mut tail);
    append_posted(shared, key, class, &tail);
    Ok(())
}

/// `LogUserEvent`: appends a message about an entity.
pub(crate) fn log_user_event(shared: &Shared, key: &str, arguments: &Node) -> Result<(), Fault> {
    let target = arguments
        .child("entity")
        .map(ObjectReference::of)
        .ok_or_else(|| Fault::invalid_argument("entity"))?;
    let object = Object::find(&shared.model, &target.kind, &target.id)
        .ok_or_else(|| Fault::not_found(&target.kind, &target.id))?;
    let message = escaped(arguments.text_of("msg").unwrap_or_default());
    let (name, kind, id) = (object.name(), object.kind(), object.id());
    let tail = format!(
        "{}<fullFormattedMessage>User logged event: {message}</fullFormattedMessage><message>{message}</message>\
         <entity><name>{name}</name><entity type=\"{kind}\">{id}</entity></entity>",
        event_arguments(&shared.model, object)
    );
    append_posted(shared, key, "GeneralUserEvent", tail.as_bytes());
    Ok(())
}

/// The arguments of an event about this object: the object itself, and its host, cluster and
/// datacenter.
fn event_arguments(model: &Model, object: Object) -> String {
    let mut arguments = String::new();
    for argument in [Object::Datacenter, Object::Cluster] {
        if object == argument || object.is_below(argument) {
            arguments.push_str(&event_argument(argument));
        }
    }
    if let Object::Vm(vm) = object {
        arguments.push_str(&event_argument(Object::host_of(model, vm)));
    }
    if !matches!(object, Object::Datacenter | Object::Cluster) {
        arguments.push_str(&event_argument(object));
    }
    arguments
}

fn event_argument(object: Object) -> String {
    let (element, inner) = match object {
        Object::Datacenter => ("datacenter", "datacenter"),
        Object::Cluster => ("computeResource", "computeResource"),
        Object::Host(_) => ("host", "host"),
        Object::Vm(_) => ("vm", "vm"),
        Object::Datastore => ("ds", "datastore"),
        Object::Network => ("net", "network"),
        // No argument of an event holds a folder or a resource pool.
        _ => return String::new(),
    };
    let (name, kind, id) = (object.name(), object.kind(), object.id());
    format!("<{element}><name>{name}</name><{inner} type=\"{kind}\">{id}</{inner}></{element}>")
}

/// Appends a posted event with the user of the session.
fn append_posted(shared: &Shared, key: &str, class: &str, rest: &[u8]) {
    let user = shared.with(|world, _| world.sessions.get(key).map(|session| session.user.clone()));
    let mut tail = format!("<userName>{}</userName>", escaped(&user.unwrap_or_default())).into_bytes();
    tail.extend_from_slice(rest);
    let special = Special::new(&shared.model, class, tail);
    shared.change(|world, now_us| world.history.append_special(special, now_us));
}
