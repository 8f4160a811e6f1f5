//! The PropertyCollector's specs: the objects that one selects by its traversals, and the
//! properties that it reads of each.

use std::collections::{HashMap, HashSet};

use super::inventory::Object;
use super::property::{Target, Value, all_paths, read, write_reference};
use super::soap::Fault;
use super::world::{Shared, World};
use super::xml::{Node, escaped};

/// Traversals deeper than this are a client's mistake; the inventory is six levels deep.
const TRAVERSAL_DEPTH_MAX: usize = 16;

fn is_a(shared: &Shared, target: &Target, kind: &str) -> bool {
    target.kind == kind
        || Object::find(&shared.model, &target.kind, &target.id).is_some_and(|object| object.is_a(kind))
}

/// Objects in the order in which they were met, each once.
#[derive(Default)]
struct Found {
    targets: Vec<Target>,
    seen: HashSet<Target>,
}

impl Found {
    fn add(&mut self, target: &Target) {
        if self.seen.insert(target.clone()) {
            self.targets.push(target.clone());
        }
    }
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
        let mut found = Found::default();
        for set in self.0.all("objectSet") {
            let Some(start) = set.child("obj").map(Target::of) else { continue };
            self.check_exists(shared, world, session, &start)?;
            let mut named: HashMap<&str, &Node> = HashMap::new();
            name_traversals(set, &mut named);
            if !set.is_true("skip") {
                found.add(&start);
            }
            self.traverse(shared, world, session, &start, set, &named, &mut found, now_us, 0);
        }
        let mut wanted = Vec::new();
        for target in found.targets {
            let mut paths: Vec<String> = Vec::new();
            let mut matched = false;
            for set in self.0.all("propSet") {
                if !is_a(shared, &target, set.text_of("type").unwrap_or_default().trim()) {
                    continue;
                }
                matched = true;
                if set.is_true("all") {
                    paths.extend(all_paths(&target).into_iter().map(str::to_owned));
                }
                paths.extend(set.all("pathSet").map(|path| path.text.trim().to_owned()));
            }
            if matched {
                // A cluster matches a set for itself and one for a ComputeResource.
                paths.sort_unstable();
                paths.dedup();
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
            "ServiceInstance"
                | "SessionManager"
                | "EventManager"
                | "propertyCollector"
                | "ViewManager"
                | "SearchIndex"
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
        found: &mut Found,
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
                if !set.is_true("skip") {
                    found.add(&target);
                }
                self.traverse(shared, world, session, &target, set, named, found, now_us, depth + 1);
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
