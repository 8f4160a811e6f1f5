//! Properties: single reads, and the PropertyCollector's retrieval with traversals.

use std::collections::HashMap;

use super::clock::format_micros;
use super::content::{about, categories, event_description, event_info, service_content, user_session};
use super::inventory::Object;
use super::soap::Fault;
use super::world::{Page, Shared, World};
use super::xml::{Node, escape, escaped};
use crate::limits::COLLECTORS_PER_SESSION_MAX;

/// Traversals deeper than this are a client's mistake; the inventory is six levels deep.
const TRAVERSAL_DEPTH_MAX: usize = 16;

/// A managed object by type and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub kind: String,
    pub id: String,
}

impl Target {
    pub fn of(node: &Node) -> Target {
        Target { kind: node.reference_type.clone().unwrap_or_default(), id: node.text.trim().to_owned() }
    }

    fn object(object: Object) -> Target {
        Target { kind: object.kind().into(), id: object.id() }
    }
}

/// A property's value, as it is written after the element's name.
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Time(i64),
    Reference(Target),
    References(Vec<Target>),
    /// xsi:type and inner XML.
    Data(&'static str, Vec<u8>),
    Event(Page),
    Events(Page),
}

impl Value {
    pub fn write(&self, shared: &Shared, out: &mut Vec<u8>, element: &str) {
        let mut open = |kind: &str, more: &str| {
            out.extend_from_slice(format!("<{element} xsi:type=\"{kind}\"{more}>").as_bytes());
        };
        match self {
            Value::Text(text) => {
                open("xsd:string", "");
                escape(out, text);
            }
            Value::Int(value) => {
                open("xsd:int", "");
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Value::Time(micros) => {
                open("xsd:dateTime", "");
                out.extend_from_slice(format_micros(*micros).as_bytes());
            }
            Value::Reference(target) => {
                open("ManagedObjectReference", &format!(" type=\"{}\"", escaped(&target.kind)));
                escape(out, &target.id);
            }
            Value::References(targets) => {
                open("ArrayOfManagedObjectReference", "");
                for target in targets {
                    write_reference(out, "ManagedObjectReference", target);
                }
            }
            Value::Data(kind, inner) => {
                open(kind, "");
                out.extend_from_slice(inner);
            }
            // The event's own element carries its type.
            Value::Event(page) => return shared.render(out, element, page),
            Value::Events(page) => {
                open("ArrayOfEvent", "");
                shared.render(out, "Event", page);
            }
        }
        out.extend_from_slice(format!("</{element}>").as_bytes());
    }
}

pub(crate) fn write_reference(out: &mut Vec<u8>, element: &str, target: &Target) {
    out.extend_from_slice(format!("<{element} type=\"{}\">", escaped(&target.kind)).as_bytes());
    escape(out, &target.id);
    out.extend_from_slice(format!("</{element}>").as_bytes());
}

/// One property; `Ok(None)` if it exists and is not set.
///
/// # Errors
/// Unknown object or property; no session where one is needed.
pub(crate) fn read(
    shared: &Shared,
    world: &mut World,
    session: Option<&str>,
    target: &Target,
    path: &str,
    now_us: i64,
) -> Result<Option<Value>, Fault> {
    let unknown = || Err(Fault::invalid_property(path));
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
            let brief = super::world::collector(&mut world.sessions, session, id)?.filter.brief;
            Ok(Some(Value::Events(world.page_of(&latest, brief))))
        }
        (id, _) if target.kind == "EventHistoryCollector" => {
            let collector = super::world::collector(&mut world.sessions, session, id)?;
            if path != "filter" {
                return unknown();
            }
            let mut out = Vec::new();
            collector.filter.write(&mut out);
            Ok(Some(Value::Data("EventFilterSpec", out)))
        }
        (id, _) => {
            if let Some(view) = world.sessions.get(session).and_then(|session| session.views.get(id)) {
                let targets = view.iter().copied().map(Target::object).collect();
                return if path == "view" { Ok(Some(Value::References(targets))) } else { unknown() };
            }
            let object = Object::find(&shared.model, &target.kind, id)
                .ok_or_else(|| Fault::not_found(&target.kind, id))?;
            if path == "name" {
                return Ok(Some(Value::Text(object.name())));
            }
            let Some(references) = object.references(&shared.model, path) else {
                return match path {
                    "overallStatus" => Ok(Some(Value::Data("ManagedEntityStatus", b"green".to_vec()))),
                    "configStatus" => Ok(Some(Value::Data("ManagedEntityStatus", b"green".to_vec()))),
                    _ => unknown(),
                };
            };
            let mut targets = references.into_iter().map(Target::object);
            if Object::is_single(path) {
                Ok(targets.next().map(Value::Reference))
            } else {
                Ok(Some(Value::References(targets.collect())))
            }
        }
    }
}

/// The properties that `all` means.
fn all_paths(target: &Target) -> &'static [&'static str] {
    match target.kind.as_str() {
        "EventHistoryCollector" => &["filter", "latestPage"],
        "EventManager" => &["description", "latestEvent", "maxCollector"],
        "SessionManager" => &["currentSession", "defaultLocale", "sessionList"],
        "ServiceInstance" => &["content", "serverClock"],
        "Folder" => &["childEntity", "name", "parent"],
        _ => &["name", "parent"],
    }
}

fn is_a(shared: &Shared, target: &Target, kind: &str) -> bool {
    target.kind == kind
        || Object::find(&shared.model, &target.kind, &target.id).is_some_and(|object| object.is_a(kind))
}

/// A `PropertyFilterSpec`, or one element of `RetrieveProperties`' specSet.
#[derive(Clone)]
pub(crate) struct Spec(pub Node);

/// An object and the paths to read of it.
pub(crate) type Wanted = (Target, Vec<String>);

impl Spec {
    /// The objects that this spec selects now, each with the paths to read.
    ///
    /// # Errors
    /// A starting object that does not exist.
    pub fn select(
        &self,
        shared: &Shared,
        world: &mut World,
        session: Option<&str>,
        now_us: i64,
    ) -> Result<Vec<Wanted>, Fault> {
        let mut targets: Vec<Target> = Vec::new();
        for set in self.0.all("objectSet") {
            let Some(start) = set.child("obj").map(Target::of) else { continue };
            self.check_exists(shared, world, session, &start)?;
            let mut named: HashMap<&str, &Node> = HashMap::new();
            name_traversals(set, &mut named);
            if !set.is_true("skip") && !targets.contains(&start) {
                targets.push(start.clone());
            }
            self.traverse(shared, world, session, &start, set, &named, &mut targets, now_us, 0);
        }
        let mut wanted = Vec::new();
        for target in targets {
            let mut paths: Vec<String> = Vec::new();
            let mut matched = false;
            for set in self.0.all("propSet") {
                if !is_a(shared, &target, set.text_of("type").unwrap_or_default().trim()) {
                    continue;
                }
                matched = true;
                if set.is_true("all") {
                    paths.extend(all_paths(&target).iter().map(|path| (*path).to_owned()));
                }
                paths.extend(set.all("pathSet").map(|path| path.text.trim().to_owned()));
            }
            if matched {
                wanted.push((target, paths));
            }
        }
        Ok(wanted)
    }

    fn check_exists(
        &self,
        shared: &Shared,
        world: &mut World,
        session: Option<&str>,
        target: &Target,
    ) -> Result<(), Fault> {
        let known = matches!(
            target.id.as_str(),
            "ServiceInstance" | "SessionManager" | "EventManager" | "propertyCollector" | "ViewManager"
        ) || session.and_then(|key| world.sessions.get(key)).is_some_and(|session| {
            session.collectors.contains_key(&target.id) || session.views.contains_key(&target.id)
        }) || Object::find(&shared.model, &target.kind, &target.id).is_some();
        if known { Ok(()) } else { Err(Fault::not_found(&target.kind, &target.id)) }
    }

    #[allow(clippy::too_many_arguments)] // a recursion whose state has no other owner
    fn traverse<'a>(
        &self,
        shared: &Shared,
        world: &mut World,
        session: Option<&str>,
        from: &Target,
        sets: &'a Node,
        named: &HashMap<&'a str, &'a Node>,
        targets: &mut Vec<Target>,
        now_us: i64,
        depth: usize,
    ) {
        if depth > TRAVERSAL_DEPTH_MAX {
            return;
        }
        for set in sets.all("selectSet") {
            let set = match (set.text_of("path"), set.text_of("name")) {
                (None, Some(name)) => match named.get(name.trim()) {
                    Some(set) => set,
                    None => continue,
                },
                _ => set,
            };
            if !is_a(shared, from, set.text_of("type").unwrap_or_default().trim()) {
                continue;
            }
            let path = set.text_of("path").unwrap_or_default().trim();
            let next = match read(shared, world, session, from, path, now_us) {
                Ok(Some(Value::Reference(target))) => vec![target],
                Ok(Some(Value::References(targets))) => targets,
                _ => continue,
            };
            for target in next {
                let known = targets.contains(&target);
                if !set.is_true("skip") && !known {
                    targets.push(target.clone());
                }
                self.traverse(shared, world, session, &target, set, named, targets, now_us, depth + 1);
            }
        }
    }
}

fn name_traversals<'a>(sets: &'a Node, named: &mut HashMap<&'a str, &'a Node>) {
    for set in sets.all("selectSet") {
        if set.child("path").is_some()
            && let Some(name) = set.text_of("name")
        {
            named.insert(name.trim(), set);
        }
        name_traversals(set, named);
    }
}

/// Writes `<obj>` and `<propSet>`s of one object.
///
/// # Errors
/// A property that does not exist.
pub(crate) fn write_object(
    shared: &Shared,
    world: &mut World,
    session: Option<&str>,
    wanted: &Wanted,
    now_us: i64,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (target, paths) = wanted;
    write_reference(out, "obj", target);
    for path in paths {
        if let Some(value) = read(shared, world, session, target, path, now_us)? {
            out.extend_from_slice(format!("<propSet><name>{}</name>", escaped(path)).as_bytes());
            value.write(shared, out, "val");
            out.extend_from_slice(b"</propSet>");
        }
    }
    Ok(())
}
