//! Properties: single reads, the PropertyCollector's retrieval with traversals, and its filters and updates.

use std::collections::HashMap;

use super::clock::format_micros;
use super::inventory::{Object, ROOT};
use super::soap::{API_VERSION, Fault};
use super::world::{Page, Session, Shared, World};
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

/// A PropertyCollector: filters, and the version its client has seen.
#[derive(Default)]
pub(crate) struct PropertyCollector {
    pub filters: Vec<Filter>,
    version: u64,
    /// The last update, repeated when the client asks again from before it (its answer was lost).
    last: Option<Vec<u8>>,
    /// Raised by `CancelWaitForUpdates`.
    pub cancelled: u64,
}

pub(crate) struct Filter {
    pub id: String,
    pub spec: Spec,
    /// What was reported of each object: the indexes of its events.
    reported: Option<Vec<Vec<u64>>>,
}

impl Filter {
    pub fn new(id: String, spec: Spec) -> Filter {
        Filter { id, spec, reported: None }
    }
}

/// What `WaitForUpdatesEx` has to say now: an update set's XML, or nothing yet.
///
/// # Errors
/// A version that was never given out, an object that is gone.
pub(crate) fn updates(
    shared: &Shared,
    world: &mut World,
    session: &str,
    id: &str,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut collector = take_collector(world, session, id)?;
    let result = updates_of(shared, world, session, &mut collector, version, now_us);
    if let Some(owner) = world.sessions.get_mut(session) {
        owner.property_collectors.insert(id.to_owned(), collector);
    }
    result
}

fn take_collector(world: &mut World, session: &str, id: &str) -> Result<PropertyCollector, Fault> {
    world
        .sessions
        .get_mut(session)
        .and_then(|session| match session.property_collectors.remove(id) {
            Some(collector) => Some(collector),
            // The session's default collector exists from the start.
            None if id == "propertyCollector" => Some(PropertyCollector::default()),
            None => None,
        })
        .ok_or_else(|| Fault::not_found("PropertyCollector", id))
}

fn updates_of(
    shared: &Shared,
    world: &mut World,
    session: &str,
    collector: &mut PropertyCollector,
    version: &str,
    now_us: i64,
) -> Result<Option<Vec<u8>>, Fault> {
    if version.is_empty() {
        for filter in &mut collector.filters {
            filter.reported = None;
        }
    } else {
        let seen: Option<u64> = version.parse().ok();
        if seen != Some(collector.version) {
            return match (&collector.last, seen) {
                (Some(last), Some(seen)) if seen + 1 == collector.version => Ok(Some(last.clone())),
                _ => Err(Fault::new("InvalidCollectorVersion", "The version is not known.")),
            };
        }
    }
    let mut sets = Vec::new();
    for filter in &mut collector.filters {
        let wanted = filter.spec.select(shared, world, Some(session), now_us)?;
        let mut state = Vec::new();
        for (target, paths) in &wanted {
            state.push(live_state(shared, world, session, target, paths, now_us)?);
        }
        let kind = if filter.reported.is_none() { "enter" } else { "modify" };
        let mut objects = Vec::new();
        for (number, (target, paths)) in wanted.iter().enumerate() {
            let before = filter.reported.as_ref().and_then(|reported| reported.get(number));
            if before == Some(&state[number]) {
                continue;
            }
            objects.extend_from_slice(format!("<objectSet><kind>{kind}</kind>").as_bytes());
            write_reference(&mut objects, "obj", target);
            for path in paths.iter().filter(|path| kind == "enter" || is_live(target, path)) {
                if let Some(value) = read(shared, world, Some(session), target, path, now_us)? {
                    let head = format!("<changeSet><name>{}</name><op>assign</op>", escaped(path));
                    objects.extend_from_slice(head.as_bytes());
                    value.write(shared, &mut objects, "val");
                    objects.extend_from_slice(b"</changeSet>");
                }
            }
            objects.extend_from_slice(b"</objectSet>");
        }
        filter.reported = Some(state);
        if !objects.is_empty() {
            sets.extend_from_slice(
                format!("<filterSet><filter type=\"PropertyFilter\">{}</filter>", filter.id).as_bytes(),
            );
            sets.extend_from_slice(&objects);
            sets.extend_from_slice(b"</filterSet>");
        }
    }
    if sets.is_empty() {
        return Ok(None);
    }
    collector.version += 1;
    let mut update = format!("<version>{}</version>", collector.version).into_bytes();
    update.extend_from_slice(&sets);
    collector.last = Some(update.clone());
    Ok(Some(update))
}

fn is_live(target: &Target, path: &str) -> bool {
    matches!(
        (target.kind.as_str(), path),
        ("EventHistoryCollector", "latestPage") | ("EventManager", "latestEvent")
    )
}

/// What changes by itself of these properties, as event indexes.
fn live_state(
    shared: &Shared,
    world: &mut World,
    session: &str,
    target: &Target,
    paths: &[String],
    now_us: i64,
) -> Result<Vec<u64>, Fault> {
    match paths.iter().find(|path| is_live(target, path)).map(String::as_str) {
        None => Ok(Vec::new()),
        Some("latestPage") => world.latest_page(shared, session, &target.id, now_us),
        Some(_) => {
            let produced = world.history.produced(now_us);
            Ok(world.history.read_backward(produced, 0, 1, now_us, |_| true).0)
        }
    }
}

fn about(shared: &Shared) -> Vec<(&'static str, String)> {
    [
        ("name", shared.name.as_str()),
        ("fullName", "VMware vCenter Server 8.0.2 build-22617221 (synthetic)"),
        ("vendor", "VMware, Inc."),
        ("version", "8.0.2"),
        ("patchLevel", "00000"),
        ("build", "22617221"),
        ("localeVersion", "INTL"),
        ("localeBuild", "000"),
        ("osType", "linux-x64"),
        ("productLineId", "vpx"),
        ("apiType", "VirtualCenter"),
        ("apiVersion", API_VERSION),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .chain([
        ("instanceUuid", shared.uuid.to_string()),
        ("licenseProductName", "VMware VirtualCenter Server".to_owned()),
        ("licenseProductVersion", "8.0".to_owned()),
    ])
    .collect()
}

pub(crate) fn service_content(shared: &Shared) -> Vec<u8> {
    let mut out = format!(
        "<rootFolder type=\"Folder\">{ROOT}</rootFolder>\
         <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
         <viewManager type=\"ViewManager\">ViewManager</viewManager><about>"
    )
    .into_bytes();
    for (name, value) in about(shared) {
        out.extend_from_slice(format!("<{name}>{}</{name}>", escaped(&value)).as_bytes());
    }
    out.extend_from_slice(
        b"</about><sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
          <eventManager type=\"EventManager\">EventManager</eventManager>",
    );
    out
}

pub(crate) fn user_session(key: &str, session: &Session, now_us: i64) -> Vec<u8> {
    let (login, now) = (format_micros(session.login_us), format_micros(now_us));
    let (user, agent) = (escaped(&session.user), escaped(&session.user_agent));
    format!(
        "<key>{key}</key><userName>{user}</userName><fullName>{user}</fullName><loginTime>{login}</loginTime>\
         <lastActiveTime>{now}</lastActiveTime><locale>en</locale><messageLocale>en</messageLocale>\
         <extensionSession>false</extensionSession><ipAddress>127.0.0.1</ipAddress><userAgent>{agent}</userAgent>\
         <callCount>{}</callCount>",
        session.calls
    )
    .into_bytes()
}

fn event_description(shared: &Shared) -> Vec<u8> {
    let mut out = categories("category");
    out.extend_from_slice(&event_info(shared, "eventInfo"));
    out
}

fn categories(element: &str) -> Vec<u8> {
    ["info", "warning", "error", "user"]
        .map(|key| {
            format!("<{element}><label>{key}</label><summary>{key}</summary><key>{key}</key></{element}>")
        })
        .concat()
        .into_bytes()
}

/// One `EventDescriptionEventDetail` a template. As the real server has it, EventEx types all carry the key `EventEx`, and
/// their own id before a `|` in `fullFormat`.
fn event_info(shared: &Shared, element: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for template in shared.model.templates() {
        let name = template.event_type_id.as_deref().unwrap_or(&template.class);
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let class = &template.class;
        let full = match &template.event_type_id {
            Some(id) => format!("{id}|{{message}}"),
            None => format!("{class} {{userName}}"),
        };
        out.push_str(&format!(
            "<{element}><key>{class}</key><description>{name}</description><category>{}</category>\
             <formatOnDatacenter></formatOnDatacenter><formatOnComputeResource></formatOnComputeResource>\
             <formatOnHost></formatOnHost><formatOnVm></formatOnVm><fullFormat>{full}</fullFormat></{element}>",
            template.category()
        ));
    }
    out.into_bytes()
}
